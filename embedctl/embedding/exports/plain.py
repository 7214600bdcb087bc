"""Ids and metadata as Pinecone takes them: plain, and to be read back."""

import json
import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

from pydantic import JsonValue

# All of ASCII that can be printed, but for the sign that stands for what cannot.
_AS_IT_IS = "".join(map(chr, range(32, 127))).replace("%", "")


def flat(metadata: Mapping[str, JsonValue]) -> dict[str, Any]:
    """Pinecone takes no null, no nesting, and lists of strings alone: numbers in a list become those."""
    taken: dict[str, Any] = {}
    for name, value in metadata.items():
        plain = isinstance(value, str | bool) or (isinstance(value, int | float) and math.isfinite(value))
        if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
            taken[name] = [as_text(item) for item in value if isinstance(item, str | int | float)]
        elif value is not None:
            taken[name] = value if plain else json.dumps(value, ensure_ascii=False)
    return taken


def as_text(value: str | float) -> str:
    """Text as it is; of a number or a truth value, the same for equal ones: ``1`` for 1.0."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value)


def sent_id(id_: str) -> str:
    """ASCII that can be printed, as Pinecone wants it: any other sign becomes the percent signs of its UTF-8."""
    return quote(id_, safe=_AS_IT_IS)


def own_id(sent: str) -> str:
    """The inverse of :func:`sent_id`."""
    return unquote(sent) if "%" in sent else sent
