"""A Hugging Face Hub on this machine: one data set or model, with the routes that ``datasets`` streams from."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.conftest import Ran


class LoopbackHub:
    """``files`` by their path, at the newest ``revision``; what it was before stays to be had.

    gated: only with a token; broken: the status that file contents answer with; cut: they end too early.
    Both are for the files whose names end with ``broken_at``. before: called with the name of each file asked for.
    """

    def __init__(self, repository: str, revision: str, files: dict[str, bytes]) -> None:
        self.repository, self.revision = repository, revision
        self.commits = {revision: files}
        self.gated, self.broken, self.cut, self.broken_at = False, 0, False, ".parquet"
        self.before: Callable[[str], None] = lambda name: None
        self.requests: list[str] = []
        self.sent: Counter[str] = Counter()  # bytes by file
        self.url = ""

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[self.revision]

    def move_on(self, revision: str, files: dict[str, bytes]) -> None:
        self.commits[revision] = files
        self.revision = revision

    def entries(self, files: dict[str, bytes], paths: list[str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for path in paths:
            if path in files:
                content = files[path]
                oid = hashlib.sha1(content).hexdigest()
                found.append({"type": "file", "path": path, "size": len(content), "oid": oid})
            elif any(name.startswith(f"{path}/") for name in files):
                found.append({"type": "directory", "path": path, "size": 0, "oid": "0" * 40})
        return found

    def below(self, files: dict[str, bytes], folder: str) -> list[str]:
        folders = {str(name).rsplit("/", 1)[0] for name in files if "/" in name}
        return sorted(p for p in [*files, *folders] if not folder or p.startswith(f"{folder}/"))


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
            (f"/api/models/{hub.repository}", self._api),
            (f"/{hub.repository}", self._file),
        ):
            if path == prefix or path.startswith(f"{prefix}/"):
                return answer(path[len(prefix) :].strip("/").split("/"), body)
        return self._refuse(404, "RepoNotFound")

    def _api(self, words: list[str], body: str) -> None:
        hub = self.hub
        kind, revision, *below = (*words, "") if words[0] else ("", "")
        rest = "/".join(below).strip("/")
        revision = hub.revision if revision in ("", "main") else revision
        files = hub.commits.get(revision)
        if files is None:
            return self._refuse(404, "RevisionNotFound")
        if kind == "tree":
            return self._json(hub.entries(files, hub.below(files, rest)))
        if kind == "paths-info":
            asked = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body)["paths"]
            return self._json(hub.entries(files, asked))
        siblings = [{"rfilename": name} for name in files]
        return self._json(
            {
                "id": hub.repository,
                "sha": revision,
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
        revision = hub.revision if words[1] == "main" else words[1]
        files = hub.commits.get(revision)
        if files is None:
            return self._refuse(404, "RevisionNotFound")
        if name not in files:
            return self._refuse(404, "EntryNotFound")
        content, span = files[name], self.headers.get("Range", "")
        if self.command == "GET":
            hub.before(name)
        breaks = self.command == "GET" and name.endswith(hub.broken_at)
        if hub.broken and breaks:
            return self._refuse(hub.broken, "")
        headers = {
            "ETag": f'"{hashlib.sha1(content).hexdigest()}"',
            "X-Repo-Commit": revision,
            "Accept-Ranges": "bytes",
        }
        if not span:
            return self._send(200, content, headers, name=name, cut=hub.cut and breaks)
        first, _, last = span.removeprefix("bytes=").partition("-")
        part = content[int(first) : int(last) + 1 if last else None]
        headers["Content-Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
        return self._send(206, part, headers, name=name, cut=hub.cut and breaks)

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"{}", {"X-Error-Code": code} if code else {})

    def _send(self, status: int, content: bytes, headers: dict[str, str], *, name: str = "", cut: bool = False) -> None:
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            content = content[:1000] if cut else content
            self.hub.sent[name] += len(content)
            self.wfile.write(content)
            self.close_connection = self.close_connection or cut


class Server:
    """The one address of all Hubs that follow each other in a test run."""

    def __init__(self) -> None:
        self._handler: Any = type("Handler", (_Handler,), {})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def show(self, hub: LoopbackHub) -> LoopbackHub:
        hub.url = self.url
        self._handler.hub = hub
        return hub

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


# Loading the libraries takes longer than most tests: one process runs many commands, each with an empty cache.
_WORKER = """
import contextlib, io, json, os, shutil, sys, time
import huggingface_hub.constants  # it keeps for good what the environment said of being offline at first
from embedctl.cli.app import main
from embedctl.data import corpus
time.sleep = lambda seconds: None  # the libraries wait for half a minute between their attempts
part_bytes = corpus.PART_BYTES
for line in sys.stdin:
    job = json.loads(line)
    os.chdir(job["folder"])
    os.environ.update(job["environment"])
    shutil.rmtree(os.environ["HF_HOME"], ignore_errors=True)
    if "huggingface_hub" in sys.modules:
        from huggingface_hub import HfFileSystem
        HfFileSystem.clear_instance_cache()
    corpus.PART_BYTES = job["part_bytes"] or part_bytes
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(job["words"])
        except SystemExit as end:
            code = end.code or 0
    for name in job["environment"]:
        del os.environ[name]
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


class Worker:
    """Runs ``embedctl data fetch`` against the Hub at ``url``, in a process that has not met another Hub."""

    def __init__(self, url: str, cache: Path) -> None:
        env = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", "COLUMNS": "300"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WORKER], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, words: list[str], environment: dict[str, str], part_bytes: int) -> Ran:
        assert self._process.stdin
        assert self._process.stdout
        job = {"folder": str(Path.cwd()), "words": words, "environment": environment, "part_bytes": part_bytes}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return Ran(*json.loads(self._process.stdout.readline()))

    def end(self) -> None:
        self._process.communicate()
