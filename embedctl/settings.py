"""Every setting, in the order the data flows; the twin of ``config.example.toml``.

Each room takes its own section, never the whole tree. Units stand in the names; off is 0 or unset.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from embedctl.settings_of_text import (
    Action,
    ActionSettings,
    DataSettings,
    Name,
    NamedSourceSettings,
    OptionalPath,
    Section,
    Severity,
    SourceSettings,
    TokensSettings,
    ValidationSettings,
)

__all__ = [
    "SIZES",
    "Action",
    "ActionSettings",
    "CheckpointSettings",
    "ComputeSettings",
    "DataSettings",
    "EmbeddingSettings",
    "EvaluationSettings",
    "MemorySettings",
    "ModelSettings",
    "Name",
    "NamedSourceSettings",
    "OptionalPath",
    "ProjectSettings",
    "Secrets",
    "Section",
    "Settings",
    "Severity",
    "SourceSettings",
    "StoreSettings",
    "TokensSettings",
    "TrainingSettings",
    "ValidationSettings",
]

# Layers, width, heads, width of the feed-forward layer.
SIZES = {
    "nano": (2, 128, 4, 512),
    "micro": (4, 256, 4, 1024),
    "mini": (6, 384, 12, 1536),
    "small": (12, 384, 12, 1536),
    "base": (12, 768, 12, 3072),
}


class ProjectSettings(Section):
    """Where things lie and what they are called."""

    workspace: Path = Field(Path("artifacts"), description="Folder of all artifacts; relative to this file.")
    name: str = Field("main", pattern=Name, description="Name of the corpus and of what is made from it.")
    run: str = Field("main", pattern=Name, description="Name of the training run and of its vectors.")
    seed: int = Field(0, ge=0, description="Weights, order and crops are functions of it.")


class ModelSettings(Section):
    """Where the encoder's weights begin, and its shape."""

    init_from: str = Field(
        "",
        description="Begin with these weights: a folder of a published model (BERT or ModernBERT layout), OWNER/NAME "
        "of the Hub, a run or a checkpoint. Empty: fresh ones.",
    )
    layout: Literal["bert", "modernbert"] = Field("bert", description="Of fresh weights, as are the next five.")
    size: Literal["nano", "micro", "mini", "small", "base"] = Field(
        "micro", description="2x128, 4x256, 6x384, 12x384 or 12x768 (layers x width); what is set below wins."
    )
    layers: int | None = Field(None, ge=0, le=96, description="Transformer blocks; 0: the mean of token embeddings.")
    dim: int | None = Field(None, ge=8, description="Width of the hidden state and of a vector.")
    heads: int | None = Field(None, ge=1, description="Attention heads; must divide dim.")
    intermediate_dim: int | None = Field(None, ge=8, description="Width of the feed-forward layer.")
    pooling: Literal["mean", "cls", "last"] | None = Field(
        None, description="From one vector per token to one per text; unset: that of init_from, else mean."
    )
    normalize: bool | None = Field(None, description="Vectors of length 1; unset: as init_from, else true.")

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> "ModelSettings":
        _, dim, heads, _ = self.sizes
        if dim % heads:
            raise ValueError(f"dim ({dim}) must be a multiple of heads ({heads})")
        if self.layout == "modernbert" and dim // heads % 2:
            raise ValueError(f"dim / heads ({dim // heads}) must be even with modernbert")
        return self

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Layers, dim, heads and intermediate_dim of fresh weights."""
        named = SIZES[self.size]
        own = (self.layers, self.dim, self.heads, self.intermediate_dim)
        layers, dim, heads, inner = (a if a is not None else b for a, b in zip(own, named, strict=True))
        return layers, dim, heads, inner


class ComputeSettings(Section):
    """Where and in which arithmetic to train and to embed."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto: a GPU if there is one.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 where there are instructions for it, else fp16 on a GPU and fp32 on a CPU."
    )


class TrainingSettings(Section):
    """What training minimises, on what, how fast and how long."""

    objective: Literal["contrastive", "mlm"] = Field(
        "contrastive",
        description="contrastive: a query finds its passage (InfoNCE); mlm: masked words are guessed from their text.",
    )
    epochs: float = Field(3.0, gt=0, description="Passes over the training records.")
    steps: int = Field(0, ge=0, description="Optimizer steps instead of epochs; 0: epochs count.")
    minutes: float = Field(0.0, ge=0, description="Time for steps instead of epochs, measured at the start; 0: off.")
    batch_pairs: int = Field(64, ge=2, description="Pairs whose passages are each other's negatives.")
    chunk_pairs: int = Field(64, ge=1, description="Pairs in memory at a time; smaller saves memory, same gradients.")
    batch_tokens: int = Field(16_384, ge=64, description="mlm: tokens of a batch.")
    mask_share: float = Field(0.3, gt=0, lt=1, description="mlm: share of the tokens to guess.")
    gradient_accumulation_steps: int = Field(1, ge=1, description="Batches per optimizer step.")
    crop_share: float = Field(
        0.0, ge=0, le=1, description="Share of queries replaced by a random crop of the passage; without query always."
    )
    hard_negatives: int = Field(0, ge=0, le=32, description="Mined passages (`embedctl mine`) beside each pair.")
    temperature: float = Field(0.05, gt=0, description="InfoNCE: cosines are divided by it.")
    learn_temperature: bool = Field(False, description="Train the temperature too, from there.")
    symmetric: bool = Field(False, description="Also let each passage find its query.")
    matryoshka_dims: tuple[int, ...] = Field((), description="Also train the first so many values alone: [64, 128].")
    optimizer: Literal["adamw", "muon"] = Field("adamw", description="muon: for the matrices of the blocks.")
    learning_rate: float | None = Field(
        None, gt=0, description="Peak of the schedule; unset: 0.0005 for fresh weights, 0.00005 with model.init_from."
    )
    warmup_share: float = Field(0.1, ge=0, lt=1, description="Share of the steps in which the rate rises.")
    schedule: Literal["linear", "cosine", "wsd", "constant"] = Field(
        "cosine", description="How the rate falls to 0; wsd: stable, then linear."
    )
    decay_share: float = Field(0.2, gt=0, le=1, description="wsd: share of the steps in which the rate falls.")
    weight_decay: float = Field(0.01, ge=0, description="On matrices alone.")
    clip_norm: float = Field(1.0, ge=0, description="Largest gradient norm; 0: no clipping.")
    ema_decay: float = Field(0.0, ge=0, lt=1, description="Keep a moving average of the weights and use that; 0: off.")
    patience: int = Field(0, ge=0, description="Stop after so many evaluations without a better metric; 0: never.")
    log_every_steps: int = Field(1, ge=1, description="Lines of metrics.jsonl.")
    evaluate_every_steps: int = Field(0, ge=0, description="0: before the first and after the last step only.")
    compile: bool = Field(
        False, description="torch.compile on a GPU; slow to start, seldom worth it with flat batches."
    )
    tensorboard: bool = Field(True, description="Write TensorBoard events, if it is installed.")
    wandb_project: str = Field("", description="Also track with W&B (offline without WANDB_API_KEY); empty: off.")

    @model_validator(mode="after")
    def _one_budget(self) -> "TrainingSettings":
        if self.steps and self.minutes:
            raise ValueError(f"steps ({self.steps}) and minutes ({self.minutes}) both limit the run: set one to 0")
        if any(dim < 1 for dim in self.matryoshka_dims):
            raise ValueError(f"matryoshka_dims ({list(self.matryoshka_dims)}) are numbers of values, from 1 on")
        if self.learn_temperature and self.temperature < 0.01:
            raise ValueError(f"a learned temperature begins at 0.01 at least, got {self.temperature}")
        if self.patience and not self.evaluate_every_steps:
            raise ValueError("patience counts evaluations: set evaluate_every_steps too")
        return self


class CheckpointSettings(Section):
    """What training saves and keeps."""

    every_steps: int = Field(100, ge=1, description="Save after so many optimizer steps; the last is always saved.")
    keep_last: int = Field(3, ge=1, description="prune keeps the newest so many, the best, and the head.")
    metric: Literal["ndcg_at_10", "mrr", "recall_at_10", "spearman", "loss_nats", "held_loss_nats"] | None = Field(
        None, description="What makes a checkpoint the best one; unset: ndcg_at_10, with mlm held_loss_nats."
    )


class EvaluationSettings(Section):
    """How good the vectors are."""

    documents: Literal["all", "held"] = Field(
        "all", description="What is searched: all records, or the held ones alone, which is easier."
    )
    max_documents: int = Field(
        20_000, ge=0, description="Largest number of records searched: the held ones and a sample of the rest; 0: all."
    )
    recall_at: tuple[PositiveInt, ...] = Field((1, 10, 100), min_length=1, description="Cut-offs k of recall@k.")
    similarity_file: OptionalPath = Field(
        None, description="Scored sentence pairs (.csv, .tsv, .jsonl: sentence1, sentence2, score) for Spearman."
    )
    beir_folders: tuple[Path, ...] = Field(
        (), description="Folders in BEIR's layout: corpus.jsonl, queries.jsonl, qrels/test.tsv; plain or .gz."
    )
    mteb_tasks: tuple[str, ...] = Field((), description="Names of MTEB tasks; wants pip install 'embedctl[eval]'.")


class EmbeddingSettings(Section):
    """From chunks to vectors."""

    model: OptionalPath = Field(
        None,
        description="Folder of a published model, a run or a checkpoint to embed with; unset: the head of the run.",
    )
    dim: int = Field(0, ge=0, description="Keep so many values of each vector (Matryoshka); 0: all.")
    dtype: Literal["float32", "float16", "int8"] = Field("float32", description="Of the stored values.")
    batch_tokens: int = Field(0, ge=0, description="Tokens per forward pass; 0: found by trying.")
    cache_megabytes: int = Field(4000, ge=0, description="Vectors kept by content for later runs, at most; 0: none.")
    with_text: bool = Field(True, description="Keep each chunk's text in its metadata.")


class StoreSettings(Section):
    """The vector database."""

    kind: Literal["lancedb", "pinecone", "pgvector"] = Field(
        "lancedb", description="lancedb is embedded in the workspace; pgvector: PostgreSQL at DATABASE_URL."
    )
    collection: str = Field("main", pattern=Name, description="LanceDB, pgvector: the table; Pinecone: the index.")
    namespace: str = Field("", description="Pinecone: the namespace; pgvector: the schema, empty: the user's own.")
    host: str = Field("", description="Pinecone: the index's own host; empty: look it up by name.")
    batch_size: int = Field(0, ge=0, le=100_000, description="Most vectors per request; 0: as many as the store takes.")
    timeout_seconds: float = Field(30.0, gt=0, description="Longest wait for one answer of Pinecone.")
    deadline_seconds: float = Field(300.0, gt=0, description="Give up after failing for so long (exit 6).")
    column: Literal["vector", "halfvec"] = Field(
        "vector", description="pgvector: type of the values; halfvec is half as large, with nearly the same answers."
    )
    index_from_rows: int = Field(
        200_000, ge=0, description="LanceDB, pgvector: with so many vectors make an index over them; 0: never."
    )
    full_text: bool = Field(
        True, description="LanceDB, pgvector: index the words too, for --mode keyword and hybrid; writing takes longer."
    )


class MemorySettings(Section):
    """Watching memory."""

    alert_ratio: float = Field(0.85, gt=0, le=1, description="Warn above this share of the device's memory.")
    interval_seconds: float = Field(1.0, gt=0, description="Between two readings of `mem watch`.")


class Secrets(BaseSettings):
    """Keys: only from the environment or `.env`, never from a file that is shared, never shown."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    pinecone_api_key: SecretStr | None = None
    database_url: SecretStr | None = None
    wandb_api_key: SecretStr | None = None
    hf_token: SecretStr | None = None


class Settings(BaseSettings):
    """The whole tree. The sources are joined by ``loading``, which knows where each value came from."""

    model_config = SettingsConfigDict(
        env_prefix="EMBEDCTL_",
        env_nested_delimiter="__",
        dotenv_filtering="match_prefix",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    project: ProjectSettings = ProjectSettings()
    data: DataSettings = DataSettings()
    validation: ValidationSettings = ValidationSettings()
    tokens: TokensSettings = TokensSettings()
    model: ModelSettings = ModelSettings()
    compute: ComputeSettings = ComputeSettings()
    training: TrainingSettings = TrainingSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    store: StoreSettings = StoreSettings()
    memory: MemorySettings = MemorySettings()

    @property
    def metric(self) -> str:
        """What makes a checkpoint the best one."""
        return self.checkpoint.metric or ("held_loss_nats" if self.training.objective == "mlm" else "ndcg_at_10")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)
