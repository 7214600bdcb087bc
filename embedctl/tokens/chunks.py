"""Where a text is cut: at ends of paragraphs, else of sentences, else between words, else between tokens.

Everything here works on many texts at once, as flat arrays. T tokens; N texts; K chunks.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embedctl.tokens.boundaries import NO_BOUNDARY, PARAGRAPH, SENTENCE, WORD, Array, Kinds

# Raised when the same text would be cut otherwise: until 1, the beginning of a text was looked at together with the
# end of the one before it.
FORMAT = 2

# Fewer texts than these are cut one by one.
_TOGETHER = 8


@dataclass(frozen=True, slots=True)
class Cuts:
    """K chunks: ``text`` they belong to, ``number`` in it, tokens ``first`` to ``last`` (exclusive), all (K,).

    begins, ends: (K,) whether the cut there is between words (or where the text begins or ends)
    """

    text: Array
    number: Array
    first: Array
    last: Array
    begins: npt.NDArray[np.bool_]
    ends: npt.NDArray[np.bool_]


def cut(boundaries: Kinds, offsets: Array, *, size: int, overlap: int, cuttable: Callable[[int], bool]) -> Cuts:
    """Cover each text with chunks of at most ``size`` tokens, neighbours sharing at most ``overlap``.

    boundaries: (T,) as :func:`token_boundaries` gives them
    offsets:    (N + 1,) tokens of text n: ``offsets[n]`` to ``offsets[n + 1]``
    cuttable:   whether a token begins with a whole character
    A chunk ends with a paragraph if that leaves it at least half full, else with a sentence if a third, else
    between words. The next one begins with the first sentence among the last ``overlap`` tokens; if there is none
    and this one ended with a sentence, after it; else with a word.
    A text without tokens gives no chunk.
    """
    counts = np.diff(offsets)
    short, long = np.flatnonzero((counts > 0) & (counts <= size)), np.flatnonzero(counts > size)
    pieces = [_Pieces(short, offsets[short], offsets[short + 1])]
    if len(long):
        pieces += _long(
            boundaries, long, offsets[long], offsets[long + 1], _Plain(size, overlap, boundaries.tobytes(), cuttable)
        )
    text, first, last = (np.concatenate([getattr(p, name) for p in pieces]) for name in ("text", "first", "last"))
    order = np.argsort(first)
    text, first, last = text[order], first[order], last[order]
    number = np.arange(len(text)) - np.searchsorted(text, text)
    bounded = np.append(boundaries, np.uint8(WORD)) > NO_BOUNDARY
    begins = (number == 0) | bounded[first]
    ends = (last == offsets[1:][text]) | bounded[last]
    return Cuts(text, number, first, last, begins, ends)


@dataclass(frozen=True, slots=True)
class _Pieces:
    """Chunks of ``text`` with the tokens ``first`` to ``last``, all (K,)."""

    text: Array
    first: Array
    last: Array


def _long(boundaries: Kinds, text: Array, first: Array, end: Array, plain: "_Plain") -> Iterator[_Pieces]:
    """Cut the next chunk off all texts at once; what that leaves to be looked at closer is done one by one.

    Sentences and paragraphs are few, so that they are looked up among their places.
    """
    size, overlap = plain.size, plain.overlap
    better = np.flatnonzero(boundaries >= SENTENCE)
    kinds = boundaries[better]
    sentences, paragraphs = (np.append(-1, better[kinds == kind]) for kind in (SENTENCE, PARAGRAPH))
    better = np.append(better, len(boundaries))
    while len(text) >= _TOGETHER:
        last = np.full(len(first), -1)
        for places, full in ((sentences, size // 3), (paragraphs, size // 2)):
            found = places[np.searchsorted(places, first + size, side="right") - 1]
            last = np.where(found >= first + max(full, overlap + 1), found, last)
        for n in np.flatnonzero(last < 0).tolist():
            last[n] = plain.end_of(int(first[n]))
        yield _Pieces(text, first, last)
        first = better[np.searchsorted(better, last - overlap)]
        for n in np.flatnonzero(first > last).tolist():
            first[n] = plain.start_after(int(last[n]))
        more = end - first > size
        yield _Pieces(text[~more], first[~more], end[~more])
        text, first, end = text[more], first[more], end[more]
    for n, a, b in zip(text.tolist(), first.tolist(), end.tolist(), strict=True):
        firsts, lasts = np.array(plain.cut(a, b)).T
        yield _Pieces(np.full(len(firsts), n), firsts, lasts)


@dataclass(frozen=True, slots=True)
class _Plain:
    """Where to cut one text. ``kinds``: for each of T tokens a byte, what ends just before it."""

    size: int
    overlap: int
    kinds: bytes
    cuttable: Callable[[int], bool]

    def cut(self, first: int, end: int) -> list[tuple[int, int]]:
        """Windows over the tokens ``first`` to ``end`` (exclusive) of one text."""
        windows = []
        while end - first > self.size:
            last = self.end_of(first)
            windows.append((first, last))
            first = self.start_after(last)
        windows.append((first, end))
        return windows

    def end_of(self, first: int) -> int:
        limit = first + self.size
        # Beyond what the next window takes back, so that it always begins later than this one.
        least = first + self.overlap + 1
        for kind, full in ((PARAGRAPH, self.size // 2), (SENTENCE, self.size // 3), (WORD, 0)):
            found = self.kinds.rfind(_BYTE[kind], max(least, first + full), limit + 1)
            if found >= 0:
                return found
        while limit > least and not self.cuttable(limit):
            limit -= 1
        return limit

    def start_after(self, last: int) -> int:
        earliest = last - self.overlap
        for kinds in ((SENTENCE, PARAGRAPH), (WORD,)):
            found = [place for kind in kinds if (place := self.kinds.find(_BYTE[kind], earliest, last)) >= 0]
            if found:
                return min(found)
            if self.kinds[last] >= kinds[0]:
                return last
        # No word ends anywhere near, as in scripts without spaces.
        while earliest < last and not self.cuttable(earliest):
            earliest += 1
        return earliest


_BYTE = {kind: bytes([kind]) for kind in (WORD, SENTENCE, PARAGRAPH)}
