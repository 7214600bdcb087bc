"""A Pinecone on this machine: the routes that the real SDK calls, the documented limits, and faults on demand."""

import json
import math
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REQUEST_BYTES = 2 * 2**20
REQUEST_VECTORS = 1000
METADATA_BYTES = 40 * 2**10
ID_CHARACTERS = 512
KEY = "pc-canary-4711"


class Refused(Exception):
    """A request that Pinecone answers with an error."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}


class LoopbackPinecone:
    """Indexes in memory. ``faults`` holds one word for each of the next data requests; "" is no fault.

    500, 503, 429, 401 … : that status; 429:2 with Retry-After: 2; reset: the connection breaks before anything is
    done; applied-reset and applied-500: after it is done; cut: half of the answer; text: an answer that is not JSON;
    fewer: a count that is too low
    """

    def __init__(self) -> None:
        self.indexes: dict[str, dict[str, Any]] = {}
        self.faults: list[str] = []
        self.requests: list[tuple[str, Any]] = []
        self.url = ""
        self.lock = threading.Lock()

    def vectors(self, index: str = "main", namespace: str = "") -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self.indexes[index]["spaces"].get(namespace, {})
        return found

    @property
    def sent(self) -> int:
        """Vectors that arrived in upserts, applied or not."""
        return sum(len(body["vectors"]) for path, body in self.requests if path == "/vectors/upsert")

    def answer(self, method: str, path: str, body: Any, size: int) -> dict[str, Any]:
        match method, path.strip("/").split("/"):
            case "GET", ["indexes", name]:
                return self.described(name)
            case "POST", ["indexes"]:
                (field,) = body["schema"]["fields"].values()
                self.indexes[body["name"]] = {"dimension": field["dimension"], "spaces": {}}
                return self.described(body["name"])
            case "POST", ["describe_index_stats"]:
                spaces = {name: {"vectorCount": len(space)} for name, space in self.only["spaces"].items()}
                total = sum(space["vectorCount"] for space in spaces.values())
                return {"namespaces": spaces, "dimension": self.only["dimension"], "totalVectorCount": total}
            case "POST", ["vectors", "upsert"]:
                return {"upsertedCount": self.upsert(body, size)}
            case "POST", ["query"]:
                return {"matches": self.query(body), "namespace": body.get("namespace", "")}
        raise Refused(404, f"no route {method} {path}")

    @property
    def only(self) -> dict[str, Any]:
        """The one index that the data requests are meant for."""
        (index,) = self.indexes.values()
        return index

    def described(self, name: str) -> dict[str, Any]:
        if name not in self.indexes:
            raise Refused(404, f"index {name} not found")
        field = {"type": "dense_vector", "dimension": self.indexes[name]["dimension"], "metric": "cosine"}
        return {
            "name": name,
            "host": self.url,
            "status": {"ready": True, "state": "Ready"},
            "schema": {"fields": {"_values": field}},
            "deployment": {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"},
            "deletion_protection": "disabled",
        }

    def upsert(self, body: Any, size: int) -> int:
        vectors = body["vectors"]
        if size > REQUEST_BYTES:
            raise Refused(413, "request too large")
        if len(vectors) > REQUEST_VECTORS:
            raise Refused(400, "too many vectors")
        for vector in vectors:
            values, metadata = vector["values"], vector.get("metadata", {})
            if not 1 <= len(vector["id"]) <= ID_CHARACTERS or not vector["id"].isascii():
                raise Refused(400, "bad id")
            if len(values) != self.only["dimension"] or None in values or not any(values):
                raise Refused(400, "bad values")
            if len(json.dumps(metadata, ensure_ascii=False).encode()) > METADATA_BYTES:
                raise Refused(400, "metadata too large")
            if any(value is None or isinstance(value, dict) for value in metadata.values()):
                raise Refused(400, "metadata must not be null or nested")
        space = self.only["spaces"].setdefault(body.get("namespace", ""), {})
        space.update({vector["id"]: vector for vector in vectors})
        return len(vectors)

    def query(self, body: Any) -> list[dict[str, Any]]:
        wanted = {name: test["$eq"] for name, test in (body.get("filter") or {}).items()}
        found = []
        for vector in self.only["spaces"].get(body.get("namespace", ""), {}).values():
            if all(vector["metadata"].get(name) == value for name, value in wanted.items()):
                found.append({"id": vector["id"], "score": _cosine(vector["values"], body["vector"])})
                found[-1] |= {"metadata": vector["metadata"]} if body.get("includeMetadata") else {}
        return sorted(found, key=lambda match: -match["score"])[: body["topK"]]


def _cosine(one: list[float], other: list[float]) -> float:
    return sum(map(float.__mul__, map(float, one), map(float, other))) / math.hypot(*one) / math.hypot(*other)


@contextmanager
def serve() -> Iterator[LoopbackPinecone]:
    pinecone = LoopbackPinecone()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.handle_one("GET")

        def do_POST(self) -> None:
            self.handle_one("POST")

        def handle_one(self, method: str) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = json.loads(raw) if raw else None
            with pinecone.lock:
                pinecone.requests.append((self.path, body))
                data = not self.path.startswith("/indexes")
                fault = pinecone.faults.pop(0) if data and pinecone.faults else ""
                try:
                    answer = self.faulty(fault, method, body, len(raw))
                except Refused as refused:
                    error = {"error": {"code": "ERROR", "message": refused.message}, "status": refused.status}
                    self.reply(refused.status, json.dumps(error).encode(), refused.headers)
                    return
            if answer is not None:
                self.reply(200, answer, {}, cut=fault == "cut")

        def faulty(self, fault: str, method: str, body: Any, size: int) -> bytes | None:
            if self.headers.get("Api-Key") != KEY:
                raise Refused(401, "invalid key")
            if fault == "reset":
                return self.reset()
            status, _, after = fault.partition(":")
            if status.isdigit():
                raise Refused(int(status), "injected", {"Retry-After": after} if after else {})
            answer = pinecone.answer(method, self.path, body, size)
            if fault == "applied-reset":
                return self.reset()
            if fault == "applied-500":
                raise Refused(500, "injected")
            if fault == "fewer":
                answer["upsertedCount"] -= 1
            return b"<html>" if fault == "text" else json.dumps(answer).encode()

        def reset(self) -> None:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()

        def reply(self, status: int, content: bytes, headers: dict[str, str], *, cut: bool = False) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if cut else content)
            self.close_connection = self.close_connection or cut

        def log_message(self, *arguments: object) -> None:
            """Silence."""

        def finish(self) -> None:
            try:
                super().finish()
            except OSError:
                """The connection was reset on purpose."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    pinecone.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield pinecone
    finally:
        server.shutdown()
        server.server_close()
