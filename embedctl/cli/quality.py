"""``embedctl eval`` and ``mine``."""

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
    app.command("mine", rich_help_panel="Model")(mine)
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


def mine(
    context: typer.Context,
    per_query: Annotated[
        int, typer.Option("--per-query", min=1, max=1000, metavar="N", help="Most negatives of a query.")
    ] = 8,
    model: Elsewhere = None,
) -> None:
    """Find hard negatives for training: chunks like the answer to a query that are none."""
    from embedctl.mining import negatives

    loaded = settings_of(context)
    compute = loaded.settings.compute
    with render.progress("mine", quiet=invocation(context).quiet) as watch:
        made = negatives.mine(compute, loaded.layout, per_query=per_query, model=model, watch=watch)
    words = {"negatives": "negatives", "pairs": "pairs", "short_pairs": f"of them with fewer than {per_query}"}
    show.outcome(context, made, facts=words, then=f"embedctl train --set training.hard_negatives={per_query}")


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
