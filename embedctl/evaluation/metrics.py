"""Figures of quality: of queries that one record answers, of queries with graded answers, and of sentence pairs."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ranks = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]
Grades = npt.NDArray[np.int64]

# How far down the ranking MRR@100 and MAP@100 look.
_DEPTH = 100


def ranks_of(scores: Floats, answers: npt.NDArray[np.int64]) -> Ranks:
    """Rank of each query's answer, 0 the best.

    scores:  (Q, R), higher is better
    answers: (Q,) column of the answer
    Ties count against the answer, so that vectors that are all alike score nothing; so does what is no number.
    """
    own = np.take_along_axis(scores, answers[:, None], axis=1)
    return np.asarray((~(scores < own)).sum(axis=1) - 1, dtype=np.int64)


def retrieval_metrics(ranks: Ranks, recall_at: Sequence[int]) -> dict[str, float]:
    """recall@k (share of answers among the first k), nDCG@10 and MRR, each between 0 and 1.

    With one answer per query nDCG@10 is 1 / log2(rank + 2) below rank 10, else 0
    (Järvelin and Kekäläinen 2002).
    """
    gains = np.where(ranks < 10, 1 / np.log2(ranks + 2), 0.0)
    named = {f"recall_at_{k}": float((ranks < k).mean()) for k in sorted({*recall_at, 10})}
    return {**named, "ndcg_at_10": float(gains.mean()), "mrr": float((1 / (ranks + 1)).mean())}


def graded_metrics(found: Sequence[Grades], judged: Sequence[Grades], recall_at: Sequence[int]) -> dict[str, float]:
    """recall@k, nDCG@10, MRR@100 and MAP@100 as trec_eval defines them, each the mean over the queries.

    found:  for each query the grades of its documents, best first; 0: not relevant, or not judged
    judged: for each query all grades that were given to it, found or not; without one above 0 it scores nothing
    """
    if not found:
        raise ValueError("no query")
    of_each = [_graded(some, every, recall_at) for some, every in zip(found, judged, strict=True)]
    return {name: float(np.mean([figures[name] for figures in of_each])) for name in of_each[0]}


def _graded(found: Grades, judged: Grades, recall_at: Sequence[int]) -> dict[str, float]:
    relevant = found > 0
    wanted = int((judged > 0).sum())
    hits = relevant.cumsum()
    first = np.flatnonzero(relevant[:_DEPTH])
    precision = (hits / np.arange(1, len(found) + 1))[:_DEPTH][relevant[:_DEPTH]]
    ideal = _gain(np.sort(judged)[::-1])
    named = {f"recall_at_{k}": relevant[:k].sum() / max(wanted, 1) for k in sorted({*recall_at, 10})}
    return {
        **named,
        "ndcg_at_10": _gain(found) / ideal if ideal else 0.0,
        "mrr_at_100": 1 / (first[0] + 1) if len(first) else 0.0,
        "map_at_100": precision.sum() / max(wanted, 1),
    }


def _gain(grades: Grades) -> float:
    """Of the first ten: each grade, not a power of it, divided by the logarithm of its rank."""
    ten = np.maximum(grades[:10], 0)
    return float((ten / np.log2(np.arange(2, len(ten) + 2))).sum())


def spearman(one: Floats, other: Floats) -> float:
    """Rank correlation between -1 and 1; equal values share the mean of their ranks. 0 if either is constant."""
    a, b = _mean_ranks(one), _mean_ranks(other)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale else 0.0


def _mean_ranks(values: Floats) -> npt.NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)
