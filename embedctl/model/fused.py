"""What a BERT block does beside products and attention, in C on a CPU, where native.py has its attention there.

A bias is added where its sum is read anyway, and its gradient summed where the sum's is written; of the norm's sum
nothing is kept.

Shape suffixes: B texts, T tokens, D width.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor, nn

from embedctl.model import native
from embedctl.model.batch import FlatBatch


def can_take(x_TD: Tensor, *weights: Tensor | None) -> bool:
    """Whether they take this: bfloat16 on a CPU, its width a multiple of 16, weights in float32."""
    here = x_TD.device.type == "cpu" and x_TD.dtype == torch.bfloat16 and not x_TD.shape[-1] % 16
    return here and all(each is not None and each.dtype == torch.float32 for each in weights) and native.available()


def add_norm(layer: nn.LayerNorm, one_TD: Tensor, other_TD: Tensor, bias_D: Tensor | None) -> Tensor:
    """The norm of the sum of all three; nothing is rounded in between."""
    given = (one_TD, other_TD, bias_D, layer.weight, layer.bias, layer.eps)
    # Inside of a function of autograd there is never a graph; the weights want a gradient even where there is none.
    normed: Tensor = _AddNorm.apply(*given, torch.is_grad_enabled())  # type: ignore[no-untyped-call]
    return normed


def gelu(x_TD: Tensor, bias_D: Tensor) -> Tensor:
    """That function of the sum (Hendrycks & Gimpel 2016, arXiv:1606.08415)."""
    raised: Tensor = _Gelu.apply(x_TD, bias_D)  # type: ignore[no-untyped-call]
    return raised


def means(hidden_TD: Tensor, batch: FlatBatch) -> Tensor:
    """The mean of each text's tokens, float32 (B, D); without gradients."""
    means_BD = torch.empty(len(batch.lengths), hidden_TD.shape[1])
    _call("embedctl_means", _at(hidden_TD), _at(batch.ends), *_sizes(means_BD), _at(means_BD))
    return means_BD


class _AddNorm(torch.autograd.Function):
    """Keeps what is normed, before the weight, and one number a token."""

    @staticmethod
    def forward(
        ctx: Any,
        one_TD: Tensor,
        other_TD: Tensor,
        added_D: Tensor | None,
        weight_D: Tensor,
        bias_D: Tensor,
        eps: float,
        keeps: bool,
    ) -> Tensor:
        one_TD, other_TD = one_TD.contiguous(), other_TD.contiguous()
        normed_TD, bare_TD, scales_T = torch.empty_like(one_TD), None, None
        if keeps and any(ctx.needs_input_grad):
            bare_TD, scales_T = torch.empty_like(one_TD), torch.empty(len(one_TD), dtype=torch.float32)
            ctx.save_for_backward(bare_TD, scales_T, weight_D)
            ctx.adds = added_D is not None
        given = [_at(each) for each in (one_TD, other_TD, added_D, weight_D, bias_D)]
        made = [_at(each) for each in (normed_TD, bare_TD, scales_T)]
        _call("embedctl_add_norm", *given, ctypes.c_float(eps), *_sizes(one_TD), *made)
        return normed_TD

    @staticmethod
    def backward(ctx: Any, gradient_TD: Tensor) -> tuple[Tensor | None, ...]:
        bare_TD, scales_T, weight_D = ctx.saved_tensors
        gradient_TD, d_sum_TD = gradient_TD.contiguous(), torch.empty_like(bare_TD)
        d_weights_3D = torch.empty(3, len(weight_D))
        given = [_at(each) for each in (gradient_TD, bare_TD, scales_T, weight_D)]
        _call("embedctl_pull_norm", *given, *_sizes(bare_TD), _at(d_sum_TD), _at(d_weights_3D))
        d_weight_D, d_bias_D, d_added_D = d_weights_3D
        return d_sum_TD, d_sum_TD, d_added_D if ctx.adds else None, d_weight_D, d_bias_D, None, None


class _Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, bias_D: Tensor) -> Tensor:
        x_TD = x_TD.contiguous()
        raised_TD = torch.empty_like(x_TD)
        ctx.save_for_backward(x_TD, bias_D)
        _call("embedctl_gelu", _at(x_TD), _at(bias_D), *_sizes(x_TD), _at(raised_TD))
        return raised_TD

    @staticmethod
    def backward(ctx: Any, gradient_TD: Tensor) -> tuple[Tensor, Tensor]:
        x_TD, bias_D = ctx.saved_tensors
        gradient_TD, d_x_TD, d_bias_D = gradient_TD.contiguous(), torch.empty_like(x_TD), torch.empty_like(bias_D)
        given = [_at(each) for each in (gradient_TD, x_TD, bias_D)]
        _call("embedctl_pull_gelu", *given, *_sizes(x_TD), _at(d_x_TD), _at(d_bias_D))
        return d_x_TD, d_bias_D


def _at(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _sizes(x_TD: Tensor) -> tuple[ctypes.c_int64, ctypes.c_int64, int]:
    """Rows, width and threads."""
    return ctypes.c_int64(x_TD.numel() // x_TD.shape[-1]), ctypes.c_int64(x_TD.shape[-1]), torch.get_num_threads()


def _call(name: str, *words: Any) -> None:
    if getattr(native.library(), name)(*words):
        raise MemoryError
