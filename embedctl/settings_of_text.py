"""Settings of text, in the order the data flows: where it comes from, what is wrong with it, how it becomes tokens."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Name = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
Severity = Literal["low", "medium", "high", "critical"]
Action = Literal["keep", "flag", "fix", "drop", "fail"]


def _unset(value: object) -> object:
    return None if value == "" else value


# ``Path("")`` would be the working folder; an empty value in a file or a variable means that none is given.
OptionalPath = Annotated[Path | None, BeforeValidator(_unset)]


class Section(BaseModel):
    """A table of the configuration: frozen, and a key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


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
    held_text_in_training: Action = Field(
        "drop", description="A training text or query that is held out, or in the similarity file."
    )


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
    max_tokens: int = Field(256, ge=8, le=8192, description="Longest chunk, with its prompt and special tokens.")
    overlap_tokens: int = Field(32, ge=0, description="Tokens that neighbouring chunks of a record share.")
    query_max_tokens: int = Field(
        64, ge=8, le=8192, description="Longer queries, with their prompt, are cut and counted."
    )
    query_prompt: str | None = Field(None, description="Put before each query; unset: that of model.init_from, if any.")
    passage_prompt: str | None = Field(None, description="The same for passages.")

    @model_validator(mode="after")
    def _overlap_leaves_room(self) -> "TokensSettings":
        if self.overlap_tokens > (self.max_tokens - 2) // 2:
            raise ValueError(f"overlap_tokens ({self.overlap_tokens}) must be at most half of max_tokens - 2")
        return self
