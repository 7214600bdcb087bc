"""The two ways to talk to an index of Pinecone: of vectors, and of documents with a schema."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from embedctl.embedding.exports.plain import own_id, sent_id
from embedctl.embedding.vectors import matrix
from embedctl.store import pinecone_rows as wire
from embedctl.store.protocol import Hit, Vector

# An index of vectors, described as one of documents, has no other fields than these.
PLAIN_FIELDS = frozenset({"_values", "_sparse_values"})
DEFAULT_NAMESPACE = "__default__"


class Api(Protocol):
    """One attempt each; faults come as the SDK's own exceptions."""

    namespace: str

    def upsert(self, rows: pa.RecordBatch, model: str) -> int:
        """Send; the number of rows that were acknowledged."""

    def search(self, vector: Vector, k: int, conditions: dict[str, Any]) -> list[Hit]: ...

    def fetch(self, ids: Sequence[str]) -> dict[str, Vector]: ...

    def delete(self, ids: Sequence[str]) -> None: ...


class VectorsApi:
    """``/vectors/…``: indexes that were made with a dimension and a metric."""

    def __init__(self, index: Any, namespace: str) -> None:
        self._index, self.namespace = index, namespace

    def upsert(self, rows: pa.RecordBatch, model: str) -> int:
        from pinecone import Vector as Record

        records = [Record(id_, values, None, metadata) for id_, values, metadata in _records(rows, model)]
        return int(self._index.upsert(vectors=records, namespace=self.namespace).upserted_count)

    def search(self, vector: Vector, k: int, conditions: dict[str, Any]) -> list[Hit]:
        answer = self._index.query(
            vector=vector.tolist(), top_k=k, namespace=self.namespace, include_metadata=True, filter=conditions
        )
        return [
            Hit(own_id(match.id), float(match.score), wire.public(match.metadata or {})) for match in answer.matches
        ]

    def fetch(self, ids: Sequence[str]) -> dict[str, Vector]:
        found = self._index.fetch(ids=list(map(sent_id, ids)), namespace=self.namespace).vectors
        return {own_id(id_): np.array(record.values, dtype=np.float32) for id_, record in found.items()}

    def delete(self, ids: Sequence[str]) -> None:
        self._index.delete(ids=list(map(sent_id, ids)), namespace=self.namespace)


class DocumentsApi:
    """``/namespaces/NAME/documents/…``: indexes with a schema, whose ``field`` holds the vector."""

    def __init__(self, index: Any, namespace: str, field: str) -> None:
        self._documents, self._field = index.documents, field
        self.namespace = namespace or DEFAULT_NAMESPACE

    def upsert(self, rows: pa.RecordBatch, model: str) -> int:
        # A field of the metadata that is called like the vector would take its place.
        documents = [{**metadata, "_id": id_, self._field: values} for id_, values, metadata in _records(rows, model)]
        return int(self._documents.upsert(documents=documents, namespace=self.namespace).upserted_count)

    def search(self, vector: Vector, k: int, conditions: dict[str, Any]) -> list[Hit]:
        score_by = [{"type": "dense_vector", "field": self._field, "values": vector.tolist()}]
        answer = self._documents.search(
            namespace=self.namespace, score_by=score_by, top_k=k, include_fields=["*"], filter=conditions
        )
        return [Hit(own_id(found.id), float(found.score), self._metadata(found.to_dict())) for found in answer.matches]

    def fetch(self, ids: Sequence[str]) -> dict[str, Vector]:
        answer = self._documents.fetch(
            ids=list(map(sent_id, ids)), namespace=self.namespace, include_fields=[self._field]
        )
        found = {id_: document.get(self._field) for id_, document in answer.documents.items()}
        return {own_id(id_): np.array(values, dtype=np.float32) for id_, values in found.items() if values is not None}

    def delete(self, ids: Sequence[str]) -> None:
        self._documents.delete(ids=list(map(sent_id, ids)), namespace=self.namespace)

    def _metadata(self, document: dict[str, Any]) -> dict[str, Any]:
        own = ("_id", "_score", self._field)
        return wire.public({name: value for name, value in document.items() if name not in own})


def _records(rows: pa.RecordBatch, model: str) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """(id, values as JSON, metadata). The SDK passes a fragment on as it is, so that no number becomes an object."""
    import orjson

    columns = (rows.column(name).to_pylist() for name in ("id", "digest", "metadata"))
    for id_, digest, raw, vector in zip(*columns, matrix(rows), strict=True):
        yield sent_id(id_), orjson.Fragment(wire.decimals(vector)), wire.metadata_of(raw, digest, model)
