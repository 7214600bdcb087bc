"""Whole blocks in C against the same with torch in float32 and with a library's products in bfloat16."""

import pytest
import torch

from embedctl.model import native, tiled
from embedctl.model.batch import FlatBatch
from embedctl.model.encoder import Encoder, initialise
from embedctl.model.packed import packed
from embedctl.model.shape import Shape

pytestmark = [
    pytest.mark.skipif(not native.available(), reason="the processor has no AVX-512 BF16, or no C compiler was there"),
    pytest.mark.usefixtures("products"),
]

CPU = torch.device("cpu")
# Of a model: layers, widths and heads.
SIZES = [
    {},
    {"layers": 1},
    {"dim": 32, "heads": 1, "intermediate_dim": 32},
    {"dim": 128, "heads": 2, "intermediate_dim": 416},
    {"dim": 384, "heads": 12, "intermediate_dim": 1536},
    {"dim": 800, "heads": 25, "intermediate_dim": 1568},
]


def encoder_of(*, dim: int = 96, heads: int = 3, intermediate_dim: int = 160, layers: int = 2) -> Encoder:
    shape = Shape(
        vocabulary=200,
        max_tokens=600,
        layers=layers,
        dim=dim,
        heads=heads,
        intermediate_dim=intermediate_dim,
        layout="bert",
    )
    encoder = initialise(shape, seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, weight in encoder.named_parameters():
            # Larger than at the beginning of training, so that no layer goes unseen.
            weight.add_(torch.randn(weight.shape, generator=generator) * (0.15 if "norm" in name else 0.06))
    return encoder


def batch_of(lengths: list[int]) -> FlatBatch:
    generator = torch.Generator().manual_seed(3)
    return FlatBatch([torch.randint(200, (n,), generator=generator) for n in lengths], device=CPU, exact=True)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_it_is_no_farther_from_float32_than_products_of_a_library_are(
    sizes: dict[str, int], monkeypatch: pytest.MonkeyPatch
):
    encoder, batch = encoder_of(**sizes), batch_of([1, 2, 31, 33, 64, 100, 300, 513])

    ours = packed(encoder, torch.bfloat16)
    monkeypatch.setattr(tiled, "can_take", lambda *_: False)
    plain = packed(encoder, torch.bfloat16)
    with torch.inference_mode():
        exact = encoder.hidden(batch)
        errors = [(each.hidden(batch, torch.bfloat16).float() - exact).abs() for each in (ours, plain)]
        vectors = [each(batch, torch.bfloat16) for each in (ours, encoder)]

    assert ours.whole is not None and plain.whole is None
    assert errors[0].mean() <= 1.02 * errors[1].mean()
    assert errors[0].max() <= 1.5 * errors[1].max()
    assert torch.cosine_similarity(*vectors).min() > 0.999


def test_bits_depend_neither_on_threads_nor_on_how_many_tokens_there_are():
    encoder, lengths = packed(encoder_of(), torch.bfloat16), [600] * 5 + [40]
    threads, found = torch.get_num_threads(), []
    try:
        with torch.inference_mode():
            for many in (1, 2, 3):
                torch.set_num_threads(many)
                found.append(encoder.hidden(batch_of(lengths), torch.bfloat16))
            few = encoder.hidden(batch_of(lengths[:1]), torch.bfloat16)
    finally:
        torch.set_num_threads(threads)

    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    place = batch_of(lengths).order.index(0)
    assert torch.equal(found[0].split(sorted(lengths))[place], few)


@pytest.mark.parametrize("sizes", SIZES[-2:], ids=str)
def test_bits_of_a_text_are_its_own_whatever_rows_are_computed_together(sizes: dict[str, int]):
    encoder, texts = packed(encoder_of(**sizes), torch.bfloat16), [torch.arange(n) for n in (1, 5, 9, 33, 41)]

    with torch.inference_mode():
        alone = [encoder.hidden(FlatBatch([text], device=CPU), torch.bfloat16) for text in texts]
        together = encoder.hidden(FlatBatch(texts, device=CPU), torch.bfloat16)

    assert torch.equal(torch.cat(alone), together)


def test_a_model_that_does_not_fit_is_left_to_a_library():
    assert tiled.can_take(encoder_of(), torch.bfloat16)
    assert not tiled.can_take(encoder_of(), torch.float32)
    assert not tiled.can_take(encoder_of(heads=6), torch.bfloat16)
    assert not tiled.can_take(encoder_of(intermediate_dim=170), torch.bfloat16)
    assert not tiled.can_take(encoder_of(intermediate_dim=0), torch.bfloat16)
    assert not tiled.can_take(encoder_of(layers=0), torch.bfloat16)


@pytest.mark.parametrize("ids", [[1, 200], [-1, 3], [5] * 601], ids=["beyond", "negative", "too long"])
def test_what_has_no_embedding_is_not_read(ids: list[int]):
    encoder = packed(encoder_of(), torch.bfloat16)

    with pytest.raises(IndexError), torch.inference_mode():
        encoder(FlatBatch([torch.tensor(ids)], device=CPU, exact=True), torch.bfloat16)
