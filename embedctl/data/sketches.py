"""What is needed of a text to find it again: a digest of its words, and a MinHash of its runs of characters.

N texts, W words of all of them, P permutations.
"""

import ctypes
import hashlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

from embedctl import compiled

PERMUTATIONS = 64
# A run: so many bytes from the beginning of each word on, about five words of English.
RUN_BYTES = 24
# Texts with fewer runs say too little to be called nearly the same.
LEAST_RUNS = 8

# Permutations of 32-bit numbers: times an odd one, plus another.
_DRAWN = b"".join(hashlib.blake2b(bytes([n]), digest_size=8).digest() for n in range(PERMUTATIONS))
_FACTORS, _ADDENDS = np.frombuffer(_DRAWN, "<u4").astype(np.uint32).reshape(2, -1)
_FACTORS |= np.uint32(1)
# So many at once that all that is made of them stays in the cache of a core.
_BLOCK_TEXTS = 256
_MIXERS = tuple(np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9))


@dataclass(frozen=True, slots=True)
class Sketches:
    """words: (N,) uint64, equal for texts that differ in case, white space and European punctuation at most, not in
    signs that mean something: C++ is not C, nor p < 0.05 what p > 0.05 is

    signatures: (N, P) uint32 MinHash (Broder 1997): the share of equal places estimates the Jaccard similarity
    of the sets of runs, within 0.06 (one standard deviation); all zero where there are too few runs
    """

    words: npt.NDArray[np.uint64]
    signatures: npt.NDArray[np.uint32]


def words_of(texts: Sequence[str], encoded: Sequence[bytes] | None = None) -> npt.NDArray[np.uint64]:
    """The digests of the words of all texts, (N,).

    encoded: the same texts in UTF-8, where they are at hand
    """
    pieces = list(encoded) if encoded is not None else [text.encode() for text in texts]
    return _digests(_plain(texts, pieces), pieces)


def sketch(texts: Sequence[str], encoded: Sequence[bytes] | None = None) -> Sketches:
    """Sketches of all texts, at about 140 MB/s.

    encoded: the same texts in UTF-8, where they are at hand
    """
    words, signatures = np.zeros(len(texts), np.uint64), np.zeros((len(texts), PERMUTATIONS), np.uint32)
    for at in range(0, len(texts), _BLOCK_TEXTS):
        block = slice(at, at + _BLOCK_TEXTS)
        pieces = list(encoded[block]) if encoded is not None else [text.encode() for text in texts[block]]
        plain = _plain(texts[block], pieces)
        words[block], signatures[block] = _digests(plain, pieces), _signatures(plain)
    return Sketches(words, signatures)


# A byte that no text has in UTF-8.
_BETWEEN = b"\xff"


def _table() -> bytes:
    lower = bytearray(b" " * 256)
    for first, last in ((ord("0"), ord("9")), (ord("a"), ord("z")), (0x80, 0xFE)):
        lower[first : last + 1] = bytes(range(first, last + 1))
    lower[ord("A") : ord("Z") + 1] = lower[ord("a") : ord("z") + 1]
    lower[_BETWEEN[0]] = 0
    return bytes(lower)


_LOWER = _table()
# At the beginning of lines they mark quotations, lists and headings.
_MARKED = re.compile(rb"(?m)^[ \t]*(?:>[ \t>]*(?:\+[ \t])?|\+[ \t]|=+[ \t]*$)")
_MARKS_OF_LINES = (b">", b"+", b"=", b" ", b"\t")
# All but the signs that mean something.
_NO_SIGNS = bytes(set(range(256)) - set(b"+<>=%$^"))
_MARKS = re.compile(rb"\xe2\x80[\x80-\xbf]")


@dataclass(frozen=True, slots=True)
class _Plain:
    """Texts as small letters and single spaces, each between two zeros.

    letters: uint8
    bounds:  (N + 1,) where the zeros are
    starts:  (W,) where words begin, and after them the size of ``letters``
    """

    letters: npt.NDArray[np.uint8]
    bounds: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]


def _plain(texts: Sequence[str], encoded: Sequence[bytes]) -> _Plain:
    pieces = list(encoded)
    library = native()
    if library is None:
        pieces = [p if _is_simple(text, p) else text.lower().encode() for text, p in zip(texts, pieces, strict=True)]
        return _plain_by_numpy(_BETWEEN.join([b"", *pieces, b""]))
    joined = _BETWEEN.join([b"", *pieces, b""])
    foreign = np.empty(len(texts), np.bool_)
    if library.embedctl_foreign(joined, len(joined), compiled.place(foreign)):
        for number in np.flatnonzero(foreign).tolist():
            pieces[number] = texts[number].lower().encode()
        joined = _BETWEEN.join([b"", *pieces, b""])
    letters, starts = np.empty(len(joined), np.uint8), np.empty(len(joined) // 2 + 2, np.int64)
    bounds = np.empty(len(texts) + 1, np.int64)
    places = [compiled.place(values) for values in (letters, bounds, starts)]
    size = library.embedctl_plain(joined, len(joined), _LOWER, *places)
    return _Plain(letters[:size], bounds, starts)


def _is_simple(text: str, encoded: bytes) -> bool:
    """Whether all that is not ASCII is of U+2000 to U+203F (quotation marks, dashes): only ASCII is to be lowered."""
    return encoded.isascii() or len(encoded) - len(text) == 2 * encoded.count(b"\xe2\x80")


def _plain_by_numpy(joined: bytes) -> _Plain:
    # Marks part words as those of ASCII do.
    lower = np.frombuffer(_MARKS.sub(b" ", joined).translate(_LOWER), np.uint8)
    kept = lower != ord(" ")
    kept[1:] |= kept[:-1]
    plain = lower[kept]
    starts = np.flatnonzero((plain[1:] > ord(" ")) & (plain[:-1] <= ord(" "))) + 1
    return _Plain(plain, np.flatnonzero(plain == 0), np.append(starts, len(plain)))


def _digests(plain: _Plain, pieces: Sequence[bytes]) -> npt.NDArray[np.uint64]:
    letters, first, end = plain.letters, plain.bounds[:-1] + 1, plain.bounds[1:]
    # Between the zeros there may be one space before the words and one after them.
    first = first + (letters[first] == ord(" "))
    end = np.maximum(first, end - (letters[end - 1] == ord(" ")))
    blob = letters.data
    digests = [xxh3_64_intdigest(blob[a:b]) for a, b in zip(first.tolist(), end.tolist(), strict=True)]
    for number, piece in enumerate(pieces):
        if signs := piece.translate(None, _NO_SIGNS):
            if piece.startswith(_MARKS_OF_LINES) or any(b"\n" + mark in piece for mark in _MARKS_OF_LINES):
                signs = _MARKED.sub(b"", piece).translate(None, _NO_SIGNS)
            digests[number] ^= xxh3_64_intdigest(signs) if signs else 0
    return np.array(digests, np.uint64)


def _signatures(plain: _Plain) -> npt.NDArray[np.uint32]:
    """(N, P): of the runs that begin with each word; the last ones would reach into the next text."""
    hashes, ends = _runs(plain)
    signatures = np.zeros((len(ends), PERMUTATIONS), np.uint32)
    library = native()
    if library is not None:
        drawn = [compiled.place(values) for values in (_FACTORS, _ADDENDS)]
        library.embedctl_minima(
            compiled.place(hashes), compiled.place(ends), len(ends), *drawn, compiled.place(signatures)
        )
    elif len(hashes):
        starts = np.concatenate([np.zeros(1, np.uint64), ends[:-1]])
        rows = np.flatnonzero(ends > starts)
        numbers, places = hashes.astype(np.uint32), starts[rows].astype(np.int64)
        for n, (factor, addend) in enumerate(zip(_FACTORS, _ADDENDS, strict=True)):
            signatures[rows, n] = np.minimum.reduceat(numbers * factor + addend, places)
    return signatures


def _runs(plain: _Plain) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """(W,) a hash of each run of the texts that have enough of them; (N,) how many there are up to each text's end."""
    library = native()
    if library is None:
        return _runs_by_numpy(plain)
    hashes, ends = np.empty(len(plain.letters) // 2 + 1, np.uint64), np.empty(len(plain.bounds) - 1, np.uint64)
    places = [compiled.place(values) for values in (plain.letters, plain.bounds, plain.starts)]
    library.embedctl_hashes(*places, len(ends), LEAST_RUNS, compiled.place(hashes), compiled.place(ends))
    return hashes[: ends[-1] if len(ends) else 0], ends


def _runs_by_numpy(plain: _Plain) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    first = np.searchsorted(plain.starts, plain.bounds[:-1])
    last = np.searchsorted(plain.starts, plain.bounds[1:] - RUN_BYTES, side="right")
    counts = np.maximum(last - first, 0)
    counts[counts < LEAST_RUNS] = 0
    ends = np.cumsum(counts)
    chosen = np.arange(counts.sum()) + np.repeat(first - ends + counts, counts)
    hashes = _hashes(plain.letters, plain.starts[chosen]) if len(chosen) else np.zeros(0, np.uint64)
    return hashes, ends.astype(np.uint64)


def _hashes(plain: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """(W,) a hash of the run that begins at each of ``starts``: eight bytes at a time, mixed (as in xxHash64)."""
    size = len(plain) - RUN_BYTES + 1
    # All of a run is gathered at once: one look at memory where three would be.
    runs = np.ndarray((size,), f"V{RUN_BYTES}", buffer=plain.data, strides=(1,))[starts]
    eights = runs.view("<u8").reshape(-1, RUN_BYTES // 8)
    mixed = np.zeros(len(starts), np.uint64)
    for step, mixer in enumerate(_MIXERS):
        mixed ^= eights[:, step] * mixer
        mixed ^= mixed >> np.uint64(29)
        mixed *= _MIXERS[0]
    mixed ^= mixed >> np.uint64(32)
    return mixed


@cache
def native() -> ctypes.CDLL | None:
    """What sketches.c does, where it was built."""
    library = compiled.load("embedctl.data._sketches", "embedctl_minima")
    # One of an older checkout lacks what was added since.
    if library is None or sys.byteorder != "little" or not hasattr(library, "embedctl_minima"):
        return None
    place, number = ctypes.c_void_p, ctypes.c_int64
    library.embedctl_foreign.argtypes = (ctypes.c_char_p, number, place)
    library.embedctl_foreign.restype = number
    library.embedctl_plain.argtypes = (ctypes.c_char_p, number, ctypes.c_char_p, place, place, place)
    library.embedctl_plain.restype = number
    library.embedctl_hashes.argtypes = (place, place, place, number, number, place, place)
    library.embedctl_hashes.restype = None
    library.embedctl_minima.argtypes = (place, place, number, place, place, place)
    library.embedctl_minima.restype = None
    return library
