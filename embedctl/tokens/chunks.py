"""Where a text is cut: at ends of paragraphs, else of sentences, else between words, else between tokens.

Everything here works on many texts at once, as flat arrays. B bytes of all texts in UTF-8, one separator between
neighbours; T tokens; N texts; K chunks; R runs of white space.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embedctl.tokens.encoding import Bytes, code_points, non_ascii

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
_OF_BYTES = np.where(np.arange(256) < 0x80, _CLASSES[:256], _OTHER).astype(np.uint8)
# The separator between texts.
_OF_BYTES[0xFF] = _NEWLINE
_DOUBTFUL = (_OF_BYTES >= _STOP) & (_OF_BYTES <= _CLOSING) | (np.arange(256) >= 0x80)


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


def token_boundaries(data: Bytes, starts: Array) -> Kinds:
    """(T,) what ends just before each token: ``NO_BOUNDARY``, ``WORD``, ``SENTENCE`` or ``PARAGRAPH``.

    data:   (B,) texts in UTF-8
    starts: (T,) the byte at which each token begins
    A token that begins inside a character is no place to cut. White space goes with what follows it
    where the tokenizer has it so (byte-level), and with nothing where tokens have none (WordPiece).
    """
    # White space beyond ASCII does not end a word here; control characters do.
    space = data <= ord(" ")
    space[data == 0xFF] = True
    kinds = _boundaries(data, space)
    of_tokens = kinds[starts]
    at_end = np.flatnonzero(of_tokens & _AT_END_OF_RUN)
    # Where the white space before is a token of its own, the cut is before that one.
    at_end = at_end[at_end > 0]
    of_tokens[at_end[space[starts[at_end - 1]]]] = NO_BOUNDARY
    of_tokens &= ~np.uint8(_AT_END_OF_RUN)
    of_tokens[1:][starts[1:] == starts[:-1]] = NO_BOUNDARY
    return of_tokens


def cuttable(data: Bytes, starts: Array) -> npt.NDArray[np.bool_]:
    """(T,) whether each token begins with a whole character."""
    whole: npt.NDArray[np.bool_] = (data[starts] & 0xC0) != 0x80
    return whole


def _boundaries(data: Bytes, space: npt.NDArray[np.bool_]) -> Kinds:
    """(B + 1,) the kind of boundary at the first byte of each run of white space, and after its last."""
    kinds = np.zeros(len(data) + 1, dtype=np.uint8)
    changes = np.flatnonzero(space[1:] != space[:-1]) + 1
    changes = changes[1:] if len(space) and space[0] else changes
    begins, ends = changes[0::2], changes[1::2]
    if len(ends) < len(begins):
        ends = np.append(ends, len(data))
    kind = np.full(len(begins), WORD, dtype=np.uint8)
    # Letters and digits end no sentence; what is beyond ASCII has to be looked at.
    doubtful = np.flatnonzero(_DOUBTFUL[data[begins - 1]])
    kind[doubtful[_ends_sentence(data, begins[doubtful], ends[doubtful])]] = SENTENCE
    longer = np.flatnonzero(ends - begins > 1)
    newlines = np.flatnonzero(data == ord("\n"))
    held = np.searchsorted(newlines, ends[longer]) - np.searchsorted(newlines, begins[longer])
    kind[longer[held >= 2]] = PARAGRAPH
    kinds[ends] = kind | _AT_END_OF_RUN
    kinds[begins] = kind
    # The first bytes of the stops of scripts without spaces: those beyond Latin, Greek and Cyrillic, but for signs.
    if (((data >= 0xD8) & (data < 0xE2)) | ((data > 0xE2) & (data < 0xFF))).any():
        _mark_wide(data, kinds)
    return kinds


def _mark_wide(data: Bytes, kinds: Kinds) -> None:
    """Scripts without spaces end a sentence without one."""
    leads, codes = non_ascii(data)
    stops = leads[_CLASSES[np.minimum(codes, 0xFFFF)] == _WIDE_STOP]
    after = _character_after(data, stops)
    closed = _classes_at(data, after) == _CLOSING
    after[closed] = _character_after(data, after[closed])
    after = after[after < len(data)]
    kinds[after[np.isin(_classes_at(data, after), (_OTHER, _LOWER, _UPPER))]] = SENTENCE


def _ends_sentence(data: Bytes, begins: Array, ends: Array) -> npt.NDArray[np.bool_]:
    """For each run of white space whether a sentence ends before it: a stop, closed or not, and no small letter after.

    A stop after a single capital is an initial ("J. Smith").
    """
    places = [_character_before(data, begins)]
    for _ in range(2):
        places.append(_character_before(data, places[-1]))
    before, second, third = (_classes_at(data, place) for place in places)
    closing = before == _CLOSING
    stop = (before == _STOP) | (closing & ((second == _STOP) | ((second == _CLOSING) & (third == _STOP))))
    stop |= (before == _WIDE_STOP) | (closing & (second == _WIDE_STOP))
    initial = (before == _STOP) & (second == _UPPER) & np.isin(third, (_SPACE, _NEWLINE, _STOP))
    ends_here: npt.NDArray[np.bool_] = stop & ~initial & (_classes_at(data, ends) != _LOWER)
    return ends_here


def _classes_at(data: Bytes, places: Array) -> Kinds:
    """What the characters that begin at ``places`` are to a sentence."""
    places = np.minimum(places, len(data) - 1)
    classes = _OF_BYTES[data[places]]
    beyond = np.flatnonzero((data[places] >= 0xC2) & (data[places] != 0xFF))
    if len(beyond):
        classes[beyond] = _CLASSES[np.minimum(code_points(data, places[beyond]), 0xFFFF)]
    return classes


def _character_before(data: Bytes, places: Array) -> Array:
    """Where the character before each of ``places`` begins."""
    found = np.maximum(places - 1, 0)
    for _ in range(3):
        found = np.maximum(found - ((data[found] & 0xC0) == 0x80), 0)
    return found


def _character_after(data: Bytes, places: Array) -> Array:
    """Where the character after the one at each of ``places`` begins; or the end."""
    found = places + 1
    for _ in range(3):
        inside = (data[np.minimum(found, len(data) - 1)] & 0xC0) == 0x80
        found = found + (inside & (found < len(data)))
    return found


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
    windows = _Windows(size, overlap, boundaries.tobytes(), cuttable)
    pieces = {n: windows.cut(int(offsets[n]), int(offsets[n + 1])) for n in long.tolist()}
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
    """Where to cut long texts. ``kinds`` holds one byte for each of the T tokens: what ends just before it."""

    size: int
    overlap: int
    kinds: bytes
    cuttable: npt.NDArray[np.bool_]

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
        least = first + self.overlap + 1
        for kind, full in ((PARAGRAPH, self.size // 2), (SENTENCE, self.size // 3), (WORD, 0)):
            found = self.kinds.rfind(_BYTE[kind], max(least, first + full), limit + 1)
            if found >= 0:
                return found
        while limit > least and not self.cuttable[limit]:
            limit -= 1
        return limit

    def _start_after(self, last: int) -> int:
        earliest = last - self.overlap
        for kinds in ((SENTENCE, PARAGRAPH), (WORD,)):
            found = [place for kind in kinds if (place := self.kinds.find(_BYTE[kind], earliest, last)) >= 0]
            if found:
                return min(found)
            if self.kinds[last] >= kinds[0]:
                return last
        # No word ends anywhere near, as in scripts without spaces.
        while earliest < last and not self.cuttable[earliest]:
            earliest += 1
        return earliest


_BYTE = {kind: bytes([kind]) for kind in (WORD, SENTENCE, PARAGRAPH)}
