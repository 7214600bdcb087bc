"""``embedctl train``."""

from typing import TYPE_CHECKING, Annotated

import typer

from embedctl.cli import render, show
from embedctl.cli.context import invocation, settings_of

if TYPE_CHECKING:
    from embedctl.artifacts.outcome import Outcome


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Model")(train)


def train(
    context: typer.Context,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the head of the run.")] = False,
    max_steps: Annotated[
        int | None, typer.Option("--max-steps", min=1, metavar="N", help="Stop after step N; the schedule stays.")
    ] = None,
) -> None:
    """Train the encoder on query-passage pairs, on crops of text without queries, or on hidden words."""
    from embedctl.ranks import is_first
    from embedctl.training.run import Plan
    from embedctl.training.run import train as run

    loaded = settings_of(context)
    plan = Plan(resume=resume, max_steps=max_steps)
    with render.progress("train", quiet=invocation(context).quiet or not is_first()) as watch:
        made = run(loaded.settings, loaded.layout, plan, secrets=loaded.secrets, watch=watch)
    if not is_first():
        return
    finished = made.manifest.facts["step"] == made.manifest.facts["total_steps"]
    show.outcome(
        context, made, facts={"step": "steps"}, then="embedctl eval" if finished else "embedctl train --resume"
    )
    if not invocation(context).as_json:
        _show_progress(made)


def _show_progress(made: "Outcome") -> None:
    metrics = made.manifest.facts.get("metrics")
    if not isinstance(metrics, dict):
        return
    titles = {"ndcg_at_10": "nDCG@10", "recall_at_10": "recall@10", "spearman": "Spearman", "held_loss_nats": "loss"}
    shown = [f"{title} {metrics[name]:.3f}" for name, title in titles.items() if metrics.get(name) is not None]
    loss = made.manifest.facts.get("loss_nats")  # none before the first step
    trained = f"loss {loss:.3f} in training; " if loss is not None else ""
    render.line(f"{trained}{', '.join(shown)} on what is held out")
