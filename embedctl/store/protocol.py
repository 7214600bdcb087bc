"""What a vector database is to embedctl: a few verbs, each a single attempt. The logic of upserting stands above them.

Rows travel as record batches of the vectors artifact, columns and all: a store that can take columns need not see a
single row as a Python object.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import JsonValue

Vector = npt.NDArray[np.float32]

Where = Mapping[str, Sequence[str | int | float | bool]]
"""Key of the metadata -> the values that are allowed; all keys have to fit."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A stored vector that was found.

    score: the cosine to what was asked, at most 1; of a keyword search BM25 or the store's own rank
    """

    id: str
    score: float
    metadata: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request and one record may be; ``None``: no limit.

    exclusive: what is under way has to end before another upsert begins, as rows that both add would be there twice
    """

    rows: int
    request_bytes: int | None
    metadata_bytes: int | None
    id_characters: int | None
    concurrency: int
    exclusive: bool = False


class Busy(Exception):
    """A fault that may pass: 429, 5xx, a reset, a time-out, a cut answer, a wrong count. To be tried again."""

    def __init__(self, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class Refused(Exception):
    """These rows will never be taken as they are (400, 413): one of them is bad, or they are too many."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Store(Protocol):
    """One collection in one database.

    Each row says of which model it is (the content id of a checkpoint's weights, shape and tokenizer), so that
    vectors of two models are never compared. Every verb makes one attempt; it raises ``Busy``, ``Refused`` or an
    ``EmbedctlError``.
    """

    limits: Limits

    @property
    def target(self) -> str:
        """The collection's name in the ledger."""

    @property
    def dim(self) -> int | None:
        """Width of the stored vectors; ``None`` while the collection does not exist."""

    def count(self) -> int:
        """Number of stored vectors, of any model."""

    def create(self, dim: int) -> None:
        """Make the collection if it does not exist; refuse one of another width, and a key that is not good."""

    def known(self, ids: Sequence[str]) -> dict[str, str] | None:
        """id -> digest of those that are stored; ``None``: this store cannot tell, ask the ledger."""

    def size(self, rows: pa.RecordBatch) -> npt.NDArray[np.int64] | None:
        """Bytes of each row on the wire; ``None`` where requests are not limited by bytes."""

    def write(self, rows: pa.RecordBatch, *, model: str, new: bool = False) -> None:
        """Insert or replace, in one request; returns when every row is acknowledged.

        new: none of the ids was stored when the store was last asked, and this is their first attempt
        """

    def ids(self) -> Iterator[list[str]] | None:
        """Every id that embedctl stored, in pages; ``None``: this store cannot tell, ask the ledger."""

    def delete(self, ids: Sequence[str]) -> None:
        """Remove at most 1,000 ids; one that is not there is no fault."""

    def fetch(self, ids: Sequence[str]) -> dict[str, Vector]:
        """The stored values of those ids (at most 100) that are there."""

    def finish(self, *, written: bool) -> None:
        """Make the indexes that are wanted and missing; tidy up, if anything was ``written``."""

    def search(self, vector: Vector, k: int, *, model: str, where: Where) -> list[Hit]:
        """The ``k`` vectors of ``model`` nearest to ``vector``, best first."""

    def keyword(self, text: str, k: int, *, model: str, where: Where) -> list[Hit]:
        """The ``k`` texts that fit the words best; ``ConfigError`` where the store has no full text."""
