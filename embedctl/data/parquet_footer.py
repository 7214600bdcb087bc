"""What a Parquet file says of its pages, read without Arrow.

pyarrow (26.0) ends the whole process where a hostile file is asked for the metadata of its columns: a C++ exception
that Python is not told of. Its readers of data are safe. Footers and page headers are Thrift's compact protocol.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

_MAGIC = b"PAR1"
_MOST_BYTES = 64 * 2**20
_MOST_NESTED = 32
_DICTIONARY_PAGE = 2


@dataclass(frozen=True, slots=True)
class Group:
    """A row group: its average row, and how long the dictionaries of its columns are together."""

    row_bytes: int
    dictionary_bytes: int


def read_groups(stream: BinaryIO, columns: set[str]) -> list[Group]:
    """The row groups of a file, as far as the top-level ``columns`` go. ValueError: this is not Parquet."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - 8))
    tail = stream.read(8)
    footer_bytes = int.from_bytes(tail[:4], "little")
    if tail[4:] != _MAGIC or not 0 < footer_bytes <= min(size - 8, _MOST_BYTES):
        raise ValueError("no footer at its end")
    stream.seek(size - 8 - footer_bytes)
    try:
        footer = _Compact(stream.read(footer_bytes)).struct()
        return [_group(stream, group, columns) for group in footer.get(4, ())]
    except (IndexError, AttributeError, TypeError, KeyError):
        raise ValueError("its footer makes no sense") from None


def _group(stream: BinaryIO, group: dict[int, Any], columns: set[str]) -> Group:
    dictionaries = 0
    for chunk in group[1]:
        about = chunk[3]
        if about[3][0].decode() in columns:
            starts = [at for at in (about.get(11), about.get(9)) if at is not None and at >= len(_MAGIC)]
            dictionaries += _dictionary_bytes(stream, min(starts, default=len(_MAGIC)))
    return Group(max(0, group[2]) // max(1, group[3]), dictionaries)


def _dictionary_bytes(stream: BinaryIO, at: int) -> int:
    """Size of the page at ``at`` as its own header has it, which is what will be allocated; 0: not a dictionary."""
    stream.seek(at)
    head = _Compact(stream.read(16))
    numbers = []
    for _ in range(2):  # fields 1 and 2, each a 32-bit number
        if head.byte() != 0x15:
            raise ValueError("a page begins in no way that is known")
        numbers.append(head.number())
    kind, size = numbers
    return max(0, size) if kind == _DICTIONARY_PAGE else 0


class _Compact:
    """Thrift's compact protocol as plain values: a struct is a dict by field number. IndexError at the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def struct(self, depth: int = 0) -> dict[int, Any]:
        if depth > _MOST_NESTED:
            raise ValueError("nested too deep")
        fields: dict[int, Any] = {}
        number = 0
        while head := self.byte():
            number = number + (head >> 4) if head >> 4 else self.number()
            kind = head & 15
            fields[number] = kind == 1 if kind in (1, 2) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        match kind:
            case 1 | 2 | 3:
                return self.byte()
            case 4 | 5 | 6:
                return self.number()
            case 7:
                return self._bytes(8)
            case 8:
                return self._bytes(self._varint())
            case 9 | 10:
                return list(self._items(depth + 1))
            case 12:
                return self.struct(depth + 1)
        raise ValueError(f"a value of type {kind}")

    def _items(self, depth: int) -> Iterator[Any]:
        if depth > _MOST_NESTED:
            raise ValueError("nested too deep")
        head = self.byte()
        count = head >> 4 if head >> 4 != 15 else self._varint()
        for _ in range(count):
            yield self._value(head & 15, depth)

    def _bytes(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        self._at += count
        if len(found) < count:
            raise IndexError
        return found

    def number(self) -> int:
        raw = self._varint()
        return (raw >> 1) ^ -(raw & 1)

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("a number of more than 64 bits")
