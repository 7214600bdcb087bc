"""A vector is that of its text alone: no bit depends on the batch, and packed layers compute what plain ones do."""

import threading

import numpy as np
import pytest
import torch

from embedctl.model import encoding, tiled
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


def test_neither_does_it_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch):
    encoder, texts = packed(encoder_of("bert"), torch.bfloat16), random_texts()
    threads, one = torch.get_num_threads(), encode(encoder, texts[:1], dtype=torch.bfloat16)
    attempt, seen = encoding._attempt, set()

    def watched(*arguments: object) -> object:
        seen.add((threading.get_ident(), torch.get_num_threads()))
        return attempt(*arguments)

    monkeypatch.setattr(encoding, "_attempt", watched)
    found = []
    try:
        for many in (1, 2, 3):
            torch.set_num_threads(many)
            seen.clear()
            found.append(encode(encoder, texts, dtype=torch.bfloat16))
            shared = many > 1 and encoder.whole is not None
            assert {each for _, each in seen} == {1 if shared else many}
            assert (threading.get_ident() in {who for who, _ in seen}) == (not shared)
            assert torch.get_num_threads() == many
    finally:
        torch.set_num_threads(threads)

    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])
    assert np.array_equal(found[0][:1], one)


@pytest.mark.parametrize("fault", [MemoryError, ValueError])
def test_what_goes_wrong_in_a_thread_is_dealt_with(fault: type[Exception], monkeypatch: pytest.MonkeyPatch):
    encoder, texts = packed(encoder_of("bert"), torch.bfloat16), random_texts()
    whole = encode(encoder, texts, dtype=torch.bfloat16)
    embed, sizes = encoding.embed, []

    def scarce(encoder: Encoder, some: list[np.ndarray], dtype: torch.dtype, *, exact: bool) -> torch.Tensor:
        sizes.append(len(some))
        if len(some) > 3:
            raise fault("no room for so many")
        return embed(encoder, some, dtype, exact=exact)

    monkeypatch.setattr(encoding, "embed", scarce)
    monkeypatch.setattr(encoding, "_LEAST_TOKENS", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    if fault is ValueError:
        with pytest.raises(ValueError, match="no room"):
            encode(encoder, texts, dtype=torch.bfloat16)
        assert len(sizes) <= 2
    else:
        assert np.array_equal(encode(encoder, texts, dtype=torch.bfloat16), whole)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("layout", ["bert", "modernbert"])
def test_packed_layers_compute_the_same(layout: str, dtype: torch.dtype, tolerance: float):
    encoder, texts = encoder_of(layout), random_texts()

    made = packed(encoder, dtype)

    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        assert made is encoder  # as with AVX2 alone
        return
    assert made.whole is not None or any(isinstance(module, PackedLinear) for module in made.modules())
    np.testing.assert_allclose(encode(made, texts, dtype=dtype), encode(encoder, texts, dtype=dtype), atol=tolerance)
