"""Every setting, in the order the data flows; the twin of ``config.example.toml``.

Each room takes its own section, never the whole tree. Units stand in the names; off is 0 or unset.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

Name = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
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

    @model_validator(mode="after")
    def _overlap_leaves_room(self) -> "TokensSettings":
        if self.overlap_tokens > (self.max_tokens - 2) // 2:
            raise ValueError(f"overlap_tokens ({self.overlap_tokens}) must be at most half of max_tokens - 2")
        return self


class ModelSettings(Section):
    """The shape of the encoder (BERT layout)."""

    layers: int = Field(4, ge=0, le=96, description="Transformer blocks; 0: the mean of token embeddings.")
    dim: int = Field(256, ge=8, description="Width of the hidden state and of a vector.")
    heads: int = Field(4, ge=1, description="Attention heads; must divide dim.")
    intermediate_dim: int = Field(1024, ge=8, description="Width of the feed-forward layer.")
    pooling: Literal["mean", "cls"] = Field("mean", description="From one vector per token to one per text.")

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> "ModelSettings":
        if self.dim % self.heads:
            raise ValueError(f"dim ({self.dim}) must be a multiple of heads ({self.heads})")
        return self


class ComputeSettings(Section):
    """Where and in which arithmetic to train and to embed."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto: a GPU if there is one.")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 where the processor has instructions for it, else fp32."
    )


class TrainingSettings(Section):
    """Contrastive training (InfoNCE with in-batch negatives)."""

    epochs: float = Field(3.0, gt=0, description="Passes over the training pairs.")
    batch_pairs: int = Field(64, ge=2, description="Pairs whose passages are each other's negatives.")
    chunk_pairs: int = Field(64, ge=1, description="Pairs in memory at a time; smaller saves memory, same gradients.")
    gradient_accumulation_steps: int = Field(1, ge=1, description="Batches per optimizer step.")
    crop_share: float = Field(
        0.0, ge=0, le=1, description="Share of queries replaced by a random crop of the passage; without query always."
    )
    learning_rate: float = Field(5e-4, gt=0, description="Peak of the schedule (AdamW).")
    warmup_share: float = Field(0.1, ge=0, lt=1, description="Share of the steps in which the rate rises.")
    schedule: Literal["linear", "cosine", "constant"] = Field("cosine", description="How the rate falls to 0.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW, on matrices alone.")
    clip_norm: float = Field(1.0, ge=0, description="Largest gradient norm; 0: no clipping.")
    temperature: float = Field(0.05, gt=0, description="InfoNCE: cosines are divided by it.")
    log_every_steps: int = Field(1, ge=1, description="Lines of metrics.jsonl.")
    evaluate_every_steps: int = Field(0, ge=0, description="0: before the first and after the last step only.")
    tensorboard: bool = Field(True, description="Write TensorBoard events, if it is installed.")
    wandb_project: str = Field("", description="Also track with W&B (offline without WANDB_API_KEY); empty: off.")


class CheckpointSettings(Section):
    """What training saves and keeps."""

    every_steps: int = Field(100, ge=1, description="Save after so many optimizer steps; the last is always saved.")
    keep_last: int = Field(3, ge=1, description="prune keeps the newest so many, the best, and the head.")
    metric: Literal["ndcg_at_10", "mrr", "recall_at_10", "loss_nats"] = Field(
        "ndcg_at_10", description="What makes a checkpoint the best one."
    )


class EvaluationSettings(Section):
    """How good the vectors are."""

    max_documents: int = Field(
        20_000, ge=0, description="Largest number of records searched: the held ones and a sample of the rest; 0: all."
    )
    recall_at: tuple[int, ...] = Field((1, 10, 100), min_length=1, description="Cut-offs k of recall@k.")
    similarity_file: OptionalPath = Field(
        None, description="Scored sentence pairs (.csv, .tsv, .jsonl: sentence1, sentence2, score) for Spearman."
    )


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
