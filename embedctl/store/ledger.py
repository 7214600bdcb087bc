"""What was sent to each store and what it has acknowledged (SQLite): the memory of an upsert, across kills."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

_IDS_AT_A_TIME = 500
_IDS_PER_PAGE = 1000
# In place of a digest: not stored as it should be; and sent or deleted, with no answer to say so yet.
_DOUBTED, _UNSURE = "", "?"
_SURE = f"digest NOT IN ('{_DOUBTED}', '{_UNSURE}')"
_FINISHED = "SELECT target, vectors, count, held FROM whole WHERE name = ?"

_TABLES = (
    "targets (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "batches (number INTEGER PRIMARY KEY, target INTEGER NOT NULL, first_id TEXT NOT NULL, last_id TEXT NOT NULL,"
    " sha256 TEXT NOT NULL, rows INTEGER NOT NULL, state TEXT NOT NULL DEFAULT 'planned',"
    " tries INTEGER NOT NULL DEFAULT 0)",
    "stored (target INTEGER NOT NULL, id TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (target, id)) WITHOUT ROWID",
    "whole (name TEXT PRIMARY KEY, target TEXT NOT NULL, vectors TEXT NOT NULL, count INTEGER NOT NULL,"
    " held INTEGER NOT NULL) WITHOUT ROWID",
    "senders (target INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY (target, name)) WITHOUT ROWID",
)


@dataclass(frozen=True, slots=True)
class Payload:
    """A request before it is sent: its first and last id, the SHA-256 of its ids and digests, and how many rows."""

    first_id: str
    last_id: str
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True)
class Whole:
    """A collection that holds all of some vectors.

    target:  its full name
    vectors: their ``content_id``
    count:   how many of them
    held:    all that the collection held then
    """

    target: str
    vectors: str
    count: int
    held: int


class Ledger:
    """Batches: planned, then sent (so many tries), then acknowledged; and (target, id) -> digest of what is stored.

    A target's full name says host, index and namespace, so that two are never taken for one. Ids are noted for stores
    that cannot be asked what they hold: before they are sent or deleted as unsure, since that may happen and no answer
    come back, and what is stored only after the store has said yes.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        for table in _TABLES:
            connection.execute(f"CREATE TABLE IF NOT EXISTS {table}")

    def plan(self, target: str, payloads: Sequence[Payload]) -> list[int]:
        """Note batches that are about to be sent; their numbers."""
        with self._connection:
            number = self._number(target)
            return [
                int(
                    self._connection.execute(
                        "INSERT INTO batches (target, first_id, last_id, sha256, rows) VALUES (?, ?, ?, ?, ?)",
                        (number, load.first_id, load.last_id, load.sha256, load.rows),
                    ).lastrowid
                    or 0
                )
                for load in payloads
            ]

    def note(
        self,
        target: str,
        *,
        sent: Sequence[int] = (),
        refused: Sequence[int] = (),
        acknowledged: Sequence[int] = (),
        unsure: Iterable[str] = (),
        stored: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Note what has become of some batches, in one durable step.

        unsure: ids of the rows of those that are sent
        stored: (id, digest) of the rows of those that were acknowledged
        """
        with self._connection:
            steps = (("sent", sent), ("refused", refused), ("acknowledged", acknowledged))
            for state, numbers in steps:
                tried = int(state == "sent")
                self._connection.executemany(
                    "UPDATE batches SET state = ?, tries = tries + ? WHERE number = ?",
                    ((state, tried, number) for number in numbers),
                )
            self._set(target, ((id_, _UNSURE) for id_ in unsure))
            self._set(target, stored)

    def acknowledge(self, target: str, rows: Iterable[tuple[str, str]]) -> None:
        """Note (id, digest) pairs that the store has taken."""
        with self._connection:
            self._set(target, rows)

    def batches(self, target: str) -> list[tuple[str, int, int]]:
        """(state, tries, rows) of all batches, in the order of planning."""
        return self._connection.execute(
            "SELECT state, tries, rows FROM batches WHERE target = ? ORDER BY number", (self._number(target),)
        ).fetchall()

    def known(self, target: str, ids: Sequence[str]) -> dict[str, str]:
        """id -> digest of those that ``target`` is known to hold."""
        number, found = self._number(target), dict[str, str]()
        for some in _pages(ids, _IDS_AT_A_TIME):
            marks = ",".join("?" * len(some))
            rows = self._connection.execute(
                f"SELECT id, digest FROM stored WHERE target = ? AND {_SURE} AND id IN ({marks})", (number, *some)
            )
            found.update(rows)
        return found

    def ids(self, target: str) -> Iterator[list[str]]:
        """All ids that ``target`` has acknowledged or may have taken, in pages."""
        number, last = self._number(target), ""
        while True:
            rows = self._connection.execute(
                "SELECT id FROM stored WHERE target = ? AND id > ? ORDER BY id LIMIT ?", (number, last, _IDS_PER_PAGE)
            ).fetchall()
            if not rows:
                return
            last = str(rows[-1][0])
            yield [str(row[0]) for row in rows]

    def sample(self, target: str, count: int) -> list[str]:
        """Some ids that ``target`` has acknowledged."""
        rows = self._connection.execute(
            f"SELECT id FROM stored WHERE target = ? AND {_SURE} ORDER BY random() LIMIT ?",
            (self._number(target), count),
        )
        return [str(row[0]) for row in rows]

    def count(self, target: str) -> int:
        return self._one(f"SELECT count(*) FROM stored WHERE target = ? AND {_SURE}", target)

    def unsure(self, target: str, ids: Iterable[str]) -> None:
        """These are about to be deleted."""
        self.acknowledge(target, ((id_, _UNSURE) for id_ in ids))

    def doubt(self, target: str, ids: Sequence[str]) -> None:
        """These are not stored as they should be, whatever the store says: the next upsert sends them again."""
        self.acknowledge(target, ((id_, _DOUBTED) for id_ in ids))

    def doubted(self, target: str) -> set[str]:
        rows = self._connection.execute(
            "SELECT id FROM stored WHERE target = ? AND digest = ''", (self._number(target),)
        )
        return {str(row[0]) for row in rows}

    def forget(self, target: str, ids: Sequence[str] | None = None) -> None:
        """Take back what was noted of these ids, or of all."""
        number = self._number(target)
        with self._connection:
            if ids is None:
                self._connection.execute("DELETE FROM stored WHERE target = ?", (number,))
            else:
                rows = ((number, id_) for id_ in ids)
                self._connection.executemany("DELETE FROM stored WHERE target = ? AND id = ?", rows)

    def finish(self, name: str, whole: Whole) -> None:
        """Note that all of an artifact is in the collection that the settings call ``name``."""
        with self._connection:
            self._connection.execute(
                "INSERT OR REPLACE INTO whole VALUES (?, ?, ?, ?, ?)",
                (name, whole.target, whole.vectors, whole.count, whole.held),
            )

    def unfinish(self, name: str) -> None:
        """From now on the collection is under way to something else."""
        with self._connection:
            self._connection.execute("DELETE FROM whole WHERE name = ?", (name,))

    def finished(self, name: str) -> Whole | None:
        """The vectors that were last brought into the collection as a whole, if it was not touched since."""
        found = self._connection.execute(_FINISHED, (name,)).fetchone()
        return None if found is None else Whole(*found)

    def projects(self, target: str) -> set[str]:
        """Those that have sent to ``target``."""
        rows = self._connection.execute("SELECT name FROM senders WHERE target = ?", (self._number(target),))
        return {str(row[0]) for row in rows}

    def add_project(self, target: str, name: str, *, alone: bool) -> None:
        """Note that the project sends to ``target``; ``alone``: nothing of any other is there."""
        number = self._number(target)
        with self._connection:
            if alone:
                self._connection.execute("DELETE FROM senders WHERE target = ?", (number,))
            self._connection.execute("INSERT OR IGNORE INTO senders VALUES (?, ?)", (number, name))

    def _set(self, target: str, rows: Iterable[tuple[str, str]]) -> None:
        number = self._number(target)
        self._connection.executemany("INSERT OR REPLACE INTO stored VALUES (?, ?, ?)", ((number, *row) for row in rows))

    def _one(self, query: str, target: str) -> int:
        return int(self._connection.execute(query, (self._number(target),)).fetchone()[0])

    def _number(self, target: str) -> int:
        row = self._connection.execute("SELECT number FROM targets WHERE name = ?", (target,)).fetchone()
        if row is not None:
            return int(row[0])
        with self._connection:
            return int(self._connection.execute("INSERT INTO targets (name) VALUES (?)", (target,)).lastrowid or 0)


def _pages(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (ids[first : first + size] for first in range(0, len(ids), size))


def last_whole(path: Path, name: str) -> Whole | None:
    """:meth:`Ledger.finished` of the ledger at ``path``, for which nothing need be writable."""
    # Where the folder is not, SQLite cannot make the files beside it that tell of other processes.
    for how in ("mode=ro", "mode=ro&immutable=1"):
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)) as connection:
            try:
                row = connection.execute(_FINISHED, (name,)).fetchone()
            except sqlite3.OperationalError as fault:
                if "no such table" in str(fault):
                    return None
                if how == "mode=ro" and fault.sqlite_errorcode & 0xFF in (
                    sqlite3.SQLITE_CANTOPEN,
                    sqlite3.SQLITE_READONLY,
                ):
                    continue
                raise
        return None if row is None else Whole(*row)
    raise AssertionError


@contextmanager
def open_ledger(path: Path) -> Iterator[Ledger]:
    """The ledger at ``path``, made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    try:
        yield Ledger(connection)
    finally:
        connection.close()
