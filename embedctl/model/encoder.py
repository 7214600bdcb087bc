"""The encoder: token ids in, one vector per text out, with no padding outside attention.

A batch is one flat run of tokens with the length of each text. Linear layers and norms see the flat run,
attention sees each text alone. Two published layouts: BERT (Devlin et al. 2018, arXiv:1810.04805) and ModernBERT
(Warner et al. 2024, arXiv:2412.13663), which differ in their blocks and in how a token knows its place.

Shape suffixes: B texts, T tokens of all texts together, D model width, d width of a head.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedctl.model import fused, tiled
from embedctl.model.attention import angles, attend, rotate
from embedctl.model.batch import FlatBatch
from embedctl.model.packed import PackedLinear
from embedctl.model.shape import Shape

Angles = tuple[Tensor, Tensor]


class Linear(nn.Linear):
    """With memory for its weights and nothing in it: to draw what is then loaded takes longer than to load it."""

    def reset_parameters(self) -> None:
        pass


class Embedding(nn.Embedding):
    """The same."""

    def reset_parameters(self) -> None:
        pass


class BertBlock(nn.Module):
    """Attention and feed-forward with the norm after each."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.qkv = Linear(shape.dim, 3 * shape.dim)
        self.out = Linear(shape.dim, shape.dim)
        self.attention_norm = nn.LayerNorm(shape.dim, eps=shape.norm_epsilon)
        self.up = Linear(shape.dim, shape.intermediate_dim)
        self.down = Linear(shape.intermediate_dim, shape.dim)
        self.norm = nn.LayerNorm(shape.dim, eps=shape.norm_epsilon)

    def forward(self, hidden_TD: Tensor, batch: FlatBatch, turns: Sequence[Angles]) -> Tensor:
        mixed_TD = attend(linear(self.qkv, hidden_TD), batch, heads=self.heads, window=None)
        hidden_TD = add_norm(self.attention_norm, hidden_TD, self.out, mixed_TD)
        return add_norm(self.norm, hidden_TD, self.down, raised(self.up, hidden_TD))


class ModernBlock(nn.Module):
    """Attention and gated feed-forward with the norm before each, no biases; places are angles."""

    def __init__(self, shape: Shape, number: int) -> None:
        super().__init__()
        self.heads, self.local = shape.heads, shape.is_local(number)
        self.window = shape.local_tokens if self.local else None
        # The embeddings have a norm of their own just before the first block.
        self.attention_norm = nn.LayerNorm(shape.dim, eps=shape.norm_epsilon, bias=False) if number else None
        self.qkv = Linear(shape.dim, 3 * shape.dim, bias=False)
        self.out = Linear(shape.dim, shape.dim, bias=False)
        self.norm = nn.LayerNorm(shape.dim, eps=shape.norm_epsilon, bias=False)
        self.up = Linear(shape.dim, 2 * shape.intermediate_dim, bias=False)
        self.down = Linear(shape.intermediate_dim, shape.dim, bias=False)

    def forward(self, hidden_TD: Tensor, batch: FlatBatch, turns: Sequence[Angles]) -> Tensor:
        normed_TD = norm(self.attention_norm, hidden_TD) if self.attention_norm is not None else hidden_TD
        qkv_T3D = rotate(linear(self.qkv, normed_TD), *turns[self.local], heads=self.heads)
        mixed_TD = attend(qkv_T3D, batch, heads=self.heads, window=self.window)
        hidden_TD = hidden_TD + linear(self.out, mixed_TD)
        raised, gate = linear(self.up, norm(self.norm, hidden_TD)).chunk(2, dim=-1)
        return hidden_TD + linear(self.down, F.gelu(raised) * gate)


class Encoder(nn.Module):
    """Token embeddings, blocks, pooling, L2 norm. Weights are to be loaded, or drawn by :func:`initialise`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        modern = shape.layout == "modernbert"
        self.words = Embedding(shape.vocabulary, shape.dim)
        self.positions = None if modern else Embedding(shape.max_tokens, shape.dim)
        self.norm = nn.LayerNorm(shape.dim, eps=shape.norm_epsilon, bias=not modern)
        self.blocks = nn.ModuleList(
            ModernBlock(shape, number) if modern else BertBlock(shape) for number in range(shape.layers)
        )
        self.final_norm = nn.LayerNorm(shape.dim, eps=shape.norm_epsilon, bias=False) if modern else None
        # For inference: what has taken the place of all of the above (packed.py).
        self.whole: tiled.TiledEncoder | None = None

    def forward(
        self, batch: FlatBatch, dtype: torch.dtype = torch.float32, embedded_TD: Tensor | None = None
    ) -> Tensor:
        """Vectors, float32 (B, D), in the order in which the texts were given.

        dtype:       of the arithmetic between the embeddings and the pooling; weights stay as they are
        embedded_TD: what :meth:`embedded` gives for the batch, where it is known already
        """
        pooled_BD = self._pool(self.hidden(batch, dtype, embedded_TD), batch)
        if self.shape.normalize:
            pooled_BD = F.normalize(pooled_BD, dim=-1)
        return pooled_BD.index_select(0, batch.back_B)

    def embedded(self, ids_T: Tensor, positions_T: Tensor) -> Tensor:
        """The embeddings of tokens, (T, D), before any norm."""
        words_TD: Tensor = self.words(ids_T)
        return words_TD if self.positions is None else words_TD + self.positions(positions_T)

    def hidden(self, batch: FlatBatch, dtype: torch.dtype = torch.float32, embedded_TD: Tensor | None = None) -> Tensor:
        """The last hidden state of every token, (T, D), texts in ``batch.order``."""
        if self.whole is not None:
            assert embedded_TD is None
            return self.whole(batch)  # type: ignore[no-any-return]
        if embedded_TD is None:
            embedded_TD = self.embedded(batch.ids_T, batch.positions_T)
        turns: list[Angles] = []
        if self.positions is None:
            width = self.shape.dim // self.shape.heads
            thetas = (self.shape.theta, self.shape.local_theta)
            turns = [angles(batch.positions_T, batch.longest, width=width, theta=theta) for theta in thetas]
        hidden_TD = norm(self.norm, embedded_TD.to(dtype))
        for block in self.blocks:
            hidden_TD = block(hidden_TD, batch, turns)
        return hidden_TD if self.final_norm is None else norm(self.final_norm, hidden_TD)

    def _pool(self, hidden_TD: Tensor, batch: FlatBatch) -> Tensor:
        lengths_B = batch.lengths_B
        if self.shape.pooling == "mean":
            if not torch.is_grad_enabled() and fused.can_take(hidden_TD):
                return fused.means(hidden_TD.contiguous(), batch)
            if hidden_TD.device.type == "mps":  # it has no segment_reduce
                owners_T = torch.arange(len(lengths_B), device=hidden_TD.device).repeat_interleave(lengths_B)
                sums_BD = hidden_TD.new_zeros(len(lengths_B), hidden_TD.shape[1], dtype=torch.float32)
                return sums_BD.index_add(0, owners_T, hidden_TD.float()) / lengths_B[:, None]
            return torch.segment_reduce(hidden_TD.float(), "mean", lengths=lengths_B, unsafe=True)
        ends_B = lengths_B.cumsum(0)
        picked_B = ends_B - lengths_B if self.shape.pooling == "cls" else ends_B - 1
        return hidden_TD.index_select(0, picked_B).float()


def linear(layer: nn.Module, x: Tensor) -> Tensor:
    """The layer in the arithmetic of ``x``."""
    if isinstance(layer, PackedLinear):
        return layer(x)  # type: ignore[no-any-return]
    assert isinstance(layer, nn.Linear)
    return F.linear(x, layer.weight.to(x.dtype), None if layer.bias is None else layer.bias.to(x.dtype))


def raised(layer: nn.Module, x: Tensor) -> Tensor:
    """GELU of the layer."""
    if isinstance(layer, PackedLinear):
        return layer(x, gelu=True)  # type: ignore[no-any-return]
    assert isinstance(layer, nn.Linear)
    if layer.out_features % 16 == 0 and fused.can_take(x, layer.bias):
        return fused.gelu(F.linear(x, layer.weight.to(x.dtype)), layer.bias)
    return F.gelu(linear(layer, x))


def norm(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    """The layer in the arithmetic of ``x``."""
    bias = None if layer.bias is None else layer.bias.to(x.dtype)
    return F.layer_norm(x, layer.normalized_shape, layer.weight.to(x.dtype), bias, layer.eps)


def add_norm(layer: nn.LayerNorm, x: Tensor, by: nn.Module, y: Tensor) -> Tensor:
    """The norm of ``x + by(y)``."""
    if not fused.can_take(x, layer.weight, layer.bias):
        return norm(layer, x + linear(by, y))
    if isinstance(by, nn.Linear) and fused.can_take(x, by.bias):
        return fused.add_norm(layer, x, F.linear(y, by.weight.to(y.dtype)), by.bias)
    return fused.add_norm(layer, x, linear(by, y), None)


def initialise(shape: Shape, seed: int) -> Encoder:
    """Fresh weights, a function of the seed alone: normal with deviation 0.02 as in BERT, zero biases, unit norms.

    In the ModernBERT layout what is added to the residual stream starts smaller by sqrt(2 * layers), as published.
    """
    generator = torch.Generator().manual_seed(seed)
    encoder = Encoder(shape)
    with torch.no_grad():
        for name, weight in encoder.named_parameters():
            if weight.dim() == 2:
                added = shape.layout == "modernbert" and name.endswith(("out.weight", "down.weight"))
                weight.normal_(0.0, 0.02 / (2 * shape.layers) ** 0.5 if added else 0.02, generator=generator)
            elif name.endswith("bias"):
                weight.zero_()
            else:
                weight.fill_(1.0)
    return encoder
