"""A model made ready for many texts: what they become, and what stands for it in the cache."""

import hashlib
from collections.abc import Sequence

from embedctl.checkpoint.files import Model
from embedctl.embedding.source import shortened
from embedctl.embedding.vectors import Keeping, Packed
from embedctl.errors import ConfigError
from embedctl.model.budget import Budget
from embedctl.model.encoding import encode
from embedctl.model.packed import arithmetic_of, packed
from embedctl.model.precision import pick_dtype
from embedctl.progress import Watch, unwatched
from embedctl.settings import ComputeSettings, EmbeddingSettings
from embedctl.tokens.shards import Ids


class Embedder:
    """identity: of all that changes a vector, apart from the ids of its text; the prompt is among those"""

    def __init__(self, model: Model, settings: EmbeddingSettings, compute: ComputeSettings) -> None:
        """Raises :class:`ConfigError` if the model has fewer values than are to be kept."""
        self.model = model
        self.device = next(model.encoder.parameters()).device
        self.keeping = Keeping(settings.dim or model.encoder.shape.dim, settings.dtype)
        if self.keeping.dim > model.encoder.shape.dim:
            raise ConfigError(
                f"embedding.dim is {settings.dim}, but the model's vectors have {model.encoder.shape.dim} values"
            )
        self._dtype = pick_dtype(compute.precision, self.device)
        self._encoder = packed(model.encoder, self._dtype)
        self.budget = Budget(self.device, settings.batch_tokens or None)
        arithmetic = arithmetic_of(self._encoder, self._dtype)
        said = f"{model.model_id} {arithmetic} {self.keeping.dim} {self.keeping.dtype}"
        self.identity = hashlib.sha256(said.encode()).digest()

    def embed(self, ids: Sequence[Ids], watch: Watch = unwatched) -> Packed:
        """The vectors of some texts as they are kept, (N, R)."""
        vectors = encode(self._encoder, ids, dtype=self._dtype, budget=self.budget, watch=watch)
        shape = self.model.encoder.shape
        vectors = shortened(vectors, self.keeping.dim, normalize=shape.normalize)
        return self.keeping.pack(vectors)
