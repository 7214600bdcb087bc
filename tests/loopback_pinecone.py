"""A Pinecone on this machine: the routes that the real SDK calls, the documented limits, and faults on demand.

python -m tests.loopback_pinecone [--port N] [--faults SHARE] [--latency SECONDS] runs it as a process of its own.
"""

import argparse
import email.utils
import math
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson

from tests.pinecone_indexes import METADATA_BYTES, Indexes, Refused

__all__ = ["KEY", "METADATA_BYTES", "LoopbackPinecone", "serve"]

KEY = "pc-canary-4711"
# Equally likely when faults come by chance; of the last five the request is carried out all the same.
BEFORE = ("408", "425", "429", "429:0.2", "429:date", "500", "502", "503", "504", "reset", "hang")
APPLIED = ("applied-reset", "applied-500", "cut", "text", "fewer")


class LoopbackPinecone(Indexes):
    """``faults`` holds one word for each of the next data requests; "" is no fault. Then ``share`` of them by chance.

    500, 503, 429, 401 … : that status; 429:2 with Retry-After: 2, 429:date with the date of a moment later; reset: the
    connection breaks before anything is done; applied-reset and applied-500: after it is done; hang: no answer for
    ``hang_seconds``; slow: the answer comes in drops; cut: half of it; text: one that is not JSON; fewer: a count that
    is too low
    """

    def __init__(self, *, share: float = 0.0, seed: int = 0, latency: float = 0.0, log: bool = True) -> None:
        super().__init__()
        self.faults: list[str] = []
        self.share, self.latency, self.hang_seconds = share, latency, 5.0
        self.requests: list[tuple[str, Any]] = []
        self.count = 0
        self.lock = threading.Lock()
        self._chance, self._log = random.Random(seed), log

    def vectors(self, index: str = "main", namespace: str = "") -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self.indexes[index]["spaces"].get(namespace, {})
        return found

    def arrived(self, path: str, body: Any) -> str:
        """Note a request; the fault that it is to meet."""
        self.count += 1
        if path.endswith("upsert"):
            self.sent += len(body.get("vectors") or body.get("documents"))
        if self._log:
            self.requests.append((path, body))
        if path.startswith("/indexes"):
            return ""
        if self.faults:
            return self.faults.pop(0)
        return self._chance.choice(BEFORE + APPLIED) if self._chance.random() < self.share else ""

    def dump(self) -> dict[str, Any]:
        """What is stored, and how much has come in: for the one who has started this as a process."""
        spaces = self.only["spaces"].items() if self.indexes else ()
        return {
            "stored": {
                name: {id_: one["values"].tobytes().hex() for id_, one in held.items()} for name, held in spaces
            },
            **self.figures(),
        }

    def figures(self) -> dict[str, Any]:
        return {"requests": self.count, "sent": self.sent, "applied": self.applied}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    pinecone: LoopbackPinecone

    def do_GET(self) -> None:
        if self.path in ("/_dump", "/_figures"):
            with self.pinecone.lock:
                told = self.pinecone.dump() if self.path == "/_dump" else self.pinecone.figures()
            self.reply(200, orjson.dumps(told), {})
            return
        self.handle_one("GET")

    def do_POST(self) -> None:
        self.handle_one("POST")

    def handle_one(self, method: str) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        if len(raw) < length:  # the client was killed while it was sending
            self.close_connection = True
            return
        body = orjson.loads(raw) if raw else None
        time.sleep(self.pinecone.latency)
        with self.pinecone.lock:
            fault = self.pinecone.arrived(self.path, body)
        try:
            answer = self.faulty(fault, method, body, len(raw))
        except Refused as refused:
            error = {"error": {"code": "ERROR", "message": refused.message}, "status": refused.status}
            self.reply(refused.status, orjson.dumps(error), refused.headers)
            return
        if answer is not None:
            self.reply(200, answer, {}, fault=fault)

    def faulty(self, fault: str, method: str, body: Any, size: int) -> bytes | None:
        if self.headers.get("Api-Key") != KEY:
            raise Refused(401, "invalid key")
        if fault == "hang":
            time.sleep(self.pinecone.hang_seconds)
        if fault in ("reset", "hang"):
            return self.reset()
        status, _, after = fault.partition(":")
        if status.isdigit():
            if after == "date":
                after = email.utils.formatdate(math.ceil(time.time()), usegmt=True)
            raise Refused(int(status), "injected", {"Retry-After": after} if after else {})
        with self.pinecone.lock:
            answer = self.pinecone.answer(method, self.path, body, size)
        if fault == "applied-reset":
            return self.reset()
        if fault == "applied-500":
            raise Refused(500, "injected")
        if fault == "fewer":
            answer = {
                name: value - ("upserted" in name) if isinstance(value, int) else value
                for name, value in answer.items()
            }
        return b"<html>" if fault == "text" else orjson.dumps(answer)

    def reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def reply(self, status: int, content: bytes, headers: dict[str, str], *, fault: str = "") -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault == "slow":
            for byte in content:
                self.wfile.write(bytes([byte]))
                time.sleep(0.01)
            return
        self.wfile.write(content[: len(content) // 2] if fault == "cut" else content)
        self.close_connection = self.close_connection or fault == "cut"

    def log_message(self, *arguments: object) -> None:
        """Silence."""

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            """The client is gone."""

    def finish(self) -> None:
        try:
            super().finish()
        except OSError:
            """The connection was reset on purpose."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def listening(pinecone: LoopbackPinecone, port: int = 0) -> ThreadingHTTPServer:
    server = _Server(("127.0.0.1", port), type("Bound", (Handler,), {"pinecone": pinecone}))
    pinecone.url = f"http://127.0.0.1:{server.server_port}"
    return server


@contextmanager
def serve(pinecone: LoopbackPinecone | None = None) -> Iterator[LoopbackPinecone]:
    pinecone = pinecone or LoopbackPinecone()
    server = listening(pinecone)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield pinecone
    finally:
        server.shutdown()
        server.server_close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--faults", type=float, default=0.0, help="share of the data requests that fail")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    given = parser.parse_args()
    pinecone = LoopbackPinecone(share=given.faults, seed=given.seed, latency=given.latency, log=False)
    server = listening(pinecone, given.port)
    print(pinecone.url, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
