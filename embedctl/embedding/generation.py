"""The vectors artifact: every chunk of the tokens, embedded by the head of a run."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import JsonValue

from embedctl.artifacts import manifest
from embedctl.artifacts.folder import lock, new_folder
from embedctl.artifacts.layout import Layout
from embedctl.artifacts.outcome import Outcome, up_to_date
from embedctl.checkpoint import files
from embedctl.embedding.vectors import schema
from embedctl.errors import DataError
from embedctl.model.encoding import Vectors, encode
from embedctl.model.precision import pick_device, pick_dtype
from embedctl.progress import Tick, Watch, unwatched
from embedctl.settings import ComputeSettings, EmbeddingSettings
from embedctl.tokens.shards import TokenTable

# A window is sorted by length, embedded and written in its old order; only it is in memory.
_WINDOW_CHUNKS = 8192
_PART_WINDOWS = 16
_COLUMNS = ("id", "record", "chunk", "start", "end", "source", "text", "metadata")


def recipe_of(settings: EmbeddingSettings, compute: ComputeSettings) -> dict[str, JsonValue]:
    """The settings on which the vectors depend."""
    return {"dtype": settings.dtype, "with_text": settings.with_text, "precision": compute.precision}


def generate(
    settings: EmbeddingSettings, compute: ComputeSettings, layout: Layout, *, watch: Watch = unwatched
) -> Outcome:
    """Embed ``tokens/NAME`` with the head of ``runs/NAME`` into ``vectors/NAME``."""
    tokens = manifest.read(layout.tokens, "tokens")
    checkpoint = files.head(layout.checkpoints)
    parents = {"tokens": tokens.content_id, "checkpoint": checkpoint.model_id}
    recipe = recipe_of(settings, compute)
    with lock(layout.lock(layout.vectors)):
        found = up_to_date(layout.vectors, "vectors", manifest.fingerprint("vectors", parents, recipe))
        if found:
            return found
        table = TokenTable(layout.tokens)
        model = files.load_model(checkpoint, pick_device(compute.device))
        _refuse_other_tokenizer(table, model)
        with new_folder(layout.vectors) as folder:
            _write(folder, table, model, settings, compute, watch)
            facts: dict[str, JsonValue] = {
                "vectors": len(table),
                "dim": model.encoder.shape.dim,
                "step": model.step,
                "model": model.model_id,
            }
            made = manifest.write(folder, "vectors", parents=parents, settings=recipe, facts=facts)
    return Outcome(layout.vectors, made, made=True)


def _refuse_other_tokenizer(table: TokenTable, model: files.Model) -> None:
    if table.tokenizer.to_str() != model.tokenizer.to_str():
        raise DataError(
            f"{table.folder} was made with another tokenizer than the model's",
            hint="run `embedctl train` on these tokens, or make the tokens again with the model's tokenizer",
        )


def _write(
    folder: Path,
    table: TokenTable,
    model: files.Model,
    settings: EmbeddingSettings,
    compute: ComputeSettings,
    watch: Watch,
) -> None:
    layout = schema(settings.dtype)
    writer: pq.ParquetWriter | None = None
    dtype = pick_dtype(compute.precision, next(model.encoder.parameters()).device)
    try:
        for window, first in enumerate(range(0, len(table), _WINDOW_CHUNKS)):
            if window % _PART_WINDOWS == 0:
                if writer is not None:
                    writer.close()
                writer = pq.ParquetWriter(folder / f"part-{window // _PART_WINDOWS:05d}.parquet", layout)
            last = min(first + _WINDOW_CHUNKS, len(table))
            ids = [table.passage(row) for row in range(first, last)]

            def tell(tick: Tick, before: int = first) -> None:
                watch(Tick(before + tick.done, len(table), "chunks"))

            vectors = encode(model.encoder, ids, dtype=dtype, batch_tokens=settings.batch_tokens, watch=tell)
            if not np.isfinite(vectors).all():
                bad = table.strings("id", [first + int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])])
                raise DataError(
                    f"the vector of {bad[0]} is not finite", hint="embedctl checkpoint list; restore another step"
                )
            rows = table.rows(first, last, _COLUMNS)
            assert writer is not None
            writer.write_table(_table(rows, ids, vectors, model, settings, layout))
    finally:
        if writer is not None:
            writer.close()


def _table(
    rows: list[dict[str, Any]],
    ids: list[Any],
    vectors: Vectors,
    model: files.Model,
    settings: EmbeddingSettings,
    layout: pa.Schema,
) -> pa.Table:
    values = vectors.astype(settings.dtype)
    offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * values.shape[1])
    return pa.table(
        {
            "id": [row["id"] for row in rows],
            "values": pa.ListArray.from_arrays(offsets, pa.array(values.ravel())),
            "digest": [_digest(text, model.model_id, settings.dtype) for text in ids],
            "metadata": [json.dumps(_metadata(row, settings), ensure_ascii=False) for row in rows],
        },
        schema=layout,
    )


def _digest(ids: Any, model_id: str, dtype: str) -> str:
    """Equal digests mean equal vectors: the same tokens through the same model."""
    return hashlib.blake2b(
        ids.astype("<u4").tobytes(), key=f"{model_id[:48]}{dtype}".encode(), digest_size=16
    ).hexdigest()


def _metadata(row: dict[str, Any], settings: EmbeddingSettings) -> dict[str, JsonValue]:
    own = {name: row[name] for name in ("record", "chunk", "start", "end", "source")}
    if settings.with_text:
        own["text"] = row["text"]
    return {**json.loads(row["metadata"]), **own}
