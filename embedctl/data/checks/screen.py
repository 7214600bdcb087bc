"""A fast look at a whole batch: which texts are worth a closer look, and by whom."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import accumulate
from typing import Any

from embedctl.data.checks import (
    commands,
    controls,
    direction,
    disguise,
    homoglyphs,
    invisible,
    markup,
    mojibake,
    personal,
    prompts,
    secrets,
    sql,
)
from embedctl.data.checks.patterns import compiled, compiled_set

_BUFFER_CHARACTERS = 1 << 20
_BETWEEN = b"\n\n"
# What counts in a short text alone: no sense in looking for it in a longer one.
_OF_SHORT = frozenset({"disguise", "sql signs", "command signs"})
_SHORT_BYTES = 2000


def _escaped(characters: str) -> str:
    """A class of characters in the syntax of RE2."""
    return "".join(c if c == "-" else f"\\x{{{ord(c):x}}}" for c in characters)


def screens() -> dict[str, str]:
    """For each kind of closer look, what it needs to find at least."""
    return {
        "control": f"[\\x00{_escaped(controls.CHARACTERS)}]|\\x{{fffd}}",
        "invisible": f"[{_escaped(invisible.CHARACTERS)}]",
        "direction": f"[{_escaped(direction.CHARACTERS)}]",
        "homoglyphs": f"(?-i:{homoglyphs.SCREEN})",
        "mojibake": f"(?-i:{mojibake.screen()})",
        "disguise": disguise.SCREEN,
        "sql": sql.SCREEN,
        "sql signs": sql.SIGNS_SCREEN,
        "command": commands.SCREEN,
        "command signs": commands.SIGNS_SCREEN,
        "markup": markup.SCREEN,
        "prompt": prompts.SCREEN,
        "secret": secrets.SCREEN,
        "personal": f"(?-i:{personal.SCREEN})",
    }


@cache
def automata() -> tuple[Any, tuple[str, ...], Any]:
    """One that searches for orders, and one that tells which of the named kinds there are."""
    patterns = {name: f"(?m){pattern}" for name, pattern in screens().items()}
    # The many words of the orders do not share an automaton well with the rest.
    order = compiled(patterns.pop(_ORDER))
    return order, tuple(patterns), compiled_set(list(patterns.values()))


class Screen:
    """Runs over many texts as one buffer or in one call each, so that short texts cost little more than long ones."""

    def __init__(self) -> None:
        self._order, self._names, self._rest = automata()

    def suspects(self, texts: Sequence[str], encoded: Sequence[bytes]) -> Iterator[tuple[int, set[str]]]:
        """The number of each text that is worth a closer look, with the kinds of look.

        encoded: the same texts in UTF-8
        """
        orders = set(self._orders(texts, encoded))
        match, names = self._rest.Match, self._names
        for number, text in enumerate(encoded):
            hits = match(text)
            if hits:
                kinds = {names[hit] for hit in hits}
                if len(text) >= _SHORT_BYTES:
                    kinds -= _OF_SHORT
                if number in orders:
                    kinds.add(_ORDER)
                if kinds:
                    yield number, kinds
            elif number in orders:
                yield number, {_ORDER}

    def _orders(self, texts: Sequence[str], encoded: Sequence[bytes]) -> Iterator[int]:
        for first, last in _pieces(texts):
            piece = encoded[first:last]
            starts = [0, *accumulate([len(text) + len(_BETWEEN) for text in piece])]
            yield from (first + number for number in _hits(self._order, _BETWEEN.join(piece), starts))


_ORDER = "prompt"


def _pieces(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    first = size = 0
    for number, text in enumerate(texts):
        size += len(text)
        if size >= _BUFFER_CHARACTERS:
            yield first, number + 1
            first, size = number + 1, 0
    if first < len(texts):
        yield first, len(texts)


def _hits(pattern: "object", buffer: bytes, starts: list[int]) -> Iterator[int]:
    position = 0
    while position < len(buffer):
        hit = pattern.search(buffer, position)  # type: ignore[attr-defined]
        if hit is None:
            return
        number = bisect_right(starts, hit.start()) - 1
        yield number
        position = max(starts[number + 1], hit.start() + 1)
