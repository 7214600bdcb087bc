"""Vectors on disk: the layout of their rows, the types of their values, and how they are read.

Without torch, which takes a second to load.

Shape suffixes: N vectors, D values of each, R bytes of a vector as it is kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

Vectors = npt.NDArray[np.float32]
Dtype = Literal["float32", "float16", "int8"]
Packed = npt.NDArray[np.uint8]

_ARROW = {"float32": pa.float32(), "float16": pa.float16(), "int8": pa.int8()}
# Of a vector in a narrower type are kept, beside its values: its scale, and its cosine to what was computed.
_BESIDE = 2
# Rows that a reader has to take at once.
_ROW_GROUP = 1024


def schema(dtype: Dtype) -> pa.Schema:
    """Pinecone's layout for bulk import, and a digest of all that is in the row.

    With int8 a value is ``scale`` times what ``values`` holds.
    """
    fields = [
        pa.field("id", pa.string(), nullable=False),
        pa.field("values", pa.list_(_ARROW[dtype]), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("metadata", pa.string(), nullable=False),
    ]
    return pa.schema([*fields, pa.field("scale", pa.float32(), nullable=False)] if dtype == "int8" else fields)


def read_vectors(folder: Path, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """The rows of a vectors artifact, in order, at most ``batch_rows`` at a time."""
    for part in sorted(folder.glob("part-*.parquet")):
        # Not mapped: pages that were read would count as memory of the process.
        with pq.ParquetFile(part) as rows:
            yield from rows.iter_batches(batch_size=batch_rows)


def write_part(path: Path, rows: pa.Table) -> None:
    """One part of a vectors artifact. Metadata compressed, values as they are: they would not become smaller."""
    numbers = {"values": "values.list.element", "scale": "scale"}
    compression = {numbers.get(name, name): "NONE" if name in numbers else "ZSTD" for name in rows.schema.names}
    with pq.ParquetWriter(path, rows.schema, compression=compression, use_dictionary=False) as writer:
        writer.write_table(rows, row_group_size=_ROW_GROUP)


def matrix(rows: pa.RecordBatch) -> Vectors:
    """The vectors of some rows, (N, D) float32, whatever they are kept as."""
    column = rows.column("values")
    flat: Vectors = column.flatten().to_numpy().astype(np.float32, copy=False)
    vectors = flat.reshape(len(column), -1)
    return vectors * rows.column("scale").to_numpy()[:, None] if "scale" in rows.schema.names else vectors


@dataclass(frozen=True, slots=True)
class Keeping:
    """How vectors are kept: so many of their values, in such a type."""

    dim: int
    dtype: Dtype

    @property
    def row_bytes(self) -> int:
        return self._values_bytes + (0 if self.dtype == "float32" else 4 * _BESIDE)

    def pack(self, vectors_ND: Vectors) -> Packed:
        """The vectors as bytes, (N, R).

        int8: 127 stands for the largest value of each vector, and its share of it is the ``scale``
        """
        values = np.ascontiguousarray(vectors_ND, dtype=np.float32)
        if self.dtype == "float32":
            return values.view(np.uint8)
        scale = np.ones(len(values), dtype=np.float32)
        if self.dtype == "int8":
            largest = np.abs(values).max(axis=1, initial=0)
            scale = np.where(largest == 0, 1, largest / 127).astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            kept = np.rint(values / scale[:, None]).astype(np.int8) if self.dtype == "int8" else values.astype("f2")
            cosines = _cosines(values, kept.astype(np.float32))
        beside = np.stack([scale, cosines], axis=1).astype(np.float32)
        return np.concatenate([kept.view(np.uint8), beside.view(np.uint8)], axis=1)

    def columns(self, packed_NR: Packed) -> dict[str, pa.Array]:
        """The columns ``values`` and, with int8, ``scale`` of some packed vectors."""
        values = np.ascontiguousarray(packed_NR[:, : self._values_bytes]).view(self.dtype)
        offsets = pa.array(np.arange(len(values) + 1, dtype=np.int32) * self.dim)
        found = {"values": pa.ListArray.from_arrays(offsets, pa.array(values.ravel()))}
        return found | ({"scale": pa.array(self._beside(packed_NR)[:, 0])} if self.dtype == "int8" else {})

    def packed_again(self, rows: pa.Table) -> Packed:
        """What :meth:`columns` was given, but for the cosines: those are 1."""
        flat = rows.column("values").combine_chunks().flatten().to_numpy()
        values = np.ascontiguousarray(flat).reshape(len(rows), self.dim).view(np.uint8)
        if self.dtype == "float32":
            return values
        beside = np.ones((len(rows), _BESIDE), dtype=np.float32)
        if self.dtype == "int8":
            beside[:, 0] = rows.column("scale").to_numpy()
        return np.concatenate([values, beside.view(np.uint8)], axis=1)

    def worst_cosine(self, packed_NR: Packed) -> float:
        """The smallest cosine between a vector as it was computed and as it is kept."""
        return 1.0 if self.dtype == "float32" else float(self._beside(packed_NR)[:, 1].min(initial=1.0))

    def bad_rows(self, packed_NR: Packed) -> npt.NDArray[np.int64]:
        """Which vectors hold a value that is not finite."""
        values = np.ascontiguousarray(packed_NR[:, : self._values_bytes]).view(self.dtype)
        fine = np.isfinite(values).all(axis=1)
        if self.dtype == "int8":
            fine &= np.isfinite(self._beside(packed_NR)).all(axis=1)
        return np.flatnonzero(~fine)

    @property
    def _values_bytes(self) -> int:
        return self.dim * np.dtype(self.dtype).itemsize

    def _beside(self, packed_NR: Packed) -> Vectors:
        return np.ascontiguousarray(packed_NR[:, self._values_bytes :]).view(np.float32)


def _cosines(one_ND: Vectors, other_ND: Vectors) -> Vectors:
    products = np.einsum("nd,nd->n", one_ND, other_ND, dtype=np.float64)
    lengths = np.linalg.norm(one_ND, axis=1) * np.linalg.norm(other_ND, axis=1).astype(np.float64)
    cosines: Vectors = np.divide(products, lengths, out=np.ones_like(products), where=lengths > 0).astype(np.float32)
    return cosines
