"""``embedctl mem``: what memory is in use, and by whom."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedctl.cli import render
from embedctl.cli.context import invocation, settings_of

if TYPE_CHECKING:
    from embedctl.memory.gpus import GpuReading
    from embedctl.memory.host import HostReading

app = typer.Typer(no_args_is_help=True, help="Watch GPU and host memory.")

_BAR_CELLS = 20
_HOST_PROCESSES = 5


@app.callback()
def group() -> None:
    """Watch GPU and host memory."""


@app.command()
def watch(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Show one reading and end.")] = False,
    interval: Annotated[
        float | None, typer.Option("--interval", min=0.1, metavar="S", help="Seconds between readings.")
    ] = None,
) -> None:
    """Show every GPU, its processes, and the memory of the host, live until Ctrl-C."""
    from embedctl.memory.beat import beat
    from embedctl.memory.gpus import open_nvml, read_gpus
    from embedctl.memory.host import read_host

    settings = settings_of(context).settings.memory
    with open_nvml() as nvml:
        if nvml.library is None:
            render.note(f"no GPU to watch ({nvml.reason}); showing the host", quiet=invocation(context).quiet)

        def read() -> "tuple[list[GpuReading], HostReading]":
            gpus = read_gpus(nvml.library) if nvml.library is not None else []
            return gpus, read_host(processes=_HOST_PROCESSES)

        readings = beat(read, interval or settings.interval_seconds)
        readings = islice(readings, 1) if once else readings
        if invocation(context).as_json:
            for gpus, host in readings:
                render.write_json({"gpus": [asdict(gpu) for gpu in gpus], "host": asdict(host)}, indent=None)
            return
        frames = (_frame(gpus, host, settings.alert_ratio) for gpus, host in readings)
        render.frames(frames, live=not once)


def _frame(gpus: "Sequence[GpuReading]", host: "HostReading", alert: float) -> Any:
    from rich.console import Group

    from embedctl.memory.host import process_name

    parts: list[Any] = []
    if gpus:
        columns = ["GPU", "name", "memory", "", "busy", "°C", "W"]
        rows = [
            [
                gpu.index,
                gpu.name,
                _bar(gpu.memory_used_bytes, gpu.memory_total_bytes, alert),
                _of(gpu.memory_used_bytes, gpu.memory_total_bytes),
                None if gpu.utilization_percent is None else f"{gpu.utilization_percent} %",
                gpu.temperature_celsius,
                None if gpu.power_watts is None else f"{gpu.power_watts:.0f}",
            ]
            for gpu in gpus
        ]
        parts.append(render.drawn_table(columns, rows, right=("busy", "°C", "W")))
        owned = [
            [gpu.index, str(p.pid), process_name(p.pid), render.size(p.memory_used_bytes)]
            for gpu in gpus
            for p in gpu.processes
        ]
        if owned:
            columns = ["GPU", "process", "name", "memory"]
            parts.append(render.drawn_table(columns, owned, right=("process", "memory")))
    used, total = host.memory_used_bytes, host.memory_total_bytes
    rows = [["host", _bar(used, total, alert), _of(used, total), f"{host.cpu_percent:.0f} %"]]
    if host.swap_total_bytes:
        swap, swap_total = host.swap_used_bytes, host.swap_total_bytes
        rows.append(["swap", _bar(swap, swap_total, alert), _of(swap, swap_total), ""])
    parts.append(render.drawn_table(["", "memory", "", "cpu"], rows, right=("cpu",)))
    biggest = [[str(p.pid), p.name, render.size(p.rss_bytes)] for p in host.processes]
    parts.append(render.drawn_table(["process", "name", "memory"], biggest, right=("process", "memory")))
    return Group(*parts)


def _bar(used: int | None, total: int | None, alert: float) -> Any:
    """A bar that turns yellow near the alert ratio and red above it."""
    if used is None or not total:
        return None
    ratio = used / total
    filled = round(ratio * _BAR_CELLS)
    style = "red" if ratio > alert else "yellow" if ratio > alert - 0.1 else "green"
    return render.colored("█" * filled + "░" * (_BAR_CELLS - filled) + f" {ratio:4.0%}", style)


def _of(used: int | None, total: int | None) -> str:
    return "shared with the host" if used is None else f"{render.size(used)} of {render.size(total)}"
