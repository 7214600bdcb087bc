"""The training loop: an iterator of steps. It neither prints, saves nor decides when to stop."""

import logging
import math
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from embedctl.errors import DivergedError, OutOfMemory, is_out_of_memory
from embedctl.ranks import Ranks
from embedctl.settings import TrainingSettings
from embedctl.training.average import Average
from embedctl.training.gradients import accumulate_masks, accumulate_pairs
from embedctl.training.laying import Batch, Laid, Layer
from embedctl.training.masks import MaskBatch, MaskStream
from embedctl.training.optimizer import Optimizers
from embedctl.training.pairs import PairStream
from embedctl.training.prefetch import prefetch
from embedctl.training.scale import LossScale
from embedctl.training.schedule import rate_share
from embedctl.training.trainee import Trainee

_log = logging.getLogger(__name__)

# So many steps in a row without a finite gradient are no accident.
_BAD_STEPS = 3

Stream = PairStream | MaskStream


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step, done. ``skipped``: its gradient was not finite, and no weight has changed."""

    number: int
    epoch: float
    loss_nats: float
    learning_rate: float
    gradient_norm: float
    lengths: tuple[int, ...]
    padded_tokens: int
    seconds: float
    wait_seconds: float
    chunk: int
    skipped: bool

    @property
    def tokens(self) -> int:
        return sum(self.lengths)


@dataclass(slots=True)
class Parts:
    """What steps change as they go on, and what a checkpoint therefore holds.

    chunk: contrastive: pairs in memory at a time; mlm: tokens
    bad_steps: steps in a row whose gradient was not finite
    """

    trainee: Trainee
    optimizers: Optimizers
    scale: LossScale
    average: Average | None
    chunk: int
    bad_steps: int = 0


@dataclass(frozen=True, slots=True)
class Conditions:
    """What all steps of a run have in common.

    layer: lays the batches of ``stream`` for the device of ``parts``
    peak:  the learning rate after the warm-up
    dtype: the arithmetic of the blocks
    """

    parts: Parts
    stream: Stream
    layer: Layer
    settings: TrainingSettings
    peak: float
    dtype: torch.dtype
    ranks: Ranks


def steps(run: Conditions, *, after: int, total: int) -> Generator[Step, None, None]:
    """Take the steps after step ``after``, to the end of the run.

    A step whose loss or gradient is not finite changes no weight; after three in a row :class:`DivergedError` is
    raised. :class:`OutOfMemory` is if even a chunk of one pair does not fit.
    """
    parts, many = run.parts, run.settings.gradient_accumulation_steps

    def make(number: int) -> Laid:
        return run.layer.lay(run.stream.batch(number), parts.chunk)

    # A batch of many chunks is large itself, and takes long enough for the next one to be made meanwhile.
    chunked = isinstance(run.stream, PairStream) and parts.chunk < run.settings.batch_pairs
    ahead = many if chunked else max(3, many)
    batches = prefetch(make, range(after * many, total * many), ahead=ahead)
    started = time.perf_counter()
    try:
        for number in range(after + 1, total + 1):
            rate = run.peak * rate_share(number, total, run.settings)
            for optimizer in parts.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate
            step_batches = [next(batches) for _ in range(many)]
            wait = time.perf_counter() - started
            loss, norm, done = _step(run, step_batches)
            if not done and parts.bad_steps >= _BAD_STEPS:
                raise DivergedError(f"loss {loss} and gradient norm {norm} at step {number}, the third such in a row")
            seconds = time.perf_counter() - started
            lengths = tuple(length for laid in step_batches for length in laid.batch.lengths)
            padded = sum(laid.batch.padded_tokens for laid in step_batches)
            epoch = number * many / run.stream.batches_per_epoch
            yield Step(number, epoch, loss, rate, norm, lengths, padded, seconds, wait, parts.chunk, not done)
            started = time.perf_counter()
    finally:
        batches.close()


def _step(run: Conditions, batches: Sequence[Laid]) -> tuple[float, float, bool]:
    """Loss, gradient norm, and whether the weights have moved."""
    loss = gradients_of(run, batches)
    parts, trainee, clip = run.parts, run.parts.trainee, run.settings.clip_norm
    run.ranks.sum_gradients(trainee)
    parts.scale.take_out(trainee)
    weights = [weight for weight in trainee.parameters() if weight.grad is not None]
    total = nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
    norm = total.item()
    if clip and norm > clip:
        nn.utils.clip_grads_with_norm_(weights, clip, total)
    done = math.isfinite(loss) and math.isfinite(norm)
    if done:
        for optimizer in parts.optimizers:
            optimizer.step()
        trainee.settle()
        if parts.average is not None:
            parts.average.take_in(trainee.encoder)
    # With a scaled loss an overflow is how the scale is found.
    parts.bad_steps = 0 if done or parts.scale.is_searching else parts.bad_steps + 1
    parts.scale.learn(finite=done)
    trainee.zero_grad(set_to_none=True)
    return loss, norm, done


def gradients_of(run: Conditions, batches: Sequence[Laid]) -> float:
    """Gradients of one step; when memory runs out, again with half the chunk, which changes no result."""
    parts = run.parts
    share = parts.scale.value / len(batches)
    while True:
        # What was made ready before memory ran out is still in larger chunks.
        batches = [laid if laid.chunk == parts.chunk else run.layer.lay(laid.batch, parts.chunk) for laid in batches]
        try:
            losses = [_accumulate(run, laid, share) for laid in batches]
            return float(torch.stack(losses).mean())
        except (RuntimeError, MemoryError) as fault:
            if not is_out_of_memory(fault):
                raise
        # Outside the handler: inside, the exception keeps every activation of the failed attempt alive.
        parts.trainee.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        _halve(parts, batches[0].batch, run.ranks)


def _accumulate(run: Conditions, laid: Laid, share: float) -> torch.Tensor:
    laid.arrive()
    trainee = run.parts.trainee
    if isinstance(laid.batch, MaskBatch):
        return accumulate_masks(trainee, laid, share=share, dtype=run.dtype, ranks=run.ranks)
    return accumulate_pairs(trainee, laid, run.settings, share=share, dtype=run.dtype, ranks=run.ranks)


def _halve(parts: Parts, first: Batch, ranks: Ranks) -> None:
    if ranks.size > 1:
        # The others wait for this one's vectors; what they have would be added twice.
        raise OutOfMemory("not enough memory for a chunk", hint="lower training.chunk_pairs, or training.batch_tokens")
    # A piece is at least one text, so less than the longest of them cannot be halved.
    if isinstance(first, MaskBatch):
        name, most, least = "batch_tokens", sum(first.lengths), max(first.lengths)
    else:
        name, most, least = "chunk_pairs", len(first.queries), 1
    half = min(parts.chunk, most) // 2
    if half < least:
        raise OutOfMemory(
            "not enough memory for a single text", hint="lower tokens.max_tokens, model.dim or model.layers"
        )
    parts.chunk = half
    _log.warning("out of memory; going on with training.%s = %d at a time", name, half)
