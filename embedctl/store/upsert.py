"""Bringing a store up to date with the vectors; running it twice changes nothing."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from embedctl.artifacts import manifest
from embedctl.artifacts.folder import lock
from embedctl.artifacts.layout import Layout
from embedctl.embedding.generation import matrix, read_vectors
from embedctl.errors import DataError
from embedctl.progress import Tick, Watch, unwatched
from embedctl.settings import Secrets, StoreSettings
from embedctl.store.ledger import Ledger, open_ledger
from embedctl.store.opening import name_of, open_store
from embedctl.store.protocol import Store
from embedctl.store.retrying import persist

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tally:
    """What an upsert did: vectors sent, and vectors that the store had already."""

    target: str
    written: int
    unchanged: int


def upsert(
    settings: StoreSettings, layout: Layout, *, secrets: Secrets | None = None, watch: Watch = unwatched
) -> Tally:
    """Write those of ``vectors/NAME`` that the store does not hold with the same digest."""
    source = manifest.read_verified(layout.vectors, "vectors")
    store = open_store(settings, layout, secrets or Secrets())
    with lock(layout.root / ".locks" / f"store-{settings.kind}.lock"), open_ledger(layout.ledger) as ledger:
        persist(lambda: store.create(source.number("dim")), name_of(settings))
        _distrust(ledger, store)
        total, model = source.number("vectors"), str(source.facts["model"])
        written = done = 0
        for batch in read_vectors(layout.vectors, min(settings.batch_size, store.limits.rows)):
            written += _bring(batch, store, ledger, model)
            done += len(batch)
            watch(Tick(done, total, "vectors", {"written": f"{written:,}"}))
        if written:
            store.finish()
        ledger.finish(name_of(settings), source.content_id, total)
    return Tally(store.target, written, total - written)


def finished(settings: StoreSettings, layout: Layout) -> tuple[str, int] | None:
    """The ``content_id`` and count of the vectors that the store holds as a whole, as far as is noted here."""
    gone = settings.kind == "lancedb" and not (layout.store / f"{settings.collection}.lance").is_dir()
    if gone or not layout.ledger.is_file():
        return None
    with open_ledger(layout.ledger) as ledger:
        return ledger.finished(name_of(settings))


def _distrust(ledger: Ledger, store: Store) -> None:
    """A store that holds less than it has acknowledged was emptied behind our back."""
    noted = ledger.count(store.target)
    if noted and persist(store.count, store.target) < noted:
        _log.warning("%s holds fewer vectors than it has acknowledged; sending all again", store.target)
        ledger.forget(store.target)


def _bring(batch: pa.RecordBatch, store: Store, ledger: Ledger, model: str) -> int:
    ids, digests = batch.column("id").to_pylist(), batch.column("digest").to_pylist()
    from_store = store.known(ids)
    known = ledger.known(store.target, ids) if from_store is None else from_store
    stale = [at for at, (id_, digest) in enumerate(zip(ids, digests, strict=True)) if known.get(id_) != digest]
    if not stale:
        return 0
    rows = batch.take(pa.array(stale))
    vectors = matrix(rows)
    fine = np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)
    if not fine.all():
        bad = ids[stale[int(np.flatnonzero(~fine)[0])]]
        raise DataError(f"the vector of {bad} is zero or not finite", hint="run `embedctl embed generate` again")
    for piece in _pieces(rows, store.size(rows), store.limits.request_bytes):
        persist(lambda piece=piece: store.write(piece, model=model), store.target)  # type: ignore[misc]
        if from_store is None:
            pairs = zip(piece.column("id").to_pylist(), piece.column("digest").to_pylist(), strict=True)
            ledger.acknowledge(store.target, pairs)
    return len(rows)


def _pieces(rows: pa.RecordBatch, sizes: npt.NDArray[np.int64] | None, most: int | None) -> Iterator[pa.RecordBatch]:
    """Cut so that no piece has more bytes than one request may."""
    first = held = 0
    if sizes is not None and most is not None:
        for at, own in enumerate(sizes.tolist()):
            if at > first and held + own > most:
                yield rows.slice(first, at - first)
                first, held = at, 0
            held += own
    yield rows.slice(first)
