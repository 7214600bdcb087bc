"""``embedctl embed``: from a checkpoint to vectors, a store, and answers."""

from pathlib import Path
from typing import Annotated

import typer

from embedctl.cli import render, show
from embedctl.cli.context import invocation, settings_of
from embedctl.cli.upsert import upsert

app = typer.Typer(no_args_is_help=True, help="Make vectors, store them, search them, export them.")


@app.command()
def generate(context: typer.Context) -> None:
    """Embed every chunk with the head of the run; leaves Parquet shards."""
    from embedctl.embedding import generation

    loaded = settings_of(context)
    settings = loaded.settings
    with render.progress("embed", quiet=invocation(context).quiet) as watch:
        made = generation.generate(settings.embedding, settings.compute, loaded.layout, watch=watch)
    show.outcome(context, made, facts={"vectors": "vectors", "dim": "dimensions"}, then="embedctl embed upsert")


app.command()(upsert)


@app.command()
def search(
    context: typer.Context,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What you look for.")],
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="How many answers.")] = 5,
) -> None:
    """Embed TEXT with the same model and show the nearest stored chunks."""
    from embedctl.store.search import search as ask

    loaded = settings_of(context)
    settings = loaded.settings
    found = ask(
        text, k, settings=settings.store, compute=settings.compute, layout=loaded.layout, secrets=loaded.secrets
    )
    if invocation(context).as_json:
        hits = [{"score": hit.score, "id": hit.id, "metadata": dict(hit.metadata)} for hit in found.hits]
        render.write_json({"query": text, "step": found.step, "hits": hits})
        return
    rows = [[f"{hit.score:.3f}", hit.id, _excerpt(hit.metadata.get("text"))] for hit in found.hits]
    render.table(["score", "id", "text"], rows, right=("score",))


@app.command()
def export(
    context: typer.Context,
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help="npy, parquet, jsonl or embedding-layer.")],
    to: Annotated[Path | None, typer.Option("--to", metavar="DIR", help="A new folder, or an older export.")] = None,
) -> None:
    """Write the vectors in a format that other programs read."""
    from embedctl.embedding import export as exporting

    if form not in exporting.FORMATS:
        raise typer.BadParameter(f"want {', '.join(exporting.FORMATS)}; got {form!r}", param_hint="--format")
    loaded = settings_of(context)
    with render.progress("export", quiet=invocation(context).quiet) as watch:
        made = exporting.export(form, loaded.layout, to=to, watch=watch)
    show.outcome(context, made, facts={"vectors": "vectors", "dim": "dimensions"}, then=_how_to_read(form, made.folder))


def _how_to_read(form: str, folder: Path) -> str:
    where = show.short(folder)
    return {
        "npy": f"python -c 'import numpy; print(numpy.load(\"{where}/vectors.npy\").shape)'",
        "parquet": f"open {where}/vectors.parquet with DuckDB, polars or pandas",
        "jsonl": f"head -n 1 {where}/vectors.jsonl",
        "embedding-layer": "nn.Embedding.from_pretrained(safetensors.torch.load_file("
        f'"{where}/embedding.safetensors")["weight"])',
    }[form]


def _excerpt(text: object, characters: int = 280) -> str:
    flat = " ".join(str(text or "").split())
    return flat if len(flat) <= characters else flat[: characters - 1].rstrip() + "…"
