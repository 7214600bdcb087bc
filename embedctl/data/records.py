"""A record: one text with its identity; what the corpus is made of."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

Split = Literal["train", "held"]


@dataclass(frozen=True, slots=True)
class Record:
    """A row of the corpus. ``query`` is a text that should find this one; ``None`` for plain documents."""

    id: str
    text: str
    query: str | None = None
    source: str = ""
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)


def split_of(record_id: str, held_percent: float) -> Split:
    """Which side a record is on: a function of its id alone, so that it never changes as a corpus grows."""
    share = int.from_bytes(_digest(record_id), "big") / 2**64
    return "held" if share * 100 < held_percent else "train"


def are_held(record_ids: Sequence[str], held_percent: float) -> npt.NDArray[np.bool_]:
    """(N,) for each record what :func:`split_of` says."""
    shares: npt.NDArray[np.float64] = np.frombuffer(b"".join(map(_digest, record_ids)), ">u8") / 2**64
    return shares * 100 < held_percent


def _digest(record_id: str) -> bytes:
    return hashlib.blake2b(record_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
