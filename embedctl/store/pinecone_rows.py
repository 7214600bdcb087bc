"""Rows as Pinecone wants them on the wire."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import JsonValue

from embedctl.embedding.exports.plain import flat, sent_id
from embedctl.embedding.vectors import matrix
from embedctl.errors import ConfigError
from embedctl.store.protocol import Vector, Where

_MODEL, _DIGEST = "embedctl_model", "embedctl_digest"
# Braces, names and commas of a record, and our two fields in its metadata.
_FRAME_BYTES = 48
_OWN_BYTES = 160


def decimals(values: Vector) -> bytes:
    """JSON of the shortest decimals that are the same float32: 42 % fewer bytes than as float64, not a bit lost."""
    import orjson

    return orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)


def sizes(rows: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """(rows,) bytes of each record on the wire, from above."""
    # A number in a list gets two quotation marks.
    metadata = [len(raw.encode()) + 2 * raw.count(",") + 2 for raw in rows.column("metadata").to_pylist()]
    names = [len(sent_id(id_)) for id_ in rows.column("id").to_pylist()]
    values = [len(decimals(vector)) for vector in matrix(rows)]
    held = np.array([metadata, names, values], dtype=np.int64).sum(axis=0)
    return np.asarray(held + (_FRAME_BYTES + _OWN_BYTES), dtype=np.int64)


def metadata_of(raw: str, digest: str, model: str) -> dict[str, Any]:
    """What is kept beside a vector, and of which text and model it is."""
    return {**flat(json.loads(raw)), _MODEL: model, _DIGEST: digest}


def public(metadata: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Metadata without our own two fields."""
    return {name: value for name, value in metadata.items() if name not in (_MODEL, _DIGEST)}


def of_model(model: str) -> dict[str, Any]:
    """The filter that lets vectors of one model through."""
    return {_MODEL: {"$eq": model}}


def conditions(model: str, where: Where) -> dict[str, Any]:
    """The same, and of those what ``where`` lets through. A list holds a value that it is asked for, as elsewhere."""
    for key in where:
        if key.startswith("$"):
            raise ConfigError(f"Pinecone takes {key!r} for an operator, not for a key of the metadata")
    if not where:
        return of_model(model)
    keys = ({"$or": [{key: {"$eq": value}} for value in allowed]} for key, allowed in where.items())
    return {"$and": [of_model(model), *keys]}
