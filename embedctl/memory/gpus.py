"""GPUs as NVML sees them. The only door to ``pynvml``."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process on a GPU. ``None`` is 'the driver does not say' (containers, WSL), never zero."""

    pid: int
    memory_used_bytes: int | None


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU at one moment. ``None`` is 'this card does not say', never zero.

    Cards that share the host's memory give no memory of their own.
    """

    index: int
    name: str
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    utilization_percent: int | None
    temperature_celsius: int | None
    power_watts: float | None
    processes: tuple[GpuProcess, ...]


@dataclass(frozen=True, slots=True)
class Nvml:
    """The library, or why it is not there."""

    library: Any | None
    reason: str


@contextmanager
def open_nvml() -> Iterator[Nvml]:
    """Load and initialise NVML; without a driver say so in ``reason`` and go on without."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as fault:
        yield Nvml(None, str(fault))
        return
    try:
        yield Nvml(pynvml, "")
    finally:
        pynvml.nvmlShutdown()


def read_gpus(nvml: Any) -> list[GpuReading]:
    """One reading of every GPU. ``nvml`` is the initialised ``pynvml`` module, or something like it."""
    try:
        count = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError:
        return []
    return [_read(nvml, index) for index in range(count)]


def _read(nvml: Any, index: int) -> GpuReading:
    """What cannot be asked, all of a GPU that fell off the bus for one, is ``None``."""

    def call(name: str, *arguments: object) -> Any:
        try:
            return getattr(nvml, name)(*arguments)
        except nvml.NVMLError:
            return None

    handle = call("nvmlDeviceGetHandleByIndex", index)

    def ask(name: str, *arguments: object) -> Any:
        return None if handle is None else call(name, handle, *arguments)

    name = ask("nvmlDeviceGetName")
    memory = ask("nvmlDeviceGetMemoryInfo")
    busy = ask("nvmlDeviceGetUtilizationRates")
    milliwatts = ask("nvmlDeviceGetPowerUsage")
    processes = ask("nvmlDeviceGetComputeRunningProcesses") or []
    return GpuReading(
        index=index,
        name=name.decode() if isinstance(name, bytes) else name or "unknown",
        memory_used_bytes=None if memory is None else memory.used,
        memory_total_bytes=None if memory is None else memory.total,
        utilization_percent=None if busy is None else busy.gpu,
        temperature_celsius=ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
        power_watts=None if milliwatts is None else milliwatts / 1000,
        processes=tuple(GpuProcess(p.pid, p.usedGpuMemory) for p in processes),
    )
