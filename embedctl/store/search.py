"""Asking a store: by vectors, for which the text goes through the model they were made with, by words, or by both."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from embedctl.artifacts.layout import Layout
from embedctl.checkpoint import files
from embedctl.embedding.source import model_id_of, model_of, shortened
from embedctl.errors import NotFoundError
from embedctl.model.encoding import Vectors, encode
from embedctl.model.precision import pick_device, pick_dtype
from embedctl.settings import ComputeSettings, EmbeddingSettings, Secrets, StoreSettings
from embedctl.store.fusion import fused
from embedctl.store.opening import name_of, open_store
from embedctl.store.protocol import Hit, Vector, Where
from embedctl.store.retrying import Patience, persist
from embedctl.tokens.tokenizer import encode_query

Mode = Literal["vector", "keyword", "hybrid"]

# Somebody is waiting: less than for an upsert, which may run by night.
_PATIENCE = Patience(deadline_seconds=15.0, longest_wait_seconds=5.0)
# What stands below this in both lists cannot be among the first few of their fusion.
_LEAST_DEPTH = 100


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to answer with: the best ``k`` by ``mode`` among those that ``where`` lets through."""

    k: int
    mode: Mode = "vector"
    where: Where = field(default_factory=dict)


class Searcher:
    """A store and, unless words alone count, the model of its vectors; opened once for many questions."""

    def __init__(
        self,
        wanted: Wanted,
        *,
        settings: StoreSettings,
        embedding: EmbeddingSettings,
        compute: ComputeSettings,
        layout: Layout,
        secrets: Secrets | None = None,
    ) -> None:
        """Raises ``NotFoundError`` without a checkpoint or a collection."""
        self._wanted, self._embedding = wanted, embedding
        self._store = open_store(settings, layout, secrets or Secrets())
        self._compute = compute
        self._model_id = model_id_of(embedding, layout)
        self.step = None if embedding.model else files.head(layout.checkpoints).step
        dim = persist(lambda: self._store.dim, name_of(settings), _PATIENCE)
        if dim is None:
            raise NotFoundError(
                f"no collection {settings.collection!r} in {settings.kind}", hint="run `embedctl embed upsert` first"
            )
        by_words = wanted.mode == "keyword"
        self._model = None if by_words else model_of(embedding, layout, pick_device(compute.device))
        if self._model is not None and dim != (embedding.dim or self._model.encoder.shape.dim):
            raise self._holds_none()

    def answers(self, texts: Sequence[str]) -> list[list[Hit]]:
        """The hits of each text, best first.

        Raises ``NotFoundError`` where nothing is near, which can only be if there is no vector of this model.
        """
        vectors: Sequence[Vector | None] = [None] * len(texts) if self._model is None else list(self._vectors(texts))
        return [self._answer(text, vector) for text, vector in zip(texts, vectors, strict=True)]

    def _holds_none(self) -> NotFoundError:
        which = f"in {self._embedding.model}" if self.step is None else f"at step {self.step}"
        hint = "run `embedctl embed generate`, then `embedctl embed upsert`"
        if self.step is not None:
            hint += "; or search with the model of its vectors: --model DIR"
        return NotFoundError(f"{self._store.target} holds no vectors of the model {which}", hint=hint)

    def _answer(self, text: str, vector: Vector | None) -> list[Hit]:
        store, wanted, model = self._store, self._wanted, self._model_id
        depth = max(wanted.k, _LEAST_DEPTH) if wanted.mode == "hybrid" else wanted.k
        lists = []
        if vector is not None:
            search = functools.partial(store.search, vector, depth, model=model, where=wanted.where)
            lists.append(persist(search, store.target, _PATIENCE))
            if not lists[0] and not wanted.where:
                raise self._holds_none()
        if wanted.mode != "vector":
            search = functools.partial(store.keyword, text, depth, model=model, where=wanted.where)
            lists.append(persist(search, store.target, _PATIENCE))
        return fused(lists, wanted.k) if wanted.mode == "hybrid" else lists[0]

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        model = self._model
        assert model is not None
        limit = min(model.query_max_tokens, model.encoder.shape.max_tokens)
        ids = [
            np.asarray(encode_query(model.tokenizer, text, model.query_frame, limit), dtype=np.uint32) for text in texts
        ]
        dtype = pick_dtype(self._compute.precision, next(model.encoder.parameters()).device)
        vectors = encode(model.encoder, ids, dtype=dtype)
        return shortened(vectors, self._embedding.dim, normalize=model.encoder.shape.normalize)
