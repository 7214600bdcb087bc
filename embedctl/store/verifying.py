"""Fetching vectors back from a store and comparing them, bit by bit."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from embedctl.embedding.vectors import matrix, read_vectors
from embedctl.errors import ArtifactError
from embedctl.progress import Tick
from embedctl.store.job import Job
from embedctl.store.protocol import Vector

_IDS_PER_REQUEST = 100
_WINDOW_ROWS = 8192
_SHOWN = 3


def verify(job: Job, share: float, *, besides: set[str]) -> int:
    """Fetch a share of the vectors (1: all) and compare; how many are equal.

    besides: ids that were rejected, and are not looked for. Raises ``ArtifactError`` with the ids that are missing or
    hold other values; the next upsert sends those again, whatever the store says it holds.
    """
    wanted = job.total - len(besides)
    held = job.ask(job.store.count)
    equal, bad = 0, list[str]()
    with ThreadPoolExecutor(job.store.limits.concurrency, thread_name_prefix="verify") as pool:
        for window in _sample(job, share, besides):
            for right, wrong in pool.map(lambda rows: _compared(job, rows), _requests(window)):
                equal += right
                bad += wrong
                job.watch(Tick(equal + len(bad), None, "vectors", {"compared": "", "different": f"{len(bad):,}"}))
    if bad:
        job.ledger.unfinish(job.name)
        job.ledger.doubt(job.target, bad)
        more = f" and {len(bad) - _SHOWN:,} more" if len(bad) > _SHOWN else ""
        raise ArtifactError(
            f"{job.target} does not hold the vectors of {', '.join(bad[:_SHOWN])}{more} as they were sent",
            hint="run `embedctl embed upsert` again: it sends those",
        )
    if held < wanted:
        raise ArtifactError(
            f"{job.target} counts {held:,} vectors, {wanted:,} were stored",
            hint="its count may lag behind; `embedctl embed upsert --verify all` finds what is missing",
        )
    return equal


def _sample(job: Job, share: float, besides: set[str]) -> Iterator[pa.RecordBatch]:
    """Rows drawn by chance, at least one in all; every time others."""
    chance = np.random.default_rng()
    drawn = 0
    for window in read_vectors(job.layout.vectors, _WINDOW_ROWS):
        taken = chance.random(len(window)) < share
        if not drawn and not taken.any():
            taken[int(chance.integers(len(window)))] = True
        if besides:
            taken &= ~np.isin(np.array(window.column("id").to_pylist(), dtype=object), list(besides))
        drawn += int(taken.sum())
        yield window.take(pa.array(np.flatnonzero(taken), pa.int64()))


def _requests(rows: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    return (rows.slice(first, _IDS_PER_REQUEST) for first in range(0, len(rows), _IDS_PER_REQUEST))


def _compared(job: Job, rows: pa.RecordBatch) -> tuple[int, list[str]]:
    """The number that are equal, and the ids of the others."""
    ids = rows.column("id").to_pylist()
    stored = job.ask(lambda: job.store.fetch(ids))
    bad = [id_ for id_, vector in zip(ids, _kept(job, rows), strict=True) if not _equal(vector, stored.get(id_))]
    return len(ids) - len(bad), bad


def _kept(job: Job, rows: pa.RecordBatch) -> npt.NDArray[np.float32]:
    """The values as the store was asked to keep them."""
    values = matrix(rows)
    halved = job.settings.kind == "pgvector" and job.settings.column == "halfvec"
    return values.astype(np.float16).astype(np.float32) if halved else values


def _equal(vector: Vector, stored: Vector | None) -> bool:
    """Bit by bit: -0.0 is not 0.0."""
    return stored is not None and np.array_equal(vector.view(np.uint32), stored.astype(np.float32).view(np.uint32))
