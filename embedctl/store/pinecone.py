"""Pinecone, the managed store, through its own SDK with its retries off: one loop, ours, is in charge."""

import dataclasses
import json
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from pydantic import JsonValue, SecretStr

from embedctl.embedding.exports.tables import flat
from embedctl.errors import AuthError, ConfigError, DataError, EmbedctlError, NotFoundError, RemoteError
from embedctl.settings import StoreSettings
from embedctl.store.protocol import Hit, Row, Vector

_log = logging.getLogger(__name__)

# Pinecone's limits per request and per record, with room for the envelope.
_REQUEST_BYTES = 1_900_000
_REQUEST_VECTORS = 1000
_METADATA_BYTES = 40_000
_ID_CHARACTERS = 512

_DEADLINE_SECONDS = 300.0
_FIRST_WAIT_SECONDS = 0.25
_LONGEST_WAIT_SECONDS = 30.0
_RETRIED = {408, 425, 429, 500, 502, 503, 504}

# Where an index is made if there is none; one made by hand elsewhere is used as it is.
_CLOUD, _REGION = "aws", "us-east-1"

_MODEL, _DIGEST = "embedctl_model", "embedctl_digest"

Answer = TypeVar("Answer")


class PineconeStore:
    """One namespace of one index. What it holds is known from the ledger: asking would cost as much as sending."""

    def __init__(
        self,
        settings: StoreSettings,
        key: SecretStr | None,
        target: str,
        *,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ``AuthError`` without a usable key."""
        self._settings = settings
        self.target = target
        self._sleep, self._now = sleep, now
        self._client = _client(key)
        self._opened: Any = None
        self._dim: int | None = None

    @property
    def dim(self) -> int | None:
        index = self._index()
        if self._dim is None and index is not None:
            dim = self._ask(lambda: index.describe_index_stats()).dimension
            self._dim = None if dim is None else int(dim)
        return self._dim

    def count(self) -> int:
        index = self._index()
        if index is None:
            return 0
        space = self._ask(lambda: index.describe_index_stats()).namespaces.get(self._settings.namespace)
        return 0 if space is None else int(space.vector_count)

    def known(self, ids: Sequence[str]) -> None:
        return None

    def create(self, dim: int) -> None:
        name = self._settings.collection
        if self._index() is None:
            from pinecone import ServerlessSpec

            spec = ServerlessSpec(cloud=_CLOUD, region=_REGION)
            self._ask(lambda: self._client.create_index(name, dimension=dim, metric="cosine", spec=spec))
        have = self.dim
        if have != dim:
            raise ConfigError(
                f"Pinecone's index {name!r} holds vectors of {have} dimensions, these have {dim}",
                hint="--set store.collection=NAME uses another index",
            )

    def write(self, rows: Sequence[Row], *, model: str) -> None:
        dim = self.dim
        vectors = [_vector(row, model, dim) for row in rows]
        for batch in _batches(vectors, min(self._settings.batch_size, _REQUEST_VECTORS)):
            self._send(batch)

    def finish(self) -> None:
        """Nothing to tidy up."""

    def search(self, vector: Vector, k: int, *, model: str) -> list[Hit]:
        index = self._index()
        if index is None:
            return []
        answer = self._ask(
            lambda: index.query(
                vector=_decimals(vector),
                top_k=k,
                namespace=self._settings.namespace,
                include_metadata=True,
                filter={_MODEL: {"$eq": model}},
            )
        )
        return [Hit(match.id, float(match.score), _public(match.metadata or {})) for match in answer.matches]

    def _send(self, batch: list[dict[str, Any]]) -> None:
        from pinecone.errors import PayloadTooLargeError

        index = self._index()
        try:
            answer = self._ask(lambda: index.upsert(vectors=batch, namespace=self._settings.namespace))
        except PayloadTooLargeError:
            if len(batch) == 1:
                raise DataError(
                    f"Pinecone finds {batch[0]['id']} too large", hint="set embedding.with_text = false"
                ) from None
            half = len(batch) // 2
            self._send(batch[:half])
            self._send(batch[half:])
            return
        if answer.upserted_count != len(batch):
            raise RemoteError(
                f"Pinecone acknowledged {answer.upserted_count} of {len(batch)} vectors",
                hint="run the same command again",
            )

    def _index(self) -> Any:
        """The index, or ``None`` if there is none of that name. With a host nothing is looked up."""
        from pinecone.errors import NotFoundError as Missing

        if self._opened is None:
            host = self._settings.host
            if not host:
                try:
                    host = self._ask(lambda: self._client.describe_index(self._settings.collection), missing=True).host
                except Missing:
                    return None
            self._opened = _without_retries(self._client.index(host=host))
        return self._opened

    def _ask(self, call: Callable[[], Answer], *, missing: bool = False) -> Answer:
        """Make a call; what may pass is tried again with full jitter until the deadline, what will not is explained.

        missing: let 404 through, for the caller to see
        """
        from pinecone.errors import (
            ApiError,
            PayloadTooLargeError,
            PineconeConnectionError,
            PineconeTimeoutError,
            ResponseParsingError,
        )
        from pinecone.errors import NotFoundError as Missing

        started, tries = self._now(), 0
        while True:
            wait = min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2**tries) * random.random()
            try:
                return call()
            except (PineconeConnectionError, PineconeTimeoutError, ResponseParsingError) as fault:
                reason = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
            except PayloadTooLargeError:
                raise
            except ApiError as fault:
                if missing and isinstance(fault, Missing):
                    raise
                if fault.status_code not in _RETRIED:
                    raise _explain(fault, self.target) from None
                reason = f"HTTP {fault.status_code}"
                wait = max(wait, _retry_after(fault))
            tries += 1
            if self._now() - started + wait > _DEADLINE_SECONDS:
                raise RemoteError(
                    f"{self.target} kept failing for {_DEADLINE_SECONDS:.0f} s: {reason}",
                    hint="run the same command again later: what was acknowledged is not sent twice",
                )
            _log.info("%s: %s; trying again in %.1f s", self.target, reason, wait)
            self._sleep(wait)


def _client(key: SecretStr | None) -> Any:
    text = key.get_secret_value().strip() if key else ""
    if not text:
        raise AuthError("PINECONE_API_KEY is not set", hint="put it into .env or the environment")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise AuthError(
            "PINECONE_API_KEY holds characters that no key has", hint="copy it again, without quotes or spaces"
        )
    from pinecone import Pinecone, RetryConfig

    return Pinecone(api_key=text, retry_config=RetryConfig(max_retries=0))


def _without_retries(index: Any) -> Any:
    """The same index with one attempt per call.

    ``Pinecone(retry_config=…)`` reaches the control plane alone: 10.2 gives its indexes the default of three
    retries, which sleep for themselves and switch themselves off in a long outage. There is no public way in.
    """
    from pinecone import RetryConfig
    from pinecone._internal.constants import DATA_PLANE_API_VERSION
    from pinecone._internal.http_client import HTTPClient

    once = dataclasses.replace(index._config, retry_config=RetryConfig(max_retries=0))
    index._http.close()
    index._http = HTTPClient(once, DATA_PLANE_API_VERSION)
    return index


def _explain(fault: Any, target: str) -> EmbedctlError:
    status = fault.status_code
    if status in (401, 403):
        return AuthError(f"{target} refuses the key (HTTP {status})", hint="check PINECONE_API_KEY and its project")
    if status == 402:
        return AuthError(f"{target}: the quota is used up or unpaid (HTTP 402)", hint="see Pinecone's billing page")
    if status == 404:
        return NotFoundError(f"there is no {target}", hint="check store.collection and store.host")
    reason = str(fault).splitlines()[0]
    return DataError(f"{target} refuses the request (HTTP {status}): {reason}")


def _retry_after(fault: Any) -> float:
    headers = {name.lower(): value for name, value in (fault.headers or {}).items()}
    value = headers.get("retry-after", "")
    return min(float(value), _LONGEST_WAIT_SECONDS) if str(value).replace(".", "", 1).isdigit() else 0.0


def _vector(row: Row, model: str, dim: int | None) -> dict[str, Any]:
    """A row as Pinecone wants it, after the checks that its SDK does not make."""
    if not row.id or len(row.id) > _ID_CHARACTERS or not row.id.isascii() or "\0" in row.id:
        raise DataError(f"the id {row.id!r} is not one for Pinecone: want 1 to {_ID_CHARACTERS} ASCII characters")
    if len(row.values) != dim or not np.isfinite(row.values).all() or not row.values.any():
        raise DataError(f"the vector of {row.id} has {len(row.values)} numbers, some not finite, or all of them zero")
    metadata = {**flat(row.metadata), _MODEL: model, _DIGEST: row.digest}
    size = len(json.dumps(metadata, ensure_ascii=False).encode())
    if size > _METADATA_BYTES:
        raise DataError(
            f"the metadata of {row.id} has {size:,} bytes; Pinecone takes {_METADATA_BYTES:,}",
            hint="set embedding.with_text = false, or lower tokens.max_tokens",
        )
    return {"id": row.id, "values": _decimals(row.values), "metadata": metadata}


def _decimals(values: Vector) -> list[float]:
    """The shortest decimals that are the same float32: 42 % fewer bytes on the wire, not a bit lost."""
    return [float(np.format_float_scientific(value, unique=True)) for value in values]


def _public(metadata: Mapping[str, Any]) -> dict[str, JsonValue]:
    return {name: value for name, value in metadata.items() if name not in (_MODEL, _DIGEST)}


def _batches(vectors: list[dict[str, Any]], most: int) -> Iterator[list[dict[str, Any]]]:
    """Cut by count and by the bytes of the JSON that will be sent."""
    batch: list[dict[str, Any]] = []
    size = 0
    for vector in vectors:
        own = len(json.dumps(vector, ensure_ascii=False).encode())
        if batch and (len(batch) == most or size + own > _REQUEST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(vector)
        size += own
    if batch:
        yield batch
