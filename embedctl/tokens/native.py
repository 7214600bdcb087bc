"""What cutting.c does, where it was built.

N texts, T tokens, V words of the vocabulary, K chunks, B bytes of all texts in UTF-8 with one separator after each.
"""

import ctypes
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from embedctl import compiled
from embedctl.errors import DataError
from embedctl.tokens.characters import Bytes, Places

Kinds = npt.NDArray[np.uint8]


@cache
def library() -> ctypes.CDLL | None:
    """``None`` where no C compiler was there: then numpy and Python do the same more slowly."""
    found = compiled.load("embedctl.tokens._cutting")
    if found is None:
        return None
    place, number = ctypes.c_void_p, ctypes.c_int64
    found.embedctl_starts.argtypes = (place, place, number, place, number, place, place, place, place)
    found.embedctl_boundaries.argtypes = (place, number, place, place, number, place)
    found.embedctl_cut.argtypes = (place, place, number, number, number, place, place, place, place)
    found.embedctl_framed.argtypes = (place, place, place, number, place, number, place, number, place, number)
    found.embedctl_spans.argtypes = (place, place, place, number, place)
    found.embedctl_framed.restype = found.embedctl_spans.restype = None
    found.embedctl_starts.restype = found.embedctl_boundaries.restype = None
    found.embedctl_cut.restype = number
    return found


def starts_of(
    library: ctypes.CDLL,
    ids: npt.NDArray[np.uint32],
    offsets: Places,
    lengths: npt.NDArray[np.int32],
    bases: Places,
    sizes: Places,
) -> tuple[Places, npt.NDArray[np.bool_]]:
    """(T,) where each token begins; (N,) whether the tokens of a text are not all of its bytes.

    lengths: (V,) the bytes of each token
    """
    ids, lengths = np.ascontiguousarray(ids, np.uint32), np.ascontiguousarray(lengths, np.int32)
    offsets, bases, sizes = (np.ascontiguousarray(places, np.int64) for places in (offsets, bases, sizes))
    starts, failed = np.empty(len(ids), np.int64), np.empty(len(bases), np.bool_)
    library.embedctl_starts(
        _at(ids), _at(offsets), len(bases), _at(lengths), len(lengths), _at(bases), _at(sizes), _at(starts), _at(failed)
    )
    return starts, failed


def boundaries_of(library: ctypes.CDLL, data: Bytes, starts: Places, classes: Kinds) -> Kinds:
    """(T,) as :func:`boundaries.token_boundaries` has them.

    data:    (B,), the last of them a separator
    classes: (2^16,) what each character is to a sentence
    """
    data, starts = np.ascontiguousarray(data), np.ascontiguousarray(starts, np.int64)
    kinds = np.empty(len(starts), np.uint8)
    library.embedctl_boundaries(_at(data), len(data), _at(classes), _at(starts), len(starts), _at(kinds))
    return kinds


def cuts_of(
    library: ctypes.CDLL, kinds: Kinds, offsets: Places, *, size: int, overlap: int
) -> tuple[Places, Places, Places, Places]:
    """Of each chunk its text, its number in it, its first token and the one after its last, all (K,)."""
    kinds, offsets = np.ascontiguousarray(kinds), np.ascontiguousarray(offsets, np.int64)
    found = [np.empty(int(offsets[-1]), np.int64) for _ in range(4)]
    many = library.embedctl_cut(_at(kinds), _at(offsets), len(offsets) - 1, size, overlap, *map(_at, found))
    text, number, first, last = (values[:many].copy() for values in found)
    return text, number, first, last


def framed(
    library: ctypes.CDLL,
    ids: npt.NDArray[np.uint32],
    first: Places,
    last: Places,
    prefix: npt.NDArray[np.uint32],
    suffix: npt.NDArray[np.uint32],
    kind: type[np.uint16] | type[np.uint32],
) -> tuple[npt.NDArray[np.unsignedinteger[Any]], npt.NDArray[np.int32]]:
    """The ids of each chunk between ``prefix`` and ``suffix``, one after the other, and where each begins, (K + 1,).

    first, last: (K,) its first token, and the one after its last
    """
    ids, first, last = np.ascontiguousarray(ids, np.uint32), np.ascontiguousarray(first), np.ascontiguousarray(last)
    offsets = _offsets(last - first + (len(prefix) + len(suffix)))
    values = np.empty(offsets[-1], kind)
    around = _at(prefix), len(prefix), _at(suffix), len(suffix)
    library.embedctl_framed(_at(ids), _at(first), _at(last), len(first), *around, _at(values), values.itemsize)
    return values, offsets


def spans(library: ctypes.CDLL, data: Bytes, begins: Places, ends: Places) -> tuple[Bytes, npt.NDArray[np.int32]]:
    """The bytes of each chunk, one after the other, and where each begins, (K + 1,)."""
    begins, ends = np.ascontiguousarray(begins), np.ascontiguousarray(ends)
    offsets = _offsets(ends - begins)
    held = np.empty(offsets[-1], np.uint8)
    library.embedctl_spans(_at(data), _at(begins), _at(ends), len(begins), _at(held))
    return held, offsets


def _offsets(lengths: Places) -> npt.NDArray[np.int32]:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    if offsets[-1] >= 2**31:
        raise DataError(f"{offsets[-1]:,} bytes of chunks of one batch; Arrow's offsets end at {2**31:,}")
    return offsets.astype(np.int32)


def _at(values: npt.NDArray[np.generic]) -> int:
    """Where its numbers are, one after the other."""
    return int(values.ctypes.data)
