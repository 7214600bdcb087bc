"""``embedctl init``, ``run`` and ``status``: the project as a whole."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedctl.cli import render, show
from embedctl.cli import upsert as upserting
from embedctl.cli.context import invocation, settings_of
from embedctl.errors import ConfigError

if TYPE_CHECKING:
    from embedctl.artifacts.outcome import Outcome
    from embedctl.loading import Loaded
    from embedctl.store.upsert import Tally

_FACTS: dict[str, dict[str, str]] = {
    "corpus": {"records": "records", "records_with_query": "with a query"},
    "validation": {"kept": "kept", "flagged": "flagged", "dropped": "dropped"},
    "tokens": {"chunks": "chunks", "tokens": "tokens", "held_records": "records held out"},
    "negatives": {"negatives": "negatives", "pairs": "pairs"},
    "checkpoint": {"step": "steps"},
    "evaluation": {"step": "steps trained"},
    "vectors": {"vectors": "vectors", "dim": "dimensions"},
}
_STYLES = {"up to date": "green", "stale": "yellow", "unfinished": "yellow", "missing": "dim", "damaged": "red"}


def register(app: typer.Typer) -> None:
    for name, command in (("init", init), ("run", run), ("status", status)):
        app.command(name, rich_help_panel="Project")(command)


def init(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where to write.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
) -> None:
    """Write config.toml and .env to start from, every setting explained."""
    from embedctl.artifacts.folder import write_file
    from embedctl.template import config_text, env_text

    files = {folder / "config.toml": config_text(), folder / ".env": env_text()}
    there = [str(path) for path in files if path.exists()]
    if there and not force:
        raise ConfigError(f"{' and '.join(there)} exists already", hint="embedctl init --force overwrites")
    for path, text in files.items():
        write_file(path, text.encode())
    (folder / ".env").chmod(0o600)
    if invocation(context).as_json:
        render.write_json({"ok": True, "files": list(map(str, files))})
        return
    render.line("wrote " + " and ".join(map(str, files)))
    render.note("next: set data.path in config.toml, then embedctl run", quiet=invocation(context).quiet)


def run(context: typer.Context) -> None:
    """Do the whole job, from source to store; steps that are up to date are skipped."""
    from embedctl import pipeline

    loaded, quiet = settings_of(context), invocation(context).quiet
    started = time.monotonic()
    outcomes: list[tuple[str, Outcome, float]] = []
    for stage in pipeline.stages(loaded):
        began = time.monotonic()
        with render.progress(stage.name, quiet=quiet) as watch:
            outcome = stage.make(watch)
        outcomes.append((stage.name, outcome, time.monotonic() - began))
        if not outcome.made:
            render.note(f"{stage.name:<9} up to date", quiet=quiet)
    began = time.monotonic()
    with render.progress("upsert", quiet=quiet) as watch:
        tally = pipeline.upsert(loaded, watch)
    took, fault = time.monotonic() - began, upserting.partial(tally)
    if invocation(context).as_json:
        steps: list[dict[str, Any]] = [
            {
                "step": name,
                "made": o.made,
                "folder": str(o.folder),
                "seconds": round(seconds, 2),
                "facts": o.manifest.facts,
            }
            for name, o, seconds in outcomes
        ]
        found = render.fault_of(fault) if fault else {"ok": True}
        render.write_json({**found, "steps": steps, "upsert": upserting.told(tally)})
        if fault:
            raise typer.Exit(fault.exit_code)
        return
    _closing_table(loaded, outcomes, tally, took)
    if fault:
        raise fault
    _closing_words(context, loaded, time.monotonic() - started)


def _closing_table(loaded: "Loaded", outcomes: "list[tuple[str, Outcome, float]]", tally: "Tally", took: float) -> None:
    rows = [
        [
            name,
            _state("made" if o.made else "up to date"),
            show.counts_of(o.manifest.facts, _FACTS[o.manifest.kind]),
            f"{seconds:.1f} s" if o.made else "",
            _where(o.manifest.kind, o.folder, loaded),
        ]
        for name, o, seconds in outcomes
    ]
    counts = upserting.counts(tally)
    done = "made" if tally.written else "up to date"
    rows.append(["upsert", _state(done), counts, f"{took:.1f} s" if tally.written else "", _place(loaded)])
    render.line()
    title = f"In {show.short(loaded.layout.root)}:"
    render.table(["step", "", "what", "time", "where"], rows, title=title, right=("time",))
    evaluation = next((o for _, o, _ in outcomes if o.manifest.kind == "evaluation"), None)
    if evaluation is not None and "retrieval" in evaluation.manifest.facts:
        show.retrieval(evaluation.manifest.facts)


def _state(word: str) -> Any:
    return render.colored(word, "green" if word == "made" else "dim")


def _closing_words(context: typer.Context, loaded: "Loaded", seconds: float) -> None:
    config = f"--config {show.short(loaded.file)} " if loaded.file and invocation(context).config else ""
    render.line(f"Done in {seconds:.1f} s. Next:")
    for command in ('embed search "your question"', "status", "model export"):
        render.line(f"  embedctl {config}{command}")


def status(context: typer.Context) -> None:
    """Show each artifact, what it was made from, and what is stale."""
    from embedctl import pipeline

    loaded = settings_of(context)
    found = pipeline.standings(loaded)
    store = pipeline.standing_of_store(loaded, found[-1])
    if invocation(context).as_json:
        in_store = {"step": "upsert", "kind": "store", "state": store.state, "why": store.why, "place": _place(loaded)}
        artifacts = [
            {
                "step": s.stage.name,
                "kind": s.stage.kind,
                "state": s.state,
                "why": s.why,
                "folder": str(s.stage.folder),
                "parents": s.manifest.parents if s.manifest else {},
                "facts": s.manifest.facts if s.manifest else {},
            }
            for s in found
        ]
        render.write_json([*artifacts, {**in_store, "parents": {}, "facts": {"vectors": store.vectors}}])
        return
    rows = [
        [
            s.stage.kind,
            render.colored(s.state, _STYLES[s.state]),
            show.counts_of(s.manifest.facts, _FACTS[s.stage.kind]) if s.manifest else "",
            ", ".join(s.stage.parents) or "source",
            s.why or _where(s.stage.kind, s.stage.folder, loaded),
        ]
        for s in found
    ]
    state = render.colored(store.state, _STYLES[store.state])
    count = f"{store.vectors:,} vectors" if store.vectors else ""
    rows.append([loaded.settings.store.kind, state, count, "vectors", store.why or _place(loaded)])
    columns = ["artifact", "state", "what", "made from", "where, or why stale"]
    render.table(columns, rows, title=f"In {show.short(loaded.layout.root)}:")
    behind = [s.stage.kind for s in found if s.state != "up to date"]
    by_run = len(behind) - ("negatives" in behind) + (store.state != "up to date")
    if by_run or not behind:
        render.line(f"embedctl run brings {by_run} up to date" if by_run else "everything is up to date")
    if "negatives" in behind:
        render.line("embedctl mine brings negatives up to date")


def _where(kind: str, folder: Path, loaded: "Loaded") -> str:
    """A checkpoint lies deep in its run; the run is what one looks for."""
    return _inside(loaded.layout.run_folder if kind == "checkpoint" else folder, loaded)


def _inside(folder: Path, loaded: "Loaded") -> str:
    """A folder of the workspace, as seen from there."""
    return folder.relative_to(loaded.layout.root).as_posix()


def _place(loaded: "Loaded") -> str:
    store, layout = loaded.settings.store, loaded.layout
    if store.kind == "lancedb":
        return _inside(layout.store / f"{store.collection}.lance", loaded)
    if store.kind == "pgvector":
        return "PostgreSQL table " + ".".join(filter(None, [store.namespace, store.collection]))
    return f"Pinecone index {store.host or store.collection}"
