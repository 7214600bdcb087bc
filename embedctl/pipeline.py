"""What ``run`` and ``status`` do: the steps in their order, and which of them are stale."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from embedctl.artifacts import manifest
from embedctl.artifacts.manifest import Kind, Manifest
from embedctl.artifacts.outcome import Outcome
from embedctl.checkpoint import files
from embedctl.data import corpus, validation
from embedctl.embedding import generation
from embedctl.errors import ArtifactError, EmbedctlError, NotFoundError
from embedctl.evaluation import report
from embedctl.loading import Loaded
from embedctl.model.published import tokens_settings
from embedctl.progress import Watch
from embedctl.settings import TokensSettings
from embedctl.store import upsert as upserting
from embedctl.store.upsert import Tally
from embedctl.tokens import published, tokenization
from embedctl.training import run as training
from embedctl.training import starting

State = Literal["up to date", "stale", "missing", "unfinished", "damaged"]


@dataclass(frozen=True, slots=True)
class StoreStanding:
    """How the store stands to the vectors at hand, as far as the ledger knows."""

    state: State
    why: str
    vectors: int


@dataclass(frozen=True, slots=True)
class Stage:
    """A step of the pipeline: its name, the artifact that it makes, and what it hangs on."""

    name: str
    kind: Kind
    folder: Path
    parents: tuple[Kind, ...]
    recipe: Callable[[], Mapping[str, JsonValue]]
    make: Callable[[Watch], Outcome]


@dataclass(frozen=True, slots=True)
class Standing:
    """How an artifact stands. ``why``: what makes it stale, in words."""

    stage: Stage
    state: State
    why: str
    manifest: Manifest | None


def stages(loaded: Loaded) -> list[Stage]:
    """All steps that make an artifact, in order."""
    settings, layout, secrets = loaded.settings, loaded.layout, loaded.secrets
    held = settings.data.held_percent
    tokens = functools.cache(lambda: tokens_settings(settings.model, settings.tokens))
    return [
        Stage(
            "fetch",
            "corpus",
            layout.corpus,
            (),
            lambda: corpus.recipe_of(settings.data, seed=settings.project.seed),
            lambda watch: corpus.fetch(settings.data, layout, seed=settings.project.seed, secrets=secrets, watch=watch),
        ),
        Stage(
            "validate",
            "validation",
            layout.validation,
            ("corpus",),
            lambda: validation.recipe_of(settings.validation, held, settings.evaluation.similarity_file),
            lambda watch: _make_validation(loaded, tokens(), watch),
        ),
        Stage(
            "tokenize",
            "tokens",
            layout.tokens,
            ("corpus", "validation"),
            lambda: tokenization.recipe_of(tokens(), held),
            lambda watch: tokenization.tokenize(tokens(), layout, held_percent=held, watch=watch),
        ),
        Stage(
            "train",
            "checkpoint",
            layout.checkpoints,
            ("tokens",),
            lambda: starting.recipe_of(settings, layout),
            lambda watch: _make_run(loaded, watch),
        ),
        Stage(
            "eval",
            "evaluation",
            layout.evaluation,
            ("tokens", "checkpoint"),
            lambda: report.recipe_of(settings.evaluation, settings.compute),
            lambda watch: report.evaluate(settings.evaluation, settings.compute, layout, or_nothing=True, watch=watch),
        ),
        Stage(
            "embed",
            "vectors",
            layout.vectors,
            ("tokens",) if settings.embedding.model else ("tokens", "checkpoint"),
            lambda: generation.recipe_of(settings.embedding, settings.compute),
            lambda watch: generation.generate(settings.embedding, settings.compute, layout, watch=watch),
        ),
    ]


def upsert(loaded: Loaded, watch: Watch) -> Tally:
    """The last step: it leaves its result in a store, not in a folder."""
    return upserting.upsert(loaded.settings.store, loaded.layout, secrets=loaded.secrets, watch=watch)


def standing_of_store(loaded: Loaded, vectors: Standing) -> StoreStanding:
    """Whether the store was last brought up to date with ``vectors``, and these are not stale themselves."""
    settings = loaded.settings.store
    done = upserting.finished(settings, loaded.layout, loaded.secrets)
    if done is None:
        return StoreStanding("missing", "", 0)
    content, count = done
    if vectors.manifest is None or vectors.manifest.content_id != content:
        return StoreStanding("stale", "it holds other vectors", count)
    if vectors.state != "up to date":
        return StoreStanding("stale", "vectors are not up to date", count)
    return StoreStanding("up to date", "", count)


def _make_validation(loaded: Loaded, tokens: TokensSettings, watch: Watch) -> Outcome:
    settings = loaded.settings
    judged = validation.validate(
        settings.validation,
        loaded.layout,
        held_percent=settings.data.held_percent,
        similarity_file=settings.evaluation.similarity_file,
        plan=published.plan(tokens),
        watch=watch,
    )
    validation.refuse_above(settings.validation, judged)
    return judged


def _make_run(loaded: Loaded, watch: Watch) -> Outcome:
    resume = standing_of_run(loaded).state in ("unfinished", "damaged")
    plan = training.Plan(resume=resume)
    return training.train(loaded.settings, loaded.layout, plan, secrets=loaded.secrets, watch=watch)


def standings(loaded: Loaded) -> list[Standing]:
    """How each artifact stands. An artifact is stale if it, or one that it was made from, would be made otherwise."""
    found: list[Standing] = []
    for stage in _shown(loaded):
        if stage.kind == "checkpoint":
            standing = standing_of_run(loaded, stage)
        else:
            standing = _standing(stage, {s.stage.kind: _content(s) for s in found})
        behind = [s.stage.kind for s in found if s.stage.kind in stage.parents and s.state != "up to date"]
        if standing.state == "up to date" and behind:
            standing = Standing(stage, "stale", f"{behind[0]} is not up to date", standing.manifest)
        found.append(standing)
    return found


def _shown(loaded: Loaded) -> list[Stage]:
    """All stages, and the negatives where some were mined: `run` does not make them.

    They are good for the tokens in which they were found, whatever has become of the model that found them.
    """
    steps, folder = stages(loaded), loaded.layout.negatives
    if folder.exists():
        mining = Stage(
            "mine", "negatives", folder, ("tokens",), lambda: manifest.read(folder, "negatives").settings, _unmade
        )
        steps.insert(3, mining)
    return steps


def _unmade(watch: Watch) -> Outcome:
    raise AssertionError("only `embedctl mine` makes negatives")


def standing_of_run(loaded: Loaded, stage: Stage | None = None) -> Standing:
    """How the training run stands: its head has to be made from the tokens at hand, and be the last step."""
    stage = stage or next(s for s in stages(loaded) if s.kind == "checkpoint")
    try:
        checkpoints, head = files.scan(stage.folder), files.head(stage.folder)
    except NotFoundError:
        return Standing(stage, "missing", "", None)
    except ArtifactError as fault:
        return Standing(stage, "damaged", fault.message, None)
    try:
        tokens = manifest.find(loaded.layout.tokens, "tokens")
        why = manifest.difference(head.manifest, {"tokens": tokens.content_id if tokens else None}, stage.recipe())
    except EmbedctlError as fault:
        why = fault.message
    if why:
        return Standing(stage, "stale", why, head.manifest)
    total = checkpoints[-1].manifest.facts.get("total_steps")
    if checkpoints[-1].step != total:
        return Standing(stage, "unfinished", f"step {head.step} of {total}", head.manifest)
    return Standing(
        stage, "up to date", "" if head.step == total else f"head restored to step {head.step}", head.manifest
    )


def _standing(stage: Stage, parents: Mapping[Kind, str | None]) -> Standing:
    try:
        found = manifest.find(stage.folder, stage.kind)
    except EmbedctlError as fault:
        return Standing(stage, "damaged", fault.message, None)
    if found is None:
        return Standing(stage, "missing", "", None)
    try:
        recipe = stage.recipe()
    except EmbedctlError as fault:
        return Standing(stage, "stale", fault.message, found)
    why = manifest.difference(found, {kind: parents[kind] for kind in stage.parents}, recipe)
    return Standing(stage, "stale" if why else "up to date", why, found)


def _content(standing: Standing) -> str | None:
    """What children note of a parent."""
    if standing.manifest is None:
        return None
    if standing.stage.kind == "checkpoint":
        return files.head(standing.stage.folder).model_id
    return standing.manifest.content_id
