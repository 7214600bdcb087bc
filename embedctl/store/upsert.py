"""Bringing a store up to date with the vectors; running it twice changes nothing."""

import json
import logging
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from embedctl.artifacts import manifest
from embedctl.artifacts.folder import lock
from embedctl.artifacts.layout import Layout
from embedctl.embedding.vectors import matrix, read_vectors
from embedctl.errors import ConfigError, DataError
from embedctl.progress import Tick, Watch, unwatched
from embedctl.settings import Secrets, StoreSettings
from embedctl.store.ledger import Ledger, open_ledger
from embedctl.store.protocol import Row, Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tally:
    """What an upsert did: vectors sent, and vectors that the store had already."""

    target: str
    written: int
    unchanged: int


def open_store(settings: StoreSettings, layout: Layout, secrets: Secrets) -> Store:
    """The store that the settings name."""
    if settings.kind == "lancedb":
        from embedctl.store.lance import LanceStore

        return LanceStore(layout.store, settings.collection, target_of(settings, layout))
    from embedctl.store.pinecone import PineconeStore

    return PineconeStore(settings, secrets.pinecone_api_key, target_of(settings, layout))


def upsert(
    settings: StoreSettings, layout: Layout, *, secrets: Secrets | None = None, watch: Watch = unwatched
) -> Tally:
    """Write those of ``vectors/NAME`` that the store does not hold with the same digest."""
    source = manifest.read_verified(layout.vectors, "vectors")
    if settings.kind == "pinecone" and source.settings["dtype"] != "float32":
        raise ConfigError(
            "Pinecone stores float32", hint='set embedding.dtype = "float32" and run `embedctl embed generate`'
        )
    store = open_store(settings, layout, secrets or Secrets())
    with lock(layout.root / ".locks" / f"store-{settings.kind}.lock"), open_ledger(layout.ledger) as ledger:
        store.create(source.number("dim"))
        _distrust(ledger, store)
        total, model = source.number("vectors"), str(source.facts["model"])
        written = done = 0
        for batch in read_vectors(layout.vectors, settings.batch_size):
            written += _bring(batch, store, ledger, model)
            done += len(batch)
            watch(Tick(done, total, "vectors", {"written": f"{written:,}"}))
        if written:
            store.finish()
        ledger.finish(store.target, source.content_id, total)
    return Tally(store.target, written, total - written)


def target_of(settings: StoreSettings, layout: Layout) -> str:
    """The name of the collection in the ledger, without opening the store."""
    if settings.kind == "lancedb":
        # Without the folder: the ledger lies beside it, and the workspace may be moved.
        return f"lancedb:{settings.collection}"
    return f"pinecone:{settings.host or settings.collection}/{settings.namespace}"


def finished(settings: StoreSettings, layout: Layout) -> tuple[str, int] | None:
    """The ``content_id`` and count of the vectors that the store holds as a whole, as far as is noted here."""
    gone = settings.kind == "lancedb" and not (layout.store / f"{settings.collection}.lance").is_dir()
    if gone or not layout.ledger.is_file():
        return None
    with open_ledger(layout.ledger) as ledger:
        return ledger.finished(target_of(settings, layout))


def _distrust(ledger: Ledger, store: Store) -> None:
    """A store that holds less than it has acknowledged was emptied behind our back."""
    noted = ledger.count(store.target)
    if noted and store.count() < noted:
        _log.warning("%s holds fewer vectors than it has acknowledged; sending all again", store.target)
        ledger.forget(store.target)


def _bring(batch: pa.RecordBatch, store: Store, ledger: Ledger, model: str) -> int:
    ids, digests = batch.column("id").to_pylist(), batch.column("digest").to_pylist()
    from_store = store.known(ids)
    known = ledger.known(store.target, ids) if from_store is None else from_store
    stale = [at for at, (id_, digest) in enumerate(zip(ids, digests, strict=True)) if known.get(id_) != digest]
    if not stale:
        return 0
    vectors = matrix(batch)
    finite = np.isfinite(vectors[stale]).all(axis=1) & vectors[stale].any(axis=1)
    if not finite.all():
        bad = ids[stale[int(np.flatnonzero(~finite)[0])]]
        raise DataError(f"the vector of {bad} is zero or not finite", hint="run `embedctl embed generate` again")
    metadata = batch.column("metadata")
    rows = [Row(ids[at], vectors[at], digests[at], json.loads(metadata[at].as_py())) for at in stale]
    store.write(rows, model=model)
    if from_store is None:
        ledger.acknowledge(store.target, [(row.id, row.digest) for row in rows])
    return len(rows)
