"""Vectors artifacts made by hand: any ids, texts and values, without a model."""

import itertools
import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from embedctl.artifacts import manifest
from embedctl.artifacts.layout import Layout

TYPES = {"float32": pa.float32(), "float16": pa.float16(), "int8": pa.int8()}


def write_vectors(
    layout: Layout,
    ids: Sequence[str],
    values: npt.NDArray[np.floating],
    metadata: Sequence[object],
    dtype: str,
    parts: int = 2,
) -> None:
    """``vectors/NAME`` of some parts; ``values`` (N, D), with int8 as a vector's scale times whole numbers."""
    layout.vectors.mkdir(parents=True)
    columns = [
        ("id", pa.string()),
        ("values", pa.list_(TYPES[dtype])),
        ("digest", pa.string()),
        ("metadata", pa.string()),
    ]
    scales = scales_of(values)
    if dtype == "int8":
        columns.append(("scale", pa.float32()))
        values = np.rint(values / scales[:, None])
    schema = pa.schema([pa.field(name, type_, nullable=False) for name, type_ in columns])
    ends = [len(ids) * part // parts for part in range(parts + 1)]
    for part, (first, last) in enumerate(itertools.pairwise(ends)):
        rows = {
            "id": list(ids[first:last]),
            "values": list(values[first:last].astype(dtype)),
            "digest": ["0" * 32] * (last - first),
            "scale": scales[first:last],
            "metadata": [json.dumps(one, ensure_ascii=False) for one in metadata[first:last]],
        }
        pq.write_table(
            pa.table({name: rows[name] for name in schema.names}, schema=schema),
            layout.vectors / f"part-{part:05d}.parquet",
        )
    facts = {"vectors": len(ids), "dim": values.shape[1], "step": 1, "model": "m"}
    manifest.write(layout.vectors, "vectors", parents={}, settings={"dtype": dtype}, facts=facts)


def scales_of(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """(N,) what an int8 of each vector stands for: 127 for the largest value."""
    return (np.abs(values).max(axis=1, initial=0) / 127 + 1e-9).astype(np.float32)
