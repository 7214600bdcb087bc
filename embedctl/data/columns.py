"""Between columns of Arrow and arrays of numpy, without pandas, which ``pyarrow.array`` imports for half a second.

N rows.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def read(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A Parquet file, or some of its columns."""
    return pq.ParquetFile(path).read(columns=list(columns) if columns else None)


def numbers(values: npt.NDArray[Any], *, there: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """An Arrow array over the same memory. ``there``: (N,) False where a number is missing."""
    plain = np.ascontiguousarray(values)
    known = None if there is None else pa.py_buffer(np.packbits(there, bitorder="little"))
    return pa.Array.from_buffers(pa.from_numpy_dtype(plain.dtype), len(plain), [known, pa.py_buffer(plain)])


def words(values: Sequence[str]) -> pa.Array:
    """An Arrow array of these strings."""
    encoded = [value.encode() for value in values]
    offsets = np.cumsum([0, *map(len, encoded)]).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)


def values_of(column: pa.ChunkedArray | pa.Array, kind: npt.DTypeLike = np.int64) -> npt.NDArray[Any]:
    """(N,) the numbers of a column of type ``kind`` in which none is missing."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    size = np.dtype(kind).itemsize
    parts = [
        np.frombuffer(chunk.buffers()[1], kind, count=len(chunk), offset=chunk.offset * size)
        for chunk in chunks
        if len(chunk)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, kind)


def codes_of(column: pa.ChunkedArray | pa.Array, names: Sequence[str]) -> npt.NDArray[np.int32]:
    """(N,) the place of each string among ``names``; -1 for one that is missing or another."""
    none = numbers(np.array([-1], np.int32))[0]
    places = pc.fill_null(pc.index_in(column, value_set=words(names)), none)
    return values_of(places, np.int32).copy()


def strings_of(codes: npt.NDArray[np.integer[Any]], names: Sequence[str]) -> pa.Array:
    """The string of ``names`` at each of the (N,) places; missing where it is -1."""
    return words(names).take(numbers(codes, there=codes >= 0))
