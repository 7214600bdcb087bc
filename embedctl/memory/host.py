"""Memory of the machine and of processes, as the limits of a container really are."""

from dataclasses import dataclass
from pathlib import Path

import psutil

_CGROUP_FILES = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


@dataclass(frozen=True, slots=True)
class ProcessReading:
    """A process and its resident memory."""

    pid: int
    name: str
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class HostReading:
    """The host at one moment; inside a container with a memory limit, the container."""

    memory_used_bytes: int
    memory_total_bytes: int
    swap_used_bytes: int
    swap_total_bytes: int
    cpu_percent: float
    processes: tuple[ProcessReading, ...]


def read_host(*, processes: int = 0) -> HostReading:
    """One reading, with the ``processes`` that hold most. CPU is since the reading before; 0 at the first."""
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    used, total = memory.total - memory.available, memory.total
    limit = _container_limit()
    if limit is not None and limit[1] < total:
        used, total = limit
    biggest = _biggest(processes) if processes else ()
    return HostReading(used, total, swap.used, swap.total, psutil.cpu_percent(), biggest)


def process_rss_bytes() -> int:
    """Resident memory of this process."""
    return int(psutil.Process().memory_info().rss)


def process_name(pid: int) -> str | None:
    """What a process is called; ``None`` if it is gone, or outside of this container."""
    try:
        return str(psutil.Process(pid).name())
    except psutil.Error:
        return None


def _container_limit() -> tuple[int, int] | None:
    """(used, limit) of the control group, if it has a limit."""
    for limit_file, used_file in _CGROUP_FILES:
        limit, used = Path(limit_file), Path(used_file)
        if limit.is_file() and used.is_file():
            text = limit.read_text(encoding="ascii").strip()
            if text.isdigit():
                return int(used.read_text(encoding="ascii")), int(text)
    return None


def _biggest(count: int) -> tuple[ProcessReading, ...]:
    found = []
    for process in psutil.process_iter(["pid", "name", "memory_info"]):
        info = process.info
        if info["memory_info"] is not None:
            found.append(ProcessReading(info["pid"], info["name"] or "?", info["memory_info"].rss))
    return tuple(sorted(found, key=lambda p: p.rss_bytes, reverse=True)[:count])
