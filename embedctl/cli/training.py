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
    """Train the encoder on query-passage pairs; where text has no queries, on crops of it."""
    from embedctl.training.ranks import is_first
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
    if isinstance(metrics, dict):
        render.line(
            f"loss {made.manifest.facts['loss_nats']:.3f}, nDCG@10 {metrics['ndcg_at_10']:.3f}, "
            f"recall@10 {metrics['recall_at_10']:.3f} on the held-out records"
        )
