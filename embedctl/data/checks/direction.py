"""Direction controls: ordinary among right-to-left letters, a disguise among left-to-right ones."""

import re
from collections.abc import Iterator

from embedctl.data.checks.kinds import BIDI, Match, Tier

CHARACTERS = "\u202a-\u202e\u2066-\u2069"

_CONTROL = re.compile(f"[{CHARACTERS}]")
RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]")
_OVERRIDES = "\u202d\u202e"
_EMBEDDINGS, _ISOLATES = "\u202a\u202b\u202d\u202e", "\u2066\u2067\u2068"
_CLOSERS = "\u202c\u2069"
_HARMLESS_ISOLATES = "\u2066\u2068"  # left-to-right and first-strong: what message catalogues put around a name


def examine(text: str) -> Iterator[Match]:
    """Every direction control of ``text``."""
    places = [control.start() for control in _CONTROL.finditer(text)]
    right_to_left = bool(RIGHT_TO_LEFT.search(text))
    paired = _pairs(text, places)
    opened = any(text[at] not in _CLOSERS for at in places)
    for at in places:
        partner = paired.get(at)
        if partner is None:
            # What closes nothing changes nothing on the screen.
            severity: Tier = "info" if right_to_left else "high" if opened else "medium"
        else:
            severity = _of_pair(text, *sorted((at, partner)), right_to_left=right_to_left)
        if partner is None and text[at] in _OVERRIDES:
            severity = "medium" if right_to_left else "high"
        yield Match(BIDI, at, at + 1, severity)


def remove(text: str) -> str:
    """Take out the controls that disguise."""
    while harmful := {match.start for match in examine(text) if match.severity != "info"}:
        text = "".join(c for at, c in enumerate(text) if at not in harmful)
    return text


def _of_pair(text: str, opened: int, closed: int, *, right_to_left: bool) -> Tier:
    if text[opened] in _OVERRIDES:
        if right_to_left:
            return "info" if closed - opened < 4 else "medium"  # one or two characters cannot be a disguise
        return "high"
    return "info" if right_to_left or text[opened] in _HARMLESS_ISOLATES else "medium"


def _pairs(text: str, places: list[int]) -> dict[int, int]:
    """Where each opening control is closed, and the other way round; what is missing has no partner."""
    paired: dict[int, int] = {}
    embeddings: list[int] = []
    isolates: list[int] = []
    for at in places:
        if text[at] in _EMBEDDINGS:
            embeddings.append(at)
        elif text[at] in _ISOLATES:
            isolates.append(at)
        else:
            stack = embeddings if text[at] == "\u202c" else isolates
            if stack:
                opened = stack.pop()
                paired[at], paired[opened] = opened, at
    return paired
