"""Where a text is cut: at ends of paragraphs, else of sentences, else between words, else between tokens.

Everything here works on many texts at once, as flat arrays. Legend: C characters of all texts, one
separator between neighbours; T tokens; N texts; K chunks.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

NO_BOUNDARY, WORD, SENTENCE, PARAGRAPH = range(4)

Array = npt.NDArray[np.int64]
Kinds = npt.NDArray[np.uint8]

_OTHER, _SPACE, _NEWLINE, _STOP, _WIDE_STOP, _CLOSING, _LOWER, _UPPER = range(8)
_AT_END_OF_RUN = 8


def _classes() -> Kinds:
    """What each character of the basic plane is to a sentence; those above are letters or signs."""
    table = np.zeros(2**16, dtype=np.uint8)
    for code in range(0x600):
        table[code] = _LOWER if chr(code).islower() else _UPPER if chr(code).isupper() else _OTHER
    table[[ord(c) for c in " \t\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u1680\u202f\u205f\u3000"]] = _SPACE
    table[0x2000:0x200B] = _SPACE
    table[[ord(c) for c in "\n\r\u2028\u2029"]] = _NEWLINE
    table[[ord(c) for c in ".!?…"]] = _STOP
    table[[ord(c) for c in "。！？｡।॥۔؟።"]] = _WIDE_STOP
    table[[ord(c) for c in "\"')]}»”’›」』）】》〉"]] = _CLOSING
    return table


_CLASSES = _classes()


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


def token_boundaries(characters: npt.NDArray[np.unsignedinteger], starts: Array) -> Kinds:
    """(T,) what ends just before each token: ``NO_BOUNDARY``, ``WORD``, ``SENTENCE`` or ``PARAGRAPH``.

    characters: (C,) code points
    starts:     (T,) the character at which each token begins
    A token that begins inside a character is no place to cut. White space goes with what follows it
    where the tokenizer has it so (byte-level), and with nothing where tokens have none (WordPiece).
    """
    classes = _CLASSES[characters if characters.dtype == np.uint8 else np.minimum(characters, 0xFFFF)]
    space = (classes - np.uint8(_SPACE)) < 2
    kinds = _boundaries(classes, space, wide=characters.dtype != np.uint8)
    found = kinds[starts]
    at_end = np.flatnonzero(found & _AT_END_OF_RUN)
    # Where the white space before is a token of its own, the cut is before that one.
    at_end = at_end[at_end > 0]
    found[at_end[space[starts[at_end - 1]]]] = NO_BOUNDARY
    found &= ~np.uint8(_AT_END_OF_RUN)
    found[1:][starts[1:] == starts[:-1]] = NO_BOUNDARY
    return found


def _boundaries(classes: Kinds, space: npt.NDArray[np.bool_], *, wide: bool) -> Kinds:
    """(C,) the kind of boundary at the first character of each run of white space, and after its last."""
    kinds = np.zeros(len(classes) + 1, dtype=np.uint8)
    begins = np.flatnonzero(space[1:] & ~space[:-1]) + 1
    if len(begins):
        ends = np.flatnonzero(space[:-1] & ~space[1:]) + 1
        ends = ends[np.searchsorted(ends, begins[0], side="right") :]
        if len(ends) < len(begins):
            ends = np.append(ends, len(classes))
        newlines = np.add.reduceat((classes == _NEWLINE).view(np.uint8), begins, dtype=np.int32)
        kind = np.where(newlines >= 2, PARAGRAPH, np.where(_ends_sentence(classes, begins, ends), SENTENCE, WORD))
        kinds[ends] = kind | _AT_END_OF_RUN
        kinds[begins] = kind
    if wide:
        # Scripts without spaces end a sentence without one.
        stop = classes == _WIDE_STOP
        closed = stop[:-1] & (classes[1:] == _CLOSING)
        after = np.concatenate([np.flatnonzero(stop) + 1, np.flatnonzero(closed) + 2])
        after = after[after < len(classes)]
        kinds[after[np.isin(classes[after], (_OTHER, _LOWER, _UPPER))]] = SENTENCE
    return kinds


def _ends_sentence(classes: Kinds, begins: Array, ends: Array) -> npt.NDArray[np.bool_]:
    """For each run of white space whether a sentence ends before it: a stop, closed or not, and no small letter after.

    A stop after a single capital is an initial ("J. Smith").
    """
    before, second, third = (classes[np.maximum(begins - back, 0)] for back in (1, 2, 3))
    closing = before == _CLOSING
    stop = (before == _STOP) | (closing & ((second == _STOP) | ((second == _CLOSING) & (third == _STOP))))
    stop |= (before == _WIDE_STOP) | (closing & (second == _WIDE_STOP))
    initial = (before == _STOP) & (second == _UPPER) & np.isin(third, (_SPACE, _NEWLINE, _STOP))
    after = classes[np.minimum(ends, len(classes) - 1)]
    ends_here: npt.NDArray[np.bool_] = stop & ~initial & (after != _LOWER)
    return ends_here


def cut(boundaries: Kinds, offsets: Array, *, size: int, overlap: int, cuttable: npt.NDArray[np.bool_]) -> Cuts:
    """Cover each text with chunks of at most ``size`` tokens, neighbours sharing at most ``overlap``.

    boundaries: (T,) as :func:`token_boundaries` gives them
    offsets:    (N + 1,) tokens of text n: ``offsets[n]`` to ``offsets[n + 1]``
    cuttable:   (T,) whether a token begins with a whole character
    A chunk ends with a paragraph if that leaves it at least half full, else with a sentence if a third, else
    between words. The next one begins with the first sentence among the last ``overlap`` tokens; if there is none
    and this one ended with a sentence, after it; else with a word.
    A text without tokens gives no chunk.
    """
    counts = np.diff(offsets)
    long = np.flatnonzero(counts > size)
    windows = _Windows.over(boundaries, cuttable, size, overlap) if len(long) else None
    pieces = {n: windows.cut(int(offsets[n]), int(offsets[n + 1])) for n in long.tolist()} if windows else {}
    number = np.minimum(counts, 1)
    for n, found in pieces.items():
        number[n] = len(found)
    text = np.repeat(np.arange(len(counts)), number)
    at = np.cumsum(number) - number
    first, last = offsets[:-1][text], offsets[1:][text]
    for n, found in pieces.items():
        first[at[n] : at[n] + len(found)], last[at[n] : at[n] + len(found)] = zip(*found, strict=True)
    bounded = np.append(boundaries, np.uint8(WORD)) > NO_BOUNDARY
    begins = (first == offsets[:-1][text]) | bounded[first]
    ends = (last == offsets[1:][text]) | bounded[last]
    return Cuts(text, np.arange(len(text)) - at[text], first, last, begins, ends)


@dataclass(frozen=True, slots=True)
class _Windows:
    """Where to cut, for all texts. ``before[kind][t]`` is the nearest boundary of that kind or a stronger one at or
    before token t, ``after[kind][t]`` the nearest at or after it; it may lie in another text, which callers rule out.
    """

    size: int
    overlap: int
    boundaries: Kinds
    cuttable: npt.NDArray[np.bool_]
    before: dict[int, memoryview]
    after: dict[int, memoryview]

    @classmethod
    def over(cls, boundaries: Kinds, cuttable: npt.NDArray[np.bool_], size: int, overlap: int) -> "_Windows":
        before = {kind: _before(boundaries >= kind) for kind in (PARAGRAPH, SENTENCE, WORD)}
        after = {kind: _after(boundaries >= kind) for kind in (SENTENCE, WORD)}
        return cls(size, overlap, boundaries, cuttable, before, after)

    def cut(self, first: int, end: int) -> list[tuple[int, int]]:
        """Windows over the tokens ``first`` to ``end`` (exclusive) of one text."""
        windows = []
        while end - first > self.size:
            last = self._end_of(first)
            windows.append((first, last))
            first = self._start_after(last)
        windows.append((first, end))
        return windows

    def _end_of(self, first: int) -> int:
        limit = first + self.size
        # Beyond what the next window takes back, so that it always begins later than this one.
        least = first + self.overlap
        for kind, full in ((PARAGRAPH, self.size // 2), (SENTENCE, self.size // 3), (WORD, 0)):
            found: int = self.before[kind][limit]
            if found > least and found >= first + full:
                return found
        while limit > least + 1 and not self.cuttable[limit]:
            limit -= 1
        return limit

    def _start_after(self, last: int) -> int:
        earliest = last - self.overlap
        for kind in (SENTENCE, WORD):
            found: int = self.after[kind][earliest]
            if found < last:
                return found
            if self.boundaries[last] >= kind:
                return last
        # No word ends anywhere near, as in scripts without spaces.
        while earliest < last and not self.cuttable[earliest]:
            earliest += 1
        return earliest


def _before(claim: npt.NDArray[np.bool_]) -> memoryview:
    places = np.where(claim, np.arange(len(claim), dtype=np.int32), np.int32(-1))
    return memoryview(np.maximum.accumulate(places))  # type: ignore[arg-type]


def _after(claim: npt.NDArray[np.bool_]) -> memoryview:
    places = np.where(claim, np.arange(len(claim), dtype=np.int32), np.int32(len(claim)))
    return memoryview(np.ascontiguousarray(np.minimum.accumulate(places[::-1])[::-1]))  # type: ignore[arg-type]
