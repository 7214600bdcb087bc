"""Whole blocks in C in float32 against the same with torch, in float64 and in float32."""

import copy

import pytest
import torch

from embedctl.model import native, tiled
from embedctl.model.batch import FlatBatch
from embedctl.model.encoder import Encoder
from embedctl.model.packed import packed
from tests.test_tiled import SIZES, batch_of, encoder_of

CAN = native.loaded() is not None and bool(native.loaded().embedctl_can_floats())
pytestmark = pytest.mark.skipif(not CAN, reason="the processor has no AVX2, or no C compiler was there")


@pytest.fixture(autouse=True)
def nothing_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")


def in_c(encoder: Encoder) -> Encoder:
    made = packed(encoder, torch.float32)
    assert made.whole is not None
    return made


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_it_is_as_near_to_float64_as_torch_is(sizes: dict[str, int]):
    encoder, batch = encoder_of(**sizes), batch_of([1, 2, 5, 6, 7, 15, 16, 17, 31, 33, 64, 100, 300, 513])

    with torch.inference_mode():
        exact = copy.deepcopy(encoder).double().hidden(batch, torch.float64)
        ours, plain = in_c(encoder).hidden(batch), encoder.hidden(batch)

    assert (ours - exact).abs().mean() <= 1.2 * (plain - exact).abs().mean()
    assert (ours - exact).abs().max() <= 2 * (plain - exact).abs().max()


@pytest.mark.parametrize("size", [1e-3, 30.0])
def test_small_and_large_sums_are_as_right(size: float):
    """GELU far out and near zero, and softmax of one key alone."""
    encoder, batch = encoder_of(layers=1), batch_of([3, 40, 200])
    with torch.no_grad():
        for layer in (encoder.blocks[0].up, encoder.blocks[0].qkv):
            layer.weight.mul_(size)

    with torch.inference_mode():
        exact = copy.deepcopy(encoder).double().hidden(batch, torch.float64)
        ours, plain = in_c(encoder).hidden(batch), encoder.hidden(batch)

    assert (ours - exact).abs().max() <= 2 * (plain - exact).abs().max()


def test_bits_depend_neither_on_threads_nor_on_company():
    encoder, lengths = in_c(encoder_of()), [600] * 5 + [40]
    threads, found = torch.get_num_threads(), []
    try:
        with torch.inference_mode():
            for many in (1, 2, 3):
                torch.set_num_threads(many)
                found.append(encoder.hidden(batch_of(lengths)))
            few = encoder.hidden(batch_of(lengths[:1]))
            one, five = (encoder.hidden(FlatBatch([torch.arange(n)], device=torch.device("cpu"))) for n in (1, 5))
            both = encoder.hidden(FlatBatch([torch.arange(1), torch.arange(5)], device=torch.device("cpu")))
    finally:
        torch.set_num_threads(threads)

    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    assert torch.equal(found[0].split(sorted(lengths))[batch_of(lengths).order.index(0)], few)
    assert torch.equal(torch.cat([one, five]), both)


def test_what_is_no_number_stays_that_and_stays_with_its_text():
    encoder = encoder_of()
    with torch.no_grad():
        encoder.words.weight[7, 3] = torch.nan
    texts = [torch.tensor([1, 2, 3]), torch.tensor([5, 7, 6]), torch.arange(8, 40)]

    with torch.inference_mode():
        vectors = in_c(encoder)(FlatBatch(texts, device=torch.device("cpu")))

    assert vectors.isnan().all(dim=1).tolist() == [False, True, False]


def test_what_does_not_fit_is_left_to_a_library(monkeypatch: pytest.MonkeyPatch):
    assert tiled.can_take(encoder_of(), torch.float32)
    assert not tiled.can_take(encoder_of(), torch.float16)
    assert not tiled.can_take(encoder_of(heads=6), torch.float32)
    assert not tiled.can_take(encoder_of(intermediate_dim=170), torch.float32)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert not tiled.can_take(encoder_of(), torch.float32)


@pytest.mark.parametrize("ids", [[1, 200], [-1, 3], [5] * 601], ids=["beyond", "negative", "too long"])
def test_what_has_no_embedding_is_not_read(ids: list[int]):
    with pytest.raises(IndexError), torch.inference_mode():
        in_c(encoder_of())(FlatBatch([torch.tensor(ids)], device=torch.device("cpu"), exact=True))
