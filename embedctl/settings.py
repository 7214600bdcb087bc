"""Every setting, in the order the data flows; the twin of ``config.example.toml``.

Each room takes its own section, never the whole tree. Units stand in the names; off is 0 or unset.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

Name = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
# Layers, width, heads, width of the feed-forward layer.
SIZES = {
    "nano": (2, 128, 4, 512),
    "micro": (4, 256, 4, 1024),
    "mini": (6, 384, 12, 1536),
    "small": (12, 384, 12, 1536),
    "base": (12, 768, 12, 3072),
}
Severity = Literal["low", "medium", "high", "critical"]
Action = Literal["keep", "flag", "fix", "drop", "fail"]


def _unset(value: object) -> object:
    return None if value == "" else value


# ``Path("")`` would be the working folder; an empty value in a file or a variable means that none is given.
OptionalPath = Annotated[Path | None, BeforeValidator(_unset)]


class Section(BaseModel):
    """A table of the configuration: frozen, and a key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ProjectSettings(Section):
    """Where things lie and what they are called."""

    workspace: Path = Field(Path("artifacts"), description="Folder of all artifacts; relative to this file.")
    name: str = Field("main", pattern=Name, description="Name of the corpus and of what is made from it.")
    run: str = Field("main", pattern=Name, description="Name of the training run and of its vectors.")
    seed: int = Field(0, ge=0, description="Weights, order and crops are functions of it.")


class SourceSettings(Section):
    """Where text comes from."""

    source: Literal["local", "hub", "pubmedqa", "openwebtext"] = Field(
        "local", description="local: your files; hub: a data set of the Hugging Face Hub; the others: presets of it."
    )
    path: OptionalPath = Field(
        None,
        description="File, folder or glob of text in any format that the README lists; with pubmedqa a local copy.",
    )
    dataset: str = Field("", description="hub: OWNER/NAME.")
    configuration: str = Field(
        "", description="hub: its configuration; pubmedqa: pqa_labeled, _unlabeled, _artificial."
    )
    split: str = Field("train", description="hub: its split.")
    revision: str = Field(
        "", description="hub: a commit; empty: the pinned one of a preset, else the newest, recorded."
    )
    max_records: int = Field(0, ge=0, description="Stop after so many records; 0: all.")
    max_bytes: int = Field(0, ge=0, description="Stop after so many bytes of text (UTF-8); 0: all.")
    sample_percent: float = Field(100.0, gt=0, le=100, description="Share of the records taken, by project.seed.")
    text_field: str = Field("text", description="Field that holds the text; dots reach into tables, lists are joined.")
    query_field: str = Field("query", description="Field of a text that should find this one; may be missing.")
    id_field: str = Field("id", description="Field of the record's id; where it is missing, file and row number.")
    metadata_fields: tuple[str, ...] | None = Field(None, description="Fields kept as metadata; unset: all others.")


class NamedSourceSettings(SourceSettings):
    """One of several sources."""

    name: str = Field(pattern=Name, description="Stands before the ids of its records.")
    weight: float = Field(1.0, gt=0, description="Its records come so many times as often, until it is exhausted.")


class DataSettings(SourceSettings):
    """Where the text comes from."""

    sources: tuple[NamedSourceSettings, ...] = Field(
        (), description="Several: [[data.sources]] tables with a name, a weight and the keys above."
    )
    held_percent: float = Field(10.0, ge=0, lt=100, description="Share held out for evaluation, by a hash of the id.")

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> "DataSettings":
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError(f"two of sources have the same name ({', '.join(names)})")
        own = set(SourceSettings.model_fields) - {"max_records", "max_bytes"}
        said = [name for name in sorted(own) if getattr(self, name) != type(self).model_fields[name].default]
        if self.sources and said:
            raise ValueError(f"with sources, each of them says where its text is: move {', '.join(said)} into them")
        return self


class ActionSettings(Section):
    """What to do about each finding: keep, flag, fix (where it can be), drop the record, or fail (exit 3)."""

    empty: Action = "drop"
    too_short: Action = "drop"
    too_long: Action = "drop"
    invalid_encoding: Action = Field("flag", description="U+FFFD, which stands for bytes that made no sense.")
    nul: Action = Field("fix", description="NUL characters; fix: removed.")
    control_characters: Action = Field("flag", description="Non-printable characters; fix: removed.")
    invisible_text: Action = Field("flag", description="Tag characters, invisible runs and payloads; fix: removed.")
    bidi_override: Action = Field("flag", description="Direction overrides that disguise; fix: removed.")
    homoglyphs: Action = Field("flag", description="Words that mix look-alike letters of several scripts.")
    mojibake: Action = Field("flag", description="Text decoded with the wrong encoding; fix: by ftfy.")
    sql_injection: Action = "flag"
    command_injection: Action = Field("flag", description="Shell commands, path traversal, templates, format strings.")
    markup_injection: Action = Field("flag", description="Scripts and event handlers.")
    prompt_injection: Action = Field("flag", description="Orders to a language model.")
    secret: Action = Field("flag", description="Keys, tokens, passwords; fix: redacted.")
    personal_data: Action = Field(
        "keep", description="E-mail and IP addresses, card and account numbers; fix: redacted."
    )
    repetition: Action = Field("flag", description="Mostly the same lines or words again.")
    duplicate: Action = Field("drop", description="The same text and query as an earlier record.")
    near_duplicate: Action = Field("drop", description="Nearly the same text as an earlier record.")
    held_text_in_training: Action = Field("drop", description="A training record whose text or query is held out too.")


class ValidationSettings(Section):
    """What counts as bad text, and what to do about it."""

    min_characters: int = Field(1, ge=1, description="Shorter texts are too_short.")
    max_characters: int = Field(1_000_000, ge=1, description="Longer texts are too_long.")
    near_duplicate_similarity: float = Field(
        0.8, ge=0.7, le=1, description="Share of five-word runs in common (Jaccard) that makes a near_duplicate."
    )
    fail_on: Literal["never"] | Severity = Field(
        "never", description="Exit 3 when a finding is at least so severe: never, low, medium, high, critical."
    )
    actions: ActionSettings = ActionSettings()


class TokensSettings(Section):
    """How text becomes token ids."""

    tokenizer: OptionalPath = Field(None, description="A tokenizer.json to use; unset: train one on the corpus.")
    algorithm: Literal["bpe", "wordpiece"] = Field("bpe", description="What to train; bpe is byte-level.")
    vocabulary_size: int = Field(16_384, ge=300, description="Upper limit of the trained vocabulary, in tokens.")
    lowercase: bool = Field(False, description="Fold case before tokenizing (trained tokenizers only).")
    max_tokens: int = Field(256, ge=8, le=8192, description="Longest chunk, with its two special tokens.")
    overlap_tokens: int = Field(32, ge=0, description="Tokens that neighbouring chunks of a record share.")
    query_max_tokens: int = Field(64, ge=8, le=8192, description="Longer queries are cut, and counted.")
    query_prompt: str | None = Field(None, description="Put before each query; unset: that of model.init_from, if any.")
    passage_prompt: str | None = Field(None, description="The same for passages.")

    @model_validator(mode="after")
    def _overlap_leaves_room(self) -> "TokensSettings":
        if self.overlap_tokens > (self.max_tokens - 2) // 2:
            raise ValueError(f"overlap_tokens ({self.overlap_tokens}) must be at most half of max_tokens - 2")
        return self


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
    minutes: float = Field(0.0, ge=0, description="Time instead of epochs, turned into steps at the start; 0: off.")
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
    recall_at: tuple[int, ...] = Field((1, 10, 100), min_length=1, description="Cut-offs k of recall@k.")
    similarity_file: OptionalPath = Field(
        None, description="Scored sentence pairs (.csv, .tsv, .jsonl: sentence1, sentence2, score) for Spearman."
    )
    beir_folders: tuple[Path, ...] = Field(
        (), description="Folders in BEIR's layout: corpus.jsonl, queries.jsonl, qrels/test.tsv; plain or .gz."
    )
    mteb_tasks: tuple[str, ...] = Field((), description="Names of MTEB tasks; wants pip install 'embedctl[eval]'.")


class EmbeddingSettings(Section):
    """From chunks to vectors."""

    dtype: Literal["float32", "float16"] = Field("float32", description="Of the stored values.")
    batch_tokens: int = Field(16_384, ge=64, description="Tokens per forward pass.")
    with_text: bool = Field(True, description="Keep each chunk's text in its metadata.")


class StoreSettings(Section):
    """The vector database."""

    kind: Literal["lancedb", "pinecone"] = Field("lancedb", description="lancedb is embedded in the workspace.")
    collection: str = Field("main", pattern=Name, description="LanceDB: the table; Pinecone: the index.")
    namespace: str = Field("", description="Pinecone: the namespace.")
    host: str = Field("", description="Pinecone: the index's own host; empty: look it up by name.")
    batch_size: int = Field(1000, ge=1, le=10_000, description="Most vectors per request.")


class MemorySettings(Section):
    """Watching memory."""

    alert_ratio: float = Field(0.85, gt=0, le=1, description="Warn above this share of the device's memory.")
    interval_seconds: float = Field(1.0, gt=0, description="Between two readings of `mem watch`.")


class Secrets(BaseSettings):
    """Keys: only from the environment or `.env`, never from a file that is shared, never shown."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    pinecone_api_key: SecretStr | None = None
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
