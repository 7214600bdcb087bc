"""From files, variables and options to one tree of settings, knowing where each value came from.

Order, the later one wins: default, TOML/YAML file, .env, environment, option.
"""

import difflib
import io
import logging
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource, SettingsError

from embedctl.artifacts.layout import Layout
from embedctl.config_file import read_file
from embedctl.errors import ConfigError
from embedctl.settings import NamedSourceSettings, Secrets, Settings

_log = logging.getLogger(__name__)

PREFIX = "EMBEDCTL_"
FILES = ("config.toml", "config.yaml", "config.yml")
SECRETS = tuple(name.upper() for name in Secrets.model_fields)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The effective settings, and of each dotted key where its value came from."""

    settings: Settings
    secrets: Secrets
    origins: dict[str, str]
    file: Path | None

    @property
    def layout(self) -> Layout:
        project = self.settings.project
        return Layout(project.workspace, project.name, project.run)


def load(file: Path | None = None, *, overrides: Sequence[str] = (), workspace: Path | None = None) -> Loaded:
    """Join all sources; any mistake is a :class:`ConfigError` that names the source and the nearest key."""
    file = _config_file(file)
    root = file.parent if file else Path()
    layers = [(str(file), read_file(file))] if file else []
    env_file = root / ".env"
    layers.append((".env", _from_env_file(env_file)))
    layers.append(("environment", _from_environment()))
    layers.append(("option", _from_options(overrides, workspace)))

    merged: dict[str, Any] = {}
    origins = dict.fromkeys(_known(Settings), "default")
    for origin, values in layers:
        _refuse_unknown(values, origin)
        # A path in a file is meant from where the file lies, one in a variable or option from here.
        _anchor(values, root if origin in (str(file), ".env") else Path())
        for dotted in _leaves(values):
            origins[dotted] = origin
        _merge(merged, values)
    merged.setdefault("project", {}).setdefault("workspace", root / "artifacts")
    return Loaded(_validate(merged, origins), _secrets(env_file), origins, file)


def value_at(settings: Settings, dotted: str) -> object:
    """Look a value or a section up: ``training.epochs``."""
    node: object = settings
    for part in dotted.split("."):
        if not isinstance(node, BaseModel) or part not in type(node).model_fields:
            raise ConfigError(f"no setting {dotted!r}", hint=_nearest(dotted, _all_keys()))
        node = getattr(node, part)
    return node


def _config_file(file: Path | None) -> Path | None:
    if file is None:
        return next((path for path in map(Path, FILES) if path.is_file()), None)
    if not file.is_file():
        raise ConfigError(f"no config file at {file}", hint="embedctl init writes one to start from")
    return file


def _from_environment() -> dict[str, Any]:
    names = [name for name in os.environ if name.upper().startswith(PREFIX)]
    _refuse_mistyped(names, "environment")
    return _read_source(EnvSettingsSource(Settings), "environment")


def _from_env_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    from dotenv import dotenv_values
    from dotenv.parser import parse_stream

    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text", hint="save it as UTF-8") from None
    for line in (each.original.line for each in parse_stream(io.StringIO(text)) if each.error):
        _log.warning("%s:%d is not NAME=value; passed over", path, line)
    _refuse_mistyped([name for name in dotenv_values(path) if name.upper().startswith(PREFIX)], str(path))
    return _read_source(DotEnvSettingsSource(Settings, env_file=path), str(path))


def _read_source(source: EnvSettingsSource, origin: str) -> dict[str, Any]:
    try:
        return dict(source())
    except SettingsError as fault:
        # It names the field; what stands there is no JSON.
        name = str(fault).partition('"')[2].partition('"')[0]
        hint = f'lists are JSON: {PREFIX}EVALUATION__RECALL_AT="[1, 10]"'
        raise ConfigError(f"{origin}: a value of {name or 'a setting'} cannot be read", hint=hint) from None


def _from_options(overrides: Sequence[str], workspace: Path | None) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for override in overrides:
        dotted, equals, text = override.partition("=")
        if not equals or "." not in dotted:
            raise ConfigError(f"--set wants section.key=value, got {override!r}")
        *sections, key = dotted.strip().split(".")
        table = values
        for section in sections:
            table = table.setdefault(section, {})
            if not isinstance(table, dict):
                raise ConfigError(f"--set {dotted}: {section} was given a value of its own before")
        table[key] = _parse_value(text)
    if workspace is not None:
        values.setdefault("project", {})["workspace"] = workspace
    return values


def _parse_value(text: str) -> Any:
    """A TOML value if it is one (``3``, ``[1, 10]``, ``true``), else the text as it stands."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _secrets(env_file: Path) -> Secrets:
    return Secrets(_env_file=env_file if env_file.is_file() else None)


def _known(model: type[BaseModel], before: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _known(kind, f"{before}{name}.")
        else:
            yield before + name


def _all_keys() -> list[str]:
    return [*_known(Settings), *Settings.model_fields]


def _leaves(values: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{before}{name}.")
        else:
            yield before + name


def _refuse_unknown(values: Mapping[str, Any], origin: str) -> None:
    known = set(_known(Settings))
    for dotted in _leaves(values):
        if dotted not in known:
            # The value is not shown: a secret may stand under a misspelt key.
            section = dotted.split(".")[0]
            if section.upper() in SECRETS or dotted.split(".")[-1].upper() in SECRETS:
                raise ConfigError(
                    f"{origin}: {dotted} is a secret and has no place here", hint="put it into .env or the environment"
                )
            raise ConfigError(f"{origin}: no setting {dotted!r}", hint=_nearest(dotted, _all_keys()))


def _refuse_mistyped(names: Sequence[str], origin: str) -> None:
    known = [dotted.upper().replace(".", "__") for dotted in _known(Settings)]
    for name in names:
        word = name.upper().removeprefix(PREFIX)
        if word not in known:
            raise ConfigError(f"{origin}: no setting is called {name}", hint=_nearest(word, known, before=PREFIX))


def _nearest(word: str, known: Sequence[str], *, before: str = "") -> str:
    if "." in word:  # not just its section, which is right
        known = [name for name in known if "." in name]
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {before}{close[0]}?" if close else "embedctl config show lists all settings"


def _anchor(values: dict[str, Any], root: Path) -> None:
    data = values.get("data")
    sources = data.get("sources") if isinstance(data, dict) else None
    tables = [
        (values.get("project"), "workspace"),
        (data, "path"),
        *((source, "path") for source in (sources if isinstance(sources, list) else ())),
        (values.get("tokens"), "tokenizer"),
        (values.get("evaluation"), "similarity_file"),
        (values.get("embedding"), "model"),
    ]
    for table, key in tables:
        if isinstance(table, dict) and isinstance(table.get(key), str | Path) and str(table[key]):
            table[key] = root / _home(table[key])
    model = values.get("model")
    if isinstance(model, dict) and isinstance(model.get("init_from"), str) and model["init_from"]:
        model["init_from"] = _from_there(model["init_from"], root)
    evaluation = values.get("evaluation")
    folders = evaluation.get("beir_folders") if isinstance(evaluation, dict) else None
    if isinstance(evaluation, dict) and isinstance(folders, list) and all(isinstance(f, str | Path) for f in folders):
        evaluation["beir_folders"] = [root / _home(folder) for folder in folders]


def _home(path: str | Path) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(f"there is no home folder for {path}") from None


def _from_there(origin: str, root: Path) -> str:
    """``model.init_from`` of a file in ``root``. It is noted as it is written, wherever that is the same."""
    absolute = _home(origin).is_absolute()
    of_hub = origin.count("/") == 1 and not origin.startswith((".", "/", "~")) and not (root / origin).exists()
    if of_hub or root == Path() or absolute:
        return origin
    return str(root / origin)


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, dict):
            _merge(into.setdefault(name, {}), value)
        else:
            into[name] = value


def _origin(origins: Mapping[str, str], place: Sequence[int | str]) -> str:
    """Where the list came from in which something stands."""
    return origins.get(".".join(str(part) for part in place[:2]), "default")


def _keys_at(place: Sequence[int | str]) -> list[str]:
    """The keys that may stand where ``place`` does, which is in one of the tables of ``data.sources``."""
    return list(NamedSourceSettings.model_fields) if tuple(place[:2]) == ("data", "sources") else []


def _validate(merged: dict[str, Any], origins: Mapping[str, str]) -> Settings:
    try:
        return Settings(**merged)
    except ValidationError as fault:
        first = fault.errors(include_url=False)[0]
        dotted = ".".join(str(part) for part in first["loc"])
        node: Any = merged
        for part in first["loc"]:
            inside = isinstance(part, int) and isinstance(node, list) and part < len(node)
            node = node.get(part) if isinstance(node, dict) else node[part] if inside else None
        if first["type"] == "extra_forbidden":
            # The value is not shown: a secret may stand under a misspelt key.
            section = _keys_at(first["loc"])
            hint = _nearest(str(first["loc"][-1]), section) if section else "embedctl config show data"
            raise ConfigError(f"{_origin(origins, first['loc'])}: no setting {dotted!r}", hint=hint) from None
        shown = f", got {node!r}" if isinstance(node, str | int | float | bool) else ""
        reason = first["msg"].removeprefix("Value error, ")
        # Two keys of a section may disagree: name where the one came from that is not a default.
        below = {origin for key, origin in origins.items() if key.startswith(f"{dotted}.")}
        where = origins.get(dotted) or next(iter(sorted(below - {"default"})), _origin(origins, first["loc"]))
        raise ConfigError(
            f"{where}: {dotted}: {reason[:1].lower() + reason[1:]}{shown}",
            hint=f"embedctl config show {dotted.split('.')[0]} shows the section",
        ) from None
