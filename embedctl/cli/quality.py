"""``embedctl eval``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from embedctl.cli import render, show
from embedctl.cli.context import invocation, settings_of

Elsewhere = Annotated[
    Path | None,
    typer.Option("--model", metavar="DIR", help="A published model, a run or a checkpoint instead of the run's head."),
]


def register(app: typer.Typer) -> None:
    app.command("eval", rich_help_panel="Model")(evaluate)


def evaluate(context: typer.Context, model: Elsewhere = None) -> None:
    """Measure retrieval and similarity of the run's head, beside BM25 and the untrained model."""
    from embedctl.evaluation import report

    loaded = settings_of(context)
    settings = loaded.settings
    with render.progress("eval", quiet=invocation(context).quiet) as watch:
        made = report.evaluate(settings.evaluation, settings.compute, loaded.layout, model=model, watch=watch)
    if not invocation(context).as_json:
        _show(report.read_report(made.folder))
    show.outcome(context, made, facts={"step": "steps trained"}, then="embedctl embed generate")


def _show(figures: Mapping[str, Any]) -> None:
    if "retrieval" in figures:
        show.retrieval(figures)
    for found in figures.get("beir", []):
        title = f"{show.short(Path(found['folder']))}: {found['queries']:,} queries, {found['documents']:,} documents"
        show.metrics(found, title=title)
        for kind in ("queries", "documents"):
            cut = found[f"cut_{kind}"]
            if cut:
                render.line(f"{cut:,} {kind} were cut to {found[f'{kind}_max_tokens']:,} tokens for the model")
    if "similarity" in figures:
        found = figures["similarity"]
        render.line(f"Similarity: Spearman {found['spearman']:.3f} on {found['pairs']:,} pairs")
    if "mteb" in figures:
        rows = [[name, task["metric"], f"{task['main_score']:.3f}"] for name, task in figures["mteb"].items()]
        render.table(["MTEB task", "metric", "score"], rows, right=("score",))
