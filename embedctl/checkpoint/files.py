"""Checkpoints on disk: each is a folder that holds all that is needed to go on, or to embed."""

import hashlib
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as tensor_bytes
from tokenizers import Tokenizer

from embedctl.artifacts import manifest as manifests
from embedctl.artifacts.folder import new_folder, write_file
from embedctl.artifacts.manifest import Manifest
from embedctl.errors import ArtifactError, NotFoundError, TornError
from embedctl.model.encoder import Encoder
from embedctl.model.shape import Shape
from embedctl.tokens import published
from embedctl.tokens import tokenizer as tokenizers

WEIGHTS = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
STATE = "state.json"
HEAD = "head.json"

_log = logging.getLogger(__name__)

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A saved step of a run."""

    step: int
    folder: Path
    manifest: Manifest

    @property
    def loss_nats(self) -> float | None:
        value = self.manifest.facts.get("loss_nats")
        return float(value) if isinstance(value, int | float) else None

    def metric(self, name: str) -> float | None:
        """A quality figure measured at this step; ``None`` if it was not measured."""
        if name == "loss_nats":
            return self.loss_nats
        metrics = self.manifest.facts.get("metrics")
        value = metrics.get(name) if isinstance(metrics, dict) else None
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

    @property
    def model_id(self) -> str:
        """What decides the vectors: weights, shape and tokenizer, not the optimizer."""
        files = self.manifest.files
        joined = " ".join(files[name].sha256 for name in (WEIGHTS, CONFIG, TOKENIZER))
        return hashlib.sha256(joined.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Model:
    """What ``embed`` and ``eval`` need of a checkpoint.

    query_max_tokens, max_tokens: how long a query and a passage may be, at most what the encoder takes
    """

    encoder: Encoder
    tokenizer: Tokenizer
    query_frame: tokenizers.Frame
    query_max_tokens: int
    max_tokens: int
    query_prompt: str
    passage_prompt: str
    model_id: str
    step: int


def folder_of(checkpoints: Path, step: int) -> Path:
    return checkpoints / f"step-{step:08d}"


def save(
    checkpoints: Path,
    step: int,
    *,
    shape: Shape,
    weights: Tensors,
    optimizer: Tensors,
    tokenizer_json: bytes,
    config: Mapping[str, JsonValue],
    state: Mapping[str, JsonValue],
    parents: Mapping[str, str],
    recipe: Mapping[str, JsonValue],
    facts: Mapping[str, JsonValue],
) -> Checkpoint:
    """Write step ``step`` whole, make it durable, then make it the head."""
    folder = folder_of(checkpoints, step)
    weights = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    with new_folder(folder) as partial:
        write_file(partial / WEIGHTS, tensor_bytes(weights))
        write_file(partial / OPTIMIZER, tensor_bytes(optimizer))
        write_file(partial / TOKENIZER, tokenizer_json)
        write_file(partial / CONFIG, _json({"shape": shape.to_json(), **config}))
        write_file(partial / STATE, _json(state))
        facts = {"step": step, **facts}
        made = manifests.write(partial, "checkpoint", parents=parents, settings=recipe, facts=facts)
    set_head(checkpoints, step)
    return Checkpoint(step, folder, made)


def scan(checkpoints: Path) -> list[Checkpoint]:
    """The complete checkpoints of a run, by step. Folders that embedctl did not make are left alone, and torn ones."""
    found = (_look(folder) for folder in sorted(checkpoints.glob("step-*")))
    return [checkpoint for checkpoint in found if isinstance(checkpoint, Checkpoint)]


def torn(checkpoints: Path) -> dict[Path, TornError]:
    """The checkpoints whose manifest cannot be read, and why."""
    found = {folder: _look(folder) for folder in sorted(checkpoints.glob("step-*[0-9]"))}
    return {folder: fault for folder, fault in found.items() if isinstance(fault, TornError)}


def _look(folder: Path) -> Checkpoint | TornError | None:
    try:
        manifest = manifests.find(folder, "checkpoint")
        return None if manifest is None else Checkpoint(manifest.number("step"), folder, manifest)
    except TornError as fault:
        return fault


def find(checkpoints: Path, step: int) -> Checkpoint:
    """The checkpoint at ``step``, or a ``NotFoundError`` that lists those there are."""
    found = scan(checkpoints)
    for checkpoint in found:
        if checkpoint.step == step:
            return checkpoint
    _refuse_torn(folder_of(checkpoints, step))
    have = ", ".join(str(checkpoint.step) for checkpoint in found) or "none"
    raise NotFoundError(f"no checkpoint at step {step} in {checkpoints}", hint=f"steps here: {have}")


def head(checkpoints: Path) -> Checkpoint:
    """The checkpoint that ``train --resume`` and ``embed`` use: the last one saved or restored."""
    found, step = scan(checkpoints), head_step(checkpoints)
    if step is not None:
        _refuse_torn(folder_of(checkpoints, step))
    if not found:
        for folder in torn(checkpoints):
            _refuse_torn(folder)
        raise NotFoundError(f"no checkpoint in {checkpoints}", hint="run `embedctl train` first")
    return next((checkpoint for checkpoint in found if checkpoint.step == step), found[-1])


def _refuse_torn(folder: Path) -> None:
    fault = _look(folder)
    if isinstance(fault, TornError):
        raise ArtifactError(
            fault.message,
            hint="embedctl train --resume goes on from the newest whole one; embedctl checkpoint list shows them",
        )


def head_step(checkpoints: Path) -> int | None:
    path = checkpoints / HEAD
    if not path.is_file():
        return None
    try:
        return int(json.loads(path.read_bytes())["step"])
    except (ValueError, KeyError, TypeError):
        _log.warning("%s is damaged; taking the newest checkpoint", path)
        return None


def set_head(checkpoints: Path, step: int) -> None:
    write_file(checkpoints / HEAD, _json({"step": step}))


def opened(folder: Path) -> Checkpoint:
    """The checkpoint in ``folder``, or the head of the run there."""
    manifest = manifests.find(folder, "checkpoint")
    if manifest is not None:
        return Checkpoint(manifest.number("step"), folder, manifest)
    if (folder / "checkpoints").is_dir():
        return head(folder / "checkpoints")
    raise NotFoundError(
        f"no model in {folder}", hint="want model.safetensors beside config.json, a run, or a checkpoint of one"
    )


def damage_of(checkpoint: Checkpoint) -> list[str]:
    """The files of a checkpoint that are missing or do not hold what was written."""
    return manifests.damaged(checkpoint.folder, checkpoint.manifest)


def newest_good(checkpoints: Path) -> Checkpoint:
    """The head if every byte of it is right, else the newest one before it that is.

    Damaged ones are set aside under a name that starts with ``.bad-``, never deleted.
    """
    step = head_step(checkpoints)
    for folder in torn(checkpoints):
        _set_aside(folder, manifests.FILE)
    for checkpoint in reversed(scan(checkpoints)):
        if step is not None and checkpoint.step > step:
            continue
        bad = damage_of(checkpoint)
        if not bad:
            return checkpoint
        _set_aside(checkpoint.folder, bad[0])
    raise ArtifactError(f"no checkpoint in {checkpoints} is whole", hint="embedctl train starts anew")


def _set_aside(folder: Path, damaged: str) -> None:
    aside, number = folder.with_name(f".bad-{folder.name}"), 0
    while aside.exists():
        number += 1
        aside = folder.with_name(f".bad-{folder.name}-{number}")
    folder.rename(aside)
    _log.warning("%s is damaged (%s); set aside as %s", folder, damaged, aside.name)


def load_model(checkpoint: Checkpoint, device: torch.device) -> Model:
    """The encoder and tokenizer of a checkpoint, after checking every byte."""
    refuse_damaged(checkpoint)
    config = read_json(checkpoint, CONFIG)
    encoder = Encoder(Shape(**config["shape"]))
    load_weights(checkpoint, encoder)
    used = published.load(checkpoint.folder / TOKENIZER)
    query_prompt = str(config.get("query_prompt", ""))
    return Model(
        encoder.to(device).eval(),
        used,
        tokenizers.frame_of(used, query_prompt),
        min(int(config["query_max_tokens"]), encoder.shape.max_tokens),
        encoder.shape.max_tokens,
        query_prompt,
        str(config.get("passage_prompt", "")),
        checkpoint.model_id,
        checkpoint.step,
    )


def load_weights(checkpoint: Checkpoint, encoder: Encoder) -> None:
    """Fill ``encoder``; weights of another shape are refused."""
    weights = read_tensors(checkpoint, WEIGHTS)
    want = {name: tuple(value.shape) for name, value in encoder.state_dict().items()}
    have = {name: tuple(value.shape) for name, value in weights.items()}
    if want != have:
        name = sorted(set(want.items()) ^ set(have.items()))[0][0]
        raise ArtifactError(
            f"{checkpoint.folder} holds another model: {name} is {have.get(name, 'missing')}, want {want.get(name)}"
        )
    encoder.load_state_dict(weights)


def read_tensors(checkpoint: Checkpoint, name: str) -> Tensors:
    try:
        return parse_tensors((checkpoint.folder / name).read_bytes())
    except SafetensorError as fault:
        raise ArtifactError(f"{checkpoint.folder / name} is damaged: {fault}") from None


def read_json(checkpoint: Checkpoint, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((checkpoint.folder / name).read_bytes())
    return content


def refuse_damaged(checkpoint: Checkpoint) -> None:
    """Raise :class:`ArtifactError` unless every byte is the one that was written."""
    bad = damage_of(checkpoint)
    if bad:
        raise ArtifactError(
            f"{checkpoint.folder / bad[0]} is damaged: its SHA-256 is not the one in {manifests.FILE}",
            hint="embedctl checkpoint list shows those that are whole; embedctl checkpoint restore STEP takes one",
        )


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()
