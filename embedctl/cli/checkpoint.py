"""``embedctl checkpoint``: look at, go back to and clear out what training saved."""

from pathlib import Path
from typing import Annotated, Any

import typer

from embedctl.cli import render, show
from embedctl.cli.context import invocation, settings_of

app = typer.Typer(no_args_is_help=True, help="List, restore and prune checkpoints.")


@app.command("list")
def list_(context: typer.Context) -> None:
    """Show every checkpoint of the run, and check every byte of it."""
    from embedctl.artifacts.manifest import FILE
    from embedctl.checkpoint import files, retention
    from embedctl.errors import ArtifactError

    loaded = settings_of(context)
    checkpoints, metric = loaded.layout.checkpoints, loaded.settings.metric
    found = files.scan(checkpoints)
    torn = files.torn(checkpoints)
    best, head = retention.best(found, metric), files.head_step(checkpoints)
    if not torn:
        head = files.head(checkpoints).step
    rows: list[dict[str, Any]] = [
        {
            "step": c.step,
            "epoch": c.manifest.facts.get("epoch"),
            "loss_nats": c.loss_nats,
            metric: c.metric(metric),
            "size_bytes": c.manifest.size_bytes,
            "damaged": files.damage_of(c),
            "best": c is best,
            "head": c.step == head,
            "folder": str(c.folder),
        }
        for c in found
    ]
    empty = dict.fromkeys(("epoch", "loss_nats", metric, "size_bytes"))
    for folder in torn:
        step = int(folder.name.rpartition("-")[2])
        row = {"step": step, **empty, "damaged": [FILE], "best": False, "head": step == head, "folder": str(folder)}
        rows.append(row)
    rows.sort(key=lambda row: row["step"])
    bad = [row for row in rows if row["damaged"]]
    if invocation(context).as_json:
        render.write_json(rows)
        if bad:
            raise typer.Exit(ArtifactError.exit_code)
        return
    right = ("step", "epoch", "loss", metric, "size")
    cells = [
        [
            row["step"],
            row["epoch"],
            row["loss_nats"],
            row[metric],
            render.size(row["size_bytes"]),
            render.colored("BAD: " + row["damaged"][0], "red") if row["damaged"] else render.colored("yes", "green"),
            " ".join(name for name in ("best", "head") if row[name]),
        ]
        for row in rows
    ]
    render.table(["step", "epoch", "loss", metric, "size", "verified", ""], cells, right=right)
    if bad:
        raise ArtifactError(
            f"damaged: step {', '.join(str(row['step']) for row in bad)}",
            hint="embedctl train --resume passes over them; embedctl checkpoint restore STEP goes back to a whole one",
        )


@app.command()
def restore(
    context: typer.Context,
    step: Annotated[int, typer.Argument(min=0, metavar="STEP")],
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Copy it there and leave the run as it is.")
    ] = None,
) -> None:
    """Make STEP the head of the run, from which --resume goes on and with which embed works; deletes nothing."""
    from embedctl.artifacts.folder import lock
    from embedctl.checkpoint import export, files

    layout = settings_of(context).layout
    checkpoint = files.find(layout.checkpoints, step)
    if to is not None:
        target = export.copy_checkpoint(checkpoint, to)
        result = {"step": step, "folder": str(target), "head": files.head(layout.checkpoints).step}
        text = f"checkpoint {step} copied to {show.short(target)}"
    else:
        with lock(layout.lock(layout.run_folder)):
            files.refuse_damaged(checkpoint)
            files.set_head(layout.checkpoints, step)
        result = {"step": step, "folder": str(checkpoint.folder), "head": step}
        text = f"step {step} is the head of run {layout.run} now; nothing was deleted"
    if invocation(context).as_json:
        render.write_json({"ok": True, **result})
        return
    render.line(text)
    if to is None:
        render.note("next: embedctl train --resume, or embedctl embed generate", quiet=invocation(context).quiet)


@app.command()
def prune(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; delete nothing.")] = False,
) -> None:
    """Delete all checkpoints but the newest, the best and the head."""
    from embedctl.artifacts.folder import lock
    from embedctl.checkpoint import files, retention

    loaded = settings_of(context)
    layout, settings = loaded.layout, loaded.settings.checkpoint
    files.head(layout.checkpoints)  # a run that is not there has nothing that could be kept
    with lock(layout.lock(layout.run_folder)):
        doomed = retention.doomed_of(layout.checkpoints, settings, loaded.settings.metric)
        if not dry_run:
            for checkpoint in doomed:
                retention.remove(checkpoint)
    steps = [checkpoint.step for checkpoint in doomed]
    freed = sum(checkpoint.manifest.size_bytes for checkpoint in doomed)
    if invocation(context).as_json:
        render.write_json({"ok": True, "dry_run": dry_run, "steps": steps, "bytes": freed})
        return
    if not steps:
        render.line(f"nothing to prune: the newest {settings.keep_last}, the best and the head are kept")
        return
    verb = "would remove" if dry_run else "removed"
    render.line(f"{verb} {len(steps)} checkpoints ({render.size(freed)}): steps {', '.join(map(str, steps))}")
