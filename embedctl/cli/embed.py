"""``embedctl embed``: from a checkpoint to vectors, a store, and answers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from embedctl.cli import render, show
from embedctl.cli.context import invocation, settings_of
from embedctl.cli.upsert import upsert
from embedctl.errors import ConfigError

if TYPE_CHECKING:
    from embedctl.store.queries import Query
    from embedctl.store.search import Searcher

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
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="What you look for.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="How many answers.")] = 5,
    mode: Annotated[
        str,
        typer.Option("--mode", metavar="MODE", help="vector (what means the same), keyword (same words) or hybrid."),
    ] = "vector",
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="KEY=VALUE", help="Only what has it in its metadata; same key twice: either."),
    ] = None,
    queries: Annotated[
        Path | None, typer.Option("--queries", metavar="FILE", help="Many at once: .txt, or .jsonl with text and id.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="Answers of --queries as .jsonl; else on stdout.")
    ] = None,
) -> None:
    """Show the stored chunks nearest to TEXT by the same model, or those that share its words."""
    from embedctl.store import filters
    from embedctl.store import search as searching

    asked = _asked(text, queries, to)
    if mode not in get_args(searching.Mode):
        raise typer.BadParameter(f"want vector, keyword or hybrid; got {mode!r}", param_hint="--mode")
    wanted = searching.Wanted(k, cast(searching.Mode, mode), filters.parsed(where or []))
    loaded = settings_of(context)
    settings = loaded.settings
    searcher = searching.Searcher(
        wanted, settings=settings.store, compute=settings.compute, layout=loaded.layout, secrets=loaded.secrets
    )
    if queries is not None:
        _answer_all(context, searcher, asked, to)
        return
    (hits,) = searcher.answers([asked[0].text])
    if invocation(context).as_json:
        found = [{"score": hit.score, "id": hit.id, "metadata": dict(hit.metadata)} for hit in hits]
        render.write_json({"query": text, "mode": mode, "step": searcher.step, "hits": found})
        return
    rows = [[f"{hit.score:.3f}", hit.id, _excerpt(hit.metadata.get("text"))] for hit in hits]
    render.table(["score", "id", "text"], rows, right=("score",))
    if not hits:
        render.note("nothing fits", quiet=invocation(context).quiet)


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


def _asked(text: str | None, queries: Path | None, to: Path | None) -> "list[Query]":
    """What is looked for: TEXT or what a file holds, never both."""
    from embedctl.store.queries import Query, read_queries

    if (text is None) == (queries is None):
        raise typer.BadParameter("want TEXT or --queries FILE", param_hint="TEXT")
    if to is not None and queries is None:
        raise typer.BadParameter("is for the answers of --queries", param_hint="--to")
    if queries is not None:
        return read_queries(queries)
    if not str(text).strip():
        raise ConfigError("the text to search for is empty", hint='embedctl embed search "what you look for"')
    return [Query("1", str(text))]


def _answer_all(context: typer.Context, searcher: "Searcher", queries: "list[Query]", to: Path | None) -> None:
    """A line of JSON per query, in their order: into a file, whole or not at all, or on stdout as they come."""
    from embedctl.store.queries import answer_lines, write_lines

    with render.progress("search", quiet=invocation(context).quiet) as watch:
        lines = answer_lines(searcher, queries, watch=watch)
        if to is None:
            for line in lines:
                render.raw(line)
            return
        write_lines(to, lines)
    if invocation(context).as_json:
        render.write_json({"ok": True, "queries": len(queries), "file": str(to)})
        return
    render.line(f"{len(queries):,} queries answered: {show.short(to)}")


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
