"""Failures that the operating system or a library raises, in embedctl's own words."""

import errno
import re
import sqlite3

from embedctl.errors import ArtifactError, EmbedctlError, OutOfMemory, StorageError, is_out_of_memory

_STORAGE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "the disk reports an input/output error",
    errno.EFBIG: "the file is larger than the system allows",
    errno.EACCES: "permission denied",
    errno.ENOTDIR: "a file is where a folder should be",
    errno.EEXIST: "a file is where a folder should be",
    errno.EISDIR: "a folder is where a file should be",
    errno.EPERM: "permission denied",
    errno.EMFILE: "too many open files",
}


def translate(fault: BaseException) -> EmbedctlError | None:
    """The error that a user should see for ``fault``; ``None`` if it is a bug."""
    if isinstance(fault, OSError) and fault.errno in _STORAGE:
        return _storage(_STORAGE[fault.errno], fault.filename)
    if is_out_of_memory(fault):
        return OutOfMemory(
            "out of memory", hint="lower training.chunk_pairs, embedding.batch_tokens or tokens.max_tokens"
        )
    if isinstance(fault, sqlite3.Error):
        return _database(fault)
    if type(fault).__name__ == "BrokenProcessPool":
        return OutOfMemory(
            "a worker process was ended from outside, most likely for want of memory",
            hint="give the machine more memory, or fewer cores (taskset -c 0 embedctl …)",
        )
    # Libraries written in Rust put the system's error into their sentence.
    inside = re.search(r"\(os error (\d+)\)", str(fault))
    if inside and int(inside[1]) in _STORAGE:
        return _storage(_STORAGE[int(inside[1])], None)
    if "No space left on device" in str(fault):
        return _storage(_STORAGE[errno.ENOSPC], None)
    return None


def _database(fault: sqlite3.Error) -> EmbedctlError | None:
    code = getattr(fault, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
        return _storage(f"the ledger cannot be written ({fault})", None)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return ArtifactError(
            f"the ledger is damaged ({fault})", hint="remove the workspace's ledger folder; upsert then sends all again"
        )
    return None


def _storage(reason: str, filename: object) -> StorageError:
    where = f": {filename}" if filename else ""
    return StorageError(
        f"{reason}{where}", hint="nothing that was complete is lost; free space or rights, then run the same again"
    )
