"""One list out of several that were ranked by different measures."""

from collections.abc import Sequence
from dataclasses import replace

from embedctl.store.protocol import Hit

# The constant of the paper: Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and
# individual Rank Learning Methods", SIGIR 2009.
_K = 60


def fused(lists: Sequence[Sequence[Hit]], k: int) -> list[Hit]:
    """The best ``k`` by reciprocal rank fusion, each with the sum of 1 / (60 + rank) over the lists that hold it.

    Only ranks count, so a cosine and a BM25 need no common scale. Of equals, the one first met comes first.
    """
    scores: dict[str, float] = {}
    hits: dict[str, Hit] = {}
    for found in lists:
        for rank, hit in enumerate(found, start=1):
            scores[hit.id] = scores.get(hit.id, 0.0) + 1 / (_K + rank)
            hits.setdefault(hit.id, hit)
    best = sorted(scores, key=scores.__getitem__, reverse=True)[:k]
    return [replace(hits[id_], score=scores[id_]) for id_ in best]
