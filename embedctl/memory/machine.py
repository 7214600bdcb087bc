"""What ``doctor`` finds out: the machine, the versions, the keys, the workspace."""

import os
import platform
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from embedctl.memory.gpus import open_nvml, read_gpus
from embedctl.memory.host import read_host

State = Literal["ok", "warn", "bad"]

_PACKAGES = (
    "embedctl", "torch", "tokenizers", "datasets", "pyarrow", "safetensors", "numpy", "lancedb", "pinecone",
    "psycopg", "pydantic-settings", "typer", "rich", "wandb", "tensorboard",
)  # fmt: skip
_OPTIONAL = {"tensorboard": "pip install 'embedctl[tensorboard]'", "psycopg": "pip install 'embedctl[pg]'"}
_HALF_PRECISION = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}
_FREE_BYTES = 2 * 2**30


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's: how it stands, and what to do if it does not stand well."""

    name: str
    state: State
    value: str
    hint: str | None = None


def machine() -> Iterator[Check]:
    """Processor, memory and GPUs."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Check("system", "ok", f"{platform.system()} {platform.release()}, {platform.machine()}")
    yield Check("processor", "ok", f"{_processor()}, {usable} cores usable")
    yield _half_precision()
    host = read_host()
    total, free = host.memory_total_bytes, host.memory_total_bytes - host.memory_used_bytes
    yield Check("memory", "ok" if free > 2**30 else "warn", f"{free / 2**30:.1f} GiB free of {total / 2**30:.1f}")
    with open_nvml() as nvml:
        gpus = read_gpus(nvml.library) if nvml.library is not None else []
        names = ", ".join(f"{gpu.name} ({(gpu.memory_total_bytes or 0) / 2**30:.0f} GiB)" for gpu in gpus)
        yield Check("GPU", "ok", names or f"none ({nvml.reason or 'NVML lists none'})")


def versions() -> Iterator[Check]:
    """Python and the packages, read from their metadata: nothing heavy is imported."""
    yield Check("python", "ok" if sys.version_info >= (3, 11) else "bad", platform.python_version())
    for name in _PACKAGES:
        try:
            yield Check(name, "ok", version(name))
        except PackageNotFoundError:
            hint = _OPTIONAL.get(name)
            yield Check(name, "warn" if hint else "bad", "not installed", hint or f"pip install {name}")


def keys(env_file: Path, names: tuple[str, ...]) -> Iterator[Check]:
    """Which secrets are set and where; never what they are."""
    in_file = _names_in(env_file)
    for name in names:
        where = "environment" if os.environ.get(name) else str(env_file) if name in in_file else None
        yield Check(name, "ok", f"set ({where})" if where else "not set")
    if in_file and env_file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield Check(str(env_file), "warn", "others may read it", f"chmod 600 {env_file}")


def workspace(folder: Path) -> Iterator[Check]:
    """Whether artifacts can be written, and how much fits."""
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=nearest, prefix=".embedctl-doctor-"):
            yield Check("workspace", "ok", f"{folder} is writable")
    except OSError as fault:
        yield Check("workspace", "bad", f"{folder}: {fault.strerror}", "choose another with --workspace DIR")
    free = shutil.disk_usage(nearest).free
    yield Check("disk", "ok" if free > _FREE_BYTES else "warn", f"{free / 2**30:.1f} GiB free")


def _names_in(env_file: Path) -> set[str]:
    if not env_file.is_file():
        return set()
    from dotenv import dotenv_values

    try:
        return {name for name, value in dotenv_values(env_file).items() if value}
    except UnicodeDecodeError:
        return set()  # loading.py says so


def _cpuinfo(field: str) -> str | None:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    found = (line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == field)
    return next(found, None)


def _processor() -> str:
    return _cpuinfo("model name") or platform.processor() or "unknown processor"


def _half_precision() -> Check:
    flags = _cpuinfo("flags")
    if flags is None:
        return Check("bf16", "ok", "not known for this processor; compute.precision = auto finds out")
    found = [name for flag, name in _HALF_PRECISION.items() if flag in flags.split()]
    if found:
        return Check("bf16", "ok", f"yes, by {' and '.join(found)}")
    return Check("bf16", "ok", "no instructions for it: the CPU computes in fp32, about four times slower")
