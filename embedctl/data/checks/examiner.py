"""All checks on many texts: a fast screen over the batch, then a closer look at the few that it names."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from embedctl.data.checks import (
    controls,
    direction,
    homoglyphs,
    injections,
    invisible,
    mojibake,
    personal,
    repetition,
    secrets,
    sql,
)
from embedctl.data.checks.context import Context
from embedctl.data.checks.kinds import EMPTY, SECRET, TOO_LONG, TOO_SHORT, Match
from embedctl.data.checks.screen import Screen
from embedctl.settings import ValidationSettings

_MOST = 1000


class Examiner:
    """Finds what is wrong with texts, by the limits of the settings."""

    def __init__(self, settings: ValidationSettings) -> None:
        self._settings = settings
        self._screen = Screen()

    def examine(self, texts: Sequence[str]) -> list[tuple[Match, ...]]:
        """For each text every finding, in the order of their places; most have none."""
        found = self.findings(texts, [text.encode(errors="replace") for text in texts])
        return [found.get(number, ()) for number in range(len(texts))]

    def findings(self, texts: Sequence[str], encoded: Sequence[bytes]) -> dict[int, tuple[Match, ...]]:
        """The findings of those texts that have some, by their numbers.

        encoded: the same texts in UTF-8
        """
        found = self._of_size(texts, encoded)
        for number, kinds in list(self._screen.suspects(texts, encoded)):
            closer = dict.fromkeys((*found.get(number, ()), *_limited(_closer(texts[number], kinds))))
            if closer:
                found[number] = tuple(sorted(closer, key=lambda match: (match.start, match.end)))
        return found

    def _of_size(self, texts: Sequence[str], encoded: Sequence[bytes]) -> dict[int, tuple[Match, ...]]:
        """What needs no screen: the length, and text that repeats itself."""
        least, most = self._settings.min_characters, self._settings.max_characters
        sizes = zip(map(len, texts), map(str.isspace, texts), strict=True)
        odd = [number for number, (size, blank) in enumerate(sizes) if blank or not size or not least <= size <= most]
        found = {number: self._of_length(texts[number]) for number in odd}
        for number in repetition.suspects(texts, encoded):
            repeated = _limited(repetition.examine(texts[number]))
            found[number] = (*found.get(number, ()), *repeated)
        return {number: matches for number, matches in found.items() if matches}

    def _of_length(self, text: str) -> tuple[Match, ...]:
        size = len(text)
        if not text or text.isspace():
            return (Match(EMPTY, 0, size, EMPTY.severity),)
        if size < self._settings.min_characters:
            return (Match(TOO_SHORT, 0, size, TOO_SHORT.severity),)
        return (Match(TOO_LONG, self._settings.max_characters, size, TOO_LONG.severity),)


def _limited(matches: Iterator[Match]) -> Iterator[Match]:
    """Of each check and severity the first ``_MOST``: a text made of one bad character must not fill the memory."""
    seen: Counter[tuple[str, str]] = Counter()
    for match in matches:
        kind = (match.check.name, match.severity)
        seen[kind] += 1
        if seen[kind] <= _MOST:
            yield match


def _closer(text: str, kinds: set[str]) -> Iterator[Match]:
    context = Context(text)
    # Of these signs the screen sees only how a line ends.
    if "sql signs" in kinds and not sql.has_signs(text):
        kinds = kinds - {"sql signs"}
    for kind, look in _LOOKS.items():
        if kind in kinds:
            yield from look(text)
    if kinds & {"control", "invisible", "direction"} and not any(c.isprintable() and not c.isspace() for c in text):
        yield Match(EMPTY, 0, len(text), EMPTY.severity)
    for kind in _ATTACKS:
        if kinds & {kind, f"{kind} signs", "disguise"}:
            yield from injections.examine(kind, text, context, disguised="disguise" in kinds)
    if "secret" in kinds:
        yield from _secrets(text, context)


def _secrets(text: str, context: Context) -> Iterator[Match]:
    """Assigned values in documentation are examples; what has the shape of a token is one everywhere."""
    for secret in secrets.find(text):
        severity = secret.severity
        if severity in ("low", "medium"):
            severity = context.temper(secret.start, secret.end, severity)
        yield Match(SECRET, secret.start, secret.end, severity)


_ATTACKS = ("sql", "command", "markup", "prompt")
_LOOKS: dict[str, Callable[[str], Iterator[Match]]] = {
    "control": controls.examine,
    "invisible": invisible.examine,
    "direction": direction.examine,
    "homoglyphs": homoglyphs.examine,
    "mojibake": mojibake.examine,
    "personal": personal.examine,
}
