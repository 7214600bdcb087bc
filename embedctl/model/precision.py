"""Where to compute, and in which arithmetic."""

import logging
from functools import cache
from typing import Literal

import torch

from embedctl.errors import ConfigError

_log = logging.getLogger(__name__)

Precision = Literal["auto", "fp32", "bf16", "fp16"]


def pick_device(wanted: Literal["auto", "cpu", "cuda", "mps"]) -> torch.device:
    """The device that the settings ask for; ``auto`` takes an NVIDIA or AMD GPU if there is one."""
    have = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return torch.device("cuda" if have["cuda"] else "cpu")
    if not have[wanted]:
        raise ConfigError(f"compute.device is {wanted}, but this machine has none", hint='set compute.device = "auto"')
    return torch.device(wanted)


def pick_dtype(wanted: Precision, device: torch.device) -> torch.dtype:
    """The arithmetic of the blocks.

    ``auto`` is bfloat16 only where the processor has instructions for it: elsewhere it is up to a hundred
    times slower than float32. GPUs without it have float16.
    """
    named = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    if wanted != "auto":
        if device.type == "cpu" and not _is_native(named[wanted]):
            _warn(wanted)
        return named[wanted]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    fast = device.type == "cpu" and _is_native(torch.bfloat16)
    return torch.bfloat16 if fast else torch.float32


def _is_native(dtype: torch.dtype) -> bool:
    """Whether the CPU has instructions for it."""
    if dtype == torch.bfloat16:
        return bool(torch.cpu._is_avx512_bf16_supported())
    return dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())


@cache
def _warn(wanted: Precision) -> None:
    _log.warning(
        "compute.precision = %s, which this processor has no instructions for: auto is many times faster", wanted
    )
