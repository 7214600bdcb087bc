"""How results that several commands share are shown."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from embedctl.cli import render
from embedctl.cli.context import invocation

if TYPE_CHECKING:
    from embedctl.artifacts.outcome import Outcome
    from embedctl.errors import EmbedctlError

RETRIEVAL_ROWS = (("model", "model"), ("untrained", "before training"), ("bm25", "BM25"))


def outcome(
    context: typer.Context,
    made: "Outcome",
    *,
    facts: Mapping[str, str],
    then: str,
    fault: "EmbedctlError | None" = None,
) -> None:
    """One artifact: made or up to date, where it lies, what is in it, and what to type next.

    facts: name of a fact in the manifest -> the words to show it with
    fault: what is wrong with what was found, if anything is; the command then ends with its exit code
    """
    if invocation(context).as_json:
        told = {"made": made.made, "folder": str(made.folder), "facts": dict(made.manifest.facts)}
        found = render.fault_of(fault) if fault else {"ok": True}
        render.write_json({**found, **told, "measured": dict(made.measured)})
        if fault:
            raise typer.Exit(fault.exit_code)
        return
    counts = counts_of(made.manifest.facts, facts)
    state = "made" if made.made else "up to date"
    render.line(f"{made.manifest.kind} {state}: {short(made.folder)}  {counts}")
    if fault:
        raise fault
    if not invocation(context).quiet:
        render.note(f"next: {then}")


def counts_of(facts: Mapping[str, Any], words: Mapping[str, str]) -> str:
    """``1,000 records, 116 held out`` from a manifest's facts; zeros are left out."""
    found = [(facts.get(name), word) for name, word in words.items()]
    return ", ".join(f"{value:,} {word}" for value, word in found if isinstance(value, int) and value)


def short(path: Path) -> str:
    """A path as one would type it from here."""
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(path)


def retrieval(report: Mapping[str, Any], *, title: str | None = None) -> None:
    """The table of figures on the held-out records."""
    figures = report["retrieval"]
    asked = "held-out queries" if figures["task"] == "query" else "runs of words cut out of held-out records"
    metrics(figures, title=title or f"Retrieval: {figures['queries']:,} {asked} against {figures['records']:,} records")


def metrics(figures: Mapping[str, Any], *, title: str) -> None:
    """The model, its untrained self and BM25, as far as they were measured; the best of each column in bold."""
    labels = {key: label for key, label in RETRIEVAL_ROWS if key in figures}
    names = list(figures["model"])
    best = {name: max(figures[key][name] for key in labels) for name in names}
    rows = []
    for key, label in labels.items():
        cells = [
            render.colored(f"{figures[key][name]:.3f}", "bold" if figures[key][name] == best[name] else "")
            for name in names
        ]
        rows.append([label, *cells])
    columns = [name.replace("_at_", "@") for name in names]
    columns = [c.replace("ndcg", "nDCG").replace("mrr", "MRR").replace("map", "MAP") for c in columns]
    render.table(["", *columns], rows, title=title, right=columns)
