"""Many texts as one run of bytes."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import overload

import pyarrow as pa
import pyarrow.compute as pc

# No UTF-8 text holds this byte.
SEPARATOR = b"\xff"


class Column(Sequence[str]):
    """The texts of a column of a table, which become texts of Python only if somebody looks at them."""

    def __init__(self, column: pa.StringArray) -> None:
        self.column = column

    @cached_property
    def _texts(self) -> list[str]:
        found: list[str] = self.column.to_pylist()
        return found

    def __len__(self) -> int:
        return len(self.column)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        return self._texts[place]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)


def in_one(texts: Sequence[str]) -> bytes:
    """All texts in UTF-8, each followed by ``SEPARATOR``."""
    if not isinstance(texts, Column):
        return SEPARATOR.join([*(text.encode() for text in texts), b""])
    if not len(texts):
        return b""
    # The last of the joined is empty, so that a separator follows the last text too.
    parts = pa.concat_arrays([texts.column.cast(pa.binary()), pa.array([b""])])
    joined: bytes = pc.binary_join(pa.ListArray.from_arrays([0, len(parts)], parts), SEPARATOR)[0].as_py()
    return joined
