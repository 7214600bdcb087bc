"""Where paragraphs, sentences and words end.

Everything here works on many texts at once, as flat arrays. B bytes of all texts in UTF-8, one separator after each;
T tokens.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embedctl.tokens import native
from embedctl.tokens.characters import Bytes, code_points, non_ascii
from embedctl.tokens.native import Kinds

# What ends just before a token; INSIDE: it begins inside a character.
INSIDE, NO_BOUNDARY, WORD, SENTENCE, PARAGRAPH = range(5)

Array = npt.NDArray[np.int64]

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


CLASSES = _classes()
_OF_BYTES = np.where(np.arange(256) < 0x80, CLASSES[:256], _OTHER).astype(np.uint8)
# The separator after each text.
_OF_BYTES[0xFF] = _NEWLINE
_DOUBTFUL = ((_OF_BYTES >= _STOP) & (_OF_BYTES <= _CLOSING) | (np.arange(256) >= 0x80)).tobytes()

# The first bytes of characters beyond Latin, Greek and Cyrillic, but for signs.
_WIDE_LEADS = np.isin(np.arange(256), [*range(0xD8, 0xE2), *range(0xE3, 0xFF)])


def token_boundaries(data: Bytes, starts: Array) -> Kinds:
    """(T,) what ends just before each token, from ``INSIDE`` to ``PARAGRAPH``; of the first of a text it says nothing.

    data:   (B,) texts in UTF-8, each followed by a separator
    starts: (T,) the byte at which each token begins
    White space goes with what follows it where the tokenizer has it so (byte-level), and with nothing where tokens
    have none (WordPiece).
    """
    library = native.library()
    return _by_numpy(data, starts) if library is None else native.boundaries_of(library, data, starts, CLASSES)


def _by_numpy(data: Bytes, starts: Array) -> Kinds:
    # White space beyond ASCII does not end a word here; control characters do.
    space = data <= ord(" ")
    of_tokens = _boundaries(data, space).take(starts)
    # Where the white space before is a token of its own, the cut is before that one.
    of_tokens[1:][(of_tokens[1:] >= _AT_END_OF_RUN) & space.take(starts[:-1])] = NO_BOUNDARY
    of_tokens &= ~np.uint8(_AT_END_OF_RUN)
    of_tokens[1:][starts[1:] == starts[:-1]] = NO_BOUNDARY
    of_tokens[(data.take(starts) & 0xC0) == 0x80] = INSIDE
    return of_tokens


def _boundaries(data: Bytes, space: npt.NDArray[np.bool_]) -> Kinds:
    """(B,) the kind of boundary at the first byte of each run of white space, and after its last.

    Most runs are one blank between two words, so only the others are looked at one by one.
    """
    changes = np.zeros(len(data), dtype=bool)
    np.not_equal(space[1:], space[:-1], out=changes[1:])
    kinds = changes.view(np.uint8) * np.uint8(WORD - NO_BOUNDARY) + np.uint8(NO_BOUNDARY)
    kinds |= (changes & ~space).view(np.uint8) * np.uint8(_AT_END_OF_RUN)
    long = _long_runs(space)
    # Letters and digits end no sentence; what is beyond ASCII has to be looked at.
    doubtful = np.frombuffer(data.tobytes().translate(_DOUBTFUL), np.bool_)
    begins = np.flatnonzero(doubtful[:-1] & space[1:]) + 1
    ends = _ends_of(long, space, begins)
    stops = _ends_sentence(data, begins, ends)
    _mark(kinds, begins[stops], ends[stops], SENTENCE)
    of_paragraphs = _paragraphs(data, long)
    _mark(kinds, of_paragraphs.begins, of_paragraphs.ends, PARAGRAPH)
    if _has_wide(data[data >= 0x80]):
        _mark_wide(data, kinds)
    return kinds


@dataclass(frozen=True, slots=True)
class _Runs:
    """Runs of white space: ``begins`` to ``ends`` (exclusive), both (R,)."""

    begins: Array
    ends: Array


def _long_runs(space: npt.NDArray[np.bool_]) -> _Runs:
    """Those of more than one byte."""
    longer = space[1:] & space[:-1]
    edges = np.flatnonzero(longer[1:] != longer[:-1]) + 1
    edges = np.append(0, edges) if len(longer) and longer[0] else edges
    # A separator ends every run, so there are as many ends as beginnings.
    return _Runs(edges[0::2], edges[1::2] + 1)


def _ends_of(long: _Runs, space: npt.NDArray[np.bool_], begins: Array) -> Array:
    """Where the runs of white space that begin at ``begins`` end."""
    ends = begins + 1
    more = np.flatnonzero(space[ends])
    ends[more] = long.ends[np.searchsorted(long.ends, ends[more], side="right")]
    return ends


def _paragraphs(data: Bytes, long: _Runs) -> _Runs:
    """The runs of white space with more than one end of line."""
    newlines = np.flatnonzero(data == ord("\n"))
    held = np.searchsorted(newlines, long.ends) - np.searchsorted(newlines, long.begins)
    return _Runs(long.begins[held >= 2], long.ends[held >= 2])


def _has_wide(beyond: Bytes) -> bool:
    """Whether stops of scripts without spaces may be among bytes beyond ASCII: whether any of their first bytes is."""
    return bool(_WIDE_LEADS[beyond].any())


def _mark(kinds: Kinds, begins: Array, ends: Array, kind: int) -> None:
    kinds[begins] = kind
    kinds[ends] = kind | _AT_END_OF_RUN


def _mark_wide(data: Bytes, kinds: Kinds) -> None:
    """Scripts without spaces end a sentence without one."""
    leads, codes = non_ascii(data)
    stops = leads[CLASSES[np.minimum(codes, 0xFFFF)] == _WIDE_STOP]
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
        classes[beyond] = CLASSES[np.minimum(code_points(data, places[beyond]), 0xFFFF)]
    return classes


def _character_before(data: Bytes, places: Array) -> Array:
    """Where the character before each of ``places`` begins; before the first byte stands the last, a separator."""
    found = places - 1
    for _ in range(3):
        found = found - ((data[found] & 0xC0) == 0x80)
    return found


def _character_after(data: Bytes, places: Array) -> Array:
    """Where the character after the one at each of ``places`` begins; or the end."""
    found = places + 1
    for _ in range(3):
        inside = (data[np.minimum(found, len(data) - 1)] & 0xC0) == 0x80
        found = found + (inside & (found < len(data)))
    return found
