"""Rows as LanceDB holds them: the text and the labels of the metadata stand in columns that can be indexed."""

import json
from typing import Any

import orjson
import pyarrow as pa

from embedctl.embedding.vectors import matrix
from embedctl.store.filters import labels_of

# How json.dumps joins a text to what stands before it.
_TEXT = ', "text": '
_PLAIN = {str, int, bool, type(None)}


def schema(dim: int) -> pa.Schema:
    """id, vector, digest, model, metadata without its text, the text, and labels to filter by."""
    # Without this mark two writers that merge the same ids at once silently double the rows (lancedb#2463).
    primary = {"lance-schema:unenforced-primary-key": "true"}
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False, metadata=primary),
            pa.field("vector", pa.list_(pa.float32(), dim), nullable=False),
            pa.field("digest", pa.string(), nullable=False),
            pa.field("model", pa.string(), nullable=False),
            pa.field("metadata", pa.string(), nullable=False),
            pa.field("text", pa.string()),
            pa.field("labels", pa.list_(pa.string()), nullable=False),
        ]
    )


def table_of(rows: pa.RecordBatch, model: str, layout: pa.Schema) -> pa.Table:
    """``rows`` as columns of ``layout``."""
    values = matrix(rows)
    metadata, texts, labels = [], [], []
    for line in rows.column("metadata").to_pylist():
        rest, own, text = _split(line)
        metadata.append(rest)
        texts.append(text)
        labels.append(labels_of(own))
    return pa.table(
        {
            "id": rows.column("id"),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1]),
            "digest": rows.column("digest"),
            "model": pa.repeat(pa.scalar(model), len(rows)),
            "metadata": metadata,
            "text": pa.array(texts, pa.string()),
            "labels": pa.array(labels, pa.list_(pa.string())),
        },
        schema=layout,
    )


def _split(line: str) -> tuple[str, dict[str, Any], str | None]:
    """Metadata without its text, as JSON and as a dict, and the text.

    It is cut rather than written anew, twice as fast, where the text comes last, as `embed generate` has it.
    """
    head, mark, tail = line.rpartition(_TEXT)
    if mark and tail.endswith("}"):
        try:
            own, text = _members(head + "}"), orjson.loads(tail[:-1])
        except json.JSONDecodeError:
            pass  # What was cut was no member of the whole.
        else:
            if isinstance(text, str) and "text" not in own:
                return head + "}", own, text
    own = json.loads(line)
    text = own.pop("text") if isinstance(own.get("text"), str) else None
    return json.dumps(own, ensure_ascii=False), own, text


def _members(text: str) -> dict[str, Any]:
    """As ``json`` reads it, which knows integers of more than 64 bits; orjson makes floats of them, and is faster."""
    found: dict[str, Any] = orjson.loads(text)
    return found if _PLAIN.issuperset(map(type, found.values())) else json.loads(text)
