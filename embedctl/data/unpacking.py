"""From a file of a source, or a member of a zip, to its bytes: nothing is unpacked without a limit."""

import gzip
import io
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from embedctl.data.archives import open_member
from embedctl.data.opening import TextFile, most_bytes, open_regular
from embedctl.errors import DataError

_CHUNK_BYTES = 2**20
_DAMAGE = (OSError, EOFError, zlib.error, zipfile.BadZipFile, ValueError, NotImplementedError)


@contextmanager
def open_bytes(file: TextFile) -> Iterator[BinaryIO]:
    """The unpacked bytes of ``file`` as a stream that cannot seek; a damaged or too large one is a DataError."""
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
