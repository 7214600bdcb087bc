"""What a checkpoint holds of a run beside its weights, and how a run goes on from there."""

import logging
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import JsonValue

from embedctl.checkpoint import files
from embedctl.checkpoint.files import Checkpoint
from embedctl.training.average import Average
from embedctl.training.loop import Parts
from embedctl.training.optimizer import load_optimizers, optimizer_tensors

_EXTRA, _RAW = "extra:", "raw:"

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Counters:
    """What a run counts. ``worse``: evaluations since the best one."""

    tokens: int = 0
    worse: int = 0


def hidden_state(parts: Parts) -> files.Tensors:
    """What only training needs: moments, the head of the objective, and the weights behind an average."""
    tensors = optimizer_tensors(parts.trainee, parts.optimizers)
    kept = {f"{_EXTRA}{name}": value for name, value in parts.trainee.extras().items()}
    if parts.average is not None:
        kept |= {f"{_RAW}{name}": value for name, value in parts.trainee.encoder.state_dict().items()}
    return tensors | {name: value.detach().cpu().contiguous() for name, value in kept.items()}


def described(parts: Parts, counters: Counters, dtype: torch.dtype, processes: int) -> dict[str, JsonValue]:
    """The numbers of ``state.json``."""
    return {
        "tokens": counters.tokens,
        "worse_evaluations": counters.worse,
        "chunk": parts.chunk,
        "scale": parts.scale.value,
        "scale_good_steps": parts.scale.good_steps,
        "average_steps": parts.average.steps if parts.average else 0,
        "bad_steps": parts.bad_steps,
        "threads": torch.get_num_threads(),
        "processes": processes,
        "device": _device_of(parts),
        "dtype": str(dtype),
        "torch": torch.__version__,
    }


def restore(start: Checkpoint, parts: Parts, *, dtype: torch.dtype, processes: int) -> Counters:
    """Put everything back as it was when the checkpoint was saved."""
    state, encoder = files.read_json(start, files.STATE), parts.trainee.encoder
    tensors = files.read_tensors(start, files.OPTIMIZER)
    files.load_weights(start, encoder)
    if parts.average is not None:
        parts.average = Average(encoder, parts.average.decay)
        parts.average.steps = int(state["average_steps"])
        encoder.load_state_dict(_under(_RAW, tensors))
    parts.trainee.load_state_dict(_under(_EXTRA, tensors), strict=False)
    plain = {name: value for name, value in tensors.items() if not name.startswith((_EXTRA, _RAW))}
    load_optimizers(parts.trainee, parts.optimizers, plain)
    parts.chunk = min(parts.chunk, int(state["chunk"]))
    parts.bad_steps = int(state["bad_steps"])
    if state["dtype"] == str(dtype):  # the scale of another arithmetic says nothing
        parts.scale.value, parts.scale.good_steps = float(state["scale"]), int(state["scale_good_steps"])
    _as_before(state, dtype, processes, _device_of(parts))
    return Counters(int(state["tokens"]), int(state["worse_evaluations"]))


def _device_of(parts: Parts) -> str:
    return next(parts.trainee.parameters()).device.type


def _as_before(state: dict[str, Any], dtype: torch.dtype, processes: int, device: str) -> None:
    """Compute in the same way, or say that the bits will differ."""
    if state["threads"] != torch.get_num_threads():
        # The number of threads decides the order of sums, and so the last bits (pytorch#88718).
        _log.info("computing with %d threads as this run did before", state["threads"])
        torch.set_num_threads(int(state["threads"]))
    now = (device, str(dtype), torch.__version__, processes)
    before = (state.get("device", device), state["dtype"], state["torch"], state["processes"])
    if now != before:
        _log.warning(
            "this run computed on %s in %s with torch %s in %s processes, now on %s in %s with %s in %s: "
            "it goes on, but not to the same bits", *before, *now
        )  # fmt: skip


def _under(prefix: str, tensors: files.Tensors) -> files.Tensors:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
