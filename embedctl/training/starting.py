"""What a run is made from, and with that where it starts: afresh, or from a checkpoint."""

import logging
from pathlib import Path

from pydantic import JsonValue

from embedctl.artifacts import manifest
from embedctl.artifacts.layout import Layout
from embedctl.checkpoint import files
from embedctl.checkpoint.beginning import origin_of
from embedctl.checkpoint.files import Checkpoint
from embedctl.errors import ArtifactError, ConfigError, NotFoundError, RemoteError
from embedctl.settings import Settings

_log = logging.getLogger(__name__)

# Settings that change how a run is watched or how much it holds at a time, not what it computes.
_WATCHING = {"log_every_steps", "evaluate_every_steps", "tensorboard", "wandb_project", "chunk_pairs", "compile"}


def recipe_of(settings: Settings, layout: Layout) -> dict[str, JsonValue]:
    """The settings, and what they name, on which the weights depend."""
    training = settings.training
    hard = training.hard_negatives and training.objective == "contrastive"
    judging: dict[str, JsonValue] = {}
    if training.patience:  # when a run ends hangs on how it is judged
        judging = {"metric": settings.metric, "evaluation": settings.evaluation.model_dump(mode="json")}
    watching = _WATCHING - {"evaluate_every_steps"} if settings.training.patience else _WATCHING
    return {
        "model": {**settings.model.model_dump(mode="json"), "origin": _origin(settings, layout)},
        "training": settings.training.model_dump(mode="json", exclude=watching),
        "precision": settings.compute.precision,
        "seed": settings.project.seed,
        **judging,
        "negatives": manifest.read(layout.negatives, "negatives").content_id if hard else None,
    }


def _origin(settings: Settings, layout: Layout) -> str | None:
    """What identifies ``model.init_from``; where that is gone, what the run has noted of it."""
    try:
        return origin_of(settings.model)
    except (ConfigError, NotFoundError, RemoteError):
        found = files.scan(layout.checkpoints)
        model = found[-1].manifest.settings.get("model") if found else None
        if not isinstance(model, dict) or not model.get("origin"):
            raise
        # If the run was of another one, its name differs too.
        return str(model["origin"])


def finished(layout: Layout, identity: str) -> Checkpoint | None:
    """The last checkpoint of the run, if the run was made from the same things, is at its end and has a whole head."""
    done = [c for c in files.scan(layout.checkpoints) if c.manifest.fingerprint == identity and _is_last(c)]
    return done[-1] if done and not _has_damaged_head(layout.checkpoints) else None


def _has_damaged_head(checkpoints: Path) -> bool:
    try:
        return bool(files.damage_of(files.head(checkpoints)))
    except ArtifactError:
        return True


def _is_last(checkpoint: Checkpoint) -> bool:
    return checkpoint.step == checkpoint.manifest.facts.get("total_steps")


def identity_of(settings: Settings, layout: Layout, tokens_id: str) -> str:
    return manifest.fingerprint("checkpoint", {"tokens": tokens_id}, recipe_of(settings, layout))


def starting_point(
    settings: Settings, layout: Layout, identity: str, tokens_id: str, *, resume: bool
) -> Checkpoint | None:
    """The checkpoint to go on from; ``None`` for a fresh run."""
    exists = bool(files.scan(layout.checkpoints) or files.torn(layout.checkpoints))
    if resume:
        if not exists:
            raise NotFoundError(
                f"no run to resume at {layout.run_folder}", hint="run `embedctl train` without --resume"
            )
        start = files.newest_good(layout.checkpoints)
        _refuse_other(settings, layout, start, tokens_id)
        return start
    if exists:
        same = [c for c in files.scan(layout.checkpoints) if c.manifest.fingerprint == identity]
        if any(map(_is_last, same)):  # it would be up to date, but for damage
            return files.newest_good(layout.checkpoints)
        head = files.head(layout.checkpoints)
        if head.manifest.fingerprint == identity:
            raise ConfigError(
                f"run {layout.run!r} stands at step {head.step} of {head.manifest.facts.get('total_steps')}",
                hint="embedctl train --resume goes on; --set project.run=NAME starts another run",
            )
    return None


def _refuse_other(settings: Settings, layout: Layout, start: Checkpoint, tokens_id: str) -> None:
    why = manifest.difference(start.manifest, {"tokens": tokens_id}, recipe_of(settings, layout))
    if why:
        raise ArtifactError(
            f"the checkpoint at step {start.step} was made otherwise: {why}",
            hint="set these back to resume, or run `embedctl train` without --resume: the old run is kept aside",
        )


def set_aside(folder: Path) -> None:
    """Move a run that was made otherwise out of the way of a new one."""
    number = 1
    while folder.with_name(f"{folder.name}.old-{number}").exists():
        number += 1
    aside = folder.with_name(f"{folder.name}.old-{number}")
    folder.rename(aside)
    _log.warning("run %s was made with other settings or data; kept as %s", folder.name, aside)
