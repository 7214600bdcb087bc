"""Deleting what embedctl put into a store and the vectors no longer hold."""

from collections.abc import Iterator

from embedctl.embedding.vectors import read_vectors
from embedctl.store.job import Job

_IDS_PER_REQUEST = 1000
_WINDOW_ROWS = 65_536


def stale_ids(job: Job) -> Iterator[list[str]]:
    """Ids to delete, at most 1,000 at a time. Those that embedctl did not write are never among them."""
    wanted: set[str] = set()
    for window in read_vectors(job.layout.vectors, _WINDOW_ROWS):
        wanted.update(window.column("id").to_pylist())
    pages = job.store.ids() if job.store_tells else job.ledger.ids(job.target)
    held: list[str] = []
    for page in pages or ():
        held += [id_ for id_ in page if id_ not in wanted]
        while len(held) >= _IDS_PER_REQUEST:
            yield held[:_IDS_PER_REQUEST]
            held = held[_IDS_PER_REQUEST:]
    if held:
        yield held


def prune(job: Job) -> int:
    """Delete them; how many."""
    deleted = 0
    # All pages first: a store that is read while rows go may skip some.
    for page in list(stale_ids(job)):
        if not job.store_tells:
            job.ledger.unsure(job.target, page)
        job.ask(lambda page=page: job.store.delete(page))  # type: ignore[misc]
        job.ledger.forget(job.target, page)
        deleted += len(page)
    return deleted
