"""A vector is that of its text alone: no bit depends on the batch, and packed layers compute what plain ones do."""

import numpy as np
import pytest
import torch

from embedctl.model import tiled
from embedctl.model.encoder import Encoder, initialise
from embedctl.model.encoding import encode
from embedctl.model.packed import PackedLinear, packed
from embedctl.model.shape import Shape


def encoder_of(layout: str) -> Encoder:
    shape = Shape(
        vocabulary=100, max_tokens=700, layers=2, dim=64, heads=2, intermediate_dim=96, layout=layout, local_tokens=24
    )
    return initialise(shape, seed=1).eval()


def random_texts() -> list[np.ndarray]:
    generator = np.random.default_rng(1)
    lengths = [1, 2, 3, 5, 9, 31, 32, 33, 63, 64, 500, 512, 513, 700, *generator.integers(1, 130, size=80)]
    return [generator.integers(5, 100, size=n).astype(np.uint16) for n in lengths]


@pytest.mark.parametrize("tiles", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", ["bert", "modernbert"])
def test_a_vector_does_not_depend_on_its_company(
    layout: str, dtype: torch.dtype, *, tiles: bool, monkeypatch: pytest.MonkeyPatch
):
    if not tiles:
        monkeypatch.setattr(tiled, "can_take", lambda *_: False)
    texts = random_texts()
    some = np.random.default_rng(2).permutation(len(texts))[:40]
    for encoder in (encoder_of(layout), packed(encoder_of(layout), dtype)):
        together = encode(encoder, texts, dtype=dtype)

        alone = [encode(encoder, [text], dtype=dtype)[0] for text in texts]

        assert np.array_equal(encode(encoder, [texts[n] for n in some], dtype=dtype), together[some])
        assert np.array_equal(np.stack(alone), together)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("layout", ["bert", "modernbert"])
def test_packed_layers_compute_the_same(layout: str, dtype: torch.dtype, tolerance: float):
    encoder, texts = encoder_of(layout), random_texts()

    made = packed(encoder, dtype)

    assert made.whole is not None or any(isinstance(module, PackedLinear) for module in made.modules())
    np.testing.assert_allclose(encode(made, texts, dtype=dtype), encode(encoder, texts, dtype=dtype), atol=tolerance)
