"""Records that say the same as an earlier one, and training records whose text is held out too.

N records, P permutations.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embedctl.data.sketches import PERMUTATIONS, Sketches

# Signatures with an equal band are compared: 16 bands of 4 find a similarity of 0.8 in 9,998 of 10,000 pairs.
_BANDS = 16


@dataclass(frozen=True, slots=True)
class Copy:
    """Record ``row`` says what ``of`` says. ``similarity``: Jaccard, as estimated; 1.0 where all words are equal."""

    check: str  # duplicate, near_duplicate or held_text_in_training
    row: int
    of: int
    similarity: float


def copies(
    texts: Sketches, queries: npt.NDArray[np.uint64], held: npt.NDArray[np.bool_], *, similarity: float
) -> list[Copy]:
    """Every copy among N records, by row; at most one finding of a record, the gravest.

    texts:   sketches of the texts
    queries: (N,) digests of the words of the queries, 0 where there is none
    held:    (N,) whether the record is held out for evaluation
    Two records with different queries are two examples, not copies; but neither text nor query of a held
    record may be trained on.
    """
    pairs = np.stack([texts.words, queries], axis=1)
    first = _first_of_each(pairs)
    rows = np.arange(len(first))
    found = {int(row): Copy("duplicate", int(row), int(first[row]), 1.0) for row in rows[first < rows]}
    # Of equal texts one stands for all; they are found already.
    distinct = np.flatnonzero(_first_of_each(texts.words[:, None]) == rows)
    alike = _alike(texts.signatures, distinct, similarity)
    for row, of, share in alike:
        if queries[row] == queries[of] and row not in found and of not in found:
            found[row] = Copy("near_duplicate", row, of, share)
    for leak in _leaks(texts.words, queries, held, alike):
        found[leak.row] = leak
    return [found[row] for row in sorted(found)]


def _leaks(
    words: npt.NDArray[np.uint64],
    queries: npt.NDArray[np.uint64],
    held: npt.NDArray[np.bool_],
    alike: list[tuple[int, int, float]],
) -> list[Copy]:
    leaks = {
        row if held[of] else of: (of if held[of] else row, share) for row, of, share in alike if held[row] != held[of]
    }
    for digests in (words, queries):
        in_held = {int(digest): row for row, digest in enumerate(digests.tolist()) if held[row] and digest}
        for row in np.flatnonzero(~held & np.isin(digests, list(in_held) or [0]) & (digests > 0)).tolist():
            leaks[row] = (in_held[int(digests[row])], 1.0)
    return [Copy("held_text_in_training", row, of, share) for row, (of, share) in leaks.items()]


def _first_of_each(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """(N,) the first row with the same key as each row."""
    if not len(keys):
        return np.zeros(0, np.int64)
    order = np.lexsort((*keys.T[::-1],))
    ordered = keys[order]
    new = np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)])
    # lexsort is stable, so the first of each group is the one that comes first.
    first = np.empty(len(keys), np.int64)
    first[order] = order[np.maximum.accumulate(np.where(new, np.arange(len(keys)), 0))]
    return first


def _alike(
    signatures: npt.NDArray[np.uint32], rows: npt.NDArray[np.int64], similarity: float
) -> list[tuple[int, int, float]]:
    """(later row, earlier row, estimated similarity) of pairs among ``rows`` at least so similar; by later row."""
    rows = rows[signatures[rows].any(axis=1)]
    width = PERMUTATIONS // _BANDS
    best: dict[int, tuple[int, float]] = {}
    for band in range(_BANDS):
        keys = np.ascontiguousarray(signatures[rows, band * width : (band + 1) * width])
        first = _first_of_each(keys.astype(np.uint64))
        later = np.flatnonzero(first < np.arange(len(rows)))
        for at in range(0, len(later), 2**16):
            chosen = later[at : at + 2**16]
            one, other = rows[chosen], rows[first[chosen]]
            share = (signatures[one] == signatures[other]).mean(axis=1)
            for row, of, value in zip(one.tolist(), other.tolist(), share.tolist(), strict=True):
                if value >= similarity and (row not in best or of < best[row][0]):
                    best[row] = (of, value)
    return [(row, *best[row]) for row in sorted(best)]
