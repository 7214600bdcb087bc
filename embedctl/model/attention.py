"""Attention of each text to itself, over a flat run of many texts.

On CUDA in half precision this is one kernel for all texts, and on a CPU in bfloat16 one of our own where it was built
(native.py); elsewhere groups of texts of about equal length, few enough at a time for their scores to stay in the
cache, with a backward pass of our own: twice as fast on a CPU as automatic differentiation of the whole batch, and as
the fused kernel.

Shape suffixes: T tokens of all texts, D model width, H heads, d width of a head, n texts of a group, L its length.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.torch_version import TorchVersion

from embedctl.model import native
from embedctl.model.batch import FlatBatch, Group

# Longer texts are taken a block of rows at a time, and their scores computed again in the backward pass.
_WHOLE_TOKENS = 512
_BLOCK_SCORES = 2**18


def attend(qkv_T3D: Tensor, batch: FlatBatch, *, heads: int, window: int | None) -> Tensor:
    """Mix the values of each text by softmax(q k / sqrt(d)); (T, D).

    qkv_T3D: queries, keys and values of each token side by side
    window:  how many tokens to either side each token sees; ``None``: the whole text
    """
    if _has_kernel(qkv_T3D, heads, window):
        return _varlen(qkv_T3D, batch, heads, window)
    if native.can_attend(qkv_T3D, heads):
        return native.attend(qkv_T3D, batch, heads=heads, window=window)
    mixed: Tensor = _Grouped.apply(qkv_T3D, batch.groups, heads, window)  # type: ignore[no-untyped-call]
    return mixed


def _has_kernel(qkv_T3D: Tensor, heads: int, window: int | None) -> bool:
    """Whether torch's kernel for texts of all lengths takes this: half precision, from Ampere on, usual widths."""
    if not qkv_T3D.is_cuda or qkv_T3D.dtype == torch.float32:
        return False
    width = qkv_T3D.shape[1] // (3 * heads)
    if window is not None and TorchVersion(torch.__version__) < "2.11":
        return False  # it knows no windows
    return width % 8 == 0 and width <= 256 and torch.cuda.get_device_capability(qkv_T3D.device) >= (8, 0)


def rotate(qkv_T3D: Tensor, cosine_Td: Tensor, sine_Td: Tensor, *, heads: int) -> Tensor:
    """Turn queries and keys by the angle of their position (RoPE, Su et al. 2021, arXiv:2104.09864).

    cosine_Td, sine_Td: (T, d / 2); each half of a head is one coordinate of d / 2 planes
    """
    qkv = qkv_T3D.view(len(qkv_T3D), 3, heads, -1)
    turned, values = qkv[:, :2], qkv[:, 2:]
    one, other = turned.chunk(2, dim=-1)
    cosine, sine = (angle[:, None, None, :].to(qkv.dtype) for angle in (cosine_Td, sine_Td))
    turned = torch.cat([one * cosine - other * sine, other * cosine + one * sine], dim=-1)
    return torch.cat([turned, values], dim=1).view_as(qkv_T3D)


def angles(positions_T: Tensor, longest: int, *, width: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine, (T, width / 2), of the angles of positions 0 to ``longest``."""
    rates = theta ** (-torch.arange(0, width, 2, device=positions_T.device, dtype=torch.float32) / width)
    table = torch.outer(torch.arange(longest, device=positions_T.device, dtype=torch.float32), rates)
    return table.cos()[positions_T], table.sin()[positions_T]


def _varlen(qkv_T3D: Tensor, batch: FlatBatch, heads: int, window: int | None) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = qkv_T3D.view(len(qkv_T3D), 3, heads, -1).unbind(1)
    sides: dict[str, Any] = {} if window is None else {"window_size": (window, window)}
    mixed: Any = varlen_attn(q, k, v, batch.ends, batch.ends, batch.longest, batch.longest, **sides)
    flat: Tensor = mixed.reshape(len(qkv_T3D), -1)
    return flat


class _Grouped(torch.autograd.Function):
    """Attention group by group; probabilities of short texts are kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, qkv_T3D: Tensor, groups: Sequence[Group], heads: int, window: int | None) -> Tensor:
        mixed_TD = qkv_T3D.new_empty(len(qkv_T3D), qkv_T3D.shape[1] // 3)
        kept: list[Tensor] = []
        sizes = [group.tokens for group in groups]
        for group, piece, out in zip(groups, torch.split(qkv_T3D, sizes), torch.split(mixed_TD, sizes), strict=True):
            q, k, v = _heads_of(piece, group, heads)
            mixed = torch.empty_like(q)
            for rows, keys in _blocks(group.length, window):
                shares = _shares(q[:, rows], k[:, keys], _bias(group, rows, keys, window, q))
                mixed[:, rows] = shares @ v[:, keys]
                if ctx.needs_input_grad[0] and group.length <= _WHOLE_TOKENS:
                    kept.append(shares)
            _write_back(out, mixed.unsqueeze(0), group, heads)
        ctx.save_for_backward(qkv_T3D, *kept)
        ctx.groups, ctx.heads, ctx.window = groups, heads, window
        return mixed_TD

    @staticmethod
    def backward(ctx: Any, gradient_TD: Tensor) -> tuple[Tensor, None, None, None]:
        qkv_T3D, *kept = ctx.saved_tensors
        heads, shares_of = ctx.heads, iter(kept)
        result = torch.empty_like(qkv_T3D)
        sizes = [group.tokens for group in ctx.groups]
        pieces = zip(*(torch.split(whole, sizes) for whole in (qkv_T3D, gradient_TD, result)), strict=True)
        for group, (piece, gradient, out) in zip(ctx.groups, pieces, strict=True):
            q, k, v = _heads_of(piece, group, heads)
            (up,) = _spread(gradient, group, heads, many=1)
            # Blocks share keys, so what they give to those adds up.
            whole = torch.zeros if group.length > _WHOLE_TOKENS else torch.empty
            d_qkv = whole((3, *q.shape), dtype=q.dtype, device=q.device)
            for rows, keys in _blocks(group.length, ctx.window):
                if group.length <= _WHOLE_TOKENS:
                    shares = next(shares_of)
                else:
                    shares = _shares(q[:, rows], k[:, keys], _bias(group, rows, keys, ctx.window, q))
                d_scores = torch._softmax_backward_data(
                    up[:, rows] @ v[:, keys].transpose(1, 2), shares, -1, shares.dtype
                )
                d_qkv[0][:, rows] = (d_scores @ k[:, keys]) * _scale(q)
                _add(d_qkv[1], keys, d_scores.transpose(1, 2) @ q[:, rows], group)
                _add(d_qkv[2], keys, shares.transpose(1, 2) @ up[:, rows], group)
            _write_back(out, d_qkv, group, heads)
        return result, None, None, None


def _scale(q: Tensor) -> float:
    return float(q.shape[-1] ** -0.5)


def _heads_of(piece: Tensor, group: Group, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (scaled), keys and values of a group, each (n * H, L, d)."""
    q, k, v = _spread(piece, group, heads, many=3)
    return q * _scale(q), k, v


def _spread(piece: Tensor, group: Group, heads: int, *, many: int) -> Tensor:
    """From (tokens, many * D) to (many, n * H, L, d), zeros at padding."""
    if group.rows is not None:
        padded = piece.new_zeros(group.texts * group.length, piece.shape[1])
        piece = padded.index_copy_(0, group.rows, piece)
    parts = piece.view(group.texts, group.length, many, heads, -1).permute(2, 0, 3, 1, 4)
    return parts.reshape(many, group.texts * heads, group.length, -1)


def _write_back(out: Tensor, parts: Tensor, group: Group, heads: int) -> None:
    """The inverse of :func:`_spread`, into ``out``."""
    many = len(parts)
    split = parts.view(many, group.texts, heads, group.length, -1).permute(1, 3, 0, 2, 4)
    if group.rows is None:
        out.view(group.texts, group.length, many, heads, -1).copy_(split)
    else:
        torch.index_select(split.reshape(group.texts * group.length, -1), 0, group.rows, out=out)


def _blocks(length: int, window: int | None) -> Iterator[tuple[slice, slice]]:
    """Rows of queries, and the keys that they see."""
    size = length if length <= _WHOLE_TOKENS else max(32, min(_WHOLE_TOKENS, _BLOCK_SCORES // length))
    reach = length if window is None or length <= _WHOLE_TOKENS else window
    for first in range(0, length, size):
        last = min(first + size, length)
        yield slice(first, last), slice(max(0, first - reach), min(length, last + reach))


def _bias(group: Group, rows: slice, keys: slice, window: int | None, like: Tensor) -> Tensor | None:
    """0 where a query sees a key, -inf elsewhere, to be added to scores (n, H, rows, keys); ``None``: all see all."""
    bias = None if group.bias is None else group.bias[..., keys].to(like.dtype)
    if window is None or group.length <= window + 1:
        return bias
    places = torch.arange(group.length, device=like.device)
    far = (places[rows, None] - places[None, keys]).abs() > window
    band = like.new_zeros(far.shape).masked_fill_(far, -math.inf)
    if bias is None:
        return band
    both = bias + band
    # Padding sees itself, so that its softmax is a number and its gradient zero; only short texts are padded.
    both.diagonal(dim1=-2, dim2=-1).zero_()
    return both


def _shares(q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
    """softmax(q k + bias) over keys, (n * H, rows, keys)."""
    scores = q @ k.transpose(1, 2)
    if bias is not None:
        texts = len(bias) if bias.dim() == 4 else 1
        scores.view(texts, -1, *scores.shape[1:]).add_(bias)
    return torch.softmax(scores, dim=-1)


def _add(total: Tensor, keys: slice, some: Tensor, group: Group) -> None:
    if group.length > _WHOLE_TOKENS:
        total[:, keys] += some
    else:
        total[:, keys] = some
