"""From a row of any table to a record, by the fields that the settings name."""

import datetime
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import JsonValue

from embedctl.data.opening import shown
from embedctl.data.records import Record
from embedctl.errors import DataError

MOST_CHARACTERS = 64 * 2**20

_MOST_NESTED = 64
_SURROGATE = re.compile("[\ud800-\udfff]")
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Fields:
    """Names of fields; a dot reaches into a nested one (``context.contexts``)."""

    text: str = "text"
    query: str = "query"
    id: str = "id"
    metadata: tuple[str, ...] | None = None  # None: all that are left

    def columns(self, names: list[str]) -> list[str]:
        """Those of the columns ``names`` that are needed."""
        if self.metadata is None:
            return names
        own = (self.text, self.query, self.id)
        wanted = {name if name in names else name.split(".")[0] for name in (*own, *self.metadata)}
        return [name for name in names if name in wanted]


def record_of(row: object, fields: Fields, *, where: str, fallback_id: str, source: str) -> Record:
    """The record of one row.

    where: how an error calls the row; fallback_id: its id where it has none of its own
    """
    if not isinstance(row, dict):
        raise DataError(f"{where}: want an object of fields, got {excerpt(row)}")
    raw = find(row, fields.text)
    if raw is _MISSING:
        raise _no_text(row, fields, where)
    text = _text(raw)
    if text is None:
        raise DataError(f"{where}: field {fields.text!r} is neither a string nor a list of them: {excerpt(raw)}")
    if len(text) > MOST_CHARACTERS:
        raise DataError(f"{where}: a text of {len(text):,} characters; {MOST_CHARACTERS:,} are the limit")
    own_id = _id(find(row, fields.id), where) or fallback_id
    try:
        metadata = dict(_metadata(row, fields))
    except RecursionError:
        raise DataError(f"{where}: nested deeper than {_MOST_NESTED} levels") from None
    query = _query(find(row, fields.query), where)
    return Record(without_surrogates(own_id), without_surrogates(text), query, source, metadata)


def find(row: Mapping[str, Any], name: str) -> Any:
    """The value of field ``name``, itself or by its dots; a mark of its own if there is none."""
    found = row.get(name, _MISSING)
    if found is not _MISSING or "." not in name:
        return found
    head, _, rest = name.partition(".")
    inner = row.get(head)
    return find(inner, rest) if isinstance(inner, dict) else _MISSING


def has(row: Mapping[str, Any], name: str) -> bool:
    return find(row, name) is not _MISSING


def _text(value: Any) -> str | None:
    """A missing value is an empty text, which `data validate` drops and counts."""
    if isinstance(value, str):
        return value
    if _is_none(value):
        return ""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, list) and all(part is None or isinstance(part, str | bytes) for part in value):
        return "\n".join(_text(part) or "" for part in value if part is not None)
    return None


def _query(value: Any, where: str) -> str | None:
    if value is _MISSING or _is_none(value):
        return None
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if not isinstance(value, str):
        raise DataError(f"{where}: query must be a string, got {excerpt(value)}")
    text = without_surrogates(value)
    return text if text.strip() else None


def _is_none(value: Any) -> bool:
    """Tables that went through pandas have NaN for a string that is missing."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _id(value: Any, place: str) -> str | None:
    if value is _MISSING or value == "" or _is_none(value):
        return None
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, dict | list):
        raise DataError(f"{place}: id must be a string or a number, got {excerpt(value)}")
    return str(value)


def _metadata(row: Mapping[str, Any], fields: Fields) -> Iterator[tuple[str, JsonValue]]:
    own = (fields.text, fields.query, fields.id)
    if fields.metadata is None:
        for name in own:
            if name not in row and "." in name:
                row = _without(row, name)
        pairs = ((name, value) for name, value in row.items() if name not in own)
    else:
        pairs = ((name, find(row, name)) for name in fields.metadata)
    for name, value in pairs:
        if value is None or value is _MISSING:
            continue
        if type(value) is str:
            yield without_surrogates(name), without_surrogates(value)
        else:
            yield without_surrogates(name), plain(value)


def _without(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """``row`` less what ``name`` reaches into."""
    if name in row:
        return {key: value for key, value in row.items() if key != name}
    head, _, rest = name.partition(".")
    inner = row.get(head)
    if not rest or not isinstance(inner, dict):
        return row
    return {**row, head: _without(inner, rest)}


def plain(value: Any, depth: int = 0) -> JsonValue:
    """``value`` as JSON can hold it: no lone surrogates, NaN and infinities as null, dates in ISO form.

    Raises RecursionError below ``_MOST_NESTED`` levels.
    """
    if depth > _MOST_NESTED:
        raise RecursionError
    if isinstance(value, str):
        return without_surrogates(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {without_surrogates(str(key)): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return without_surrogates(str(value))


def without_surrogates(text: str) -> str:
    """A lone surrogate passes ``json.loads`` and then breaks Arrow, SQLite and tokenizers: make it U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()  # several times as fast as to look for what nearly no text has
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text)
    return text


def excerpt(value: object) -> str:
    """The beginning of ``value`` for a message, fit for a terminal."""
    if isinstance(value, str):
        shortened = value[:200]
    else:
        try:
            shortened = json.dumps(value, default=str, ensure_ascii=False)
        except (ValueError, TypeError, RecursionError):
            shortened = type(value).__name__
    shortened = shown(without_surrogates(shortened.strip()))
    return shortened if len(shortened) <= 60 else shortened[:59] + "…"


def _no_text(row: Mapping[str, Any], fields: Fields, place: str) -> DataError:
    names = [shown(without_surrogates(str(name))) for name in row]
    return DataError(
        f"{place}: no field {fields.text!r}; it has {', '.join(names[:20]) or 'none'}{', …' if names[20:] else ''}",
        hint=f"--set data.text_field={_likely(row, fields) or 'NAME'}",
    )


def _likely(row: Mapping[str, Any], fields: Fields) -> str | None:
    """The field that is meant for the text: by its name, else the one with by far the longest string."""
    texts = {name: _text(value) for name, value in row.items() if name not in (fields.query, fields.id)}
    lengths = sorted(((len(text), name) for name, text in texts.items() if text), reverse=True)
    near = get_close_matches(fields.text, [name for _, name in lengths], n=1)
    if near:
        return near[0]
    if lengths and (len(lengths) == 1 or lengths[0][0] >= 2 * lengths[1][0]):
        return shown(without_surrogates(lengths[0][1]))
    return None
