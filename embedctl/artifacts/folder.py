"""Writing whole folders or nothing, and keeping other processes out meanwhile."""

import ctypes
import errno
import functools
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from embedctl.errors import LockedError, RefusedError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def sync(path: Path) -> None:
    """Make a file or a folder's list of names durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as fault:
        # Some network file systems refuse to sync a folder; its files are synced already.
        if fault.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that takes the place of ``path`` when the block ends well; a crash leaves the old one or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except BaseException:  # not `finally`: what stands there by then may be another's
        partial.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_file(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``: after a crash it holds the old or the new, never a mixture."""
    with new_file(path) as stream:
        stream.write(content)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``target`` when the block ends well.

    Everything in it is synced first. If the block fails, what stood at ``target`` stays as it was.
    """
    partial = target.with_name(f".{target.name}.partial")
    remove_if_there(partial)
    if target.is_symlink():
        raise RefusedError(f"{target} is a symbolic link", hint="remove the link; embedctl writes only real folders")
    partial.mkdir(parents=True)
    try:
        yield partial
        for path in sorted(partial.rglob("*"), reverse=True):
            sync(path)
        put_in_place(partial, target)
    except BaseException:
        remove_if_there(partial)
        raise


def remove_folder(folder: Path) -> None:
    """Delete a folder so that a crash never leaves half of it under its own name."""
    doomed = folder.with_name(f".{folder.name}.deleted")
    remove_if_there(doomed)
    folder.rename(doomed)
    sync(folder.parent)
    remove_if_there(doomed)


def put_in_place(partial: Path, target: Path) -> None:
    """Give a folder whose files are synced its real name; what had that name before is removed."""
    sync(partial)
    if not target.exists():
        partial.rename(target)
    elif not _exchange(partial, target):
        old = target.with_name(f".{target.name}.deleted")
        remove_if_there(old)
        target.rename(old)
        partial.rename(target)
        remove_if_there(old)
    sync(target.parent)
    remove_if_there(partial)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in a single step, where the kernel and the file system can (Linux)."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    failed = rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return not failed


def remove_if_there(folder: Path) -> None:
    """Delete a folder that has no name of its own."""
    if folder.exists():
        shutil.rmtree(folder)


@contextmanager
def lock(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Own what ``path`` guards, or raise :class:`LockedError` at once. A killed owner lets go by itself.

    shared: only keep owners out, beside others that do no more either
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    owner = path.with_suffix(".owner")
    let_go = _held(path, shared=shared)
    if let_go is None:
        who = owner.read_text(encoding="utf-8").strip() if owner.is_file() else "unknown"
        raise LockedError(
            f"another embedctl (process {who}) is at work here: {path.stem} is locked",
            hint="wait until it is done, or choose another place with --workspace or --set project.run=NAME",
        )
    try:
        if owner.is_symlink():
            raise RefusedError(f"{owner} is a symbolic link", hint="remove the link; embedctl writes only real files")
        owner.write_text(f"{os.getpid()}\n", encoding="utf-8")
        yield
    finally:
        let_go()


def _held(path: Path, *, shared: bool) -> Callable[[], object] | None:
    """What lets go of the lock; ``None`` if somebody else has it. Without flock a shared one is owned like any."""
    import filelock

    if shared and importlib.util.find_spec("fcntl"):
        import fcntl

        there = path.exists()
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as fault:
            os.close(handle)
            if fault.errno in (errno.EAGAIN, errno.EACCES):
                return None
            if not there:
                path.unlink(missing_ok=True)  # where nothing can be locked, a file that is there is a lock
        else:
            return functools.partial(os.close, handle)
    held = filelock.FileLock(path)
    try:
        held.acquire(timeout=0)
    except filelock.Timeout:
        return None
    return held.release
