"""Where a text is cut: at ends of paragraphs, else of sentences, else between words, else between tokens.

Everything here works on many texts at once, as flat arrays. T tokens; N texts; K chunks.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from embedctl.tokens import native
from embedctl.tokens.boundaries import CLASSES, INSIDE, NO_BOUNDARY, PARAGRAPH, SENTENCE, WORD, Array, token_boundaries
from embedctl.tokens.characters import Bytes
from embedctl.tokens.native import Kinds

# Raised when the same text would be cut otherwise: until 1, the beginning of a text was looked at together with the
# end of the one before it.
FORMAT = 3


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


def cut(data: Bytes, starts: Array, offsets: Array, *, size: int, overlap: int) -> Cuts:
    """Cover each text with chunks of at most ``size`` tokens, neighbours sharing at most ``overlap``.

    data:    (B,) texts in UTF-8, each followed by a separator
    starts:  (T,) the byte at which each token begins
    offsets: (N + 1,) tokens of text n: ``offsets[n]`` to ``offsets[n + 1]``
    overlap: at most half of ``size``
    A chunk ends with a paragraph if that leaves it at least half full, else with a sentence if a third, else
    between words. The next one begins with the first sentence among the last ``overlap`` tokens; if there is none
    and this one ended with a sentence, after it; else with a word.
    A text without tokens gives no chunk.
    """
    library = native.library()
    if library is None:
        return cut_at(token_boundaries(data, starts), offsets, size=size, overlap=overlap)
    return Cuts(*native.cuts_of(library, data, starts, CLASSES, offsets, size=size, overlap=overlap))


def cut_at(boundaries: Kinds, offsets: Array, *, size: int, overlap: int) -> Cuts:
    """The same in Python; ``boundaries``, (T,): as :func:`token_boundaries` gives them."""
    text, number, first, last = _one_by_one(boundaries, offsets, size=size, overlap=overlap)
    begins = (number == 0) | (boundaries[first] > NO_BOUNDARY)
    ends = last == offsets[1:][text]
    ends[~ends] = boundaries[last[~ends]] > NO_BOUNDARY
    return Cuts(text, number, first, last, begins, ends)


def _one_by_one(boundaries: Kinds, offsets: Array, *, size: int, overlap: int) -> tuple[Array, Array, Array, Array]:
    """Of each chunk its text, its number in it, its first token and the one after its last, all (K,)."""
    plain = _Plain(size, overlap, boundaries.tobytes())
    found = [
        (text, number, *window)
        for text, (begin, end) in enumerate(pairwise(offsets.tolist()))
        for number, window in enumerate(plain.cut(begin, end))
    ]
    text, number, first, last = np.array(found, dtype=np.int64).reshape(-1, 4).T
    return text, number, first, last


@dataclass(frozen=True, slots=True)
class _Plain:
    """Where to cut one text. ``kinds``: for each of T tokens a byte, what ends just before it."""

    size: int
    overlap: int
    kinds: bytes

    def cut(self, first: int, end: int) -> list[tuple[int, int]]:
        """Windows over the tokens ``first`` to ``end`` (exclusive) of one text."""
        windows = []
        while end - first > self.size:
            last = self.end_of(first)
            windows.append((first, last))
            first = self.start_after(last)
        if first < end:
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
        while limit > least and self.kinds[limit] == INSIDE:
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
        while earliest < last and self.kinds[earliest] == INSIDE:
            earliest += 1
        return earliest


_BYTE = {kind: bytes([kind]) for kind in (WORD, SENTENCE, PARAGRAPH)}
