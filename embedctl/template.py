"""The files that ``init`` writes: every setting with its default and what it means, and the names of the secrets."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from embedctl.settings import Secrets, Settings

_SECRET_MEANING = {
    "pinecone_api_key": 'for [store] kind = "pinecone"',
    "database_url": 'for [store] kind = "pgvector": postgresql://USER:PASSWORD@HOST/DATABASE',
    "wandb_api_key": "for [training] wandb_project; without it W&B tracks offline",
    "hf_token": "for gated data sets of the Hugging Face Hub",
}


def config_text(settings: Settings | None = None) -> str:
    """``config.toml`` with all defaults; or with the values of ``settings``, its paths made absolute."""
    lines = [
        "# embedctl: every setting with its default. Remove what you do not change.",
        "# The later one wins: default, this file, .env, environment (EMBEDCTL_TRAINING__EPOCHS=5),",
        "# option (--set training.epochs=5). Relative paths start where this file lies.",
    ]
    for name, field in Settings.model_fields.items():
        section = field.annotation
        assert isinstance(section, type)
        assert issubclass(section, BaseModel)
        summary = (section.__doc__ or "").strip().splitlines()[0]
        lines += ["", f"# {summary}", f"[{name}]", *_keys(section, getattr(settings, name, None), name)]
    return "\n".join(lines) + "\n"


def env_text() -> str:
    """``.env`` with the names of the secrets and no values."""
    lines = ["# Secrets of embedctl. Never commit this file with values in it.", ""]
    for name in Secrets.model_fields:
        lines += [f"# {_SECRET_MEANING[name]}", f"#{name.upper()}="]
    return "\n".join(lines) + "\n"


def _keys(section: type[BaseModel], used: BaseModel | None, table: str) -> Iterator[str]:
    below: list[str] = []
    for name, field in section.model_fields.items():
        value = field.get_default(call_default_factory=True) if used is None else getattr(used, name)
        if isinstance(value, BaseModel):
            summary = (type(value).__doc__ or "").strip().splitlines()[0]
            below += ["", f"# {summary}", f"[{table}.{name}]", *_keys(type(value), value, f"{table}.{name}")]
            continue
        if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            for row in value:
                below += ["", f"[[{table}.{name}]]", *_keys(type(row), row, f"{table}.{name}")]
            continue
        if used is not None and isinstance(value, Path):
            value = value.absolute()
        if used is not None and isinstance(value, tuple):
            value = tuple(item.absolute() if isinstance(item, Path) else item for item in value)
        unset = "[]" if "tuple" in str(field.annotation) else '""'
        line = f"{name} = {_toml(value)}" if value is not None else f"#{name} = {unset}"
        yield f"{line}  # {field.description}" if field.description else line
    yield from below


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, int):
        return f"{value:_}" if value >= 10_000 else str(value)
    return str(value) if isinstance(value, float) else _quoted(str(value))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
