"""``embedctl embed``: from a checkpoint to vectors, a store, and answers."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args

import typer

from embedctl.cli import render, show
from embedctl.cli.context import invocation, settings_of
from embedctl.cli.upsert import upsert
from embedctl.errors import ConfigError

if TYPE_CHECKING:
    from embedctl.settings import EmbeddingSettings
    from embedctl.store.queries import Query
    from embedctl.store.search import Searcher

_FORMATS = (
    "npy, parquet, jsonl, csv, word2vec, glove, safetensors, embedding-layer, pinecone-parquet, projector or faiss."
)

Model = Annotated[
    Path | None,
    typer.Option("--model", metavar="DIR", help="A published model, a run or a checkpoint; default: the run's head."),
]

app = typer.Typer(no_args_is_help=True, help="Make vectors, store them, search them, export them.")


@app.command()
def generate(
    context: typer.Context,
    model: Model = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option("--engine", help="ray: on the cluster of RAY_ADDRESS (pip install 'embedctl\\[ray]')."),
    ] = "local",
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Neither look up vectors by content nor keep them.")
    ] = False,
) -> None:
    """Embed every chunk, equal ones once; leaves Parquet shards. A killed run goes on where it was."""
    from embedctl.embedding import generation
    from embedctl.ranks import is_first
    from embedctl.workers import without_pandas

    loaded = settings_of(context)
    settings = _with_model(loaded.settings.embedding, model)
    if no_cache:
        settings = settings.model_copy(update={"cache_megabytes": 0})
    spared = without_pandas() if engine == "local" else nullcontext()
    with spared, render.progress("embed", quiet=invocation(context).quiet or not is_first()) as watch:
        made = generation.generate(settings, loaded.settings.compute, loaded.layout, engine=engine, watch=watch)
    if not is_first():
        return
    show.outcome(context, made, facts={"vectors": "vectors", "dim": "dimensions"}, then="embedctl embed upsert")
    if made.made and not invocation(context).as_json:
        render.note(_what_was_done(made.measured, settings.dtype, made.manifest.facts), quiet=invocation(context).quiet)


@app.command()
def parity(
    context: typer.Context,
    model: Model = None,
    texts: Annotated[int, typer.Option("--texts", min=1, max=10_000, help="Chunks to compare on.")] = 200,
) -> None:
    """Compare vectors: alone and in a batch, in float32 and as used, by ONNX and here."""
    from embedctl.embedding.parity import compare

    loaded = settings_of(context)
    settings = _with_model(loaded.settings.embedding, model)
    with render.progress("compare", quiet=invocation(context).quiet) as watch:
        found = compare(settings, loaded.settings.compute, loaded.layout, texts=texts, watch=watch)
    if invocation(context).as_json:
        render.write_json({"ok": True, **{name: compared.to_json() for name, compared in found.items()}})
        return
    rows = [
        [name, f"{compared.worst_cosine:.7f}", f"{compared.equal_share:.1%}", compared.tokens]
        for name, compared in found.items()
    ]
    columns = ["the same text", "worst cosine", "equal to the bit", "tokens of the worst"]
    render.table(columns, rows, right=columns[1:])


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
    model: Model = None,
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
        wanted,
        settings=settings.store,
        embedding=_with_model(settings.embedding, model),
        compute=settings.compute,
        layout=loaded.layout,
        secrets=loaded.secrets,
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
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help=_FORMATS)],
    to: Annotated[Path | None, typer.Option("--to", metavar="DIR", help="A new folder, or an older export.")] = None,
) -> None:
    """Write the vectors in a format that other programs read."""
    from embedctl.embedding import export as exporting

    if form not in exporting.FORMATS:
        raise typer.BadParameter(f"want {', '.join(exporting.FORMATS)}; got {form!r}", param_hint="--format")
    loaded = settings_of(context)
    with render.progress("export", quiet=invocation(context).quiet) as watch:
        made = exporting.export(form, loaded.layout, to=to, namespace=loaded.settings.store.namespace, watch=watch)
    show.outcome(context, made, facts={"vectors": "vectors", "dim": "dimensions"}, then=_how_to_read(form, made.folder))


def _with_model(settings: "EmbeddingSettings", model: Path | None) -> "EmbeddingSettings":
    return settings if model is None else settings.model_copy(update={"model": model})


def _what_was_done(measured: Mapping[str, Any], dtype: str, facts: Mapping[str, Any]) -> str:
    """Where the vectors come from, and how fast."""
    told = [f"{measured['embedded']:,} texts embedded ({measured['texts_per_second']:,.0f}/s)"]
    told += [f"{measured[name]:,} {said}" for name, said in _NOT_EMBEDDED.items() if measured[name]]
    if measured["cut"]:
        told.append(f"{measured['cut']:,} texts cut to the model's length")
    if dtype != "float32":
        told.append(f"worst cosine to float32 {facts['worst_cosine']:.6f}")
    return "; ".join(told)


_NOT_EMBEDDED = {"repeated": "equal to another", "cached": "from the cache", "kept": "kept from before"}


def _asked(text: str | None, queries: Path | None, to: Path | None) -> "list[Query]":
    """What is looked for: TEXT or what a file holds, never both."""
    from embedctl.store.queries import Query, read_queries

    if (text is None) == (queries is None):
        raise typer.BadParameter("want TEXT or --queries FILE", param_hint="TEXT")
    if to is not None and queries is None:
        raise typer.BadParameter("is for the answers of --queries", param_hint="--to")
    if to is not None and to.is_dir():
        raise typer.BadParameter(f"{to} is a folder; want a file", param_hint="--to")
    if queries is not None:
        return read_queries(queries)
    if not str(text).strip():
        raise ConfigError("the text to search for is empty", hint='embedctl embed search "what you look for"')
    if str(text).encode(errors="ignore") != str(text).encode(errors="surrogatepass"):
        raise ConfigError("the text to search for is not UTF-8")
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
        "csv": f"open {where}/vectors.csv with a spreadsheet or pandas",
        "word2vec": f'gensim.models.KeyedVectors.load_word2vec_format("{where}/vectors.txt")',
        "glove": f'gensim.models.KeyedVectors.load_word2vec_format("{where}/vectors.txt", no_header=True)',
        "safetensors": f'safetensors.torch.load_file("{where}/vectors.safetensors")["vectors"]',
        "embedding-layer": "nn.Embedding.from_pretrained(safetensors.torch.load_file("
        f'"{where}/embedding.safetensors")["weight"])',
        "pinecone-parquet": f"upload {where}/import to a bucket, then index.start_import(its address)",
        "projector": f"tensorboard --logdir {where}",
        "faiss": f'faiss.read_index("{where}/vectors.faiss")',
    }[form]


def _excerpt(text: object, characters: int = 280) -> str:
    flat = " ".join(str(text or "").split())
    return flat if len(flat) <= characters else flat[: characters - 1].rstrip() + "…"
