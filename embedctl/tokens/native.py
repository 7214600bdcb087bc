"""What cutting.c does, where it was built.

N texts, T tokens, V words of the vocabulary, K chunks, B bytes of all texts in UTF-8 with one separator after each.
"""

import ctypes
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from embedctl.compiled import load, place
from embedctl.errors import DataError
from embedctl.tokens.characters import Bytes, Places

Kinds = npt.NDArray[np.uint8]


@cache
def library() -> ctypes.CDLL | None:
    """``None`` where no C compiler was there: then numpy and Python do the same more slowly."""
    found = load("embedctl.tokens._cutting", "embedctl_marks")
    if found is None:
        return None
    address, number = ctypes.c_void_p, ctypes.c_int64
    found.embedctl_starts.argtypes = (address, address, number, address, number, address, address, address, address)
    found.embedctl_boundaries.argtypes = (address, number, address, address, number, address)
    found.embedctl_cut.argtypes = (address, number, address, address, address, number, number, number, *[address] * 6)
    found.embedctl_framed.argtypes = (
        address,
        address,
        address,
        number,
        address,
        number,
        address,
        number,
        address,
        number,
    )
    found.embedctl_marks.argtypes = (address, number, number, address, address)
    found.embedctl_marks.restype = number
    found.embedctl_framed.restype = found.embedctl_starts.restype = found.embedctl_boundaries.restype = None
    found.embedctl_cut.restype = number
    return found


def marks(library: ctypes.CDLL, data: Bytes, texts: int) -> tuple[Places, Places]:
    """(N,) where each of so many texts ends, and all bytes with which no character begins."""
    ends, inner = np.empty(texts, np.int64), np.empty(len(data), np.int64)
    many = library.embedctl_marks(place(data), len(data), texts, place(ends), place(inner))
    return ends, inner[:many].copy()


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
        place(ids),
        place(offsets),
        len(bases),
        place(lengths),
        len(lengths),
        place(bases),
        place(sizes),
        place(starts),
        place(failed),
    )
    return starts, failed


def boundaries_of(library: ctypes.CDLL, data: Bytes, starts: Places, classes: Kinds) -> Kinds:
    """(T,) as :func:`boundaries.token_boundaries` has them.

    data:    (B,), the last of them a separator
    classes: (2^16,) what each character is to a sentence
    """
    data, starts = np.ascontiguousarray(data), np.ascontiguousarray(starts, np.int64)
    kinds = np.empty(len(starts), np.uint8)
    library.embedctl_boundaries(
        place(data),
        len(data),
        place(classes),
        place(starts),
        len(starts),
        place(kinds),
    )
    return kinds


def cuts_of(
    library: ctypes.CDLL,
    data: Bytes,
    starts: Places,
    classes: Kinds,
    offsets: Places,
    *,
    size: int,
    overlap: int,
) -> tuple[npt.NDArray[Any], ...]:
    """What :class:`chunks.Cuts` holds, in its order.

    data, starts, classes: as :func:`boundaries_of` has them
    """
    data, starts = np.ascontiguousarray(data), np.ascontiguousarray(starts, np.int64)
    offsets = np.ascontiguousarray(offsets, np.int64)
    found: list[npt.NDArray[Any]] = [np.empty(int(offsets[-1]), kind) for kind in (*[np.int64] * 4, *[np.bool_] * 2)]
    many = library.embedctl_cut(
        place(data),
        len(data),
        place(classes),
        place(starts),
        place(offsets),
        len(offsets) - 1,
        size,
        overlap,
        *map(place, found),
    )
    return tuple(values[:many].copy() for values in found)


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
    offsets = offsets_of(last - first + (len(prefix) + len(suffix)))
    values = np.empty(offsets[-1], kind)
    around = place(prefix), len(prefix), place(suffix), len(suffix)
    library.embedctl_framed(
        place(ids),
        place(first),
        place(last),
        len(first),
        *around,
        place(values),
        values.itemsize,
    )
    return values, offsets


def offsets_of(lengths: Places) -> npt.NDArray[np.int32]:
    """(K + 1,) where each of some lists begins, one after the other, as Arrow has it."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    if offsets[-1] >= 2**31:
        raise DataError(f"the chunks of one batch are {offsets[-1]:,} bytes or tokens; want less than {2**31:,}")
    return offsets.astype(np.int32)
