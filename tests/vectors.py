"""Vectors artifacts made by hand: any ids, texts and values, without a model."""

import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from embedctl.artifacts import manifest
from embedctl.artifacts.layout import Layout

TYPES = {"float32": pa.float32(), "float16": pa.float16()}


def write_vectors(
    layout: Layout, ids: Sequence[str], values: npt.NDArray[np.floating], metadata: Sequence[object], dtype: str
) -> None:
    """``vectors/NAME`` with two parts; ``values`` (N, D)."""
    layout.vectors.mkdir(parents=True)
    columns = [
        ("id", pa.string()),
        ("values", pa.list_(TYPES[dtype])),
        ("digest", pa.string()),
        ("metadata", pa.string()),
    ]
    schema = pa.schema([pa.field(name, type_, nullable=False) for name, type_ in columns])
    half = len(ids) // 2
    for part, (first, last) in enumerate(((0, half), (half, len(ids)))):
        rows = {
            "id": list(ids[first:last]),
            "values": list(values[first:last].astype(dtype)),
            "digest": ["0" * 32] * (last - first),
            "metadata": [json.dumps(one, ensure_ascii=False) for one in metadata[first:last]],
        }
        pq.write_table(pa.table(rows, schema=schema), layout.vectors / f"part-{part:05d}.parquet")
    facts = {"vectors": len(ids), "dim": values.shape[1], "step": 1, "model": "m"}
    manifest.write(layout.vectors, "vectors", parents={}, settings={"dtype": dtype}, facts=facts)
