"""Scaling of the loss in float16, whose small gradients would vanish (Micikevicius et al. 2018, arXiv:1710.03740)."""

from dataclasses import dataclass

import torch
from torch import nn

_FIRST, _GROWS_AFTER, _LEAST = 2.0**16, 2000, 1.0


@dataclass(slots=True)
class LossScale:
    """The factor of the loss: halved when a gradient overflows, doubled after 2,000 steps in which none has."""

    value: float = 1.0
    good_steps: int = 0
    on: bool = False

    @classmethod
    def of(cls, dtype: torch.dtype) -> "LossScale":
        return cls(_FIRST, on=True) if dtype == torch.float16 else cls()

    @property
    def is_searching(self) -> bool:
        """Whether a gradient that is not finite may be the scale's fault."""
        return self.on and self.value > _LEAST

    def take_out(self, module: nn.Module) -> None:
        """Divide the gradients by the scale."""
        if self.value != 1.0:
            for weight in module.parameters():
                if weight.grad is not None:
                    weight.grad.div_(self.value)

    def learn(self, *, finite: bool) -> None:
        """Set the scale for the next step."""
        if not self.on:
            return
        self.good_steps = self.good_steps + 1 if finite else 0
        if not finite:
            self.value = max(self.value / 2, _LEAST)
        elif self.good_steps == _GROWS_AFTER:
            self.value, self.good_steps = self.value * 2, 0
