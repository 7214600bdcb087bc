"""Rows in the binary format of PostgreSQL's COPY: numbers go over as they stand, none becomes a text or an object."""

import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from embedctl.embedding.vectors import matrix
from embedctl.store.protocol import Vector

COLUMNS = ("id", "embedding", "digest", "model", "metadata")
"""Their order in :func:`copied`."""

# https://www.postgresql.org/docs/current/sql-copy.html: signature, flags, length of an extension; -1 ends.
_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"
_FIELDS = struct.pack(">h", len(COLUMNS))
_JSONB = b"\1"  # the version of its binary form
_LETTERS = {"vector": ">f4", "halfvec": ">f2"}


def copied(rows: pa.RecordBatch, model: str, column: str) -> bytes:
    """``rows`` as one COPY. A value too large for half precision becomes infinite, which the server refuses."""
    fields = _embeddings(matrix(rows), column)
    of_model = _field(model.encode())
    parts: list[bytes | memoryview] = [_HEAD]
    for id_, embedding, digest, metadata in zip(
        _bytes(rows, "id"), fields, _bytes(rows, "digest"), _bytes(rows, "metadata"), strict=True
    ):
        parts += (_FIELDS, _field(id_), embedding, _field(digest), of_model, _field(_JSONB + metadata))
    parts.append(_END)
    return b"".join(parts)


def received(sent: bytes, column: str) -> Vector:
    """A vector, (D,) float32, from what ``vector_send`` gives."""
    return np.frombuffer(sent, dtype=_LETTERS[column], offset=4).astype(np.float32)


def _embeddings(values: npt.NDArray[np.float32], column: str) -> Iterator[memoryview]:
    """Each row's field: its length in bytes, the dimensions, two empty bytes, and the values, big end first."""
    count, dim = values.shape
    number = np.dtype(_LETTERS[column])
    fields = np.zeros(count, dtype=[("bytes", ">i4"), ("dim", ">u2"), ("unused", ">u2"), ("values", number, (dim,))])
    fields["bytes"] = 4 + dim * number.itemsize
    fields["dim"] = dim
    with np.errstate(over="ignore"):
        fields["values"] = values
    flat = memoryview(fields.tobytes())
    return (flat[at : at + fields.itemsize] for at in range(0, len(flat), fields.itemsize))


def _bytes(rows: pa.RecordBatch, name: str) -> list[bytes]:
    found: list[bytes] = rows.column(name).cast(pa.binary()).to_pylist()
    return found


def _field(value: bytes) -> bytes:
    return struct.pack(">i", len(value)) + value
