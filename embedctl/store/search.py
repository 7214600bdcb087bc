"""Asking a store: the text goes through the same model as the vectors did."""

from dataclasses import dataclass

import numpy as np

from embedctl.artifacts.layout import Layout
from embedctl.checkpoint import files
from embedctl.errors import ConfigError, NotFoundError
from embedctl.model.encoding import encode
from embedctl.model.precision import pick_device, pick_dtype
from embedctl.settings import ComputeSettings, Secrets, StoreSettings
from embedctl.store.opening import open_store
from embedctl.store.protocol import Hit
from embedctl.store.retrying import persist
from embedctl.tokens.tokenizer import encode_query


@dataclass(frozen=True, slots=True)
class Found:
    """The hits, best first, and the step of the model that found them."""

    hits: list[Hit]
    step: int


def search(
    text: str,
    k: int,
    *,
    settings: StoreSettings,
    compute: ComputeSettings,
    layout: Layout,
    secrets: Secrets | None = None,
) -> Found:
    """The ``k`` stored chunks nearest to ``text`` by the head of the run."""
    if not text.strip():
        raise ConfigError("the text to search for is empty", hint='embedctl embed search "what you look for"')
    checkpoint = files.head(layout.checkpoints)
    store = open_store(settings, layout, secrets or Secrets())
    if persist(lambda: store.dim, settings.collection) is None:
        raise NotFoundError(
            f"no collection {settings.collection!r} in {settings.kind}", hint="run `embedctl embed upsert` first"
        )
    model = files.load_model(checkpoint, pick_device(compute.device))
    limit = min(model.query_max_tokens, model.encoder.shape.max_tokens)
    ids = np.asarray(encode_query(model.tokenizer, text, model.query_frame, limit), dtype=np.uint32)
    dtype = pick_dtype(compute.precision, next(model.encoder.parameters()).device)
    (vector,) = encode(model.encoder, [ids], dtype=dtype)
    hits = persist(lambda: store.search(vector, k, model=model.model_id, where={}), store.target)
    if not hits:
        raise NotFoundError(
            f"{store.target} holds no vectors of the model at step {model.step}",
            hint="run `embedctl embed generate`, then `embedctl embed upsert`",
        )
    return Found(hits, model.step)
