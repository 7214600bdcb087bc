"""Which stored vectors may be found: conditions on their metadata, the same for every store.

A key equals one of its values, or holds a list with one of them; all keys together have to. Numbers are compared as
numbers (1 is 1.0, and never true), all else to the letter. There is no other form, hence no language to break out of.
"""

import json
import math
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from embedctl.embedding.exports.plain import as_text
from embedctl.errors import ConfigError
from embedctl.store.protocol import Where

Scalar = str | int | float | bool


def parsed(conditions: Sequence[str]) -> dict[str, list[Scalar]]:
    """``KEY=VALUE`` texts; a value is a JSON string, else the text as it stands, and a number, true or false beside it.

    Whether a key holds numbers or text that looks like them (all fields of a CSV are text) is not known beforehand.
    """
    where: dict[str, list[Scalar]] = {}
    for condition in conditions:
        key, equals, text = condition.partition("=")
        if not equals or not key:
            raise ConfigError(
                f"--where wants KEY=VALUE, got {condition!r}", hint="for example --where source=web --where chunk=0"
            )
        if key == "text":
            raise ConfigError("the text itself is no filter", hint="--mode keyword finds words in it")
        where.setdefault(key, []).extend(_values(text))
    return where


def matches(metadata: Mapping[str, JsonValue], where: Where) -> bool:
    """What every store's own filter has to agree with."""
    have = set(labels_of(metadata))
    return all(have & labels(key, allowed) for key, allowed in where.items())


def labels(key: str, values: Sequence[Scalar]) -> set[str]:
    """One text per value, the same for equal key and value alone: ``year=n2020``."""
    return {_label(_named(key), value) for value in values}


def labels_of(metadata: Mapping[str, JsonValue]) -> list[str]:
    """All that a row can be found by; what is nested in its metadata is not among it."""
    found = []
    for key, value in metadata.items():
        kind = type(value)
        # The two that nearly all are, without a call: every row of an upsert comes through here.
        if kind is str and "=" not in key:
            found.append(f"{key}=s{value}")
        elif kind is int and "=" not in key:
            found.append(f"{key}=n{value}")
        else:
            some = value if isinstance(value, list) else [value]
            found += [_label(_named(key), one) for one in some if isinstance(one, str | int | float)]
    return found


def _named(key: str) -> str:
    # The first "=" that is not doubled ends the key.
    return key.replace("=", "==") if "=" in key else key


def _label(name: str, value: Scalar) -> str:
    if isinstance(value, str):
        return f"{name}=s{value}"
    if isinstance(value, bool):
        return f"{name}=b{value}"
    return f"{name}=n{as_text(value)}"


def _values(text: str) -> list[Scalar]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return [text]
    if isinstance(value, str):
        return [value]
    if not isinstance(value, int | float) or (isinstance(value, float) and not math.isfinite(value)):
        return [text]
    return [value, *dict.fromkeys([text, as_text(value)])]
