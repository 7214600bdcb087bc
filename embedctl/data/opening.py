"""From a file on disk to its bytes: nothing outside the source is opened, nothing is unpacked without a limit."""

import errno
import gzip
import hashlib
import io
import os
import re
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from embedctl.errors import DataError, RefusedError, StorageError

# What one file may unpack to. Text shrinks by 3 to 10, rarely by 50; a bomb by 1,000 and more.
MOST_UNPACKED_BYTES = 2**30
MOST_UNPACKED_RATIO = 200

_CHUNK_BYTES = 2**20
_DAMAGE = (OSError, EOFError, zlib.error, zipfile.BadZipFile, ValueError, NotImplementedError)
# C0, C1, line separators and direction overrides: they would act on a terminal or disguise a name.
_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class TextFile:
    """One file that may hold text, or one member of a zip."""

    path: Path
    name: str  # as in ids: relative to the root, "/" between parts, printable
    format: str  # ".txt", ".jsonl", …: in lower case, without the suffix of the compression
    compression: str  # "", ".gz", ".zst"
    member: str | None = None  # its name inside the zip
    root: Path | None = None  # nothing outside of it is opened; None: the user named this very file
    entry: zipfile.ZipInfo | None = field(default=None, repr=False, compare=False)

    @property
    def place(self) -> str:
        """How messages call it."""
        whole = self.path if self.member is None else self.path / self.member
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


@contextmanager
def open_bytes(file: TextFile) -> Iterator[BinaryIO]:
    """The unpacked bytes of ``file`` as a stream that cannot seek; a damaged or too large one is a DataError."""
    from embedctl.data.archives import open_member

    with open_regular(file.path, file.root) as raw:
        if file.entry is None:
            packed, source = os.fstat(raw.fileno()).st_size, cast(Any, raw)
        else:
            packed, source = file.entry.compress_size, open_member(raw, file.entry, file.place)
        with io.BufferedReader(_Counted(_unpacked(source, file.compression), file.place, most_bytes(packed))) as stream:
            yield cast(BinaryIO, stream)


def _unpacked(source: Any, compression: str) -> Any:
    if compression == ".gz":
        return gzip.GzipFile(fileobj=source, mode="rb")
    if compression == ".zst":
        import pyarrow as pa

        return pa.CompressedInputStream(pa.PythonFile(source, mode="r"), "zstd")
    return source


class _Counted(io.RawIOBase):
    """Passes bytes on until there are more than ``most``; names the file when its packing is broken."""

    def __init__(self, source: Any, place: str, most: int) -> None:
        self._source = source
        self._place = place
        self._most = most
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._source.read(min(_CHUNK_BYTES, len(buffer)))
        except _DAMAGE as fault:
            raise DataError(f"{self._place} is damaged: {fault}", hint="make the file again") from None
        buffer[: len(data)] = data
        self._count += len(data)
        if self._count > self._most:
            raise DataError(
                f"{self._place} unpacks to more than {self._most:,} bytes", hint="unpack it, if it is to be trusted"
            )
        return len(data)
