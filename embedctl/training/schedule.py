"""How long a run is, and how fast it learns at each of its steps."""

import math

from embedctl.settings import TrainingSettings

_FRESH_RATE, _PUBLISHED_RATE = 5e-4, 5e-5


def total_steps(batches_per_epoch: int, settings: TrainingSettings) -> int:
    """Optimizer steps of the whole run, where its length is not told in minutes."""
    if settings.steps:
        return settings.steps
    return max(1, round(settings.epochs * batches_per_epoch / settings.gradient_accumulation_steps))


def peak_rate(settings: TrainingSettings, *, fresh: bool) -> float:
    """The highest learning rate; ``fresh``: the run does not begin with trained weights."""
    return settings.learning_rate or (_FRESH_RATE if fresh else _PUBLISHED_RATE)


def rate_share(number: int, total: int, settings: TrainingSettings) -> float:
    """What share of the peak learning rate step ``number`` (from 1) has: linear warm-up, then decay to 0."""
    warmup = round(settings.warmup_share * total)
    if number <= warmup:
        return number / warmup
    left = 1 - (number - warmup) / max(1, total - warmup + 1)
    if settings.schedule == "constant":
        return 1.0
    if settings.schedule == "cosine":
        return (1 - math.cos(math.pi * left)) / 2
    if settings.schedule == "linear":
        return left
    # Warm-up, stable, decay (Hu et al. 2024, arXiv:2404.06395).
    return min(1.0, (total - number + 1) / max(1, round(settings.decay_share * total) + 1))
