"""Attention in C against the same with torch: python -m benchmarks.attention

4,096 tokens of texts of one length through twelve heads of 32 in bfloat16: what inference does, and a training step's
forward and backward pass. Both sides take turns; of each the median is told, in milliseconds, and the ratio.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from embedctl.model import attention, native
from embedctl.model.batch import FlatBatch

TOKENS, HEADS, WIDTH = 4096, 12, 32
ROUNDS = 15


def main() -> None:
    if not native.available():
        raise SystemExit("error: attention in C was not built here, or the processor has no AVX-512 BF16")
    print("products by", "tiles" if native.has_tiles() else "vector registers")
    print(f"{'tokens':>6} {'inference: torch':>17} {'C':>6} {'':>6}  {'training: torch':>15} {'C':>6}")
    for length in (16, 64, 128, 256, 512, 1024):
        lengths = [length] * (TOKENS // length)
        batch = FlatBatch([torch.zeros(n, dtype=torch.int64) for n in lengths], device=torch.device("cpu"))
        qkv = torch.randn(TOKENS, 3 * HEADS * WIDTH).bfloat16()
        sides: list[Callable[[Tensor], Tensor]] = [
            lambda qkv, batch=batch: attention._Grouped.apply(qkv, batch.groups, HEADS, None),
            lambda qkv, batch=batch: native.attend(qkv, batch, heads=HEADS, window=None),
        ]
        with torch.inference_mode():
            plain, ours = medians([lambda side=side, qkv=qkv: side(qkv) for side in sides])
        learnt = qkv.clone().requires_grad_()
        pull = torch.randn(TOKENS, HEADS * WIDTH).bfloat16()
        both = medians([lambda side=side, x=learnt, pull=pull: side(x).backward(pull) for side in sides])
        print(
            f"{length:6} {plain:17.2f} {ours:6.2f} {plain / ours:5.1f}×  {both[0]:15.2f} {both[1]:6.2f} "
            f"{both[0] / both[1]:5.1f}×"
        )


def medians(sides: list[Callable[[], object]]) -> list[float]:
    """Milliseconds of each side, taken in turns."""
    found: list[list[float]] = [[] for _ in sides]
    for _ in range(ROUNDS + 2):
        for side, times in zip(sides, found, strict=True):
            began = time.perf_counter()
            side()
            times.append((time.perf_counter() - began) * 1000)
    return [statistics.median(times[2:]) for times in found]


if __name__ == "__main__":
    main()
