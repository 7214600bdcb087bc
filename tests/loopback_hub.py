"""A Hugging Face Hub on this machine: one data set at one commit, with the routes that ``datasets`` streams from."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


class LoopbackHub:
    """``files`` by their path. ``gated``: only with a token; ``broken``: the status that file contents answer with."""

    def __init__(self, repository: str, revision: str, files: dict[str, bytes]) -> None:
        self.repository, self.revision, self.files = repository, revision, files
        self.gated, self.broken = False, 0
        self.requests: list[str] = []
        self.sent_bytes = 0
        self.url = ""

    def entries(self, paths: list[str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for path in paths:
            if path in self.files:
                content = self.files[path]
                oid = hashlib.sha1(content).hexdigest()
                found.append({"type": "file", "path": path, "size": len(content), "oid": oid})
            elif any(name.startswith(f"{path}/") for name in self.files):
                found.append({"type": "directory", "path": path, "size": 0, "oid": "0" * 40})
        return found

    def below(self, folder: str) -> list[str]:
        folders = {str(name).rsplit("/", 1)[0] for name in self.files if "/" in name}
        return sorted(p for p in [*self.files, *folders] if not folder or p.startswith(f"{folder}/"))


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._route("")

    def do_GET(self) -> None:
        self._route("")

    def do_POST(self) -> None:
        self._route(self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode())

    def _route(self, body: str) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        hub.requests.append(f"{self.command} {path}")
        if path == "/":
            return self._json({})
        for prefix, answer in (
            (f"/api/datasets/{hub.repository}", self._api),
            (f"/datasets/{hub.repository}", self._file),
        ):
            if path == prefix or path.startswith(f"{prefix}/"):
                return answer(path[len(prefix) :].strip("/").split("/"), body)
        return self._refuse(404, "RepoNotFound")

    def _api(self, words: list[str], body: str) -> None:
        hub = self.hub
        kind, revision, *below = (*words, "") if words[0] else ("", "")
        rest = "/".join(below).strip("/")
        if kind and revision not in (hub.revision, "main"):
            return self._refuse(404, "RevisionNotFound")
        if kind == "tree":
            return self._json(hub.entries(hub.below(rest)))
        if kind == "paths-info":
            asked = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body)["paths"]
            return self._json(hub.entries(asked))
        siblings = [{"rfilename": name} for name in hub.files]
        return self._json(
            {
                "id": hub.repository,
                "sha": hub.revision,
                "private": False,
                "gated": False,
                "tags": [],
                "siblings": siblings,
            }
        )

    def _file(self, words: list[str], _: str) -> None:
        hub, name = self.hub, "/".join(words[2:])
        if hub.gated and "Authorization" not in self.headers:
            return self._refuse(403, "GatedRepo")
        if words[1] not in (hub.revision, "main"):
            return self._refuse(404, "RevisionNotFound")
        if name not in hub.files:
            return self._refuse(404, "EntryNotFound")
        content, span = hub.files[name], self.headers.get("Range", "")
        if hub.broken and self.command == "GET" and name.endswith(".parquet"):
            return self._refuse(hub.broken, "")
        headers = {
            "ETag": f'"{hashlib.sha1(content).hexdigest()}"',
            "X-Repo-Commit": hub.revision,
            "Accept-Ranges": "bytes",
        }
        if not span:
            return self._send(200, content, headers)
        first, _, last = span.removeprefix("bytes=").partition("-")
        part = content[int(first) : int(last) + 1 if last else None]
        headers["Content-Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
        return self._send(206, part, headers)

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"{}", {"X-Error-Code": code} if code else {})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.hub.sent_bytes += len(content)
            self.wfile.write(content)


@contextmanager
def serve(hub: LoopbackHub) -> Iterator[LoopbackHub]:
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
