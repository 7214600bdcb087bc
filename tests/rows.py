"""Rows as the vectors artifact holds them, made by hand."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from embedctl.artifacts import manifest
from embedctl.artifacts.folder import new_folder
from embedctl.artifacts.layout import Layout
from embedctl.artifacts.manifest import Manifest
from embedctl.embedding.vectors import schema, write_part


def batch(
    ids: Sequence[str],
    values: np.ndarray,
    *,
    digests: Sequence[str] | None = None,
    metadata: Sequence[dict[str, Any]] | None = None,
) -> pa.RecordBatch:
    """values: (rows, D) float32"""
    offsets = pa.array(np.arange(len(ids) + 1, dtype=np.int32) * values.shape[1])
    columns = [
        pa.array(ids, pa.string()),
        pa.ListArray.from_arrays(offsets, pa.array(values.astype(np.float32).ravel())),
        pa.array(digests or [f"{n:032x}" for n in range(len(ids))], pa.string()),
        pa.array([json.dumps(one, ensure_ascii=False) for one in metadata or [{}] * len(ids)], pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema("float32"))


def random_batch(count: int, dim: int = 4, **metadata: Any) -> pa.RecordBatch:
    """Ids r0, r1 …; the same values every time."""
    values = np.random.default_rng(0).normal(size=(count, dim)).astype(np.float32)
    return batch([f"r{n}" for n in range(count)], values, metadata=[{"n": n, **metadata} for n in range(count)])


def write_vectors(layout: Layout, *batches: pa.RecordBatch, model: str = "m") -> Manifest:
    """The vectors artifact that holds these rows."""
    rows = sum(map(len, batches))
    dim = len(batches[0].column("values")[0])
    with new_folder(layout.vectors) as folder:
        for number, one in enumerate(batches):
            write_part(folder / f"part-{number:05d}.parquet", pa.Table.from_batches([one]))
        facts = {"vectors": rows, "dim": dim, "step": 1, "model": model}
        settings = {"dtype": "float32", "with_text": True, "precision": "fp32"}
        return manifest.write(folder, "vectors", parents={}, settings=settings, facts=facts)
