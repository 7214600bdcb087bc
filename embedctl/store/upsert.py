"""Bringing a store up to date with the vectors; running it twice changes nothing."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from embedctl.artifacts import manifest
from embedctl.artifacts.folder import lock
from embedctl.artifacts.layout import Layout
from embedctl.errors import AuthError, ConfigError, RefusedError
from embedctl.progress import Tick, Watch, unwatched
from embedctl.settings import Secrets, StoreSettings
from embedctl.store.checking import Rejects
from embedctl.store.comparing import Difference, cut, distrust, stale
from embedctl.store.job import Job
from embedctl.store.ledger import Whole, last_whole, open_ledger
from embedctl.store.opening import name_of, open_store
from embedctl.store.pruning import prune, stale_ids
from embedctl.store.retrying import Patience
from embedctl.store.sending import Sender, Window
from embedctl.store.verifying import verify

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wish:
    """What to do beside sending.

    dry_run:      say what would be done; send and delete nothing
    prune_stale:  delete what embedctl put there and the vectors no longer hold
    verify_share: fetch this share of the vectors afterwards and compare them; 0: none, 1: all
    """

    dry_run: bool = False
    prune_stale: bool = False
    verify_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Tally:
    """What an upsert did, or would do, in vectors.

    written:   new or changed, and acknowledged
    changed:   those of them in whose place the store held something else
    unchanged: the store had them already
    sent:      in all requests, more than once if need be
    rejected:  not stored; the file ``rejects`` says why
    deleted:   pruned
    verified:  fetched and found equal
    """

    target: str
    written: int
    unchanged: int
    changed: int = 0
    sent: int = 0
    rejected: int = 0
    deleted: int = 0
    verified: int = 0
    rejects: Path | None = None

    @property
    def amplification(self) -> float | None:
        """Vectors sent for each that was stored."""
        return round(self.sent / self.written, 3) if self.written and self.sent else None


def upsert(
    settings: StoreSettings,
    layout: Layout,
    wish: Wish | None = None,
    *,
    secrets: Secrets | None = None,
    patience: Patience | None = None,
    watch: Watch = unwatched,
) -> Tally:
    """Send those of ``vectors/NAME`` that the store does not hold with the same digest."""
    manifest.read(layout.vectors, "vectors")  # before any place is made for a store
    store = open_store(settings, layout, secrets or Secrets())
    patience = patience or Patience(deadline_seconds=settings.deadline_seconds)
    with (
        lock(layout.root / ".locks" / f"store-{settings.kind}.lock"),
        lock(layout.lock(layout.vectors), shared=True),
        open_ledger(layout.ledger) as ledger,
    ):
        # No other vectors take the place of these while they are read.
        source = manifest.read(layout.vectors, "vectors")
        return _run(Job(settings, layout, source, store, ledger, patience, watch), wish or Wish())


def finished(settings: StoreSettings, layout: Layout, secrets: Secrets) -> tuple[str, int] | None:
    """The ``content_id`` and count of the vectors that the store holds as a whole, as far as is noted here.

    Nothing is asked of the store; ``secrets`` say which PostgreSQL server is meant.
    """
    gone = settings.kind == "lancedb" and not (layout.store / f"{settings.collection}.lance").is_dir()
    if gone or not layout.ledger.is_file():
        return None
    whole = last_whole(layout.ledger, name_of(settings))
    if whole is None or _elsewhere(settings, layout, secrets, whole.target):
        return None
    return whole.vectors, whole.count


def _elsewhere(settings: StoreSettings, layout: Layout, secrets: Secrets, target: str) -> bool:
    """Whether what is noted of a table was on another server than the one that is meant now."""
    if settings.kind != "pgvector":
        return False  # the name in the ledger says all that can be known without asking
    try:
        return open_store(settings, layout, secrets).target != target
    except (AuthError, ConfigError):
        return False  # which server is meant is not said


def _run(job: Job, wish: Wish) -> Tally:
    if not wish.dry_run or job.ask(lambda: job.store.dim) is not None:
        # A key that is not good, an index that is not there or of another width: all of that before any work.
        job.ask(lambda: job.store.create(job.source.number("dim")))
    held = job.ask(job.store.count)
    if held or job.ledger.count(job.target):  # a count lags behind what was acknowledged
        _look_for_others(job, wish)
    whole = _is_whole(job, held)
    found = Difference(Rejects(job.rejects), unchanged=job.total if whole else 0)
    written = sent = 0
    if not whole or wish.verify_share:
        manifest.read_verified(job.layout.vectors, "vectors")
    if not whole:
        distrust(job, held)
        found.doubted = job.ledger.doubted(job.target)
        empty = not held and not job.ledger.count(job.target)
        if wish.dry_run:
            written = sum(len(rows) for rows, _ in stale(job, found, empty=empty))
        else:
            written, sent = _send(job, found, empty=empty)
    elif not wish.dry_run:
        job.ledger.add_project(job.target, job.layout.name, alone=False)
        # An index may be asked for only now.
        job.ask(lambda: job.store.finish(written=False))
    deleted = verified = 0
    if wish.prune_stale:
        deleted = sum(map(len, stale_ids(job))) if wish.dry_run else prune(job)
    rejected = found.rejects.reasons.keys()
    if not wish.dry_run:
        if not rejected and (deleted or not whole):
            now = job.ask(job.store.count)
            job.ledger.finish(job.name, Whole(job.target, job.source.content_id, job.total, now))
        verified = verify(job, wish.verify_share, besides=set(rejected)) if wish.verify_share else 0
    return Tally(
        job.target, written, found.unchanged, changed=min(found.changed, written), sent=sent, rejected=len(rejected),
        deleted=deleted, verified=verified, rejects=job.rejects if rejected and not wish.dry_run else None,
    )  # fmt: skip


def _look_for_others(job: Job, wish: Wish) -> None:
    """Ids are those of records: two projects' may be the same, and what one lacks may be the other's."""
    others = ", ".join(sorted(job.ledger.projects(job.target) - {job.layout.name}))
    if not others:
        return
    hint = "--set store.collection=NAME keeps them apart"
    if wish.prune_stale:
        raise RefusedError(f"{job.name} was filled by project {others} too, whose vectors would go", hint=hint)
    _log.warning("%s was filled by project %s too: equal ids take each other's place; %s", job.name, others, hint)


def _is_whole(job: Job, held: int) -> bool:
    """Whether the store holds all of these vectors, going by its count alone: one question, however many they are."""
    noted = job.ledger.finished(job.name)
    if noted is None or job.ledger.doubted(job.target):
        return False
    return noted == Whole(job.target, job.source.content_id, job.total, held)


def _send(job: Job, found: Difference, *, empty: bool) -> tuple[int, int]:
    """Send all that is stale; vectors that were acknowledged, and vectors in all requests."""
    job.ledger.unfinish(job.name)
    job.ledger.add_project(job.target, job.layout.name, alone=empty)
    note_ids = not job.store_tells

    def told() -> None:
        done = found.unchanged + found.set_aside + sender.counts.settled
        rejected = {"rejected": f"{len(found.rejects.reasons):,}"} if found.rejects.reasons else {}
        job.watch(Tick(done, job.total, "vectors", {"written": f"{sender.counts.acknowledged:,}", **rejected}))

    sender = Sender(
        job.store, job.ledger, model=str(job.source.facts["model"]), note_ids=note_ids, rejects=found.rejects,
        patience=job.patience, told=told, trusted=lambda: found.unchanged > 0,
    )  # fmt: skip
    try:
        sender.send(_windows(job, found, told, empty=empty))
    finally:
        found.rejects.write()
    # Also where nothing was left to send: an earlier run may have ended before its indexes were made.
    job.ask(lambda: job.store.finish(written=True))
    if not note_ids:
        job.ledger.forget(job.target, sorted(found.doubted - found.rejects.reasons.keys()))
    return sender.counts.acknowledged, sender.counts.sent


def _windows(job: Job, found: Difference, told: Callable[[], None], *, empty: bool) -> Iterator[Window]:
    limits = job.store.limits
    most = min(job.settings.batch_size or limits.rows, limits.rows)
    for rows, new in stale(job, found, empty=empty):
        told()
        if len(rows):
            yield cut(rows, job.store.size(rows), most=most, most_bytes=limits.request_bytes), new
