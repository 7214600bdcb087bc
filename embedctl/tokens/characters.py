"""Characters in UTF-8, as numbers. B bytes."""

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]


def non_ascii(data: Bytes) -> tuple[Places, Places]:
    """Where in UTF-8 the characters beyond ASCII begin, and their code points; separators are none."""
    leads = np.flatnonzero((data >= 0xC2) & (data < 0xF8))
    return leads, code_points(data, leads)


def code_points(data: Bytes, leads: Places) -> Places:
    """The code points of the characters beyond ASCII that begin at ``leads``."""
    first = data[leads].astype(np.int64)
    more = [data[np.minimum(leads + step, len(data) - 1)].astype(np.int64) & 0x3F for step in (1, 2, 3)]
    two, three = (first & 0x1F) << 6 | more[0], (first & 0x0F) << 12 | more[0] << 6 | more[1]
    four = (first & 0x07) << 18 | more[0] << 12 | more[1] << 6 | more[2]
    return np.where(first < 0xE0, two, np.where(first < 0xF0, three, four))


def first_bytes(document: bytes) -> npt.NDArray[np.bool_]:
    """For each byte whether a character begins with it."""
    first: npt.NDArray[np.bool_] = (np.frombuffer(document, np.uint8) & 0xC0) != 0x80
    return first


def to_bytes(document: bytes, places: Places) -> Places:
    """From places in characters to places in bytes."""
    firsts = np.append(np.flatnonzero(first_bytes(document)), len(document))
    return firsts[places]
