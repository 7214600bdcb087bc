"""``embedctl embed upsert``: from vectors to a store."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedctl.cli import render, show
from embedctl.cli.context import invocation, settings_of
from embedctl.errors import PartialError

if TYPE_CHECKING:
    from embedctl.loading import Loaded
    from embedctl.store.upsert import Tally

_SAMPLE = 0.01


def upsert(
    context: typer.Context,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, metavar="N", help="Most vectors per request.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be sent, rejected and deleted; do nothing.")
    ] = False,
    prune_stale: Annotated[
        bool, typer.Option("--prune-stale", help="Delete what embedctl put there and the vectors no longer hold.")
    ] = False,
    verify: Annotated[
        str | None,
        typer.Option(
            "--verify", metavar="SHARE", help="Fetch and compare afterwards: sample (1 %), a share such as 5%, or all."
        ),
    ] = None,
) -> None:
    """Bring the store up to date with the vectors; a second run sends nothing."""
    from embedctl.store import upsert as upserting

    share = _share(verify) if verify is not None else 0.0
    wish = upserting.Wish(dry_run=dry_run, prune_stale=prune_stale, verify_share=share)
    loaded = settings_of(context)
    settings = loaded.settings.store
    if batch_size is not None:
        settings = settings.model_copy(update={"batch_size": batch_size})
    with render.progress("upsert", quiet=invocation(context).quiet) as watch:
        tally = upserting.upsert(settings, loaded.layout, wish, secrets=loaded.secrets, watch=watch)
    fault = partial(tally)
    if invocation(context).as_json:
        render.write_json({**(render.fault_of(fault) if fault else {"ok": True}), **told(tally), "dry_run": dry_run})
        if fault:
            raise typer.Exit(fault.exit_code)
        return
    render.line(f"{settings.kind} {settings.collection}: {counts(tally, dry_run=dry_run)}")
    if fault:
        raise fault
    again = "embedctl embed upsert" + (" --prune-stale" if prune_stale else "")
    elsewhere = " --model DIR" if _by_another(loaded) else ""
    then = again if dry_run else f'embedctl embed search "what you look for"{elsewhere}'
    render.note(f"next: {then}", quiet=invocation(context).quiet)


def _by_another(loaded: "Loaded") -> bool:
    """Whether the vectors are of a model that was named by an option, and not by the settings."""
    from embedctl.artifacts import manifest

    made = manifest.find(loaded.layout.vectors, "vectors")
    return made is not None and "model" in made.settings and loaded.settings.embedding.model is None


def partial(tally: "Tally") -> PartialError | None:
    """What to say when some vectors were not stored."""
    if not tally.rejects:
        return None
    return PartialError(
        f"{tally.rejected:,} vectors were rejected: {show.short(tally.rejects)} says why",
        hint="mend their records and run the same again: it sends just these",
    )


def told(tally: "Tally") -> dict[str, Any]:
    """A tally as JSON."""
    return {
        "target": tally.target,
        "written": tally.written,
        "changed": tally.changed,
        "unchanged": tally.unchanged,
        "sent": tally.sent,
        "amplification": tally.amplification,
        "rejected": tally.rejected,
        "rejects": str(tally.rejects) if tally.rejects else None,
        "deleted": tally.deleted,
        "verified": tally.verified,
    }


def counts(tally: "Tally", *, dry_run: bool = False) -> str:
    """``1,000 written (20 changed), 5 unchanged``; what is zero and seldom is left out."""
    would = "would be " if dry_run else ""
    changed = f" ({tally.changed:,} changed)" if tally.changed else ""
    words = [f"{tally.written:,} {would}written{changed}", f"{tally.unchanged:,} unchanged"]
    if tally.rejected:
        words.append(f"{tally.rejected:,} {would}rejected")
    if tally.deleted:
        words.append(f"{tally.deleted:,} stale {would}deleted")
    if tally.verified:
        words.append(f"{tally.verified:,} fetched and equal")
    if (tally.amplification or 1) > 1:
        words.append(f"{tally.amplification:.2f} vectors sent for each written")
    return ", ".join(words)


def _share(text: str) -> float:
    named = {"sample": _SAMPLE, "all": 1.0}
    try:
        share = named[text] if text in named else float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise typer.BadParameter(
            f"want sample, all, or a share such as 5% or 0.05; got {text!r}", param_hint="--verify"
        )
    return share
