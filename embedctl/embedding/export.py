"""Vectors in the formats that other programs read."""

import json
from pathlib import Path

from pydantic import JsonValue
from safetensors import SafetensorError

from embedctl.artifacts import manifest
from embedctl.artifacts.folder import lock, new_folder
from embedctl.artifacts.layout import Layout
from embedctl.artifacts.outcome import Outcome, refuse_foreign, up_to_date
from embedctl.embedding.exports import arrays, index, lines, projector, tables
from embedctl.embedding.exports.blocks import Format, Source, refuse_other
from embedctl.errors import ArtifactError
from embedctl.progress import Watch, unwatched

FORMATS: dict[str, Format] = {
    "npy": Format(arrays.write_npy, arrays.read_npy),
    "parquet": Format(tables.write_parquet, tables.read_parquet, expected=str),
    "jsonl": Format(lines.write_jsonl, lines.read_jsonl, expected=json.loads),
    "csv": Format(lines.write_csv, lines.read_csv, expected=str),
    "word2vec": Format(lines.write_word2vec, lines.read_word2vec),
    "glove": Format(lines.write_glove, lines.read_glove),
    "safetensors": Format(arrays.write_safetensors, arrays.read_safetensors),
    "embedding-layer": Format(arrays.write_layer, arrays.read_layer),
    "pinecone-parquet": Format(tables.write_pinecone, tables.read_pinecone, expected=tables.flat_of),
    "projector": Format(projector.write_projector, projector.read_projector),
    "faiss": Format(index.write_faiss, index.read_faiss),
}


def export(
    form: str, layout: Layout, *, to: Path | None = None, namespace: str = "", watch: Watch = unwatched
) -> Outcome:
    """Write ``vectors/NAME`` into a folder of its own: ``to``, or ``exports/NAME-FORMAT`` in the workspace.

    What was written is read back and compared before it takes its place.

    namespace: of Pinecone, for ``pinecone-parquet`` alone
    """
    if form == "faiss":
        index.refuse_without_faiss()
    settings: dict[str, JsonValue] = {"format": form}
    if form == "pinecone-parquet":
        tables.pinecone_folder(namespace)
        settings["namespace"] = namespace
    manifest.read(layout.vectors, "vectors")  # before any lock is made
    target = (to or layout.exports / f"{layout.run}-{form}").absolute()
    with lock(layout.root / ".locks" / "exports.lock"), lock(layout.lock(layout.vectors), shared=True):
        found = manifest.read_verified(layout.vectors, "vectors")
        parents = {"vectors": found.content_id}
        there = up_to_date(target, "export", manifest.fingerprint("export", parents, settings))
        if there:
            return there
        refuse_foreign(target)
        with new_folder(target) as folder:
            _write(form, folder, Source.of(layout.vectors, found, namespace, watch))
            facts = {name: found.facts[name] for name in ("vectors", "dim", "model")}
            made = manifest.write(folder, "export", parents=parents, settings=settings, facts=facts)
    return Outcome(target, made, made=True)


def _write(form: str, folder: Path, source: Source) -> None:
    kind = FORMATS[form]
    kind.write(folder, source)
    try:
        refuse_other(form, kind, folder, source)
    except (ValueError, RuntimeError, SafetensorError) as fault:
        # How the libraries say that a file is not one of theirs.
        raise ArtifactError(f"the {form} export cannot be read back: {fault}") from None
