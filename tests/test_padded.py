"""The fast path over flat batches against the plain module over padded ones, of the same weights."""

import pytest
import torch
from torch import Tensor

from embedctl.model.batch import FlatBatch
from embedctl.model.encoder import Encoder
from embedctl.model.padded import Padded
from embedctl.model.shape import Layout, Pooling, Shape
from tests.test_model import lively

CPU = torch.device("cpu")
# About the window (64 to either side), in and between groups, and longer than what is kept for the backward pass.
LENGTHS = [130, 1, 64, 700, 65, 66, 5, 33]

pytestmark = [
    pytest.mark.parametrize("layout", ["bert", "modernbert"]),
    pytest.mark.parametrize("pooling", ["mean", "cls", "last"]),
]


def encoder_of(layout: Layout, pooling: Pooling, *, normalize: bool, local_tokens: int = 64) -> Encoder:
    """Four layers, so that of ModernBERT two are global and two local."""
    sizes = {"vocabulary": 100, "max_tokens": 700, "layers": 4, "dim": 32, "heads": 4, "intermediate_dim": 48}
    return lively(Shape(**sizes, layout=layout, pooling=pooling, normalize=normalize, local_tokens=local_tokens))


def batch() -> tuple[FlatBatch, Tensor, Tensor]:
    """The same texts flat, and padded with some word, with their mask."""
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randint(0, 100, (length,), generator=generator) for length in LENGTHS]
    ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=7)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(text) for text in texts], batch_first=True)
    return FlatBatch(texts, device=CPU), ids, mask


@pytest.mark.parametrize("normalize", [True, False])
def test_vectors_of_a_flat_batch_are_those_of_a_padded_one(layout: Layout, pooling: Pooling, normalize: bool):
    encoder = encoder_of(layout, pooling, normalize=normalize)
    flat, ids, mask = batch()

    with torch.inference_mode():
        ours, plain = encoder(flat), Padded(encoder)(ids, mask)

    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-4)
    assert bool(((plain.norm(dim=1) - 1).abs() < 1e-5).all()) == normalize


@pytest.mark.parametrize("local_tokens", [64, 3])
def test_gradients_of_a_flat_batch_are_those_of_a_padded_one(layout: Layout, pooling: Pooling, local_tokens: int):
    encoder = encoder_of(layout, pooling, normalize=True, local_tokens=local_tokens)
    flat, ids, mask = batch()
    pull = torch.randn(len(LENGTHS), 32, generator=torch.Generator().manual_seed(2))

    (encoder(flat) * pull).sum().backward()
    ours = {name: value.grad for name, value in encoder.named_parameters()}
    encoder.zero_grad()
    (Padded(encoder)(ids, mask) * pull).sum().backward()

    for name, value in encoder.named_parameters():
        scale = value.grad.abs().max().item()
        assert scale > 0
        torch.testing.assert_close(ours[name], value.grad, atol=1e-5 * max(scale, 1.0), rtol=1e-3, msg=name)
