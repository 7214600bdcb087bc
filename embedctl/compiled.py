"""What is written in C, where a compiler was there when embedctl was installed; each has a slower twin in Python."""

import ctypes
import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def load(module: str, newest: str) -> ctypes.CDLL | None:
    """The library of an extension module of pyproject.toml; ``None`` if it was not built, or lacks another library.

    newest: the function that was written or changed last; what was built before that is not used
    """
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        return None
    try:
        library = ctypes.CDLL(found.origin)
    except OSError:
        return None
    return library if hasattr(library, newest) else None


def place(values: "npt.NDArray[np.generic]") -> int:
    """Where the numbers of an array are, one after the other."""
    return int(values.ctypes.data)
