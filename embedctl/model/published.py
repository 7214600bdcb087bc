"""Models as others publish them: a folder of the Hugging Face kind, or one of the Hub, read into our encoder."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from embedctl.errors import ArtifactError, ConfigError, RemoteError
from embedctl.model import layouts
from embedctl.model.encoder import Encoder
from embedctl.model.shape import Pooling, Shape
from embedctl.settings import ModelSettings, TokensSettings

WEIGHTS = "model.safetensors"
# No pickle, no code.
_FILES = ["*.json", "*.txt", "*.safetensors"]
_POOLINGS: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
}
_PASSAGE_PROMPTS = ("passage", "document", "corpus")


@dataclass(frozen=True, slots=True)
class Published:
    """What a published model's folder says, apart from its weights.

    limit:   how many tokens of a text sentence-transformers gives the model, often less than it has places for
    prompts: to be put before a query and before a passage; empty: none
    """

    folder: Path
    shape: Shape
    limit: int
    query_prompt: str = ""
    passage_prompt: str = ""

    def encoder(self) -> Encoder:
        """The model with its weights, float32."""
        path = self.folder / WEIGHTS
        try:
            encoder = Encoder(self.shape)
            weights = layouts.from_published(self.shape, load_file(path), path)
            encoder.load_state_dict(weights)
        except SafetensorError as fault:
            raise ArtifactError(f"{path} is damaged: {fault}") from None
        except (RuntimeError, IndexError) as fault:
            raise ArtifactError(f"{path} does not fit its config.json: {str(fault).splitlines()[-1].strip()}") from None
        return encoder


def is_published(folder: Path) -> bool:
    """Whether a folder holds a model of the Hugging Face kind."""
    return (folder / WEIGHTS).is_file() and "model_type" in _json(folder / "config.json")


def open_folder(folder: Path) -> Published:
    """Read config, pooling and prompts of the model in ``folder``; raises :class:`ArtifactError`."""
    config = _json(folder / "config.json")
    if not (folder / WEIGHTS).is_file():
        raise ArtifactError(
            f"no {WEIGHTS} in {folder}", hint="pickled weights (pytorch_model.bin) are not read: they can hold code"
        )
    modules = _modules(folder)
    pooling: Pooling = "mean"
    normalize = not modules
    for kind, path in modules:
        if kind == "Pooling":
            pooling = _pooling(folder / path / "config.json")
        elif kind == "Normalize":
            normalize = True
        elif kind != "Transformer":
            raise ArtifactError(f"{folder}: modules.json has a {kind}; embedctl computes pooling and normalizing alone")
    shape = _shape(config, pooling, normalize=normalize, where=folder / "config.json")
    limit = min(_limit(folder) or shape.max_tokens, shape.max_tokens)
    if shape.layout == "modernbert":
        shape = replace(shape, max_tokens=limit)
    prompts = _json(folder / "config_sentence_transformers.json").get("prompts") or {}
    if not isinstance(prompts, dict):
        raise ArtifactError(f"{folder / 'config_sentence_transformers.json'}: prompts is no table; got {prompts!r}")
    passage = next((prompts[name] for name in _PASSAGE_PROMPTS if prompts.get(name)), "")
    return Published(folder, shape, limit, str(prompts.get("query") or ""), str(passage))


def resolve(wanted: str) -> Path:
    """The folder of ``model.init_from``: as it stands, or fetched from the Hub (OWNER/NAME, or OWNER/NAME@COMMIT)."""
    path = Path(wanted).expanduser()
    if path.exists():
        return path
    name, _, revision = wanted.partition("@")
    if wanted.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ConfigError(f"model.init_from: no folder at {wanted}", hint="a folder, or OWNER/NAME of the Hub")
    return _fetch(name, revision or None)


def tokens_settings(model: ModelSettings, tokens: TokensSettings) -> TokensSettings:
    """The tokens settings; what is unset is as the published model of ``model.init_from`` has it."""
    if not model.init_from:
        return tokens
    folder = resolve(model.init_from)
    if not is_published(folder):
        return tokens
    published = open_folder(folder)
    if tokens.max_tokens > published.shape.max_tokens:
        raise ConfigError(
            f"tokens.max_tokens is {tokens.max_tokens}, but {model.init_from} takes {published.shape.max_tokens}",
            hint=f"--set tokens.max_tokens={published.shape.max_tokens}",
        )
    return tokens.model_copy(
        update={
            "tokenizer": tokens.tokenizer or folder,
            "query_prompt": published.query_prompt if tokens.query_prompt is None else tokens.query_prompt,
            "passage_prompt": published.passage_prompt if tokens.passage_prompt is None else tokens.passage_prompt,
        }
    )


def _fetch(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_FILES))
    except RepositoryNotFoundError:
        raise ConfigError(f"model.init_from: no model {name} on the Hub", hint="a folder, or OWNER/NAME") from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as fault:
        raise RemoteError(
            f"the Hub does not give {name}: {str(fault).splitlines()[0]}", hint="run it again, or name a local folder"
        ) from None


def _shape(config: dict[str, Any], pooling: Pooling, *, normalize: bool, where: Path) -> Shape:
    try:
        return layouts.shape_of(config, pooling=pooling, normalize=normalize, where=where)
    except KeyError as missing:
        raise ArtifactError(f"{where} lacks {missing}") from None
    except (TypeError, ValueError, AttributeError) as fault:
        raise ArtifactError(f"{where} describes no model: {fault}") from None


def _modules(folder: Path) -> list[tuple[str, str]]:
    path = folder / "modules.json"
    listed = _read(path) if path.is_file() else []
    try:
        return [(module["type"].rsplit(".", 1)[-1], str(module.get("path", ""))) for module in listed]
    except (KeyError, TypeError, AttributeError):
        raise ArtifactError(f"{path} is no list of modules, each with its type") from None


def _limit(folder: Path) -> int | None:
    """Most tokens of a text, as sentence-transformers reads it: up to version 5 from a file of its own, then from the
    tokenizer's."""
    own = _json(folder / "sentence_bert_config.json").get("max_seq_length")
    limit = own if own is not None else _json(folder / "tokenizer_config.json").get("model_max_length")
    # What is unknown is written as 1e30, as an integer.
    return int(limit) if isinstance(limit, int | float) and limit > 0 else None


def _pooling(path: Path) -> Pooling:
    config = _json(path)
    if config.get("include_prompt") is False:
        raise ArtifactError(f"{path}: include_prompt is false; embedctl pools over prompts too")
    mode = config.get("pooling_mode")
    if isinstance(mode, str):
        found = {"cls": "cls", "mean": "mean", "lasttoken": "last"}.get(mode)
    else:
        on = [name for name, value in config.items() if name.startswith("pooling_mode_") and value is True]
        found = _POOLINGS.get(on[0]) if len(on) == 1 else None
    if found is None:
        raise ArtifactError(f"{path}: embedctl pools by mean, cls or last token alone")
    return found  # type: ignore[return-value]


def _json(path: Path) -> dict[str, Any]:
    """The table in ``path``; an empty one if there is none."""
    content = _read(path) if path.is_file() else {}
    return content if isinstance(content, dict) else {}


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as fault:
        raise ArtifactError(f"{path} is not JSON: {fault}") from None
