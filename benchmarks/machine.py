"""What a figure was measured on."""

import datetime
import os
import platform
from importlib.metadata import version
from pathlib import Path

import psutil

_HALF_PRECISION = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}


def describe(*packages: str) -> dict[str, str]:
    """Date, processor, memory and versions."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()}, Python {platform.python_version()}",
        "versions": ", ".join(f"{name} {version(name)}" for name in ("embedctl", "torch", *packages)),
    }


def half_precision() -> bool:
    """Whether the processor multiplies bfloat16; where it does not, that is the slowest way of all."""
    return any(short in _processor() for short in _HALF_PRECISION.values())


def _processor() -> str:
    """Its name, and what tells its generation: names like "AMD EPYC" stand for processors twice as fast as others."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    said = {name.strip(): value.strip() for name, _, value in reversed([line.partition(":") for line in lines])}
    if "model name" not in said:
        return platform.machine()
    half = [short for flag, short in _HALF_PRECISION.items() if flag in said.get("flags", "").split()]
    told = ", ".join([f"family {said.get('cpu family')} model {said.get('model')}", *half])
    return f"{said['model name']} ({told})"
