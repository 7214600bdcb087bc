"""What each store has acknowledged, for stores that cannot be asked cheaply (SQLite)."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_IDS_AT_A_TIME = 500


class Ledger:
    """(target, id) -> digest, and which vectors are wholly in which target.

    A row is written only after the store has said yes.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS acknowledged "
            "(target TEXT, id TEXT, digest TEXT NOT NULL, PRIMARY KEY (target, id)) WITHOUT ROWID"
        )
        connection.execute(
            "CREATE TABLE IF NOT EXISTS finished "
            "(target TEXT PRIMARY KEY, vectors TEXT NOT NULL, count INTEGER NOT NULL) WITHOUT ROWID"
        )

    def known(self, target: str, ids: Sequence[str]) -> dict[str, str]:
        """id -> digest of those that ``target`` has acknowledged."""
        found: dict[str, str] = {}
        for first in range(0, len(ids), _IDS_AT_A_TIME):
            some = ids[first : first + _IDS_AT_A_TIME]
            marks = ",".join("?" * len(some))
            rows = self._connection.execute(
                f"SELECT id, digest FROM acknowledged WHERE target = ? AND id IN ({marks})", (target, *some)
            )
            found.update(rows)
        return found

    def acknowledge(self, target: str, rows: Iterable[tuple[str, str]]) -> None:
        """Note (id, digest) pairs, durably."""
        with self._connection:
            self._connection.executemany(
                "INSERT OR REPLACE INTO acknowledged VALUES (?, ?, ?)", ((target, *row) for row in rows)
            )

    def count(self, target: str) -> int:
        row = self._connection.execute("SELECT count(*) FROM acknowledged WHERE target = ?", (target,)).fetchone()
        return int(row[0])

    def forget(self, target: str) -> None:
        with self._connection:
            self._connection.execute("DELETE FROM acknowledged WHERE target = ?", (target,))

    def finish(self, target: str, vectors: str, count: int) -> None:
        """Note that all of an artifact (its ``content_id``) is in ``target``."""
        with self._connection:
            self._connection.execute("INSERT OR REPLACE INTO finished VALUES (?, ?, ?)", (target, vectors, count))

    def finished(self, target: str) -> tuple[str, int] | None:
        """The ``content_id`` and count of the vectors that were last brought into ``target`` as a whole."""
        row = self._connection.execute("SELECT vectors, count FROM finished WHERE target = ?", (target,)).fetchone()
        return None if row is None else (str(row[0]), int(row[1]))


@contextmanager
def open_ledger(path: Path) -> Iterator[Ledger]:
    """The ledger at ``path``, made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    try:
        yield Ledger(connection)
    finally:
        connection.close()
