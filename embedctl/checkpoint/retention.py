"""Which checkpoints may go, and their going."""

from collections.abc import Sequence
from pathlib import Path

from embedctl.artifacts.folder import remove_folder
from embedctl.checkpoint import files
from embedctl.checkpoint.files import Checkpoint
from embedctl.settings import CheckpointSettings


def best(checkpoints: Sequence[Checkpoint], metric: str) -> Checkpoint | None:
    """The one with the best ``metric``, the newest of equals; ``None`` where it was never measured.

    Step 0, the untrained model, does not compete.
    """
    measured = [(merit(value, metric), c) for c in checkpoints if c.step and (value := c.metric(metric)) is not None]
    return max(measured, key=lambda pair: (pair[0], pair[1].step))[1] if measured else None


def merit(value: float, metric: str) -> float:
    """A number of which more is better: of a loss it is the negative."""
    return -value if metric.endswith("loss_nats") else value


def doomed(steps: Sequence[int], *, keep_last: int, best_step: int | None, head_step: int | None) -> list[int]:
    """Steps that may go, oldest first: all but the newest ``keep_last``, the best, the head, and those before it.

    Of these as many: after a restore newer steps lie beyond the head, and what the run goes on from is to be kept
    until the run has passed it by ``keep_last`` steps of its own.
    """
    ordered = sorted(steps)
    passed = [step for step in ordered if head_step is None or step <= head_step]
    kept = {*ordered[-keep_last:], *passed[-keep_last:], best_step, head_step}
    return [step for step in ordered if step not in kept]


def doomed_of(checkpoints: Path, settings: CheckpointSettings, metric: str) -> list[Checkpoint]:
    """The checkpoints of a run that the settings do not ask to keep."""
    found = files.scan(checkpoints)
    if not found:
        return []
    top = best(found, metric)
    steps = doomed(
        [c.step for c in found],
        keep_last=settings.keep_last,
        best_step=top.step if top else None,
        head_step=files.head(checkpoints).step,
    )
    return [c for c in found if c.step in steps]


def remove(checkpoint: Checkpoint) -> None:
    """Delete a checkpoint; half deleted, it is not seen by anybody."""
    remove_folder(checkpoint.folder)
