"""How much arithmetic a text costs, and how much the machine can do: what their ratio, MFU, needs."""

import time
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch

from embedctl.model.shape import Shape

# Dense half-precision peak of the data sheets, FLOP/s.
_SHEETS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L40": 181e12, "L4": 121e12, "4090": 165e12}


# Long enough for a moment in which nobody else computes.
_MEASURED_SECONDS = 0.3


def training_flops(shape: Shape, lengths: Sequence[int]) -> float:
    """Floating-point operations of forward and backward (twice the forward) for texts of so many tokens."""
    up = 2 if shape.layout == "modernbert" else 1
    weights = shape.layers * (4 * shape.dim**2 + (1 + up) * shape.dim * shape.intermediate_dim)
    # Scores and their mixing; a local layer looks at its window alone.
    length = np.asarray(lengths, dtype=np.float64)
    local = sum(shape.is_local(number) for number in range(shape.layers))
    seen = (shape.layers - local) * length + local * np.minimum(length, 2 * shape.local_tokens + 1)
    return float(3 * (2 * weights * length + 4 * length * seen * shape.dim).sum())


@cache
def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of matrix products: by the data sheet of a known GPU in half precision, else as measured, once."""
    if device.type == "cuda" and dtype != torch.float32:
        name = torch.cuda.get_device_name(device)
        for model, flops in _SHEETS.items():
            if model in name:
                return flops
    if device.type == "cpu" and dtype == torch.float16:
        dtype = torch.float32  # no processor is meant to compute in it, and none is measured
    size = 4096 if device.type == "cuda" else 1024
    one, other = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(2))
    best, until = float("inf"), time.perf_counter() + _MEASURED_SECONDS
    while time.perf_counter() < until:
        started = time.perf_counter()
        (one @ other)[0, 0].item()
        best = min(best, time.perf_counter() - started)
    return 2.0 * size**3 / best
