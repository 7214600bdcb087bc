"""Vectors by content, on disk, so that what was embedded once is not embedded again.

diskcache unpickles what it finds by default (CVE-2025-69872): whoever can write into its folder can run code in a
process that reads it. :class:`RawDisk` takes raw bytes alone, as keys and as values; any other row is as good as none.
"""

import hashlib
import logging
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import diskcache
from diskcache.core import MODE_RAW, UNKNOWN

from embedctl.artifacts import folder as folders

_log = logging.getLogger(__name__)

_CHECK_BYTES = 8


class RawDisk(diskcache.Disk):  # type: ignore[misc]
    """Bytes in the rows of the database; no pickle, no files beside it."""

    def put(self, key: Any) -> tuple[Any, bool]:
        return sqlite3.Binary(_bytes(key)), True

    def get(self, key: Any, raw: Any) -> bytes:
        return key if raw and isinstance(key, bytes) else b""

    def store(self, value: Any, read: Any, key: Any = UNKNOWN) -> tuple[int, int, None, Any]:
        return 0, MODE_RAW, None, sqlite3.Binary(_bytes(value))

    def fetch(self, mode: Any, filename: Any, value: Any, read: Any) -> bytes:
        usable = mode == MODE_RAW and filename is None and isinstance(value, bytes) and not read
        return value if usable else b""

    def remove(self, file_path: Any) -> None:
        """A row that names a file is not ours, nor is the file."""


class VectorCache:
    """Rows of bytes by key, each with a checksum; the least recently stored go when it is full.

    A cache that cannot be read or written is never a reason to fail: it is said, and gone on without.
    """

    def __init__(self, folder: Path, *, megabytes: int) -> None:
        self._folder, self._megabytes = folder, megabytes
        self._cache: diskcache.Cache | None = None
        try:
            self._cache = self._whole()
        except (sqlite3.Error, OSError, diskcache.Timeout) as fault:
            self._give_up(fault)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The rows that are there and whole."""
        if self._cache is None:
            return {}
        try:
            if not len(self._cache):
                return {}
            with self._cache.transact(retry=True):
                found = ((key, self._cache.get(key, default=b"")) for key in keys)
                return {key: row[_CHECK_BYTES:] for key, row in found if _is_whole(key, row)}
        except (sqlite3.DatabaseError, diskcache.Timeout) as fault:
            self._give_up(fault)
            return {}

    def put(self, rows: Sequence[tuple[bytes, bytes]]) -> None:
        """Keep these rows: all of them, or after a crash none."""
        if self._cache is None or not rows:
            return
        try:
            with self._cache.transact(retry=True):
                for key, row in rows:
                    self._cache.set(key, _check(key, row) + row)
            self._cache.cull(retry=True)
        except (sqlite3.DatabaseError, diskcache.Timeout) as fault:
            self._give_up(fault)

    def close(self) -> None:
        if self._cache is not None:
            self._cache.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _whole(self) -> diskcache.Cache:
        try:
            return self._opened()
        except sqlite3.DatabaseError as fault:
            if fault.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise
            _log.warning("%s is damaged (%s); starting an empty one", self._folder, fault)
            folders.remove_if_there(self._folder)
            return self._opened()

    def _opened(self) -> diskcache.Cache:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder.chmod(0o700)
        return diskcache.Cache(
            str(self._folder),
            disk=RawDisk,
            size_limit=self._megabytes * 1_000_000,
            eviction_policy="least-recently-stored",
            # Rows go after a write, not in the midst of it: until then their pages are not free.
            cull_limit=0,
        )

    def _give_up(self, fault: Exception) -> None:
        _log.warning("the cache %s does not work (%s); going on without", self._folder, fault)
        self._cache = None


def _check(key: bytes, row: bytes) -> bytes:
    return hashlib.blake2b(row, key=key, digest_size=_CHECK_BYTES).digest()


def _is_whole(key: bytes, row: bytes) -> bool:
    return len(row) > _CHECK_BYTES and _check(key, row[_CHECK_BYTES:]) == row[:_CHECK_BYTES]


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"the cache keeps bytes, got {type(value).__name__}")
    return value
