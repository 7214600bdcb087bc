"""Which chunks hold what an earlier one held: each content is embedded once."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

KEY_BYTES = 16
# What decides a vector, apart from the model: token ids, or a text in UTF-8.
Content = npt.NDArray[Any] | bytes


def key_of(content: Content, model: bytes = b"") -> bytes:
    """16 bytes that stand for this content, under this model."""
    said = content if isinstance(content, bytes) else content.tobytes()
    return hashlib.blake2b(said, key=model, digest_size=KEY_BYTES).digest()


@dataclass(frozen=True, slots=True)
class Repeats:
    """In memory are 8 bytes a chunk, 40 while they are sorted.

    first: (N,) the number of the first chunk with the same content, for each chunk
    """

    first: npt.NDArray[np.int64]

    @classmethod
    def among(cls, contents: Iterable[Content], count: int) -> "Repeats":
        """Look through ``count`` contents."""
        keys = np.fromiter((key_of(content) for content in contents), dtype=f"S{KEY_BYTES}", count=count)
        # The first of equal ones, as the sort is stable.
        _, first, place = np.unique(keys, return_index=True, return_inverse=True)
        return cls(first[place].astype(np.int64))
