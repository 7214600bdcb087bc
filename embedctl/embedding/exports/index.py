"""A faiss index that searches exactly."""

import importlib
import importlib.util
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from embedctl.embedding.exports.blocks import BATCH_ROWS, Block, Source
from embedctl.embedding.exports.ids import IdWriter, read_ids
from embedctl.errors import ArtifactError, ConfigError

_FILE = "vectors.faiss"


def refuse_without_faiss() -> None:
    if importlib.util.find_spec("faiss") is None:
        raise ConfigError("writing a faiss index takes faiss, which is not installed", hint="pip install faiss-cpu")


def write_faiss(folder: Path, source: Source) -> None:
    """``vectors.faiss``, an ``IndexFlatIP`` over float32, and ``ids.json``: the id of each of its numbers.

    Holds the whole matrix, as the index itself does.
    """
    faiss = _faiss()

    index = faiss.IndexFlatIP(source.dim)
    with IdWriter(folder / "ids.json") as ids:
        for block in source.blocks():
            index.add(block.values)
            ids.write(block.ids)
    # Through Python's file: a full disk is an OSError then, where faiss's own writer ends the process.
    with (folder / _FILE).open("wb") as stream:
        faiss.write_index(index, faiss.PyCallbackIOWriter(stream.write))


def read_faiss(folder: Path, source: Source) -> Iterator[Block]:
    """Holds the whole matrix."""
    faiss = _faiss()

    index = faiss.read_index(str(folder / _FILE))
    found = (type(index).__name__, index.ntotal, index.d, index.metric_type)
    want = ("IndexFlatIP", source.count, source.dim, faiss.METRIC_INNER_PRODUCT)
    if found != want:
        raise ArtifactError(f"{folder / _FILE} holds {found}, want {want}")
    ids = read_ids(folder / "ids.json")
    for first in range(0, source.count, BATCH_ROWS):
        rows = index.reconstruct_n(first, min(BATCH_ROWS, source.count - first))
        yield Block(list(islice(ids, len(rows))), rows)
    if next(ids, None) is not None:
        raise ArtifactError(f"{folder}: there are more ids than vectors")


def _faiss() -> Any:
    """The module, whose types hide half of it."""
    return importlib.import_module("faiss")
