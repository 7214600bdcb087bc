"""Attention on a CPU by attention.c, where that was built and the processor has AVX-512 BF16."""

import ctypes
import importlib.util
from functools import cache

import torch
from torch import Tensor

from embedctl.model.batch import FlatBatch


def available() -> bool:
    """Whether it was built, and the processor can run it."""
    return _library() is not None


def can_attend(qkv_T3D: Tensor, heads: int) -> bool:
    """Whether it takes this: bfloat16 on a CPU, heads of a multiple of 32, and no gradient is wanted."""
    if qkv_T3D.device.type != "cpu" or qkv_T3D.dtype != torch.bfloat16 or qkv_T3D.shape[1] % (3 * heads * 32):
        return False
    return not (torch.is_grad_enabled() and qkv_T3D.requires_grad) and available()


def attend(qkv_T3D: Tensor, batch: FlatBatch, *, heads: int, window: int | None) -> Tensor:
    """As :func:`embedctl.model.attention.attend`; bits do not depend on the number of threads, nor on other texts."""
    qkv_T3D = qkv_T3D.contiguous()
    out_TD = qkv_T3D.new_empty(len(qkv_T3D), qkv_T3D.shape[1] // 3)
    library = _library()
    assert library is not None
    where = (qkv_T3D.data_ptr(), out_TD.data_ptr(), batch.ends.data_ptr())
    sides = -1 if window is None else window
    texts = (len(batch.lengths), batch.longest, heads, out_TD.shape[1] // heads, sides)
    if library.embedctl_attend(*where, *texts, torch.get_num_threads()):
        raise MemoryError
    return out_TD


@cache
def _library() -> ctypes.CDLL | None:
    found = importlib.util.find_spec("embedctl.model._attention")
    if found is None or found.origin is None:
        return None
    try:
        # It takes OpenMP from torch, which has it loaded: another one's threads would be in the way of torch's.
        library = ctypes.CDLL(found.origin)
    except OSError:
        return None
    number, address, count = ctypes.c_int, ctypes.c_void_p, ctypes.c_int64
    library.embedctl_attend.argtypes = [address] * 3 + [count] * 2 + [number] * 4
    return library if library.embedctl_can_attend() else None
