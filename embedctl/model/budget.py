"""How many tokens one forward pass takes."""

import logging

import torch

_log = logging.getLogger(__name__)

# On a CPU so many tokens go through all layers together: enough for the kernels, few enough for its cache.
CPU_TOKENS = 4096
_GPU_TOKENS = 16_384
_MOST_TOKENS = 2**20
# Twice the tokens have to be so much faster to be worth their memory.
_WORTH = 1.05


class Budget:
    """Tokens of a forward pass. On a GPU twice as many as long as that pays; half as many when memory runs out."""

    def __init__(self, device: torch.device, limit: int | None = None) -> None:
        """limit: so many from the beginning, and never more; ``None``: found by trying"""
        self._grows = limit is None and device.type != "cpu"
        self.tokens = limit or (CPU_TOKENS if device.type == "cpu" else _GPU_TOKENS)
        self._rates: dict[int, float] = {}

    def learn(self, tokens: int, seconds: float) -> None:
        """A full batch of ``tokens`` took so long."""
        if not self._grows or tokens * 2 < self.tokens or seconds <= 0:
            return
        size = self.tokens
        self._rates[size] = max(self._rates.get(size, 0.0), tokens / seconds)
        smaller = self._rates.get(size // 2)
        if smaller is not None and self._rates[size] < smaller * _WORTH:
            self.tokens, self._grows = size // 2, False
        elif size * 2 <= _MOST_TOKENS:
            self.tokens = size * 2
        else:
            self._grows = False

    def shrink(self, tokens: int) -> None:
        """A batch of ``tokens`` did not fit."""
        self.tokens, self._grows = max(1, min(self.tokens, tokens) // 2), False
        _log.warning("out of memory with %s tokens; going on with %s", f"{tokens:,}", f"{self.tokens:,}")
