"""The indexes of the loopback Pinecone: in memory, with the limits that Pinecone documents."""

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import orjson

REQUEST_BYTES = 2 * 2**20
REQUEST_VECTORS = 1000
METADATA_BYTES = 40 * 2**10
ID_CHARACTERS = 512
DEFAULT = "__default__"

Space = dict[str, dict[str, Any]]


class Refused(Exception):
    """A request that Pinecone answers with an error."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}


class Indexes:
    """``field``: name of the vector in an index of documents; one of vectors has none.

    ids_refused: a request with one of these is answered with 400
    """

    def __init__(self) -> None:
        self.indexes: dict[str, dict[str, Any]] = {}
        self.ids_refused: set[str] = set()
        self.url = ""
        self.unnamed = ""  # what the namespace without a name is called in the statistics of vectors
        self.sent = self.applied = 0

    def make(self, name: str, dimension: int, field: str = "_values") -> None:
        self.indexes[name] = {"dimension": dimension, "field": field, "spaces": {}}

    @property
    def only(self) -> dict[str, Any]:
        """The one index that the data requests are meant for."""
        (index,) = self.indexes.values()
        return index

    def space(self, name: str | None) -> Space:
        found: Space = self.only["spaces"].setdefault("" if name in (None, DEFAULT) else name, {})
        return found

    def answer(self, method: str, path: str, body: Any, size: int) -> dict[str, Any]:
        asked = urlsplit(path)
        words = [unquote(word) for word in asked.path.strip("/").split("/")]
        match method, words:
            case "GET", ["indexes", name]:
                return self.described(name)
            case "POST", ["indexes"]:
                ((field, kind),) = body["schema"]["fields"].items()
                self.make(body["name"], kind["dimension"], field)
                return self.described(body["name"])
            case "POST", ["describe_index_stats"]:
                return self.stats()
            case "POST", ["vectors", "upsert"]:
                return {"upsertedCount": self.upsert(body["vectors"], body.get("namespace"), size)}
            case "POST", ["query"]:
                found = self.nearest(body.get("namespace"), body["vector"], body["topK"], body.get("filter"))
                matches = [{"id": id_, "score": score, "metadata": kept["metadata"]} for id_, score, kept in found]
                return {"matches": matches, "namespace": body.get("namespace", "")}
            case "GET", ["vectors", "fetch"]:
                query = parse_qs(asked.query)
                space = self.space(query.get("namespace", [""])[0])
                held = {id_: space[id_] for id_ in query["ids"] if id_ in space}
                vectors = {id_: {**one, "values": one["values"].tolist()} for id_, one in held.items()}
                return {"vectors": vectors, "namespace": ""}
            case "POST", ["vectors", "delete"]:
                return self.delete(body["ids"], body.get("namespace"))
            case "POST", ["namespaces", name, "documents", verb]:
                return self.documents(verb, name, body, size)
        raise Refused(404, f"no route {method} {path}")

    def documents(self, verb: str, name: str, body: Any, size: int) -> dict[str, Any]:
        field = self.only["field"]
        if field == "_values":
            raise Refused(400, "not an index of documents")
        if verb == "upsert":
            vectors = [self.vector_of(document) for document in body["documents"]]
            return {"upserted_count": self.upsert(vectors, name, size)}
        if verb == "delete":
            return self.delete(body["ids"], name)
        usage = {"read_units": 1}
        if verb == "fetch":
            space = self.space(name)
            held = {id_: space[id_] for id_ in body["ids"] if id_ in space}
            documents = {id_: {"_id": id_, field: one["values"].tolist()} for id_, one in held.items()}
            return {"documents": documents, "namespace": name, "usage": usage}
        (by,) = body["score_by"]
        found = self.nearest(name, by["values"], body["top_k"], body.get("filter"))
        matches = [{"_id": id_, "_score": score, **kept["metadata"]} for id_, score, kept in found]
        return {"matches": matches, "namespace": name, "usage": usage}

    def vector_of(self, document: dict[str, Any]) -> dict[str, Any]:
        field = self.only["field"]
        metadata = {name: value for name, value in document.items() if name not in ("_id", field)}
        return {"id": document["_id"], "values": document[field], "metadata": metadata}

    def described(self, name: str) -> dict[str, Any]:
        if name not in self.indexes:
            raise Refused(404, f"index {name} not found")
        index = self.indexes[name]
        kind = {"type": "dense_vector", "dimension": index["dimension"], "metric": "cosine"}
        return {
            "name": name,
            "host": self.url,
            "status": {"ready": True, "state": "Ready"},
            "schema": {"fields": {index["field"]: kind}},
            "deployment": {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"},
            "deletion_protection": "disabled",
        }

    def stats(self) -> dict[str, Any]:
        spaces = {name: {"vectorCount": len(space)} for name, space in self.only["spaces"].items()}
        unnamed = self.unnamed if self.only["field"] == "_values" else DEFAULT
        spaces = {name or unnamed: count for name, count in spaces.items()}
        total = sum(space["vectorCount"] for space in spaces.values())
        return {"namespaces": spaces, "dimension": self.only["dimension"], "totalVectorCount": total}

    def upsert(self, vectors: list[dict[str, Any]], namespace: str | None, size: int) -> int:
        if size > REQUEST_BYTES:
            raise Refused(413, "request too large")
        if len(vectors) > REQUEST_VECTORS:
            raise Refused(400, "too many vectors")
        for vector in vectors:
            self.check(vector)
        for vector in vectors:
            vector["values"] = np.array(vector["values"], dtype=np.float32)
        self.space(namespace).update({vector["id"]: vector for vector in vectors})
        self.applied += len(vectors)
        return len(vectors)

    def check(self, vector: dict[str, Any]) -> None:
        id_, values, metadata = vector["id"], vector["values"], vector.get("metadata", {})
        if not 1 <= len(id_) <= ID_CHARACTERS or not id_.isascii() or "\0" in id_ or id_ in self.ids_refused:
            raise Refused(400, "bad id")
        if len(values) != self.only["dimension"] or None in values or not any(values):
            raise Refused(400, "bad values")
        if len(orjson.dumps(metadata)) > METADATA_BYTES:
            raise Refused(400, "metadata too large")
        if any(value is None or isinstance(value, dict) for value in metadata.values()):
            raise Refused(400, "metadata must not be null or nested")

    def delete(self, ids: list[str], namespace: str | None) -> dict[str, Any]:
        if len(ids) > REQUEST_VECTORS:
            raise Refused(400, "too many ids")
        space = self.space(namespace)
        for id_ in ids:
            space.pop(id_, None)
        return {}

    def nearest(
        self, namespace: str | None, asked: list[float], k: int, conditions: Any
    ) -> list[tuple[str, float, dict[str, Any]]]:
        found = [
            (id_, _cosine(kept["values"], np.array(asked, dtype=np.float32)), kept)
            for id_, kept in self.space(namespace).items()
            if all(_fits(kept["metadata"].get(name), test) for name, test in (conditions or {}).items())
        ]
        return sorted(found, key=lambda match: -match[1])[:k]


def _fits(value: Any, test: dict[str, Any]) -> bool:
    allowed = test["$in"] if "$in" in test else [test["$eq"]]
    return any(one in allowed for one in (value if isinstance(value, list) else [value]))


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
