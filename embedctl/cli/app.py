"""The door: the global options, the command groups, and failure turned into an exit code."""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from embedctl.cli import checkpoint, config, data, doctor, embed, mem, model, project, quality, render, training
from embedctl.cli.context import Invocation
from embedctl.cli.faults import translate
from embedctl.errors import EmbedctlError, Interrupted, stopping_signals

app = typer.Typer(
    name="embedctl",
    help="Turn your own text into an embedding model and a searchable vector store.",
    epilog="Exit codes: 0 done, 2 usage, 3 bad data, 4 damaged file, 5 partly done, 6 server, 7 key, 8 memory, "
    "9 disk, 10 locked, 11 refused, 12 not found, 13 diverged, 128+n stopped by signal n.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
project.register(app)
doctor.register(app)
training.register(app)
quality.register(app)
app.add_typer(data.app, name="data", rich_help_panel="Rooms")
app.add_typer(checkpoint.app, name="checkpoint", rich_help_panel="Rooms")
app.add_typer(embed.app, name="embed", rich_help_panel="Rooms")
app.add_typer(model.app, name="model", rich_help_panel="Rooms")
app.add_typer(mem.app, name="mem", rich_help_panel="Rooms")
app.add_typer(config.app, name="config", rich_help_panel="Rooms")

_WITH_VALUE = {"--config", "--set", "--workspace", "-c"}
_FLAGS = {"--json", "-v", "-vv", "--verbose", "-q", "--quiet"}


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        render.line(f"embedctl {version('embedctl')}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="TOML or YAML; default: ./config.toml.")
    ] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a setting; repeatable.")
    ] = None,
    workspace: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of all artifacts.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    verbose: Annotated[int, typer.Option("--verbose", "-v", count=True, help="Say more; repeatable.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)] = (
        False
    ),
) -> None:
    """Turn your own text into an embedding model and a searchable vector store."""
    render.configure_logging(verbose=verbose, quiet=quiet)
    context.obj = Invocation(config, tuple(override or ()), workspace, as_json, quiet)


def hoist(arguments: Sequence[str]) -> list[str]:
    """Put the global options first, so that they work wherever they are typed.

    What follows ``--`` stays where it is.
    """
    first: list[str] = []
    rest: list[str] = []
    queue = list(arguments)
    while queue:
        word = queue.pop(0)
        if word == "--":
            return [*first, *rest, word, *queue]
        if word in _WITH_VALUE and queue:
            first += [word, queue.pop(0)]
        elif word in _FLAGS or (word.split("=", 1)[0] in _WITH_VALUE and "=" in word):
            first.append(word)
        else:
            rest.append(word)
    return [*first, *rest]


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Turn INT, TERM and HUP into :class:`Interrupted`, which unwinds and leaves no half-written artifact.

    Yields the signals that came: code of libraries may swallow the exception and stumble over something else.
    """
    came: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if _is_being_imported("torch"):
            # An exception inside its C++ would abort the process. Nothing is half-written, so let the system end it.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raise Interrupted(number)

    before = {number: signal.signal(number, stop) for number in stopping_signals()}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_being_imported(name: str) -> bool:
    return bool(getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; an expected failure becomes a line on stderr and an exit code."""
    words = hoist(sys.argv[1:] if arguments is None else arguments)
    with _signals() as came:
        try:
            app(args=words, prog_name="embedctl")
        except SystemExit:
            raise
        except BrokenPipeError:
            # The reader went away (`| head`). Nothing more can be said on stdout.
            sys.stdout = None
            sys.exit(141)
        except BaseException as fault:
            known = _explain(fault, came)
            if known is None:
                if {"-v", "-vv", "--verbose"} & set(words):
                    raise
                known = EmbedctlError(
                    f"this is a bug of embedctl: {type(fault).__name__}: {fault}",
                    hint="the same command with -v shows where; please report it",
                )
            try:
                render.error(known, as_json="--json" in words)
                sys.stdout.flush()
            except BrokenPipeError:
                sys.stdout = None
            sys.exit(known.exit_code)


def _explain(fault: BaseException, signals: Sequence[int]) -> EmbedctlError | Interrupted | None:
    """What to tell of ``fault``; ``None`` if it is a bug."""
    if isinstance(fault, EmbedctlError | Interrupted):
        return fault
    return Interrupted(signals[0]) if signals else translate(fault)
