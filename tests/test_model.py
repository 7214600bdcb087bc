"""The model: flat equals alone equals padded, and another library's model of the same weights."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from embedctl.checkpoint import beginning
from embedctl.errors import ConfigError
from embedctl.model.batch import FlatBatch
from embedctl.model.budget import Budget
from embedctl.model.encoder import Encoder, initialise
from embedctl.model.encoding import encode
from embedctl.model.objective import info_nce
from embedctl.model.precision import pick_device, pick_dtype
from embedctl.model.shape import Shape
from embedctl.settings import ModelSettings

SHAPE = Shape(vocabulary=100, max_tokens=700, layers=2, dim=32, heads=4, intermediate_dim=48, pooling="mean")
CPU = torch.device("cpu")
SIZES = {"nano": (2, 128), "micro": (4, 256), "mini": (6, 384), "small": (12, 384), "base": (12, 768)}


def texts(lengths: list[int], seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, SHAPE.vocabulary, (length,), generator=generator) for length in lengths]


def lively(shape: Shape = SHAPE) -> Encoder:
    """An encoder whose every weight matters: nothing is zero or one."""
    encoder = initialise(shape, 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.2)
    return encoder.eval()


def plain(encoder: Encoder, ids: torch.Tensor) -> torch.Tensor:
    """One text through the same weights, written out plainly."""
    hidden = F.layer_norm(
        encoder.words.weight[ids] + encoder.positions.weight[: len(ids)],
        (encoder.shape.dim,), encoder.norm.weight, encoder.norm.bias, 1e-12,
    )  # fmt: skip
    for block in encoder.blocks:
        q, k, v = block.qkv(hidden).view(len(ids), 3, encoder.shape.heads, -1).unbind(1)
        mixed = [
            torch.softmax(q[:, h] @ k[:, h].T / q.shape[-1] ** 0.5, dim=-1) @ v[:, h]
            for h in range(encoder.shape.heads)
        ]
        hidden = block.attention_norm(hidden + block.out(torch.cat(mixed, dim=-1)))
        hidden = block.norm(hidden + block.down(F.gelu(block.up(hidden))))
    pooled = hidden.mean(0) if encoder.shape.pooling == "mean" else hidden[0]
    return F.normalize(pooled, dim=0)


@given(lengths=st.lists(st.integers(1, 70), min_size=1, max_size=8))
@settings(deadline=None, max_examples=40)
def test_flat_equals_one_by_one(lengths: list[int]):
    encoder = lively()
    batch = texts(lengths)

    together = encoder(FlatBatch(batch, device=CPU))

    alone = torch.stack([plain(encoder, ids) for ids in batch])
    torch.testing.assert_close(together, alone, atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_long_texts_go_through_the_fused_kernel_to_the_same_vectors(pooling: str):
    encoder = lively(Shape(**{**SHAPE.to_json(), "pooling": pooling}))
    batch = texts([513, 530, 3, 700])

    together = encoder(FlatBatch(batch, device=CPU))

    alone = torch.stack([plain(encoder, ids) for ids in batch])
    torch.testing.assert_close(together, alone, atol=2e-6, rtol=1e-4)


def test_gradients_of_a_flat_batch_are_those_of_its_texts():
    encoder = lively()
    batch = texts([5, 40, 17, 5, 33])
    weight = torch.randn(5, SHAPE.dim, generator=torch.Generator().manual_seed(2))

    (encoder(FlatBatch(batch, device=CPU)) * weight).sum().backward()
    flat = {name: value.grad.clone() for name, value in encoder.named_parameters()}
    encoder.zero_grad()
    (torch.stack([plain(encoder, ids) for ids in batch]) * weight).sum().backward()

    for name, value in encoder.named_parameters():
        torch.testing.assert_close(flat[name], value.grad, atol=1e-5, rtol=1e-3, msg=name)


def test_bf16_points_the_same_way():
    encoder = lively()
    batch = FlatBatch(texts([64, 20, 7, 40]), device=CPU)

    cosine = (encoder(batch) * encoder(batch, torch.bfloat16)).sum(-1)

    assert encoder(batch, torch.bfloat16).dtype == torch.float32
    assert cosine.min() > 0.999


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12), batch_tokens=st.integers(1, 100))
@settings(deadline=None, max_examples=25)
def test_the_size_of_the_batch_changes_no_vector(lengths: list[int], batch_tokens: int):
    encoder = lively()
    batch = [ids.numpy().astype(np.uint16) for ids in texts(lengths)]

    some = encode(encoder, batch, dtype=torch.float32, budget=Budget(torch.device("cpu"), batch_tokens))

    np.testing.assert_allclose(some, encode(encoder, batch, dtype=torch.float32), atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(some, axis=1), 1, atol=1e-6)


def test_weights_are_a_function_of_the_seed():
    one, same, other = initialise(SHAPE, 0), initialise(SHAPE, 0), initialise(SHAPE, 1)

    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.words.weight, other.words.weight)


@pytest.mark.parametrize("layout", ["bert", "modernbert"])
@pytest.mark.parametrize("size", SIZES)
def test_a_size_has_the_layers_and_the_width_that_are_stated(size: str, layout: str):
    layers, dim = SIZES[size]
    shape = beginning._fresh_shape(ModelSettings(size=size, layout=layout), 300, 64)

    with torch.device("meta"):
        blocks = Encoder(shape).blocks
    weights = sum(weight.numel() for weight in blocks.parameters())

    assert f"{layers}x{dim}" in str(ModelSettings.model_fields["size"].description)
    assert (len(blocks), blocks[0].qkv.in_features) == (layers, dim)
    # Queries, keys, values and output; up and down, four times as wide, and with modernbert a gate; norms and biases.
    assert weights == pytest.approx(layers * (16 if layout == "modernbert" else 12) * dim**2, rel=0.02)


@pytest.mark.parametrize("size", ["nano", "micro", "mini"])
def test_a_size_embeds(size: str):
    encoder = initialise(beginning._fresh_shape(ModelSettings(size=size), 100, 64), 0).eval()

    found = encode(encoder, [ids.numpy().astype(np.uint16) for ids in texts([1, 20, 64])], dtype=torch.float32)

    assert found.shape == (3, SIZES[size][1])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)


def test_info_nce_of_vectors_that_tell_nothing_is_the_logarithm():
    vectors = F.normalize(torch.ones(64, 8), dim=-1)

    assert info_nce(vectors, vectors, 0.05).item() == pytest.approx(np.log(64), rel=1e-6)
    assert info_nce(torch.eye(8), torch.eye(8), 0.05).item() < 1e-6


def test_a_device_that_is_not_there_is_a_usage_error():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ConfigError, match="this machine has none"):
        pick_device("cuda")

    assert pick_device("auto").type in ("cpu", "mps")
    assert pick_dtype("fp32", CPU) is torch.float32
