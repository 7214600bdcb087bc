"""Records that say the same as an earlier one, and training records whose text is held out too.

N records, C copies among them, P permutations.
"""

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from embedctl.data.sketches import PERMUTATIONS, Sketches
from embedctl.workers import cores

Rows = npt.NDArray[np.int64]
Found = TypeVar("Found")

# From the gravest on.
CHECKS = ("held_text_in_training", "duplicate", "near_duplicate")
_HELD, _SAME, _NEAR = range(3)
# Signatures with an equal band are compared: 16 bands of 4 find a similarity of 0.8 in 9,998 of 10,000 pairs.
_BANDS = 16
_BLOCK_ROWS = 2**12
# So many held records of one band a training record is compared with.
_HELD_COMPARED = 8
_MIXER, _OTHER_MIXER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
_SLOT_BITS = 22


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


NONE = Copies(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int8), np.zeros(0))


def copies(
    texts: Sketches,
    queries: npt.NDArray[np.uint64],
    held: npt.NDArray[np.bool_],
    *,
    similarity: float,
    wanted: Collection[str] = CHECKS,
) -> Copies:
    """Every copy among N records; at most one finding of a record, the gravest of the ``wanted`` checks.

    texts:   sketches of the texts
    queries: (N,) digests of the words of the queries, 0 where there is none
    held:    (N,) whether the record is held out for evaluation
    Two records with different queries are two examples, not copies; but neither text nor query of a held
    record may be trained on.
    """
    size = len(queries)
    check, of, share = np.full(size, -1, np.int8), np.zeros(size, np.int64), np.ones(size)
    # Where held text is kept out of training, a held record stays and its copies there go: it is none of theirs.
    apart = held if CHECKS[_HELD] in wanted else np.zeros(size, dtype=bool)
    kinds = _mixed(queries, apart.astype(np.uint64))
    first = _first_of_each(_mixed(texts.words, kinds))
    found: list[tuple[int, _Pairs]] = []
    if CHECKS[_NEAR] in wanted:
        found.append((_NEAR, _near(texts.signatures, kinds, first == np.arange(size), similarity)))
    if CHECKS[_SAME] in wanted:
        same = np.flatnonzero(first < np.arange(size))
        found.append((_SAME, _Pairs(same, first[same], np.ones(len(same)))))
    if CHECKS[_HELD] in wanted:
        found.append((_HELD, _leaks(texts.signatures, held, similarity)))
        found += [(_HELD, _equal_to_held(digests, held)) for digests in (texts.words, queries)]
    for number, pairs in found:
        check[pairs.rows], of[pairs.rows], share[pairs.rows] = number, pairs.of, pairs.similarity
    rows = np.flatnonzero(check >= 0)
    return Copies(rows, of[rows], check[rows], share[rows])


@dataclass(frozen=True, slots=True)
class _Pairs:
    """rows, of: (C,) int64; similarity: (C,) float64."""

    rows: Rows
    of: Rows
    similarity: npt.NDArray[np.float64]


def _near(
    signatures: npt.NDArray[np.uint32],
    kinds: npt.NDArray[np.uint64],
    first: npt.NDArray[np.bool_],
    similarity: float,
) -> _Pairs:
    """Records nearly the same as an earlier one of their kind; that one stays, so it is no copy itself.

    kinds: (N,) equal for records that may be copies of each other
    first: (N,) whether the record is the first of those that are wholly the same
    """
    rows = np.flatnonzero(first & signatures.any(axis=1))
    of = np.arange(len(rows))

    def alike(keys: npt.NDArray[np.uint64]) -> tuple[Rows, Rows]:
        earliest = _first_of_each(_mixed(keys, kinds)[rows])
        earlier = np.flatnonzero(earliest < np.arange(len(rows)))
        return earlier, earliest[earlier]

    for earlier, earliest in _of_each_band(signatures, alike):
        sooner = earliest < of[earlier]
        earlier, earliest = earlier[sooner], earliest[sooner]
        enough = _shares(signatures, rows[earlier], rows[earliest]) >= similarity
        of[earlier[enough]] = earliest[enough]
    copied = np.zeros(len(rows), dtype=bool)
    for row in np.flatnonzero(of < np.arange(len(rows))).tolist():
        copied[row] = not copied[of[row]]
    found = np.flatnonzero(copied)
    return _Pairs(rows[found], rows[of[found]], _shares(signatures, rows[found], rows[of[found]]))


def _leaks(signatures: npt.NDArray[np.uint32], held: npt.NDArray[np.bool_], similarity: float) -> _Pairs:
    """Training records that are nearly the same as a held one, each with the most similar of those it was compared to.

    Every training record is compared with held ones itself: that an earlier training record stands between them
    must not hide the likeness.
    """
    rows = np.flatnonzero(signatures.any(axis=1))
    trained, asked = rows[~held[rows]], rows[held[rows]]
    of, share = np.full(len(trained), -1), np.zeros(len(trained))

    def alike(keys: npt.NDArray[np.uint64]) -> tuple[Rows, Rows, Rows, Rows]:
        theirs = keys[asked]
        order = np.argsort(theirs, kind="stable")
        known, first, counts = np.unique(theirs[order], return_index=True, return_counts=True)
        met, place = _found(keys[trained], known)
        return met, order, first[place], first[place] + counts[place]

    for met, order, at, end in _of_each_band(signatures, alike) if len(asked) else ():
        for _ in range(_HELD_COMPARED):
            partners = asked[order[at]]
            # Near copies meet in most bands; how alike these two are is known from the first of them.
            new = partners != of[met]
            some, partners = met[new], partners[new]
            found = _shares(signatures, trained[some], partners)
            better = found > share[some]
            of[some[better]], share[some[better]] = partners[better], found[better]
            more = at + 1 < end
            met, at, end = met[more], at[more] + 1, end[more]
    enough = share >= similarity
    return _Pairs(trained[enough], of[enough], share[enough])


def _equal_to_held(digests: npt.NDArray[np.uint64], held: npt.NDArray[np.bool_]) -> _Pairs:
    """Training records with the same digest as a held one, each with the last of these."""
    held_rows = np.flatnonzero(held & (digests > 0))[::-1]
    known, places = np.unique(digests[held_rows], return_index=True)
    rows, places_known = _found(digests, known)
    trained = ~held[rows]
    rows, of = rows[trained], held_rows[places[places_known[trained]]]
    return _Pairs(rows, of, np.ones(len(rows)))


def _of_each_band(
    signatures: npt.NDArray[np.uint32], look: Callable[[npt.NDArray[np.uint64]], Found]
) -> Iterator[Found]:
    """What ``look`` makes of each band in turn, of (N,) numbers that are equal for signatures with an equal band."""
    columns = signatures.view(np.uint64).reshape(len(signatures), _BANDS, PERMUTATIONS // _BANDS // 2)
    # Memory comes in lines of four bands.
    together = max(1, min(4, _BANDS // cores()))

    def look_at(first: int) -> list[Found]:
        several = columns[:, first : first + together]
        keys = np.empty((several.shape[1], len(signatures)), np.uint64)
        for at in range(0, len(signatures), _BLOCK_ROWS):
            block = slice(at, at + _BLOCK_ROWS)
            keys[:, block] = _mixed(several[block, :, 0], several[block, :, 1]).T
        return [look(band) for band in keys]

    with ThreadPoolExecutor(cores()) as threads:
        for found in threads.map(look_at, range(0, _BANDS, together)):
            yield from found


def _mixed(*columns: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """One number for each place of equally large arrays: equal for equal ones, else by chance once in 2**64."""
    mixed = columns[0] * _MIXER
    for column in columns[1:]:
        mixed ^= mixed >> np.uint64(29)
        mixed ^= column
        mixed *= _MIXER
    mixed ^= mixed >> np.uint64(29)
    return mixed


def _slots(keys: npt.NDArray[np.uint64], mixer: np.uint64 = _MIXER) -> Rows:
    """(N,) one of 2**_SLOT_BITS places for each key, the same for equal ones."""
    return (keys * mixer >> np.uint64(64 - _SLOT_BITS)).view(np.int64)


def _first_of_each(keys: npt.NDArray[np.uint64]) -> Rows:
    """(N,) the first row with the same key as each row."""
    first = rows = np.arange(len(keys))
    # Most keys are there once. Those that have a slot for themselves, among all or among what is left, need not be
    # sorted to see that.
    for mixer in (_MIXER, _OTHER_MIXER):
        rows = rows[_share_slots(keys[rows], mixer)]
    _, earliest, groups = np.unique(keys[rows], return_index=True, return_inverse=True)
    first[rows] = rows[earliest[groups]]
    return first


def _share_slots(keys: npt.NDArray[np.uint64], mixer: np.uint64) -> npt.NDArray[np.bool_]:
    """(N,) whether another row has the same slot as each row; two with one key always do."""
    slots, numbers = _slots(keys, mixer), np.arange(len(keys), dtype=np.uint32)
    last = np.zeros(1 << _SLOT_BITS, np.uint32)
    last[slots] = numbers
    shared = np.zeros(1 << _SLOT_BITS, dtype=bool)
    shared[slots[last[slots] != numbers]] = True
    return shared[slots]


def _found(keys: npt.NDArray[np.uint64], known: npt.NDArray[np.uint64]) -> tuple[Rows, Rows]:
    """Those of (N,) keys that are among the sorted ``known``: their rows, and for each its place there."""
    taken = np.zeros(1 << _SLOT_BITS, dtype=bool)
    taken[_slots(known)] = True
    rows = np.flatnonzero(taken[_slots(keys)])
    places = np.minimum(np.searchsorted(known, keys[rows]), max(len(known) - 1, 0))
    equal = known[places] == keys[rows]
    return rows[equal], places[equal]


def _shares(signatures: npt.NDArray[np.uint32], rows: Rows, of: Rows) -> npt.NDArray[np.float64]:
    """(C,) the share of equal places in each pair of signatures."""
    equal = np.empty(len(rows), np.uint8)
    for at in range(0, len(rows), _BLOCK_ROWS):
        block = slice(at, at + _BLOCK_ROWS)
        same = signatures.take(rows[block], axis=0) == signatures.take(of[block], axis=0)
        # As bits of one number they are counted several times faster than as truths.
        equal[block] = np.bitwise_count(np.packbits(same, axis=1).view(np.uint64)).reshape(-1)
    return equal / PERMUTATIONS
