"""Norms and activations in C against the same with torch, in float32 and in bfloat16."""

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from embedctl.model import encoder, fused, native
from embedctl.model.batch import FlatBatch

TOKENS, WIDTH = 301, 96

pytestmark = pytest.mark.skipif(
    not native.available(), reason="no C compiler when embedctl was installed, or no AVX-512 BF16"
)


def drawn(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def layer_of(width: int = WIDTH) -> torch.nn.LayerNorm:
    layer = torch.nn.LayerNorm(width, eps=1e-12)
    with torch.no_grad():
        layer.weight.copy_(1.0 + drawn(width, seed=1, scale=0.3))
        layer.bias.copy_(drawn(width, seed=2, scale=0.3))
    return layer


def sums() -> list[Tensor]:
    """Two runs of tokens and what is added to both."""
    return [drawn(TOKENS, WIDTH, scale=3.0).bfloat16(), (drawn(TOKENS, WIDTH, seed=3) + 1).bfloat16(), drawn(WIDTH)]


def test_the_norm_of_a_sum_is_no_farther_from_float32_than_that_of_torch_is():
    layer, (one, other, bias) = layer_of(), sums()

    with torch.no_grad():
        found = fused.add_norm(layer, one, other, bias).float()
        exact = layer(one.float() + other.float() + bias)
        plain = encoder.norm(layer, one + (other + bias.bfloat16())).float()

    assert (found - exact).abs().max() <= 0.5 * 2**-7 * exact.abs().max()  # the last rounding alone
    assert (found - exact).abs().mean() < (plain - exact).abs().mean()


def test_without_a_graph_nothing_is_kept_for_one(monkeypatch: pytest.MonkeyPatch):
    layer, kept, call = layer_of(), list[bool](), fused._call

    def told(name: str, *words: object) -> None:
        kept.append(all(word.value is not None for word in words[-2:]))
        call(name, *words)

    monkeypatch.setattr(fused, "_call", told)
    with torch.no_grad():
        fused.add_norm(layer, *sums())
    with torch.inference_mode():
        fused.add_norm(layer, *sums())
    fused.add_norm(layer, *sums())

    assert kept == [False, False, True]


def test_gelu_is_rounded_once_everywhere():
    x = torch.cat([torch.linspace(-13, 13, 16 * 2001), torch.tensor([-0.0, 1e-30, -1e-30, 3e38] * 4)])
    x, bias = x.bfloat16().view(-1, 16), drawn(16, scale=0.01)

    found = fused.gelu(x, bias).double()

    exact = F.gelu(x.double() + bias)
    error = (found - exact).abs()
    assert (error <= 0.502 * 2**-7 * exact.abs() + 1e-6).all()


def pulled(act: Callable[..., Tensor], given: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of all where what is made of them is pulled at random."""
    given = [each.detach().requires_grad_() for each in given]
    made = act(*given)
    made.backward(drawn(*made.shape, seed=7).bfloat16().to(made.dtype))
    found = [each.grad for each in (*given, *weights)]
    for each in weights:
        each.grad = None
    assert all(each is not None for each in found)
    return [each for each in found if each is not None]


def errors(found: list[Tensor], exact: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The greatest and the mean error of each gradient."""
    away = [(one - true).abs() for one, true in zip(found, exact, strict=True)]
    return torch.stack([each.max() for each in away]), torch.stack([each.mean() for each in away])


def test_gradients_of_a_norm_are_no_farther_from_float32_than_those_of_torch_are():
    layer, given = layer_of(), sums()
    weights = (layer.weight, layer.bias)

    ours = pulled(lambda *given: fused.add_norm(layer, *given), given, weights)

    def plain(one: Tensor, other: Tensor, bias: Tensor) -> Tensor:
        return encoder.norm(layer, one + (other + bias.to(one.dtype)))

    exact = pulled(plain, [each.float() for each in given], weights)
    theirs = pulled(plain, given, weights)

    assert [each.dtype for each in ours] == [each.dtype for each in theirs]
    (greatest, mean), (their_greatest, their_mean) = errors(ours, exact), errors(theirs, exact)
    assert (greatest <= 1.1 * their_greatest).all()
    assert (mean <= their_mean + 1e-7).all()


def test_gradients_of_gelu_are_no_farther_from_float32_than_those_of_torch_are():
    given = [drawn(TOKENS, WIDTH, scale=2.0).bfloat16(), drawn(WIDTH, seed=1)]

    def plain(x: Tensor, bias: Tensor) -> Tensor:
        return F.gelu(x + bias.to(x.dtype))

    exact = pulled(plain, [each.float() for each in given], ())
    ours, theirs = pulled(fused.gelu, given, ()), pulled(plain, given, ())

    assert [each.dtype for each in ours] == [each.dtype for each in theirs]
    (greatest, mean), (their_greatest, their_mean) = errors(ours, exact), errors(theirs, exact)
    assert (greatest <= 1.1 * their_greatest).all()
    assert (mean <= their_mean + 1e-7).all()


def test_means_are_those_of_each_text():
    lengths = [1, 7, 300]
    batch = FlatBatch([torch.zeros(n, dtype=torch.int64) for n in lengths], device=torch.device("cpu"))
    hidden = drawn(sum(lengths), WIDTH).bfloat16()

    found = fused.means(hidden, batch)

    exact = torch.stack([rows.double().mean(0) for rows in hidden.split(lengths)])
    assert (found - exact).abs().max() < 1e-6


def everything(one: Tensor, other: Tensor) -> list[Tensor]:
    """What is made of two runs of tokens, and all gradients."""
    layer, bias = layer_of(), drawn(WIDTH, seed=5)

    def act(one: Tensor, other: Tensor, bias: Tensor) -> Tensor:
        return fused.gelu(fused.add_norm(layer, one, other, bias), bias)

    return [act(one, other, bias), *pulled(act, (one, other, bias), (layer.weight, layer.bias))]


def test_bits_do_not_depend_on_threads_nor_those_of_a_token_on_others():
    one, other, _ = sums()
    threads = torch.get_num_threads()
    found = []
    try:
        for many in (1, 2, 5):
            torch.set_num_threads(many)
            found.append(everything(one, other))
    finally:
        torch.set_num_threads(threads)

    assert all(torch.equal(*pair) for more in found[1:] for pair in zip(found[0], more, strict=True))
    layer = layer_of()
    alone = [fused.add_norm(layer, *rows, None) for rows in zip(one.split(1), other.split(1), strict=True)]
    assert torch.equal(torch.cat(alone), fused.add_norm(layer, one, other, None))


def test_a_number_that_is_none_stays_one_and_in_its_token():
    one, other, bias = sums()
    one[7, 3] = float("nan")

    normed, raised = fused.add_norm(layer_of(), one, other, bias), fused.gelu(one, bias)

    assert normed.isnan().any(dim=1).nonzero().tolist() == [[7]] and normed[7].isnan().all()
    assert raised.isnan().nonzero().tolist() == [[7, 3]]


def test_what_they_cannot_do_is_left_to_torch():
    layer, x = torch.nn.LayerNorm(64), torch.ones(3, 64, dtype=torch.bfloat16)
    assert fused.can_take(x, layer.weight, layer.bias)
    assert not fused.can_take(x.float(), layer.weight)
    assert not fused.can_take(x[:, :50], layer.weight)
    assert not fused.can_take(x, layer.weight, None)
    assert not fused.can_take(x, layer.bfloat16().weight)
