"""Attention in C against the same with torch, in float32 and in bfloat16."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from embedctl import compiled
from embedctl.model import attention, native
from embedctl.model.batch import FlatBatch

CPU = torch.device("cpu")
# About sixteen and thirty-two, which the processor takes at a time, and about the windows.
LENGTHS = [1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 64, 65, 100, 129, 255, 513]

pytestmark = [
    pytest.mark.skipif(
        not native.can_attend(torch.zeros(1, 96, dtype=torch.bfloat16), heads=1),
        reason="no C compiler when embedctl was installed, or no AVX-512 BF16",
    ),
    pytest.mark.usefixtures("products"),
]


def batch_of(lengths: list[int]) -> FlatBatch:
    return FlatBatch([torch.zeros(length, dtype=torch.int64) for length in lengths], device=CPU, exact=True)


def drawn(lengths: list[int], width: int) -> Tensor:
    return (torch.randn(sum(lengths), 3 * width, generator=torch.Generator().manual_seed(0)) * 1.5).bfloat16()


def with_torch(qkv: Tensor, batch: FlatBatch, heads: int, window: int | None) -> Tensor:
    with torch.no_grad():
        return attention._Grouped.apply(qkv, batch.groups, heads, window)


@pytest.mark.parametrize("window", [None, 0, 5, 64])
@pytest.mark.parametrize(("heads", "width"), [(12, 32), (4, 64), (3, 96), (2, 128)])
def test_is_no_farther_from_float32_than_torch_is(heads: int, width: int, window: int | None):
    batch, qkv = batch_of(LENGTHS), drawn(LENGTHS, heads * width)

    found = native.attend(qkv, batch, heads=heads, window=window)

    truth = with_torch(qkv.float(), batch, heads, window)
    ours, theirs = (found.float() - truth).abs(), (with_torch(qkv, batch, heads, window).float() - truth).abs()
    assert ours.max() <= theirs.max() + 1e-3
    assert ours.mean() <= theirs.mean()


def pulled(attend: Callable[[Tensor], Tensor], qkv: Tensor) -> Tensor:
    """The gradient of ``qkv`` where what was mixed of it is pulled at random."""
    qkv = qkv.detach().requires_grad_()
    mixed = attend(qkv)
    mixed.backward(torch.randn(mixed.shape, generator=torch.Generator().manual_seed(1)).bfloat16().to(qkv.dtype))
    assert qkv.grad is not None
    return qkv.grad


@pytest.mark.parametrize("window", [None, 0, 5, 64])
@pytest.mark.parametrize(("heads", "width"), [(12, 32), (4, 64), (3, 96), (2, 128)])
def test_gradients_are_no_farther_from_float32_than_those_of_torch_are(heads: int, width: int, window: int | None):
    batch, qkv = batch_of(LENGTHS), drawn(LENGTHS, heads * width)

    def torchs(qkv: Tensor) -> Tensor:
        return attention._Grouped.apply(qkv, batch.groups, heads, window)

    found = pulled(lambda qkv: native.attend(qkv, batch, heads=heads, window=window), qkv)

    truth, theirs = pulled(torchs, qkv.float()), pulled(torchs, qkv)
    for ours, plain, exact in zip(*(each.chunk(3, dim=1) for each in (found, theirs, truth)), strict=True):
        assert (ours - exact).abs().max() <= 1.1 * (plain - exact).abs().max() + 1e-3
        assert (ours - exact).abs().mean() <= (plain - exact).abs().mean() + 1e-5


def both_ways(qkv: Tensor, lengths: list[int]) -> Tensor:
    """What is mixed, beside the gradient of its squares."""
    qkv = qkv.detach().requires_grad_()
    mixed = native.attend(qkv, batch_of(lengths), heads=4, window=None)
    mixed.backward(mixed.detach())
    assert qkv.grad is not None
    return torch.cat([mixed.detach(), qkv.grad], dim=1)


def test_bits_depend_neither_on_threads_nor_on_other_texts():
    lengths = LENGTHS * 3
    qkv = drawn(lengths, 128)
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    pieces = qkv.split([lengths[i] for i in order])
    threads = torch.get_num_threads()
    try:
        found = []
        for torch_threads in (1, 2, 5):
            torch.set_num_threads(torch_threads)
            found.append(both_ways(qkv, lengths))
    finally:
        torch.set_num_threads(threads)

    alone = [both_ways(piece, [len(piece)]) for piece in pieces]
    assert all(torch.equal(each, torch.cat(alone)) for each in found)


def test_a_number_that_is_none_stays_one_and_in_its_text():
    qkv = drawn([20, 40], 64)
    qkv[25, 70] = float("nan")

    found = native.attend(qkv, batch_of([20, 40]), heads=2, window=None)

    assert torch.equal(found[:20], native.attend(qkv[:20], batch_of([20]), heads=2, window=None))
    assert found[20:, :32].isnan().all() and not found[20:, 32:].isnan().any()


def test_what_it_cannot_do_is_left_to_torch():
    qkv = drawn([9], 64)
    assert native.can_attend(qkv, 2)
    assert not native.can_attend(qkv, 4)  # heads of 16
    assert not native.can_attend(qkv.float(), 2)


def test_a_library_that_was_built_from_older_sources_is_not_used():
    assert compiled.load("embedctl.model._attention", "embedctl_attend") is not None
    assert compiled.load("embedctl.model._attention", "embedctl_yet_to_come") is None
