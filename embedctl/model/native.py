"""Attention on a CPU in C, where that was built and the processor has AVX-512 BF16; for inference, AVX2 will do."""

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from embedctl import compiled
from embedctl.model.batch import FlatBatch


class _Job(ctypes.Structure):
    """As in attention.h."""

    _fields_ = (
        ("ends", ctypes.c_void_p),
        ("texts", ctypes.c_int64),
        ("longest", ctypes.c_int64),
        ("heads", ctypes.c_int),
        ("width", ctypes.c_int),
        ("window", ctypes.c_int),
        ("threads", ctypes.c_int),
        ("tokens", ctypes.c_int64),
        ("next", ctypes.c_int64),
    )


def available() -> bool:
    """Whether it was built, and the processor can run it."""
    return library() is not None


@cache
def has_tiles() -> bool:
    """Whether the processor multiplies tiles (AMX): several times as fast as its vector registers."""
    here = library()
    return here is not None and bool(here.embedctl_has_tiles())


def has_floats() -> bool:
    """Whether float32 is best computed by floats.h: AVX2, and nothing that libraries have faster kernels for."""
    here = loaded()
    return here is not None and torch.backends.cpu.get_cpu_capability() == "AVX2" and bool(here.embedctl_can_floats())


def can_attend(qkv_T3D: Tensor, heads: int) -> bool:
    """Whether it takes this: bfloat16 on a CPU, heads of a multiple of 32."""
    here = qkv_T3D.device.type == "cpu" and qkv_T3D.dtype == torch.bfloat16
    return here and not qkv_T3D.shape[1] % (3 * heads * 32) and available()


def attend(qkv_T3D: Tensor, batch: FlatBatch, *, heads: int, window: int | None) -> Tensor:
    """As :func:`embedctl.model.attention.attend`; bits do not depend on the number of threads, nor on other texts."""
    mixed: Tensor = _Attention.apply(qkv_T3D, batch, heads, window)  # type: ignore[no-untyped-call]
    return mixed


def attend_heads(qkv_NTd: Tensor, batch: FlatBatch, *, out: Tensor) -> None:
    """The same without gradients and head after head: (3 * H, T, d) queries, keys and values to (H, T, d).

    As many as 31 tokens behind the keys are read, though never used: something has to be there.
    """
    parts, tokens, width = qkv_NTd.shape
    _call("embedctl_attend", (qkv_NTd, out, None), batch, parts // 3, width, None, tokens=tokens)


def attend_floats(qkv_NTd: Tensor, batch: FlatBatch, *, out: Tensor) -> None:
    """The same in float32, where :func:`has_floats`; to (T, H * d). As many as 15 tokens behind the values are read."""
    parts, _, width = qkv_NTd.shape
    sizes = [ctypes.c_int64(n) for n in (len(batch.lengths), batch.longest, parts // 3, width)]
    places = [ctypes.c_void_p(each.data_ptr()) for each in (qkv_NTd, out, batch.ends)]
    here = loaded()
    assert here is not None
    if here.embedctl_attend_by_floats(*places, *sizes, torch.get_num_threads()):
        raise MemoryError


class _Attention(torch.autograd.Function):
    """Keeps two numbers of each token and head for the backward pass."""

    @staticmethod
    def forward(ctx: Any, qkv_T3D: Tensor, batch: FlatBatch, heads: int, window: int | None) -> Tensor:
        qkv_T3D = qkv_T3D.contiguous()
        mixed_TD = qkv_T3D.new_empty(len(qkv_T3D), qkv_T3D.shape[1] // 3)
        sums = None
        if ctx.needs_input_grad[0]:
            sums = qkv_T3D.new_empty(len(qkv_T3D) * heads * 2, dtype=torch.float32)
            ctx.save_for_backward(qkv_T3D, mixed_TD, sums)
            ctx.batch, ctx.heads, ctx.window = batch, heads, window
        _call("embedctl_attend", (qkv_T3D, mixed_TD, sums), batch, heads, mixed_TD.shape[1] // heads, window)
        return mixed_TD

    @staticmethod
    def backward(ctx: Any, gradient_TD: Tensor) -> tuple[Tensor, None, None, None]:
        qkv_T3D, mixed_TD, sums = ctx.saved_tensors
        d_qkv_T3D = torch.empty_like(qkv_T3D)
        tensors = (qkv_T3D, mixed_TD, sums, gradient_TD.contiguous(), d_qkv_T3D)
        _call("embedctl_pull", tensors, ctx.batch, ctx.heads, mixed_TD.shape[1] // ctx.heads, ctx.window)
        return d_qkv_T3D, None, None, None


def _call(
    name: str,
    tensors: tuple[Tensor | None, ...],
    batch: FlatBatch,
    heads: int,
    width: int,
    window: int | None,
    *,
    tokens: int = 0,
) -> None:
    ends, sides = batch.ends, -1 if window is None else window
    threads = torch.get_num_threads()
    job = _Job(ends.data_ptr(), len(batch.lengths), batch.longest, heads, width, sides, threads, tokens, 0)
    places = [ctypes.c_void_p(None if each is None else each.data_ptr()) for each in tensors]
    if getattr(library(), f"{name}_by_tiles" if has_tiles() else name)(*places, ctypes.byref(job)):
        raise MemoryError


def compute_alone() -> None:
    """What the calling thread computes it computes by itself, here and in torch."""
    torch.get_num_threads()  # a thread gets torch's number when it first asks, whatever it had before
    here = loaded()
    assert here is not None
    here.embedctl_compute_alone()


def library() -> ctypes.CDLL | None:
    """What is written in C beside this for AVX-512 BF16; ``None`` if it, or the processor, is not there."""
    here = loaded()
    return here if here is not None and here.embedctl_can_attend() else None


@cache
def loaded() -> ctypes.CDLL | None:
    """What is written in C beside this, for any processor; ``None`` if it was not built."""
    # It takes OpenMP from torch, which has it loaded: another one's threads would be in the way of torch's.
    return compiled.load("embedctl.model._attention", "embedctl_attend_by_floats")
