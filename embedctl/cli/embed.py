"""``embedctl embed``: from a checkpoint to vectors, a store, and answers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from embedctl.cli import render, show
from embedctl.cli.context import invocation, settings_of

_FORMATS = (
    "npy, parquet, jsonl, csv, word2vec, glove, safetensors, embedding-layer, pinecone-parquet, projector or faiss."
)

app = typer.Typer(no_args_is_help=True, help="Make vectors, store them, search them, export them.")


@app.command()
def generate(
    context: typer.Context,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", metavar="DIR", help="A published model, a run or a checkpoint; default: the run's head."
        ),
    ] = None,
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

    loaded = settings_of(context)
    settings = loaded.settings.embedding
    if model is not None:
        settings = settings.model_copy(update={"model": model})
    if no_cache:
        settings = settings.model_copy(update={"cache_megabytes": 0})
    with render.progress("embed", quiet=invocation(context).quiet or not is_first()) as watch:
        made = generation.generate(settings, loaded.settings.compute, loaded.layout, engine=engine, watch=watch)
    if not is_first():
        return
    show.outcome(context, made, facts={"vectors": "vectors", "dim": "dimensions"}, then="embedctl embed upsert")
    if made.made and not invocation(context).as_json:
        render.note(_what_was_done(made.measured, settings.dtype, made.manifest.facts), quiet=invocation(context).quiet)


@app.command()
def parity(
    context: typer.Context,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", metavar="DIR", help="A published model, a run or a checkpoint; default: the run's head."
        ),
    ] = None,
    texts: Annotated[int, typer.Option("--texts", min=1, max=10_000, help="Chunks to compare on.")] = 200,
) -> None:
    """Compare vectors: alone and in a batch, in float32 and as used, by ONNX and here."""
    from embedctl.embedding.parity import compare

    loaded = settings_of(context)
    settings = loaded.settings.embedding
    if model is not None:
        settings = settings.model_copy(update={"model": model})
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


@app.command()
def upsert(
    context: typer.Context,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, metavar="N", help="Most vectors per request.")
    ] = None,
) -> None:
    """Bring the store up to date with the vectors; a second run writes nothing."""
    from embedctl.store import upsert as upserting

    loaded = settings_of(context)
    settings = loaded.settings.store
    if batch_size is not None:
        settings = settings.model_copy(update={"batch_size": batch_size})
    with render.progress("upsert", quiet=invocation(context).quiet) as watch:
        tally = upserting.upsert(settings, loaded.layout, secrets=loaded.secrets, watch=watch)
    if invocation(context).as_json:
        render.write_json({"ok": True, "target": tally.target, "written": tally.written, "unchanged": tally.unchanged})
        return
    render.line(f"{settings.kind} {settings.collection}: {tally.written:,} written, {tally.unchanged:,} unchanged")
    render.note('next: embedctl embed search "what you look for"', quiet=invocation(context).quiet)


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
