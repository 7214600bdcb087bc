"""What a Parquet file says of its pages, read without Arrow.

pyarrow (26.0) ends the whole process where a hostile file is asked for the metadata of its columns: a C++ exception
that Python is not told of. Its readers of data are safe. Footers and page headers are Thrift's compact protocol.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_MAGIC = b"PAR1"
_MOST_BYTES = 64 * 2**20
_MOST_NESTED = 32
_DICTIONARY_PAGE = 2


@dataclass(frozen=True, slots=True)
class Group:
    """A row group: its average row, and how long the dictionaries of its columns are together."""

    row_bytes: int
    dictionary_bytes: int


def read_groups(stream: BinaryIO, columns: set[str]) -> Iterator[Group]:
    """The row groups of a file, as far as the top-level ``columns`` go. ValueError: this is not Parquet.

    Nothing of the footer is kept but what a group says: a hostile one would fill the memory with its values.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - 8))
    tail = stream.read(8)
    footer_bytes = int.from_bytes(tail[:4], "little")
    if tail[4:] != _MAGIC or not 0 < footer_bytes <= min(size - 8, _MOST_BYTES):
        raise ValueError("no footer at its end")
    stream.seek(size - 8 - footer_bytes)
    footer = _Compact(stream.read(footer_bytes))
    try:
        for number, kind in footer.fields():
            if number == 4:
                yield from (_group(stream, footer, columns) for _ in footer.structs(kind))
            else:
                footer.skip(kind)
    except IndexError:
        raise ValueError("its footer ends too early") from None


def _group(stream: BinaryIO, footer: "_Compact", columns: set[str]) -> Group:
    size = rows = dictionaries = 0
    for number, kind in footer.fields():
        match number:
            case 1:
                starts = (_dictionary_start(footer, columns) for _ in footer.structs(kind))
                dictionaries = sum(_dictionary_bytes(stream, start) for start in starts if start is not None)
            case 2:
                size = footer.number(kind)
            case 3:
                rows = footer.number(kind)
            case _:
                footer.skip(kind)
    return Group(max(0, size) // max(1, rows), dictionaries)


def _dictionary_start(footer: "_Compact", columns: set[str]) -> int | None:
    """Where the first page of a column chunk begins; ``None`` if it is of no column that is read."""
    column: str | None = None
    start = 0
    for number, kind in footer.fields():
        if number != 3:  # ColumnMetaData
            footer.skip(kind)
            continue
        for field, inner in footer.fields():
            if field == 3:
                column = footer.first_text(inner)
            elif field in (9, 11):  # where the data begin, and the dictionary before them
                at = footer.number(inner)
                start = min(at, start or at) if at >= len(_MAGIC) else start
            else:
                footer.skip(inner)
    if column is None:
        raise ValueError("a column without a name")
    return start or len(_MAGIC) if column in columns else None


def _dictionary_bytes(stream: BinaryIO, at: int) -> int:
    """Size of the page at ``at`` as its own header has it, which is what will be allocated; 0: not a dictionary."""
    stream.seek(at)
    head = _Compact(stream.read(16))
    numbers = []
    for _ in range(2):  # fields 1 and 2, each a 32-bit number
        if head.byte() != 0x15:
            raise ValueError("a page begins in no way that is known")
        numbers.append(head.number(5))
    kind, size = numbers
    return max(0, size) if kind == _DICTIONARY_PAGE else 0


class _Compact:
    """Thrift's compact protocol, value by value: each is taken or skipped. IndexError at the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def fields(self) -> Iterator[tuple[int, int]]:
        """Number and type of each field of a struct; whoever asks for the next one has taken the value."""
        number = 0
        while head := self.byte():
            number = number + (head >> 4) if head >> 4 else self.number(4)
            yield number, head & 15

    def structs(self, kind: int) -> range:
        """As many as there are structs in the list of which this is the value."""
        count, inner = self._list(kind)
        if count and inner != 12:
            raise ValueError(f"a list of values of type {inner}")
        return range(count)

    def first_text(self, kind: int) -> str:
        """The first of a list of strings."""
        count, inner = self._list(kind)
        if not count or inner != 8:
            raise ValueError(f"a list of {count} values of type {inner}")
        size = self._varint()
        text = self._data[self._at : self._at + size]
        self._pass(size)
        for _ in range(count - 1):
            self.skip(inner)
        return text.decode()

    def number(self, kind: int) -> int:
        if kind not in (4, 5, 6):
            raise ValueError(f"a value of type {kind}")
        raw = self._varint()
        return (raw >> 1) ^ -(raw & 1)

    def skip(self, kind: int, depth: int = 0) -> None:
        """Pass over the value of a field."""
        if depth > _MOST_NESTED:
            raise ValueError("nested too deep")
        match kind:
            case 1 | 2:  # the type is the value
                pass
            case 3:
                self.byte()
            case 4 | 5 | 6:
                self._varint()
            case 7:
                self._pass(8)
            case 8:
                self._pass(self._varint())
            case 9 | 10:
                count, inner = self._list(kind)
                for _ in range(count):
                    # In a list a boolean is a byte of its own.
                    self.skip(3 if inner in (1, 2) else inner, depth + 1)
            case 12:
                for _, inner in self.fields():
                    self.skip(inner, depth + 1)
            case _:
                raise ValueError(f"a value of type {kind}")

    def _pass(self, count: int) -> None:
        self._at += count
        if self._at > len(self._data):  # a list may say that it has any number of values
            raise IndexError

    def _list(self, kind: int) -> tuple[int, int]:
        """How many values there are, and their type."""
        if kind not in (9, 10):
            raise ValueError(f"a value of type {kind}")
        head = self.byte()
        return (head >> 4 if head >> 4 != 15 else self._varint()), head & 15

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("a number of more than 64 bits")
