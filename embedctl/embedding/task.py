"""What a process has to know to make any shard of one vectors artifact."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from embedctl.artifacts import growing
from embedctl.artifacts.layout import Layout
from embedctl.artifacts.manifest import Manifest
from embedctl.embedding.cache import VectorCache
from embedctl.embedding.earlier import Earlier
from embedctl.embedding.embedder import Embedder
from embedctl.embedding.passages import passages_for
from embedctl.embedding.repeats import Repeats
from embedctl.embedding.shards import ShardMaker
from embedctl.embedding.source import model_of
from embedctl.embedding.windows import Window
from embedctl.model.precision import pick_device
from embedctl.settings import ComputeSettings, EmbeddingSettings


@dataclass(frozen=True, slots=True)
class Task:
    """made_from: digest of the model and the recipe; to: the folder of the shards"""

    settings: EmbeddingSettings
    compute: ComputeSettings
    layout: Layout
    tokens: Manifest
    windows: tuple[Window, ...]
    made_from: str
    to: Path

    @property
    def total(self) -> int:
        """Number of chunks."""
        return sum(map(len, self.windows))

    def key(self, window: Window) -> str:
        """Of all that a shard is made from."""
        parts = (self.made_from, window.sha256, window.first, window.last)
        return growing.key_of(dict(zip(("made_from", "part", "first", "last"), parts, strict=True)))

    @contextmanager
    def opened(self) -> Iterator[ShardMaker]:
        """With the model and the cache open, and after a look for chunks that repeat others."""
        model = model_of(self.settings, self.layout, pick_device(self.compute.device))
        passages = passages_for(model, self.layout.tokens, self.tokens, anew=self.settings.model is not None)
        embedder = Embedder(model, self.settings, self.compute)
        contents = (c for window in self.windows for c in passages.contents(window.read([passages.column])))
        repeats = Repeats.among(contents, self.total)
        with ExitStack() as stack:
            cache = None
            if self.settings.cache_megabytes:
                cache = stack.enter_context(VectorCache(self.layout.cache, megabytes=self.settings.cache_megabytes))
            earlier = Earlier(self.to, self.windows, embedder.keeping)
            yield ShardMaker(self.to, embedder, passages, repeats, earlier, cache, self.settings.with_text)
