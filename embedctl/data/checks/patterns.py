"""Patterns that run in linear time by construction (RE2)."""

from collections.abc import Iterator, Sequence
from typing import Any

import re2

_STATES_BYTES = 64 << 20


def compiled(pattern: str) -> Any:
    """The pattern, without regard to case; enough memory for its states, and no lines on stderr."""
    return re2.compile(f"(?i){pattern}", _options())


class Seldom:
    """A pattern that few of the texts hold in which it is looked for.

    Whether it is there at all is told by an automaton that minds no places, and so has far fewer states.
    """

    def __init__(self, pattern: str) -> None:
        self._there, self._pattern = compiled_set([pattern]), compiled(pattern)

    def search(self, text: str | bytes) -> Any:
        """As of a compiled pattern."""
        return self._pattern.search(text) if self._there.Match(text) else None

    def finditer(self, text: str | bytes) -> Iterator[Any]:
        """As of a compiled pattern."""
        return self._pattern.finditer(text) if self._there.Match(text) else iter(())


def compiled_set(patterns: Sequence[str]) -> Any:
    """All patterns as one, whose ``Match`` says which of them are found in a text, in one pass over it."""
    together = re2.Set.SearchSet(_options())
    for pattern in patterns:
        together.Add(f"(?i){pattern}")
    together.Compile()
    return together


def subject(text: str) -> str | bytes:
    """``text`` as RE2 searches it fastest: where a character is a byte, places in both are the same."""
    return text.encode() if text.isascii() else text


def spans(pattern: Any, text: str) -> Iterator[tuple[int, int]]:
    """Start and end, in characters, of every place where ``pattern`` is found; searched as bytes, which is faster."""
    encoded = text.encode()
    if len(encoded) == len(text):
        yield from (found.span() for found in pattern.finditer(encoded))
        return
    end = at = 0
    for found in pattern.finditer(encoded):
        start = end + len(encoded[at : found.start()].decode())
        end, at = start + len(found.group().decode()), found.end()
        yield start, end


def _options() -> Any:
    options = re2.Options()
    options.max_mem = _STATES_BYTES
    options.log_errors = False
    return options
