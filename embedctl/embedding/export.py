"""Vectors in the formats that other programs read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from safetensors.numpy import save as tensor_bytes

from embedctl.artifacts import manifest
from embedctl.artifacts.folder import lock, new_folder, write_file
from embedctl.artifacts.layout import Layout
from embedctl.artifacts.manifest import Manifest
from embedctl.artifacts.outcome import Outcome, refuse_foreign, up_to_date
from embedctl.embedding.vectors import matrix, read_vectors
from embedctl.progress import Tick, Watch, unwatched

FORMATS = ("npy", "parquet", "jsonl", "embedding-layer")

_BATCH_ROWS = 4096


def export(form: str, layout: Layout, *, to: Path | None = None, watch: Watch = unwatched) -> Outcome:
    """Write ``vectors/NAME`` into a folder of its own: ``to``, or ``exports/NAME-FORMAT`` in the workspace."""
    source = manifest.read_verified(layout.vectors, "vectors")
    parents = {"vectors": source.content_id}
    target = (to or layout.exports / f"{layout.run}-{form}").absolute()
    refuse_foreign(target)
    with lock(layout.root / ".locks" / "exports.lock"):
        found = up_to_date(target, "export", manifest.fingerprint("export", parents, {"format": form}))
        if found:
            return found
        with new_folder(target) as folder:
            _WRITERS[form](folder, layout.vectors, source, watch)
            facts = {name: source.facts[name] for name in ("vectors", "dim", "model")}
            made = manifest.write(folder, "export", parents=parents, settings={"format": form}, facts=facts)
    return Outcome(target, made, made=True)


def _npy(folder: Path, vectors: Path, source: Manifest, watch: Watch) -> None:
    """``vectors.npy`` (N, D) and ``ids.json``, a list in the same order."""
    write_file(folder / "ids.json", _ids(vectors))
    shape = (source.number("vectors"), source.number("dim"))
    with (folder / "vectors.npy").open("wb") as stream:
        # The header first, then row after row: the matrix never stands in memory.
        header = {"descr": np.dtype(_dtype(source)).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        done = 0
        for batch in read_vectors(vectors, _BATCH_ROWS):
            stream.write(np.ascontiguousarray(matrix(batch).astype(_dtype(source))).tobytes())
            done += len(batch)
            watch(Tick(done, shape[0], "vectors"))


def _parquet(folder: Path, vectors: Path, source: Manifest, watch: Watch) -> None:
    """One ``vectors.parquet`` with id, values, digest, metadata."""
    writer: pq.ParquetWriter | None = None
    done = 0
    for batch in read_vectors(vectors, _BATCH_ROWS):
        writer = writer or pq.ParquetWriter(folder / "vectors.parquet", batch.schema)
        writer.write_batch(batch)
        done += len(batch)
        watch(Tick(done, source.number("vectors"), "vectors"))
    if writer is not None:
        writer.close()


def _jsonl(folder: Path, vectors: Path, source: Manifest, watch: Watch) -> None:
    """``vectors.jsonl``: an object with id, values and metadata per line; values keep every bit of a float32."""
    done = 0
    with (folder / "vectors.jsonl").open("w", encoding="utf-8", newline="\n") as stream:
        for batch in read_vectors(vectors, _BATCH_ROWS):
            rows = zip(batch.column("id"), matrix(batch), batch.column("metadata"), strict=True)
            for id_, values, metadata in rows:
                # The shortest decimal that is the same float32: 42 % fewer bytes than the float64's.
                numbers = ",".join(np.format_float_positional(value, unique=True, trim="0") for value in values)
                head = json.dumps({"id": id_.as_py()}, ensure_ascii=False)[:-1]
                stream.write(f'{head}, "values": [{numbers}], "metadata": {metadata.as_py()}}}\n')
            done += len(batch)
            watch(Tick(done, source.number("vectors"), "vectors"))


def _embedding_layer(folder: Path, vectors: Path, source: Manifest, watch: Watch) -> None:
    """``weight`` (N, D) for ``nn.Embedding.from_pretrained``, and ``rows.json``: id -> row. Holds the whole matrix."""
    parts = []
    for batch in read_vectors(vectors, _BATCH_ROWS):
        parts.append(matrix(batch))
        watch(Tick(sum(map(len, parts)), source.number("vectors"), "vectors"))
    weight = np.concatenate(parts).astype(_dtype(source))
    write_file(folder / "embedding.safetensors", tensor_bytes({"weight": weight}))
    rows = {id_: row for row, id_ in enumerate(json.loads(_ids(vectors)))}
    write_file(folder / "rows.json", (json.dumps(rows, ensure_ascii=False) + "\n").encode())


_WRITERS: dict[str, Callable[[Path, Path, Manifest, Watch], None]] = {
    "npy": _npy,
    "parquet": _parquet,
    "jsonl": _jsonl,
    "embedding-layer": _embedding_layer,
}


def _ids(vectors: Path) -> bytes:
    ids: list[Any] = []
    for batch in read_vectors(vectors, _BATCH_ROWS):
        ids += batch.column("id").to_pylist()
    return (json.dumps(ids, ensure_ascii=False) + "\n").encode()


def _dtype(source: Manifest) -> str:
    return str(source.settings["dtype"])
