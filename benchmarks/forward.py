"""A forward pass with whole blocks in C against the same with a library's products: python -m benchmarks.forward

4,096 tokens of texts of one length through encoders of two usual sizes, weights at random, in bfloat16; attention is
the same on both sides. They take turns; of each the median is told, in milliseconds, and the ratio.
"""

import torch

from benchmarks.attention import medians
from embedctl.model import tiled
from embedctl.model.batch import FlatBatch
from embedctl.model.encoder import Encoder, initialise
from embedctl.model.packed import packed
from embedctl.model.shape import Shape

TOKENS = 4096
SIZES = {"MiniLM, 6 layers of 384": (6, 384, 12), "base, 12 layers of 768": (12, 768, 12)}


def main() -> None:
    print(f"{'':>24} {'tokens':>6} {'products':>9} {'blocks':>7}")
    for name, (layers, dim, heads) in SIZES.items():
        shape = Shape(
            vocabulary=1000,
            max_tokens=512,
            layers=layers,
            dim=dim,
            heads=heads,
            intermediate_dim=4 * dim,
            layout="bert",
        )
        sides = both_sides(initialise(shape, seed=1).eval())
        for length in (32, 128, 512):
            texts = [torch.randint(1000, (length,)) for _ in range(TOKENS // length)]
            batch = FlatBatch(texts, device=torch.device("cpu"), exact=True)
            with torch.inference_mode():
                plain, ours = medians([lambda side=side, batch=batch: side(batch, torch.bfloat16) for side in sides])
            print(f"{name:>24} {length:6} {plain:9.2f} {ours:7.2f} {plain / ours:5.2f}×", flush=True)


def both_sides(encoder: Encoder) -> list[Encoder]:
    if not tiled.can_take(encoder, torch.bfloat16):
        raise SystemExit("error: blocks in C were not built here, or the processor has no AVX-512 BF16")
    blocks, can_take = packed(encoder, torch.bfloat16), tiled.can_take
    try:
        tiled.can_take = lambda *_: False
        return [packed(encoder, torch.bfloat16), blocks]
    finally:
        tiled.can_take = can_take


if __name__ == "__main__":
    main()
