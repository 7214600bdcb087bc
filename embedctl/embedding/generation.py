"""The vectors artifact: every chunk of the tokens, embedded by one model."""

import time
from typing import Literal

from pydantic import JsonValue

from embedctl.artifacts import growing, manifest
from embedctl.artifacts.folder import lock
from embedctl.artifacts.growing import GrowingFolder, Shard, growing_folder, joined_folder
from embedctl.artifacts.layout import Layout
from embedctl.artifacts.outcome import Outcome, up_to_date
from embedctl.checkpoint import files
from embedctl.embedding import windows
from embedctl.embedding.shards import Tally
from embedctl.embedding.source import named_model
from embedctl.embedding.task import Task
from embedctl.model.packed import ARITHMETIC, way_of
from embedctl.model.precision import pick_device, pick_dtype
from embedctl.progress import Tick, Watch, unwatched
from embedctl.ranks import Ranks, joined
from embedctl.settings import ComputeSettings, EmbeddingSettings

Engine = Literal["local", "ray"]

# How rows are made; another number makes all shards anew.
_FORMAT = 3


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
        "arithmetic": ARITHMETIC,
    }


def generate(
    settings: EmbeddingSettings,
    compute: ComputeSettings,
    layout: Layout,
    *,
    engine: Engine = "local",
    watch: Watch = unwatched,
) -> Outcome:
    """Embed ``tokens/NAME`` into ``vectors/NAME``, window by window; what a killed run has made is taken over.

    Processes that `torchrun` started share the windows.

    engine: ``ray``: embed on the Ray cluster of RAY_ADDRESS, or on one of this machine
    """
    tokens = manifest.read_verified(layout.tokens, "tokens")
    parents = {"tokens": tokens.content_id}
    if settings.model is None:
        parents["checkpoint"] = files.head(layout.checkpoints).model_id
    recipe = recipe_of(settings, compute)
    identity = manifest.fingerprint("vectors", parents, recipe)
    device = pick_device(compute.device)
    dtype = pick_dtype(compute.precision, device)
    # What another machine has made is right too, but shards of both are not to stand side by side.
    way = f"{dtype} by {way_of(device, dtype)}"
    made_from = manifest.digest({"model": parents.get("checkpoint"), "way": way, **recipe})
    parts = tuple(windows.windows_of(layout.tokens, tokens))
    task = Task(settings, compute, layout, tokens, parts, made_from, growing.partial_of(layout.vectors))
    with joined(compute.device) as ranks:
        if not ranks.is_first:
            return _help(task, ranks)
        with lock(layout.lock(layout.vectors)):
            found = up_to_date(layout.vectors, "vectors", identity)
            if found:
                growing.tidy(layout.vectors)
                ranks.most(0)
                return found
            began = time.monotonic()
            with growing_folder(layout.vectors, identity) as folder:
                kept = sum(len(window) for window in parts if folder.take(window.name, task.key(window)))
                ranks.most(1)
                tally = _on_ray(task, folder, watch) if engine == "ray" else _share(task, folder, ranks, watch)
                folder.look_again()
                known = folder.finish([window.name for window in parts])
                facts = _facts(task, [folder.shards[window.name] for window in parts])
                made = manifest.write(
                    folder.path, "vectors", parents=parents, settings=recipe, facts=facts, known=known
                )
        ranks.most(0)
    return Outcome(layout.vectors, made, made=True, measured=_measured(tally, kept, time.monotonic() - began))


def _help(task: Task, ranks: Ranks) -> Outcome:
    """What the other processes do: their share of the windows, in the folder of the first one."""
    made = bool(ranks.most(0))
    if made:
        _share(task, joined_folder(task.layout.vectors), ranks, unwatched)
        ranks.most(0)
    return Outcome(task.layout.vectors, manifest.read(task.layout.vectors, "vectors"), made=made)


def _share(task: Task, folder: GrowingFolder, ranks: Ranks, watch: Watch) -> Tally:
    """Make this process's part of the shards that are not there; what all of them did."""
    due = [window for window in task.windows if window.name not in folder.shards]
    ranks.most(0)  # all have looked
    tally = Tally()
    with task.opened() as maker:
        watch(Tick(_done(task, folder), task.total, "chunks"))
        for window in due[ranks.rank :: ranks.size]:
            before = _done(task, folder)

            def tell(tick: Tick, before: int = before, size: int = len(window)) -> None:
                watch(Tick(before + size - (tick.total or 0) + tick.done, task.total, "chunks"))

            shard, more = maker.make(window, task.key(window), tell)
            folder.commit(shard)
            tally += more
            if ranks.size > 1:
                folder.look_again()
            watch(Tick(_done(task, folder), task.total, "chunks"))
    return Tally(*ranks.total(tally.numbers))


def _on_ray(task: Task, folder: GrowingFolder, watch: Watch) -> Tally:
    from embedctl.embedding import on_ray

    due = [window for window in task.windows if window.name not in folder.shards]
    tally = Tally()
    watch(Tick(_done(task, folder), task.total, "chunks"))
    for shard, more in on_ray.make(task, due):
        folder.commit(shard)
        tally += more
        watch(Tick(_done(task, folder), task.total, "chunks"))
    return tally


def _done(task: Task, folder: GrowingFolder) -> int:
    return sum(len(window) for window in task.windows if window.name in folder.shards)


def _facts(task: Task, shards: list[Shard]) -> dict[str, JsonValue]:
    told = [shard.facts for shard in shards]
    return {
        "vectors": task.total,
        **{name: told[0][name] for name in ("dim", "step", "model")},
        "worst_cosine": min(float(str(facts["worst_cosine"])) for facts in told),
    }


def _measured(tally: Tally, kept: int, seconds: float) -> dict[str, JsonValue]:
    return {
        "seconds": round(seconds, 3),
        "kept": kept,
        **{name: int(getattr(tally, name)) for name in ("embedded", "cached", "repeated", "cut", "tokens")},
        "texts_per_second": round(tally.embedded / max(tally.seconds, 1e-9), 1),
        "tokens_per_second": round(tally.tokens / max(tally.seconds, 1e-9)),
    }
