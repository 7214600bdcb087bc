"""The vectors artifact: every chunk of the tokens, embedded by one model."""

import logging
import time
from contextlib import ExitStack

from pydantic import JsonValue

from embedctl.artifacts import growing, manifest
from embedctl.artifacts.folder import lock
from embedctl.artifacts.growing import GrowingFolder, growing_folder
from embedctl.artifacts.layout import Layout
from embedctl.artifacts.manifest import Manifest
from embedctl.artifacts.outcome import Outcome, up_to_date
from embedctl.checkpoint import files
from embedctl.embedding import windows
from embedctl.embedding.cache import VectorCache
from embedctl.embedding.earlier import Earlier
from embedctl.embedding.embedder import Embedder
from embedctl.embedding.passages import passages_for
from embedctl.embedding.repeats import Repeats
from embedctl.embedding.shards import ShardMaker
from embedctl.embedding.source import model_of, named_model
from embedctl.embedding.vectors import matrix, read_vectors
from embedctl.embedding.windows import Window
from embedctl.model.precision import pick_device
from embedctl.progress import Tick, Watch, unwatched
from embedctl.settings import ComputeSettings, EmbeddingSettings

__all__ = ["generate", "matrix", "read_vectors", "recipe_of"]

_log = logging.getLogger(__name__)

# How rows are made; another number makes all shards anew.
_FORMAT = 2


def recipe_of(settings: EmbeddingSettings, compute: ComputeSettings) -> dict[str, JsonValue]:
    """The settings on which the vectors depend, and the model if it is not that of the run."""
    named: dict[str, JsonValue] = {} if settings.model is None else {"model": named_model(settings.model)}
    return {
        **named,
        "dim": settings.dim,
        "dtype": settings.dtype,
        "with_text": settings.with_text,
        "precision": compute.precision,
        "rows": _FORMAT,
    }


def generate(
    settings: EmbeddingSettings, compute: ComputeSettings, layout: Layout, *, watch: Watch = unwatched
) -> Outcome:
    """Embed ``tokens/NAME`` into ``vectors/NAME``, window by window; what a killed run has made is taken over."""
    tokens = manifest.read_verified(layout.tokens, "tokens")
    parents = {"tokens": tokens.content_id}
    if settings.model is None:
        parents["checkpoint"] = files.head(layout.checkpoints).model_id
    recipe = recipe_of(settings, compute)
    identity = manifest.fingerprint("vectors", parents, recipe)
    with lock(layout.lock(layout.vectors)):
        found = up_to_date(layout.vectors, "vectors", identity)
        if found:
            growing.tidy(layout.vectors)
            return found
        with growing_folder(layout.vectors, identity) as folder, ExitStack() as stack:
            began = time.monotonic()
            job = _Job(settings, compute, layout, tokens, parents, recipe, folder)
            maker = job.maker(stack)
            job.run(maker, watch)
            known = folder.finish([window.name for window in job.windows])
            made = manifest.write(
                folder.path, "vectors", parents=parents, settings=recipe, facts=job.facts(maker), known=known
            )
            measured = job.measured(maker, time.monotonic() - began)
    return Outcome(layout.vectors, made, made=True, measured=measured)


class _Job:
    """One run over all windows."""

    def __init__(
        self,
        settings: EmbeddingSettings,
        compute: ComputeSettings,
        layout: Layout,
        tokens: Manifest,
        parents: dict[str, str],
        recipe: dict[str, JsonValue],
        folder: GrowingFolder,
    ) -> None:
        self.settings, self.compute, self.layout, self.tokens = settings, compute, layout, tokens
        self.folder = folder
        self._made_from: dict[str, JsonValue] = {"model": parents.get("checkpoint"), **recipe}
        self.windows = windows.windows_of(layout.tokens, tokens)
        self.total = sum(map(len, self.windows))
        self.kept = 0

    def maker(self, stack: ExitStack) -> ShardMaker:
        """Open the model and the cache, and look for chunks that repeat others."""
        model = model_of(self.settings, self.layout, pick_device(self.compute.device))
        passages = passages_for(model, self.layout.tokens, self.tokens, anew=self.settings.model is not None)
        embedder = Embedder(model, self.settings, self.compute)
        cache = None
        if self.settings.cache_megabytes:
            cache = stack.enter_context(VectorCache(self.layout.cache, megabytes=self.settings.cache_megabytes))
        contents = (c for window in self.windows for c in passages.contents(window.read([passages.column])))
        return ShardMaker(
            self.folder.path,
            embedder,
            passages,
            Repeats.among(contents, self.total),
            Earlier(self.folder.path, self.windows, embedder.keeping),
            cache,
            self.settings.with_text,
        )

    def run(self, maker: ShardMaker, watch: Watch) -> None:
        """Make every shard that is not there."""
        due = [window for window in self.windows if self.folder.take(window.name, self.key(window)) is None]
        self.kept = done = self.total - sum(map(len, due))
        watch(Tick(done, self.total, "chunks"))
        for window in due:

            def tell(tick: Tick, before: int = done, size: int = len(window)) -> None:
                watch(Tick(before + size - (tick.total or 0) + tick.done, self.total, "chunks"))

            self.folder.commit(maker.make(window, self.key(window), tell))
            done += len(window)
            watch(Tick(done, self.total, "chunks"))

    def key(self, window: Window) -> str:
        """Of all that a shard is made from."""
        return growing.key_of({**self._made_from, "part": window.sha256, "first": window.first, "last": window.last})

    def facts(self, maker: ShardMaker) -> dict[str, JsonValue]:
        shards = self.folder.shards.values()
        return {
            "vectors": self.total,
            "dim": maker.embedder.keeping.dim,
            "step": maker.embedder.model.step,
            "model": maker.embedder.model.model_id,
            "repeats": maker.repeats.count,
            "worst_cosine": min((float(str(shard.facts["worst_cosine"])) for shard in shards), default=1.0),
        }

    def measured(self, maker: ShardMaker, seconds: float) -> dict[str, JsonValue]:
        return {
            "seconds": round(seconds, 3),
            **maker.embedder.measured(),
            "kept": self.kept,
            "cached": maker.cached,
            "repeated": maker.repeated,
            "cut": maker.passages.cut,
        }
