"""What a vector database is to embedctl: a few verbs. The logic of upserting stands above them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Row:
    """A vector on its way into a store. ``digest`` covers the text and the model."""

    id: str
    values: Vector
    digest: str
    metadata: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Hit:
    """A stored vector that was found. ``score`` is the cosine to what was asked, at most 1."""

    id: str
    score: float
    metadata: Mapping[str, JsonValue]


class Store(Protocol):
    """One collection in one database.

    Each row says of which model it is (the content id of a checkpoint's weights, shape and tokenizer), so that
    vectors of two models are never compared.
    """

    target: str
    """The collection's name in the ledger."""

    @property
    def dim(self) -> int | None:
        """Width of the stored vectors; ``None`` while the collection does not exist."""

    def count(self) -> int:
        """Number of stored vectors, of any model."""

    def known(self, ids: Sequence[str]) -> dict[str, str] | None:
        """id -> digest of those that are stored; ``None``: this store cannot tell, ask the ledger."""

    def create(self, dim: int) -> None:
        """Make the collection if it does not exist; refuse one of another width."""

    def write(self, rows: Sequence[Row], *, model: str) -> None:
        """Insert or replace; returns when every row is acknowledged, else raises an ``EmbedctlError``."""

    def finish(self) -> None:
        """Tidy up after many writes."""

    def search(self, vector: Vector, k: int, *, model: str) -> list[Hit]:
        """The ``k`` vectors of ``model`` nearest to ``vector``, best first."""
