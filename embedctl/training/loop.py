"""The training loop: an iterator of steps. It neither prints, saves nor decides when to stop."""

import logging
import math
import time
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import nn

from embedctl.errors import DivergedError, OutOfMemory
from embedctl.model.encoder import Encoder
from embedctl.settings import TrainingSettings
from embedctl.training.gradients import accumulate
from embedctl.training.pairs import PairBatch, PairStream
from embedctl.training.prefetch import prefetch

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step, done."""

    number: int
    epoch: float
    loss_nats: float
    learning_rate: float
    gradient_norm: float
    tokens: int
    seconds: float
    wait_seconds: float
    chunk_pairs: int


def total_steps(stream: PairStream, settings: TrainingSettings) -> int:
    """Optimizer steps of the whole run."""
    return max(1, round(settings.epochs * stream.batches_per_epoch / settings.gradient_accumulation_steps))


def rate_share(number: int, total: int, settings: TrainingSettings) -> float:
    """What share of the peak learning rate step ``number`` (from 1) has: linear warm-up, then decay to 0."""
    warmup = round(settings.warmup_share * total)
    if number <= warmup:
        return number / warmup
    done = (number - warmup) / max(1, total - warmup + 1)
    if settings.schedule == "constant":
        return 1.0
    return 1 - done if settings.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2


def steps(
    encoder: Encoder,
    optimizer: torch.optim.Optimizer,
    stream: PairStream,
    settings: TrainingSettings,
    *,
    after: int,
    dtype: torch.dtype,
    chunk_pairs: int,
) -> Generator[Step, None, None]:
    """Take the steps after step ``after``, to the end of the run.

    Raises :class:`DivergedError` before a loss or gradient that is not finite reaches the weights, and
    :class:`OutOfMemory` if even a chunk of one pair does not fit.
    """
    total = total_steps(stream, settings)
    many = settings.gradient_accumulation_steps
    batches = prefetch(stream.batch, range(after * many, total * many))
    started = time.perf_counter()
    try:
        for number in range(after + 1, total + 1):
            rate = settings.learning_rate * rate_share(number, total, settings)
            for group in optimizer.param_groups:
                group["lr"] = rate
            step_batches = [next(batches) for _ in range(many)]
            wait = time.perf_counter() - started
            loss, chunk_pairs = _gradients(encoder, step_batches, settings, dtype=dtype, chunk_pairs=chunk_pairs)
            limit = settings.clip_norm or math.inf
            norm = nn.utils.clip_grad_norm_(encoder.parameters(), limit).item()
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise DivergedError(f"loss {loss} and gradient norm {norm} at step {number}")
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            now = time.perf_counter()
            tokens = sum(batch.tokens for batch in step_batches)
            epoch = number * many / stream.batches_per_epoch
            yield Step(number, epoch, loss, rate, norm, tokens, now - started, wait, chunk_pairs)
            started = time.perf_counter()
    finally:
        batches.close()


def _gradients(
    encoder: Encoder, batches: list[PairBatch], settings: TrainingSettings, *, dtype: torch.dtype, chunk_pairs: int
) -> tuple[float, int]:
    """Gradients of one step; when memory runs out, again with half the chunk, which changes no result."""
    while True:
        try:
            losses = [
                accumulate(
                    encoder,
                    batch,
                    chunk_pairs=chunk_pairs,
                    temperature=settings.temperature,
                    share=1 / len(batches),
                    dtype=dtype,
                )
                for batch in batches
            ]
            return float(torch.stack(losses).mean()), chunk_pairs
        except (RuntimeError, MemoryError) as fault:
            if not is_out_of_memory(fault):
                raise
        # Outside the handler: inside, the exception keeps every activation of the failed attempt alive.
        encoder.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        chunk_pairs = min(chunk_pairs, len(batches[0].queries)) // 2
        if not chunk_pairs:
            raise OutOfMemory(
                "not enough memory for a single pair", hint="lower tokens.max_tokens, model.dim or model.layers"
            )
        _log.warning("out of memory; going on with training.chunk_pairs = %d", chunk_pairs)


def is_out_of_memory(fault: BaseException) -> bool:
    """CUDA raises its own class, the CPU allocator a bare ``RuntimeError``, numpy a ``MemoryError``."""
    return isinstance(fault, MemoryError | torch.OutOfMemoryError) or "not enough memory" in str(fault)
