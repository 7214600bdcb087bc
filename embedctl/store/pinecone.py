"""Pinecone, the managed store, through its own SDK with its retries off: one loop, ours, is in charge."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import SecretStr

from embedctl.errors import AuthError, ConfigError
from embedctl.settings import StoreSettings
from embedctl.store import pinecone_rows as wire
from embedctl.store.pinecone_api import DEFAULT_NAMESPACE, PLAIN_FIELDS, Api, DocumentsApi, VectorsApi
from embedctl.store.pinecone_faults import translated
from embedctl.store.protocol import Busy, Hit, Limits, Vector, Where

# Where an index is made if there is none; one made by hand elsewhere is used as it is.
_CLOUD, _REGION = "aws", "us-east-1"
_CONCURRENCY = 16


class PineconeStore:
    """One namespace of one index. What it holds is known from the ledger: asking would cost as much as sending."""

    # Pinecone's own limits, with room for the envelope: 2 MB, 40 KB.
    limits = Limits(
        rows=1000, request_bytes=1_900_000, metadata_bytes=40_000, id_characters=512, concurrency=_CONCURRENCY
    )

    def __init__(self, settings: StoreSettings, key: SecretStr | None) -> None:
        """Raises ``AuthError`` without a usable key."""
        self._settings = settings
        self._client = _client(key, settings.timeout_seconds)
        self._host = settings.host
        self._opened: Any = None
        self._api: Api | None = None
        self._dim: int | None = None

    @property
    def target(self) -> str:
        """By host as soon as that is known: an index that was made anew, or of another project, has another one."""
        host = self._host.removeprefix("https://").removeprefix("http://")
        return f"pinecone:{host or self._settings.collection}/{self._settings.namespace}"

    @property
    def dim(self) -> int | None:
        if self._dim is None and self._index() is not None:
            with translated(self.target):
                dim = self._opened.describe_index_stats().dimension
            self._dim = None if dim is None else int(dim)
        return self._dim

    def count(self) -> int:
        api = self._index()
        if api is None:
            return 0
        with translated(self.target):
            spaces = self._opened.describe_index_stats().namespaces
        # The one without a name goes by either, whatever the kind of the index.
        unnamed = ("", DEFAULT_NAMESPACE)
        names = unnamed if api.namespace in unnamed else (api.namespace,)
        return sum(int(spaces[name].vector_count) for name in names if name in spaces)

    def create(self, dim: int) -> None:
        name = self._settings.collection
        if self._index() is None:
            from pinecone import ServerlessSpec

            spec = ServerlessSpec(cloud=_CLOUD, region=_REGION)
            with translated(self.target):
                self._client.create_index(name, dimension=dim, metric="cosine", spec=spec)
        have = self.dim
        if have != dim:
            raise ConfigError(
                f"Pinecone's index {name!r} holds vectors of {have} dimensions, these have {dim}",
                hint="--set store.collection=NAME uses another index",
            )

    def known(self, ids: Sequence[str]) -> None:
        return None

    def size(self, rows: pa.RecordBatch) -> npt.NDArray[np.int64]:
        return wire.sizes(rows)

    def write(self, rows: pa.RecordBatch, *, model: str, new: bool = False) -> None:
        api = self._index()
        assert api is not None
        with translated(self.target):
            acknowledged = api.upsert(rows, model)
        if acknowledged != len(rows):
            raise Busy(f"it acknowledged {acknowledged} of {len(rows)} vectors")

    def ids(self) -> Iterator[list[str]] | None:
        return None

    def delete(self, ids: Sequence[str]) -> None:
        api = self._index()
        if api is not None and ids:
            with translated(self.target):
                api.delete(ids)

    def fetch(self, ids: Sequence[str]) -> dict[str, Vector]:
        api = self._index()
        if api is None or not ids:
            return {}
        with translated(self.target):
            return api.fetch(ids)

    def finish(self, *, written: bool) -> None:
        """Nothing to tidy up."""

    def search(self, vector: Vector, k: int, *, model: str, where: Where) -> list[Hit]:
        api = self._index()
        if api is None:
            return []
        conditions = wire.conditions(model, where)
        with translated(self.target):
            return api.search(vector, k, conditions)

    def keyword(self, text: str, k: int, *, model: str, where: Where) -> list[Hit]:
        raise ConfigError("Pinecone has no full text of these vectors", hint="use the default search, by vectors")

    def _index(self) -> Api | None:
        """The index, or ``None`` if there is none of that name. With a host nothing is looked up."""
        if self._api is not None:
            return self._api
        field = None
        if not self._settings.host:
            with translated(self.target):
                described = self._described()
            if described is None:
                return None
            self._host, field = str(described.host), _vector_field(described)
        with translated(self.target):
            self._opened = _without_retries(self._client.index(host=self._host), self._settings.timeout_seconds)
        namespace = self._settings.namespace
        plain = VectorsApi(self._opened, namespace)
        self._api = plain if field is None else DocumentsApi(self._opened, namespace, field)
        return self._api

    def _described(self) -> Any:
        from pinecone.errors import NotFoundError as Missing

        try:
            return self._client.describe_index(self._settings.collection)
        except Missing:
            return None


def _vector_field(described: Any) -> str | None:
    """The field of an index of documents that holds vectors; ``None``: it is an index of vectors."""
    from pinecone.models.indexes.schema import DenseVectorField

    fields = dict(described.schema.fields)
    if fields.keys() <= PLAIN_FIELDS:
        return None
    names = [str(name) for name, field in fields.items() if isinstance(field, DenseVectorField)]
    if len(names) != 1:
        raise ConfigError(
            f"Pinecone's index {described.name!r} has no field for vectors: {', '.join(fields)}",
            hint="--set store.collection=NAME uses another index",
        )
    return names[0]


def _client(key: SecretStr | None, timeout: float) -> Any:
    text = key.get_secret_value().strip() if key else ""
    if not text:
        raise AuthError("PINECONE_API_KEY is not set", hint="put it into .env or the environment")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise AuthError(
            "PINECONE_API_KEY holds characters that no key has", hint="copy it again, without quotes or spaces"
        )
    from pinecone import Pinecone, RetryConfig

    return Pinecone(api_key=text, timeout=timeout, retry_config=RetryConfig(max_retries=0))


def _without_retries(index: Any, timeout: float) -> Any:
    """The same index with one attempt per call, and a connection for each of our threads.

    ``Pinecone(retry_config=…)`` reaches the control plane alone: 10.2 gives its indexes the default of three
    retries, which sleep for themselves and switch themselves off in a long outage. There is no public way in.
    """
    from pinecone import RetryConfig
    from pinecone._internal.constants import DATA_PLANE_API_VERSION
    from pinecone._internal.http_client import HTTPClient

    once = dataclasses.replace(
        index._config, timeout=timeout, retry_config=RetryConfig(max_retries=0),
        connection_pool_maxsize=2 * _CONCURRENCY,
    )  # fmt: skip
    index._http.close()
    index._http = HTTPClient(once, DATA_PLANE_API_VERSION)
    return index
