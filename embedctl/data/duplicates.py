"""Records that say the same as an earlier one, and training records whose text is held out too.

N records, C copies among them, P permutations.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embedctl.data.sketches import PERMUTATIONS, Sketches

Rows = npt.NDArray[np.int64]

# From the gravest on.
CHECKS = ("held_text_in_training", "duplicate", "near_duplicate")
_HELD, _SAME, _NEAR = range(3)
# Signatures with an equal band are compared: 16 bands of 4 find a similarity of 0.8 in 9,998 of 10,000 pairs.
_BANDS = 16
_BLOCK_ROWS = 2**16
# So many held records of one band a training record is compared with.
_HELD_COMPARED = 8
_MIXER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Copy:
    """Record ``row`` says what ``of`` says. ``similarity``: Jaccard, as estimated; 1.0 where all words are equal."""

    check: str  # one of CHECKS
    row: int
    of: int
    similarity: float


@dataclass(frozen=True, slots=True)
class Copies:
    """All copies, by row; of each record one.

    rows, of:   (C,) int64
    checks:     (C,) int8, places in ``CHECKS``
    similarity: (C,) float64
    """

    rows: Rows
    of: Rows
    checks: npt.NDArray[np.int8]
    similarity: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)

    def count(self, check: str) -> int:
        return int((self.checks == CHECKS.index(check)).sum())

    def first(self, check: str, most: int) -> list[Copy]:
        """The first few of one check."""
        chosen = np.flatnonzero(self.checks == CHECKS.index(check))[:most]
        columns = (part[chosen].tolist() for part in (self.rows, self.of, self.similarity))
        return [Copy(check, row, of, share) for row, of, share in zip(*columns, strict=True)]

    def among(self, begin: int, end: int) -> "Copies":
        """Those whose rows lie from ``begin`` to before ``end``, counted from ``begin``."""
        a, b = np.searchsorted(self.rows, [begin, end])
        return Copies(self.rows[a:b] - begin, self.of[a:b], self.checks[a:b], self.similarity[a:b])

    def only(self, checks: set[str]) -> "Copies":
        """Those of some checks."""
        kept = np.isin(self.checks, [CHECKS.index(check) for check in checks])
        return Copies(self.rows[kept], self.of[kept], self.checks[kept], self.similarity[kept])


NONE = Copies(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int8), np.zeros(0))


def copies(
    texts: Sketches, queries: npt.NDArray[np.uint64], held: npt.NDArray[np.bool_], *, similarity: float
) -> Copies:
    """Every copy among N records; at most one finding of a record, the gravest.

    texts:   sketches of the texts
    queries: (N,) digests of the words of the queries, 0 where there is none
    held:    (N,) whether the record is held out for evaluation
    Two records with different queries are two examples, not copies; but neither text nor query of a held
    record may be trained on.
    """
    size = len(queries)
    check, of, share = np.full(size, -1, np.int8), np.zeros(size, np.int64), np.ones(size)
    first = _first_of_each(_mixed(np.stack([texts.words, queries], axis=1)))
    same = first < np.arange(size)
    check[same], of[same] = _SAME, first[same]
    alike = _alike(texts.signatures, similarity)
    for near in _near(alike, queries, same):
        check[near.row], of[near.row], share[near.row] = _NEAR, near.of, near.similarity
    leaks = _leaks(texts.signatures, held, similarity)
    for digests in (texts.words, queries):
        leaks = _joined(leaks, _equal_to_held(digests, held))
    check[leaks.rows], of[leaks.rows], share[leaks.rows] = _HELD, leaks.of, leaks.similarity
    rows = np.flatnonzero(check >= 0)
    return Copies(rows, of[rows], check[rows], share[rows])


@dataclass(frozen=True, slots=True)
class _Pairs:
    """rows, of: (C,) int64; similarity: (C,) float64."""

    rows: Rows
    of: Rows
    similarity: npt.NDArray[np.float64]


def _near(alike: _Pairs, queries: npt.NDArray[np.uint64], same: npt.NDArray[np.bool_]) -> list[Copy]:
    """Those whose queries are equal too; what is itself a copy has none."""
    chosen = (queries[alike.rows] == queries[alike.of]) & ~same[alike.rows] & ~same[alike.of]
    columns = (part[chosen].tolist() for part in (alike.rows, alike.of, alike.similarity))
    found: dict[int, Copy] = {}
    for row, of, share in zip(*columns, strict=True):
        if of not in found:
            found[row] = Copy("near_duplicate", row, of, share)
    return list(found.values())


def _leaks(signatures: npt.NDArray[np.uint32], held: npt.NDArray[np.bool_], similarity: float) -> _Pairs:
    """Training records that are nearly the same as a held one, each with the most similar of those it was compared to.

    Every training record is compared with held ones itself: that an earlier training record stands between them
    must not hide the likeness.
    """
    rows = np.flatnonzero(signatures.any(axis=1))
    trained, asked = rows[~held[rows]], rows[held[rows]]
    of, share = np.full(len(trained), -1), np.zeros(len(trained))
    width = PERMUTATIONS // _BANDS
    for band in range(_BANDS if len(asked) else 0):
        keys = _mixed(signatures[rows, band * width : (band + 1) * width])
        theirs = keys[held[rows]]
        order = np.argsort(theirs, kind="stable")
        begin, end = (np.searchsorted(theirs[order], keys[~held[rows]], side=side) for side in ("left", "right"))
        for turn in range(_HELD_COMPARED):
            some = np.flatnonzero(begin + turn < end)
            partners = asked[order[begin[some] + turn]]
            found = _shares(signatures, trained[some], partners)
            better = found > share[some]
            of[some[better]], share[some[better]] = partners[better], found[better]
    enough = share >= similarity
    return _Pairs(trained[enough], of[enough], share[enough])


def _equal_to_held(digests: npt.NDArray[np.uint64], held: npt.NDArray[np.bool_]) -> _Pairs:
    """Training records with the same digest as a held one, each with the last of these."""
    held_rows = np.flatnonzero(held & (digests > 0))[::-1]
    known, places = np.unique(digests[held_rows], return_index=True)
    rows = np.flatnonzero(~held & np.isin(digests, known))
    of = held_rows[places[np.searchsorted(known, digests[rows])]]
    return _Pairs(rows, of, np.ones(len(rows)))


def _joined(one: _Pairs, other: _Pairs) -> _Pairs:
    """Both, the other after the one."""
    return _Pairs(
        np.concatenate([one.rows, other.rows]),
        np.concatenate([one.of, other.of]),
        np.concatenate([one.similarity, other.similarity]),
    )


def _mixed(columns: npt.NDArray[np.unsignedinteger]) -> npt.NDArray[np.uint64]:
    """(N,) one number for each row of (N, K): the same for equal rows, for two others by chance once in 2**64."""
    mixed = np.zeros(len(columns), np.uint64)
    for column in columns.T:
        mixed = (mixed ^ column) * _MIXER
        mixed ^= mixed >> np.uint64(29)
    return mixed


def _first_of_each(keys: npt.NDArray[np.uint64]) -> Rows:
    """(N,) the first row with the same key as each row."""
    _, first, groups = np.unique(keys, return_index=True, return_inverse=True)
    return first[groups].astype(np.int64)


def _alike(signatures: npt.NDArray[np.uint32], similarity: float) -> _Pairs:
    """Pairs of a record and the earliest one that is at least so similar and shares a band, by record."""
    rows = np.flatnonzero(signatures.any(axis=1))
    # Of equal signatures the first stands for all.
    first = rows[_first_of_each(_mixed(signatures[rows].view(np.uint64)))]
    distinct = rows[first == rows]
    best = np.full(len(signatures), -1)
    best[distinct] = _best(signatures, distinct, similarity)
    # The others have the same partner as the first has, or the first itself.
    best[rows] = np.where(best[first] >= 0, best[first], np.where(first < rows, first, -1))
    later = np.flatnonzero(best >= 0)
    return _Pairs(later, best[later], _shares(signatures, later, best[later]))


def _best(signatures: npt.NDArray[np.uint32], rows: Rows, similarity: float) -> Rows:
    """(N,) for each of ``rows`` the earliest of them that is so similar and shares a band, else -1."""
    best = np.arange(len(rows))
    width = PERMUTATIONS // _BANDS
    for band in range(_BANDS):
        first = _first_of_each(_mixed(signatures[rows, band * width : (band + 1) * width]))
        earlier = np.flatnonzero(first < best)
        enough = _shares(signatures, rows[earlier], rows[first[earlier]]) >= similarity
        best[earlier[enough]] = first[earlier[enough]]
    return np.where(best < np.arange(len(rows)), rows[best], -1)


def _shares(signatures: npt.NDArray[np.uint32], rows: Rows, of: Rows) -> npt.NDArray[np.float64]:
    """(C,) the share of equal places in each pair of signatures."""
    blocks = range(0, len(rows), _BLOCK_ROWS)
    parts = [
        (signatures[rows[at : at + _BLOCK_ROWS]] == signatures[of[at : at + _BLOCK_ROWS]]).mean(axis=1) for at in blocks
    ]
    return np.concatenate(parts) if parts else np.zeros(0)
