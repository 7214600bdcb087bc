"""Members of a zip, read as a stream. Nothing is ever extracted, so no name in it is used as a path."""

import logging
import os
import stat
import struct
import zipfile
from pathlib import Path, PureWindowsPath
from typing import BinaryIO, cast

from embedctl.data.opening import most_bytes, open_regular, shown
from embedctl.errors import DataError, RefusedError

_log = logging.getLogger(__name__)

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
_ENCRYPTED = 0x1
_LOCAL_HEADER = struct.Struct("<4s22xHH")


def members(path: Path, root: Path | None) -> list[zipfile.ZipInfo]:
    """The regular members of a zip, in the order of their names; links and hidden ones are passed over."""
    place = shown(str(path))
    with open_regular(path, root) as raw:
        size = os.fstat(raw.fileno()).st_size
        try:
            with zipfile.ZipFile(raw) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as fault:
            raise DataError(f"{place} is not a zip file that can be read: {fault}") from None
    # A member is never read further than to its declared size, so this bounds the whole archive.
    if sum(entry.file_size for entry in entries) > most_bytes(size):
        raise DataError(f"{place} unpacks to more than {most_bytes(size):,} bytes", hint="unpack it, if you trust it")
    files = [entry for entry in entries if not entry.is_dir()]
    if sum(entry.compress_size for entry in files) > size or len({e.filename for e in files}) < len(files):
        raise RefusedError(f"{place}: two members overlap or have the same name", hint="make the zip again")
    return sorted((entry for entry in files if _is_wanted(entry, place)), key=lambda entry: entry.filename)


def _is_wanted(entry: zipfile.ZipInfo, place: str) -> bool:
    name = shown(entry.filename)
    parts = PureWindowsPath(entry.filename).parts  # both separators, and drives
    if ".." in parts or PureWindowsPath(entry.filename).anchor:
        raise RefusedError(f"{place}: the member {name} points out of the zip", hint="do not trust this file")
    if any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return False
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        _log.warning("%s/%s is a link or a device; passed over", place, name)
        return False
    return True


def open_member(raw: BinaryIO, entry: zipfile.ZipInfo, place: str) -> BinaryIO:
    """The bytes of one member of the zip ``raw``; their checksum is checked at the end.

    Unlike ``ZipFile.open`` this does not read the list of all members again for each of them.
    """
    if entry.flag_bits & _ENCRYPTED:
        raise DataError(f"{place} is encrypted", hint="unpack it and set data.path to the folder")
    if entry.compress_type not in _METHODS:
        raise DataError(f"{place}: compression method {entry.compress_type} is not read", hint="pack it with deflate")
    head = b""
    if 0 <= entry.header_offset < os.fstat(raw.fileno()).st_size:
        raw.seek(entry.header_offset)
        head = raw.read(_LOCAL_HEADER.size)
    if len(head) < _LOCAL_HEADER.size or not head.startswith(b"PK\3\4"):
        raise DataError(f"{place} is damaged: no member at its place in the zip", hint="make the zip again")
    _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(head)
    raw.seek(name_bytes + extra_bytes, os.SEEK_CUR)
    return cast(BinaryIO, zipfile.ZipExtFile(raw, "r", entry))
