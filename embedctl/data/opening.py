"""Files of a source, and how they are opened: nothing outside the source is, nor what is no regular file."""

import errno
import hashlib
import io
import os
import re
import stat
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from embedctl.errors import RefusedError, StorageError

# What one file may unpack to. Text shrinks by 3 to 10, rarely by 50; a bomb by 1,000 and more.
MOST_UNPACKED_BYTES = 2**30
MOST_UNPACKED_RATIO = 200

# C0, C1, line separators and direction overrides: they would act on a terminal or disguise a name.
_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class TextFile:
    """One file that may hold text, or one member of a zip."""

    path: Path
    name: str  # as in ids: relative to the root, "/" between parts, printable
    format: str  # ".txt", ".jsonl", …: in lower case, without the suffix of the compression
    compression: str  # "", ".gz", ".zst"
    root: Path | None = None  # nothing outside of it is opened; None: the user named this very file
    entry: zipfile.ZipInfo | None = field(default=None, repr=False, compare=False)  # the member of a zip that it is

    @property
    def place(self) -> str:
        """How messages call it."""
        whole = self.path if self.entry is None else self.path / self.entry.filename
        return shown(str(whole))


@dataclass(slots=True)
class Notes:
    """What was met while reading, for the manifest and one line of warning."""

    encodings: Counter[str] = field(default_factory=Counter)  # files by encoding
    binary: list[str] = field(default_factory=list)  # names of files that hold no text


def shown(name: str) -> str:
    """``name`` as it can be printed and encoded: bytes that are not UTF-8 and control characters as ``\\x1b``."""
    if name.isascii() and name.isprintable():
        return name
    valid = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _UNSHOWN.sub(lambda found: repr(found[0])[1:-1], valid)


def most_bytes(packed_bytes: int) -> int:
    """How much ``packed_bytes`` on disk may unpack to."""
    return max(MOST_UNPACKED_BYTES, MOST_UNPACKED_RATIO * packed_bytes)


def open_regular(path: Path, root: Path | None) -> io.BufferedReader:
    """Open a regular file of ``root`` for reading, whatever happens to links and folders meanwhile.

    The way to the file is resolved and must stay in ``root``; then it is walked without following any link, so that
    one put there in between is an error and not a way out. Devices, pipes and sockets are not opened.
    """
    name = shown(str(path))
    try:
        real = path.resolve(strict=True)
        base = real.parent if root is None else root.resolve(strict=True)
        if not real.is_relative_to(base):
            raise RefusedError(f"{name} is a link out of {shown(str(root))}", hint="copy what it points at to there")
        if not stat.S_ISREG(real.lstat().st_mode):
            raise RefusedError(f"{name} is not a regular file", hint="set data.path to files, not to pipes or devices")
        descriptor = _open_below(base, real.relative_to(base).parts)
    except OSError as fault:
        if fault.errno in (errno.ELOOP, errno.ENOTDIR):
            raise RefusedError(
                f"{name} became a link while it was read", hint="let nothing change the folder"
            ) from None
        raise StorageError(f"{name} cannot be read: {fault.strerror or fault}") from None
    except RuntimeError:  # how Python 3.11 and 3.12 tell of links that go in a circle
        raise RefusedError(f"{name} is a link to itself") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise RefusedError(f"{name} is not a regular file any more", hint="let nothing change the folder")
    return os.fdopen(descriptor, "rb")


def sha256(path: Path, root: Path | None) -> str:
    """The digest of a regular file of ``root``, as it lies on disk."""
    with open_regular(path, root) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _open_below(base: Path, parts: tuple[str, ...]) -> int:
    calm = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if os.open not in os.supports_dir_fd or not hasattr(os, "O_NOFOLLOW"):
        return os.open(base.joinpath(*parts), os.O_RDONLY | calm)
    folder = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        # Non-blocking: a pipe put here in this very moment must not make us wait for its writer.
        return os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | calm, dir_fd=folder)
    finally:
        os.close(folder)
