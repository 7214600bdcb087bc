"""JSON files as a stream of values: at most one of them is in memory, however large the file."""

import io
import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, NoReturn

from embedctl.data.encodings import open_text
from embedctl.data.fields import MOST_CHARACTERS, Fields, excerpt, has, record_of
from embedctl.data.opening import TextFile
from embedctl.data.records import Record
from embedctl.errors import DataError

# NaN and Infinity are not JSON, but Python writes them.
DECODER = json.JSONDecoder()

_CHUNK = 2**20
_SPACE = re.compile(r"[ \t\r\n]*")
# So many members of an object are looked at to tell one record from a table of records by id.
_AHEAD = 32


def read_json(file: TextFile, encoding: str, fields: Fields) -> Iterator[Record]:
    """An array of objects, an object of id -> object, or one object; several of them may follow each other."""
    with open_text(file, encoding) as stream:
        rows = _rows(_Values(stream, file.place), fields)
        for number, (key, row) in enumerate(rows, start=1):
            own_id = f"{file.name}:{number}" if key is None else key
            yield record_of(row, fields, where=f"{file.place}: item {number}", fallback_id=own_id, source=file.name)


def _rows(text: "_Values", fields: Fields) -> Iterator[tuple[str | None, Any]]:
    while start := text.peek():
        if start == "[":
            yield from ((None, row) for row in text.array())
            continue
        if start != "{":
            text.fail("want an array or an object")
        pairs = text.members()
        ahead = dict(islice(pairs, _AHEAD))
        if ahead and all(isinstance(value, dict) for value in ahead.values()) and not has(ahead, fields.text):
            yield from ahead.items()
            yield from pairs
        else:
            yield None, {**ahead, **_bounded(pairs, text)}


def read_members(file: TextFile) -> Iterator[tuple[str, Any]]:
    """The (key, value) pairs of a file that holds one object, in UTF-8."""
    with open_text(file, "utf-8-sig") as stream:
        text = _Values(stream, file.place)
        if text.peek() != "{":
            text.fail("want an object")
        yield from text.members()
        if text.peek():
            text.fail("more text after the object")


def _bounded(pairs: Iterator[tuple[str, Any]], text: "_Values") -> dict[str, Any]:
    start = text.position
    row = {}
    for key, value in pairs:
        row[key] = value
        if text.position - start > MOST_CHARACTERS:
            text.fail(f"an object of more than {MOST_CHARACTERS:,} characters")
    return row


class _Values:
    """JSON values taken one by one from a stream of text."""

    def __init__(self, stream: io.TextIOWrapper, place: str) -> None:
        self._stream = stream
        self._place = place
        self._text = ""
        self._at = 0
        self._before = 0  # characters dropped from the front of _text
        self._lines_before = 0
        self._ended = False

    @property
    def position(self) -> int:
        return self._before + self._at

    def fail(self, reason: str) -> NoReturn:
        line = 1 + self._lines_before + self._text.count("\n", 0, self._at)
        found = excerpt(self._text[self._at : self._at + 200]) or "the end of the file"
        raise DataError(f"{self._place}:{line}: not JSON that can be read: {reason}: {found}")

    def peek(self) -> str:
        """The next character that is not white space; empty at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def array(self) -> Iterator[Any]:
        self._take("[")
        while self.peek() != "]":
            yield self._value()
            if self.peek() != "]":
                self._take(",")
        self._take("]")

    def members(self) -> Iterator[tuple[str, Any]]:
        self._take("{")
        while self.peek() != "}":
            if self.peek() != '"':
                self.fail("want a name in double quotes")
            key = self._value()
            self._take(":")
            yield key, self._value()
            if self.peek() != "}":
                self._take(",")
        self._take("}")

    def _take(self, character: str) -> None:
        if self.peek() != character:
            self.fail(f"want {character!r}")
        self._at += 1

    def _value(self) -> Any:
        self.peek()
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
                # A number that ends where the text does may go on.
                if end < len(self._text) or not self._more():
                    self._at = end
                    return value
            except json.JSONDecodeError as fault:
                cut = fault.msg.startswith("Unterminated") or fault.pos > len(self._text) - 16
                if not cut or not self._more():
                    self._at = min(fault.pos, len(self._text))
                    self.fail(fault.msg)
            except RecursionError:
                self.fail("nested too deep")
            except ValueError:
                self.fail("a number with too many digits")
            if len(self._text) - self._at > MOST_CHARACTERS:
                self.fail(f"a value of more than {MOST_CHARACTERS:,} characters")

    def _more(self) -> bool:
        """Read on, twice as much as is pending, so that a large value is not tried too often."""
        if self._ended:
            return False
        pending = self._text[self._at :]
        more = self._stream.read(max(_CHUNK, len(pending)))
        self._ended = not more
        self._lines_before += self._text.count("\n", 0, self._at)
        self._before += self._at
        self._text, self._at = pending + more, 0
        return bool(more)
