"""All that reaches the terminal: results on stdout; notes, progress and errors on stderr."""

import json
import logging
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from embedctl.errors import EmbedctlError, Interrupted
from embedctl.progress import Tick, Watch, unwatched
from embedctl.visible import visible

if TYPE_CHECKING:
    from rich.console import Console

_PLAIN_EVERY_SECONDS = 10.0


def console(*, stderr: bool = False) -> "Console":
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=not _is_terminal(stderr))


def _is_terminal(stderr: bool) -> bool:
    stream = sys.stderr if stderr else sys.stdout
    return bool(stream) and stream.isatty()


def error(fault: EmbedctlError | Interrupted, *, as_json: bool = False) -> None:
    """Two lines on stderr: what is wrong, and what to type. With ``--json`` one object on stdout."""
    if as_json:
        write_json(fault_of(fault), indent=None)
        return
    out = console(stderr=True)
    out.print("error:", style="bold red", end=" ")
    out.print(visible(fault.message, but="\n"), markup=False)
    if fault.hint:
        out.print(" hint:", style="bold cyan", end=" ")
        out.print(visible(fault.hint, but="\n"), markup=False)


def fault_of(fault: EmbedctlError | Interrupted) -> dict[str, Any]:
    """A failure as JSON."""
    return {"ok": False, "code": fault.exit_code, "error": fault.name, "message": fault.message, "hint": fault.hint}


def write_json(value: object, *, indent: int | None = 2) -> None:
    sys.stdout.write(json.dumps(value, indent=indent, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()  # who reads along waits for it


def raw(text: str) -> None:
    """A piece of a result that other programs read, as it stands."""
    sys.stdout.write(text)
    sys.stdout.flush()


def line(text: str = "", *, style: str | None = None) -> None:
    """One line of a result."""
    console().print(text, style=style, markup=False)


def table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str | None = None, right: Sequence[str] = ()
) -> None:
    """Print :func:`drawn_table` on stdout."""
    console().print(drawn_table(columns, rows, title=title, right=right))


def drawn_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str | None = None, right: Sequence[str] = ()
) -> Any:
    """A table; the columns named in ``right`` hold numbers and never fold."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_header=any(columns),
    )
    for name in columns:
        drawn.add_column(name, justify="right" if name in right else "left", overflow="fold", no_wrap=name in right)
    for row in rows:
        drawn.add_row(*(cell if isinstance(cell, Text) else Text(_cell(cell)) for cell in row))
    return drawn


def frames(views: Iterable[Any], *, live: bool) -> None:
    """Show one view after the other in the same place; without a terminal, one below the other."""
    if not (live and _is_terminal(stderr=False)):
        for view in views:
            console().print(view)
        return
    from rich.live import Live

    with Live(console=console(), auto_refresh=False) as shown:
        for view in views:
            shown.update(view, refresh=True)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return visible(str(value), but="\n")


def size(count: int | None) -> str:
    """Bytes for people."""
    if count is None:
        return "-"
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError("unreachable")


def colored(text: str, style: str) -> Any:
    from rich.text import Text

    return Text(text, style=style)


class _StderrHandler(logging.Handler):
    """Log records as plain lines that progress bars move aside for."""

    def emit(self, record: logging.LogRecord) -> None:
        label = {"WARNING": "warning:", "ERROR": "error:"}.get(record.levelname, "")
        style = {"WARNING": "yellow", "ERROR": "red"}.get(record.levelname, "dim")
        out = _live_console or console(stderr=True)
        if label:
            out.print(label, style=style, end=" ")
        out.print(visible(record.getMessage(), but="\n"), markup=False, style=None if label else style)


_live_console: "Console | None" = None


def configure_logging(*, verbose: int, quiet: bool) -> None:
    """Rooms log; here it is decided what of it is seen."""
    logger = logging.getLogger("embedctl")
    logger.handlers = [_StderrHandler()]
    logger.setLevel(logging.ERROR if quiet else [logging.WARNING, logging.INFO, logging.DEBUG][min(verbose, 2)])
    logger.propagate = False
    # Of a broken line in .env it tells at each reading, and not in which file; loading.py does, once.
    logging.getLogger("dotenv.main").setLevel(logging.ERROR)


def heading(text: str, *, quiet: bool = False) -> None:
    """The name of a step that begins."""
    if not quiet:
        console(stderr=True).print(text, style="bold", markup=False)


def note(text: str, *, quiet: bool = False) -> None:
    if not quiet:
        console(stderr=True).print(text, style="dim", markup=False)


@contextmanager
def progress(title: str, *, quiet: bool = False) -> Iterator[Watch]:
    """A bar with rate and time left; without a terminal a line every ten seconds."""
    global _live_console
    if quiet:
        yield unwatched
        return
    if not _is_terminal(stderr=True):
        yield _PlainLines(title)
        return
    from rich import progress as bars

    out = console(stderr=True)
    drawn = bars.Progress(
        bars.TextColumn("{task.description:<9}"),
        bars.BarColumn(bar_width=24 if out.width >= 100 else 8),
        bars.TextColumn("{task.fields[count]}"),
        bars.TextColumn("{task.fields[detail]}", style="cyan"),
        bars.TextColumn("{task.fields[clock]}", style="yellow"),
        console=out,
    )
    with drawn:
        _live_console = drawn.console
        task = drawn.add_task(title, total=None, count="", detail="", clock="")

        def watch(tick: Tick) -> None:
            of = f"{tick.done:,}/{tick.total:,}" if tick.total is not None else f"{tick.done:,}"
            now = drawn.tasks[0]
            rate = f" {now.speed:,.0f}/s" if now.speed and "rate" not in tick.detail else ""
            left = now.time_remaining
            drawn.update(
                task,
                completed=tick.done,
                total=tick.total,
                count=f"{of} {tick.unit}{rate}",
                detail=_details(tick.detail),
                clock=_clock(now.elapsed or 0) if left is None else f"{_clock(left)} left",
            )

        try:
            yield watch
            done = drawn.tasks[0]
            # A source that cannot be counted beforehand has its total only now.
            drawn.update(task, total=done.completed, clock=f"in {_clock(done.elapsed or 0)}")
        finally:
            _live_console = None


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


class _PlainLines:
    def __init__(self, title: str) -> None:
        self._title = title
        self._started = self._last = time.monotonic()

    def __call__(self, tick: Tick) -> None:
        now = time.monotonic()
        if now - self._last < _PLAIN_EVERY_SECONDS:
            return
        self._last = now
        of = f"{tick.done:,}" if tick.total is None else f"{tick.done:,}/{tick.total:,}"
        left = ""
        if tick.total and tick.done:
            left = f", {(now - self._started) * (tick.total - tick.done) / tick.done:.0f} s left"
        note(f"{self._title}: {of} {tick.unit} {_details(tick.detail)}{left}")


def _details(detail: Mapping[str, str]) -> str:
    # Rates and memory explain themselves by their units.
    return "  ".join(value if name in ("rate", "memory") else f"{name} {value}" for name, value in detail.items())
