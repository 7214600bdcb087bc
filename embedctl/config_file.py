"""A file of settings, in TOML or YAML."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from embedctl.errors import ConfigError
from embedctl.settings import Settings


def read_file(file: Path) -> dict[str, Any]:
    """The tables of a TOML or YAML file; any mistake is a :class:`ConfigError` with its line."""
    try:
        text = file.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as fault:
        raise ConfigError(f"cannot read {file}: {fault}") from None
    values = _parse_yaml(file, text) if file.suffix in (".yaml", ".yml") else _parse_toml(file, text)
    if not isinstance(values, dict):
        raise ConfigError(f"{file} holds a {type(values).__name__}, not tables of settings")
    for name, value in values.items():
        if name in Settings.model_fields and not isinstance(value, dict):
            raise ConfigError(f"{file}: {name} is a table, got {value!r}", hint=f"write [{name}] and the keys below it")
    return values


def _parse_toml(file: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        reason, _, where = str(fault).partition(" (at line ")
        line = where.split(",")[0] or str(text.count("\n") + 1)
        raise ConfigError(f"{file}:{line}: not valid TOML: {reason[:1].lower() + reason[1:]}") from None
    except RecursionError:
        raise ConfigError(f"{file}: not valid TOML: lists in lists without end") from None


def _parse_yaml(file: Path, text: str) -> Any:
    import yaml

    try:
        found = yaml.safe_load(text) or {}
        odd = next(_odd_keys(found), None)
    except (yaml.YAMLError, ValueError, RecursionError) as fault:
        mark = getattr(fault, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark else str(file)
        raise ConfigError(f"{where}: not valid YAML: {getattr(fault, 'problem', fault)}") from None
    if odd is not None:
        raise ConfigError(f"{file}: {odd!r} is no name of a setting", hint=f'in quotation marks it is: "{odd}"')
    return found


def _odd_keys(node: object) -> Iterator[object]:
    """YAML takes numbers, dates and truth values for names."""
    if isinstance(node, dict):
        for name, value in node.items():
            if not isinstance(name, str):
                yield name
            yield from _odd_keys(value)
