"""The negatives artifact: for each training record with a query, chunks that seem to answer it and do not."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import JsonValue

from embedctl.artifacts import manifest
from embedctl.artifacts.folder import lock, new_folder
from embedctl.artifacts.layout import Layout
from embedctl.artifacts.manifest import Manifest
from embedctl.artifacts.outcome import Outcome, up_to_date
from embedctl.checkpoint import files, opening
from embedctl.errors import ArtifactError, NotFoundError
from embedctl.mining.answers import Places
from embedctl.mining.search import MARGIN, PASSAGES, Search
from embedctl.model.nearest import Found
from embedctl.model.precision import pick_device, pick_dtype
from embedctl.progress import Tick, Watch, unwatched
from embedctl.settings import ComputeSettings
from embedctl.tokens.shards import TokenTable

# record: its number in the token table; rows: numbers of chunks there, the most similar first; scores: their cosines
SCHEMA = pa.schema(
    [
        pa.field("record", pa.int64(), nullable=False),
        pa.field("rows", pa.list_(pa.int64()), nullable=False),
        pa.field("scores", pa.list_(pa.float32()), nullable=False),
    ]
)
_PART = "part-00000.parquet"
_VECTORS = "passages.f16"
# Vectors of so many queries are in memory at a time; the passages are read once for each window of them.
_QUERIES = 8192
_NONE = np.zeros(0, np.int64)


class Negatives:
    """What was mined for P records. In memory are the numbers of the chunks, 8 bytes for each."""

    def __init__(self, folder: Path, *, tokens: str) -> None:
        """Open and verify; raises ``NotFoundError`` or ``ArtifactError``.

        tokens: ``content_id`` of the tokens at hand; in others the chunks have other numbers
        """
        self.manifest: Manifest = manifest.read_verified(folder, "negatives")
        if self.manifest.parents.get("tokens") != tokens:
            raise ArtifactError(f"{folder} was mined in other tokens", hint="run `embedctl mine` again")
        records, counts, rows = [_NONE], [_NONE], [_NONE]
        for batch in pq.ParquetFile(folder / _PART).iter_batches(columns=["record", "rows"]):
            records.append(batch.column("record").to_numpy())
            counts.append(np.diff(batch.column("rows").offsets.to_numpy()).astype(np.int64))
            rows.append(batch.column("rows").flatten().to_numpy())
        self._records = np.concatenate(records)
        self._ends = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
        self._rows = np.concatenate(rows)

    def of(self, record: int) -> Places:
        """Numbers of the chunks mined for the query of ``record``, the most similar first; none for other records."""
        place = int(np.searchsorted(self._records, record))
        if place == len(self._records) or self._records[place] != record:
            return _NONE
        return self._rows[self._ends[place] : self._ends[place + 1]]


def mine(
    compute: ComputeSettings, layout: Layout, *, per_query: int, model: Path | None = None, watch: Watch = unwatched
) -> Outcome:
    """Search ``tokens/NAME`` with the head of ``runs/NAME`` into ``negatives/NAME``.

    model: the folder of a published model, of a run or of a checkpoint, to search with instead
    """
    tokens = manifest.read(layout.tokens, "tokens")
    chosen = _head(layout) if model is None else model
    parents = {"tokens": tokens.content_id, "checkpoint": opening.identity_of(chosen)}
    recipe: dict[str, JsonValue] = {"per_query": per_query, "margin": MARGIN, "precision": compute.precision}
    with lock(layout.lock(layout.negatives)):
        found = up_to_date(layout.negatives, "negatives", manifest.fingerprint("negatives", parents, recipe))
        if found:
            return found
        started = time.monotonic()
        device = pick_device(compute.device)
        opened, table = opening.open_model(chosen, device), TokenTable(layout.tokens)
        opening.refuse_other(opened, table, model)
        with new_folder(layout.negatives) as folder:
            counts = _write(folder, Search(table, opened, pick_dtype(compute.precision, device)), per_query, watch)
            facts: dict[str, JsonValue] = {**counts, "step": opened.step, "model": opened.model_id}
            made = manifest.write(folder, "negatives", parents=parents, settings=recipe, facts=facts)
    rate = counts["pairs"] / (time.monotonic() - started)
    return Outcome(layout.negatives, made, made=True, measured={"pairs_per_second": round(rate, 1)})


def _head(layout: Layout) -> Path:
    """The model of the run; a run that wants negatives has none before it has these."""
    if not files.scan(layout.checkpoints):
        raise NotFoundError(
            f"no checkpoint in {layout.checkpoints} to search with",
            hint="embedctl --set training.hard_negatives=0 train, or mine --model DIR (published, or another run)",
        )
    return files.head(layout.checkpoints).folder


def _write(folder: Path, search: Search, per_query: int, watch: Watch) -> dict[str, int]:
    """The vectors of all passages go into a file of halves that is removed again; negatives are written in windows."""
    path = folder / _VECTORS
    passages = _mapped(path, len(search.rows), search.dim)
    for first in range(0, len(passages), PASSAGES):
        last = min(first + PASSAGES, len(passages))
        passages[first:last] = search.vectors(first, last)
        watch(Tick(last, len(passages), "chunks"))
    negatives = short = 0
    with pq.ParquetWriter(folder / _PART, SCHEMA) as writer:
        for first in range(0, len(search.records), _QUERIES):
            records = search.records[first : first + _QUERIES]

            def tell(share: float, before: int = first, count: int = len(records)) -> None:
                watch(Tick(before + int(share * count), len(search.records), "pairs"))

            found = search.hardest(records, passages, per_query, told=tell)
            counts = (found.labels >= 0).sum(axis=1)
            negatives, short = negatives + int(counts.sum()), short + int((counts < per_query).sum())
            writer.write_table(_table(records, found))
    del passages
    path.unlink()
    return {"pairs": len(search.records), "negatives": negatives, "short_pairs": short, "chunks": len(search.rows)}


def _mapped(path: Path, rows: int, dim: int) -> "np.memmap[Any, np.dtype[np.float16]]":
    """A new file of halves, (rows, dim); raises ``OSError`` if the disk has no room for all of it."""
    size = rows * dim * np.dtype(np.float16).itemsize
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            # A disk that is full when a mapped page is written kills the process (SIGBUS).
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    return np.memmap(path, dtype=np.float16, mode="r+", shape=(rows, dim))


def _table(records: Places, found: Found) -> pa.Table:
    kept = found.labels >= 0
    offsets = pa.array(np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int32))
    rows, scores = (pa.ListArray.from_arrays(offsets, pa.array(v[kept])) for v in (found.labels, found.scores))
    return pa.table([pa.array(records), rows, scores], schema=SCHEMA)
