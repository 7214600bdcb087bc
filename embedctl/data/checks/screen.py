"""A fast look at a whole batch: which texts are worth a closer look, and by whom."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate

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
_BETWEEN = "\n\n"
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


class Screen:
    """Runs over many texts as one buffer, so that short texts cost no more than long ones."""

    def __init__(self) -> None:
        patterns = screens()
        self._groups = [
            (
                group,
                compiled("(?m)" + "|".join(f"(?:{patterns[name]})" for name in group)),
                compiled_set([f"(?m){patterns[name]}" for name in group]),
            )
            for group in _GROUPS
        ]

    def suspects(self, texts: Sequence[str]) -> Iterator[tuple[int, set[str]]]:
        """The number of each text that is worth a closer look, with the kinds of look."""
        for first, last in _pieces(texts):
            piece = texts[first:last]
            buffer, starts = _joined(piece)
            kinds: dict[int, set[str]] = {}
            for group, pattern, each in self._groups:
                for number in _hits(pattern, buffer, starts):
                    end = starts[number + 1] - len(_BETWEEN)
                    struck = set(group)
                    if len(group) > 1:
                        struck = {group[place] for place in each.Match(buffer[starts[number] : end]) or ()}
                    kinds.setdefault(number, set()).update(
                        struck if end - starts[number] < _SHORT_BYTES else struck - _OF_SHORT
                    )
            for number in sorted(kinds):
                yield first + number, kinds[number]


# One automaton for all but the orders, whose many words do not share one well with the rest.
_GROUPS = (
    (
        "control", "invisible", "direction", "homoglyphs", "mojibake", "personal",
        "sql", "command", "disguise", "sql signs", "command signs", "markup", "secret",
    ),
    ("prompt",),
)  # fmt: skip


def _pieces(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    first = size = 0
    for number, text in enumerate(texts):
        size += len(text)
        if size >= _BUFFER_CHARACTERS:
            yield first, number + 1
            first, size = number + 1, 0
    if first < len(texts):
        yield first, len(texts)


def _joined(texts: Sequence[str]) -> tuple[bytes, list[int]]:
    """All texts in one buffer (UTF-8), and where each starts; the last number is where the buffer ends."""
    whole = _BETWEEN.join(texts)
    buffer = whole.encode(errors="replace")
    if len(buffer) == len(whole):
        sizes = [len(text) for text in texts]
    else:
        sizes = [len(text) if text.isascii() else len(text.encode(errors="replace")) for text in texts]
    return buffer, list(accumulate((size + len(_BETWEEN) for size in sizes), initial=0))


def _hits(pattern: "object", buffer: bytes, starts: list[int]) -> Iterator[int]:
    position = 0
    while position < len(buffer):
        hit = pattern.search(buffer, position)  # type: ignore[attr-defined]
        if hit is None:
            return
        number = bisect_right(starts, hit.start()) - 1
        yield number
        position = max(starts[number + 1], hit.start() + 1)
