"""What a run says of itself while it works: figures of each step, progress, and a warning when memory runs short."""

import logging

import torch
from pydantic import JsonValue

from embedctl.memory.host import process_rss_bytes, read_host
from embedctl.model.flops import peak_flops, training_flops
from embedctl.model.shape import Shape
from embedctl.progress import Tick, Watch
from embedctl.settings import Settings
from embedctl.training.loop import Step
from embedctl.training.tracking import Tracking

_log = logging.getLogger(__name__)

_LOOKS_AT_MEMORY_EVERY = 100


class Watcher:
    """Turns steps into figures."""

    def __init__(
        self,
        settings: Settings,
        shape: Shape,
        tracking: Tracking,
        watch: Watch,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._settings, self._shape, self._tracking, self._watch = settings, shape, tracking, watch
        self._device, self._peak = device, peak_flops(device, dtype)

    def report(self, step: Step, *, total: int, seen_tokens: int, processes: int) -> None:
        """Log and show a step.

        mfu:             share of the machine's matrix products that the model's own arithmetic used
        padding_avoided: share of the tokens of a padded batch that are padding, and are not computed here
        """
        memory = memory_bytes(self._device)
        if step.number % self._settings.training.log_every_steps == 0:
            figures: dict[str, JsonValue] = {
                "epoch": round(step.epoch, 4),
                "loss_nats": step.loss_nats,
                "learning_rate": step.learning_rate,
                "gradient_norm": step.gradient_norm,
                "tokens": seen_tokens,
                "tokens_per_second": round(step.tokens / step.seconds, 1),
                "mfu": round(training_flops(self._shape, step.lengths) / step.seconds / self._peak / processes, 4),
                "padding_avoided": round(1 - step.tokens / step.padded_tokens, 4),
                "data_wait_share": round(step.wait_seconds / step.seconds, 4),
                "memory_bytes": memory,
            }
            if step.skipped:
                figures["skipped"] = True
            self._tracking.log(step.number, figures)
        if step.skipped:
            _log.warning("step %d: the gradient was not finite; no weight was changed", step.number)
        detail = {
            "loss": f"{step.loss_nats:.3f}",
            "rate": f"{step.tokens / step.seconds:,.0f} tokens/s",
            "memory": f"{memory / 2**30:.1f} GiB",
        }
        self._watch(Tick(step.number, total, "steps", detail))
        self._alert(step.number, memory)

    def _alert(self, number: int, memory: int) -> None:
        if number % _LOOKS_AT_MEMORY_EVERY != 1:
            return
        if self._device.type == "cuda":
            total = torch.cuda.get_device_properties(self._device).total_memory
        else:
            total = read_host().memory_total_bytes
        if memory > self._settings.memory.alert_ratio * total:
            _log.warning("memory: %.0f %% of %.1f GiB in use at step %d", 100 * memory / total, total / 2**30, number)


def memory_bytes(device: torch.device) -> int:
    """What this process holds: of the GPU where it computes there, else of the host."""
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else process_rss_bytes()
