"""The folder of TensorBoard's embedding projector, which projector.tensorflow.org loads as well."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from embedctl.embedding.exports.blocks import BATCH_ROWS, Block, Source
from embedctl.embedding.exports.ids import original, unbroken
from embedctl.embedding.exports.lines import decimals, numbers
from embedctl.errors import ArtifactError

# A table of labels to colour by; more columns than this no one picks from.
_MOST_COLUMNS = 50
_CONFIG = """\
embeddings {
  tensor_name: "embedctl"
  tensor_path: "tensors.tsv"
  metadata_path: "metadata.tsv"
}
"""


def write_projector(folder: Path, source: Source) -> None:
    """``tensors.tsv``, ``metadata.tsv`` and ``projector_config.pbtxt``.

    The metadata's columns are the id and the first 50 names met in the vectors' metadata; white space in a cell
    becomes one space, since the projector knows no quotes. Ids are made safe as for word2vec.
    """
    columns = _columns(source)
    (folder / "projector_config.pbtxt").write_text(_CONFIG, encoding="utf-8")
    tensors, metadata = folder / "tensors.tsv", folder / "metadata.tsv"
    with tensors.open("wb") as values, metadata.open("w", encoding="utf-8", newline="\n") as labels:
        # One column alone has no header: the projector takes a first line without a tab for a label.
        if columns:
            labels.write("\t".join(["id", *map(_plain, columns)]) + "\n")
        for block in source.blocks():
            values.writelines(row + b"\n" for row in decimals(block.values, b"\t"))
            for id_, raw in zip(block.ids, block.metadata or [], strict=True):
                own = json.loads(raw)
                labels.write("\t".join([unbroken(id_), *(_plain(own.get(name)) for name in columns)]) + "\n")


def read_projector(folder: Path, source: Source) -> Iterator[Block]:
    columns = _columns(source)
    with (
        (folder / "tensors.tsv").open(encoding="utf-8", newline="\n") as values,
        (folder / "metadata.tsv").open(encoding="utf-8", newline="\n") as labels,
    ):
        if columns and next(labels, "").count("\t") != len(columns):
            raise ArtifactError(f"{folder / 'metadata.tsv'} has another header")
        while rows := [line.rstrip("\n") for line in islice(values, BATCH_ROWS)]:
            cells = [line.rstrip("\n").split("\t") for line in islice(labels, len(rows))]
            if any(len(row) != 1 + len(columns) for row in cells):
                raise ArtifactError(f"{folder / 'metadata.tsv'} has a line of another length than its header")
            yield Block([original(row[0]) for row in cells], numbers(rows, "\t", source.dim))
        if next(labels, None) is not None:
            raise ArtifactError(f"{folder}: there are more labels than vectors")


def _columns(source: Source) -> list[str]:
    names: dict[str, None] = {}
    for batch in source.batches("metadata"):
        for raw in batch.column("metadata").to_pylist():
            names.update(dict.fromkeys(json.loads(raw)))
            if len(names) >= _MOST_COLUMNS:
                return list(names)[:_MOST_COLUMNS]
    return list(names)


def _plain(value: Any) -> str:
    """A cell: text on one line; what is no text as JSON; nothing for null."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
