"""What of the vectors a store does not hold yet, cut into requests."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from embedctl.embedding.vectors import read_vectors
from embedctl.store.checking import Rejects, sound
from embedctl.store.job import Job

_log = logging.getLogger(__name__)

# So many rows are read and compared at a time; a store that takes more in one request gets them.
_WINDOW_ROWS = 8192
_SAMPLE_IDS = 100


@dataclass(slots=True)
class Difference:
    """Counts on the way through the vectors, and what was set aside.

    changed: of these the store holds something else
    """

    rejects: Rejects
    changed: int = 0
    unchanged: int = 0
    set_aside: int = 0
    doubted: set[str] = field(default_factory=set)


def stale(job: Job, found: Difference, *, empty: bool) -> Iterator[tuple[pa.RecordBatch, bool]]:
    """Windows of sound rows that the store does not hold with the same digest, and whether it has none of their ids.

    Some windows have no rows.

    empty: the store holds nothing at all
    """
    limits, tells = job.store.limits, job.store_tells
    for window in read_vectors(job.layout.vectors, max(_WINDOW_ROWS, limits.rows)):
        ids, digests = window.column("id").to_pylist(), window.column("digest").to_pylist()
        known = {} if empty else _known(job, ids)
        rows = [
            at
            for at, (id_, digest) in enumerate(zip(ids, digests, strict=True))
            if known.get(id_) != digest or id_ in found.doubted
        ]
        changed = sum(ids[at] in known for at in rows)
        found.changed += changed
        found.unchanged += len(window) - len(rows)
        differing = window if len(rows) == len(window) else window.take(pa.array(rows, pa.int64()))
        good = sound(differing, job.source.number("dim"), limits, found.rejects)
        found.set_aside += len(differing) - len(good)
        yield good, tells and not changed


def cut(
    rows: pa.RecordBatch, sizes: npt.NDArray[np.int64] | None, *, most: int, most_bytes: int | None
) -> list[pa.RecordBatch]:
    """Pieces that keep to the limits of one request; a row that is too large for any is a piece of its own."""
    if sizes is None or most_bytes is None:
        return [rows.slice(first, most) for first in range(0, len(rows), most)]
    pieces, first, held = [], 0, 0
    for at, own in enumerate(sizes.tolist()):
        if at > first and (at - first == most or held + own > most_bytes):
            pieces.append(rows.slice(first, at - first))
            first, held = at, 0
        held += own
    return [*pieces, rows.slice(first)] if len(rows) else []


def distrust(job: Job, held: int) -> None:
    """A store that holds less than it has acknowledged was emptied behind our back, or its count lags behind."""
    noted = job.ledger.count(job.target)
    if held >= noted:
        return
    sample = job.ledger.sample(job.target, _SAMPLE_IDS)
    if job.ask(lambda: job.store.fetch(sample)).keys() >= set(sample):
        _log.warning("%s counts %d of the %d vectors that it has acknowledged", job.target, held, noted)
        return
    _log.warning("%s holds fewer vectors than it has acknowledged; sending all again", job.target)
    job.ledger.forget(job.target)


def _known(job: Job, ids: list[str]) -> dict[str, str]:
    from_store = job.ask(lambda: job.store.known(ids))
    return job.ledger.known(job.target, ids) if from_store is None else from_store
