"""One store and one set of vectors that are to be brought together."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from embedctl.artifacts.layout import Layout
from embedctl.artifacts.manifest import Manifest
from embedctl.progress import Watch
from embedctl.settings import StoreSettings
from embedctl.store.ledger import Ledger
from embedctl.store.opening import name_of
from embedctl.store.protocol import Store
from embedctl.store.retrying import Patience, persist

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Job:
    """``source`` describes the vectors, which lie in the workspace of ``layout``."""

    settings: StoreSettings
    layout: Layout
    source: Manifest
    store: Store
    ledger: Ledger
    patience: Patience
    watch: Watch

    @property
    def name(self) -> str:
        """What the settings call the collection."""
        return name_of(self.settings)

    @property
    def target(self) -> str:
        return self.store.target

    @property
    def total(self) -> int:
        return self.source.number("vectors")

    @property
    def rejects(self) -> Path:
        return self.layout.ledger.with_name(f"{self.settings.kind}-{self.settings.collection}.rejects.jsonl")

    @property
    def store_tells(self) -> bool:
        """Whether the store can be asked what it holds; else the ledger notes it."""
        return self.store.known([]) is not None

    def ask(self, call: Callable[[], Answer]) -> Answer:
        """The store's answer, asked for until the deadline."""
        return persist(call, self.name, self.patience)
