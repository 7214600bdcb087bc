"""Vectors on disk: the layout of their rows, and how they are read. Without torch, which takes a second to load."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

Vectors = npt.NDArray[np.float32]


def schema(dtype: str) -> pa.Schema:
    """Pinecone's layout for bulk import, with a digest of text and model beside it."""
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("values", pa.list_(pa.float32() if dtype == "float32" else pa.float16()), nullable=False),
            pa.field("digest", pa.string(), nullable=False),
            pa.field("metadata", pa.string(), nullable=False),
        ]
    )


def read_vectors(folder: Path, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """The rows of a vectors artifact, in order, at most ``batch_rows`` at a time."""
    for part in sorted(folder.glob("part-*.parquet")):
        yield from pq.ParquetFile(part).iter_batches(batch_size=batch_rows)


def matrix(batch: pa.RecordBatch) -> Vectors:
    """The ``values`` column as (rows, D) float32."""
    column = batch.column("values")
    flat: Vectors = column.flatten().to_numpy().astype(np.float32, copy=False)
    return flat.reshape(len(column), -1)
