"""Characters that no text should hold: controls, noncharacters, NUL, and U+FFFD for what could not be decoded."""

import re
from collections.abc import Iterator

from embedctl.data.checks.kinds import CONTROL, INVALID_ENCODING, NUL, Match

_NONCHARACTERS = "\ufdd0-\ufdef\ufffe\uffff" + "".join(
    chr(plane << 16 | 0xFFFE) + chr(plane << 16 | 0xFFFF) for plane in range(1, 17)
)
# All but tab, line feed, carriage return and U+0085 (next line).
CHARACTERS = f"\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f{_NONCHARACTERS}"

_RUN = re.compile(f"\ufffd+|\x00+|[{CHARACTERS}]+")
_CONTROLS = re.compile(f"[{CHARACTERS}]+")
_HARMLESS = frozenset("\x0b\x0c")  # vertical tab and form feed: white space of an older time


def examine(text: str) -> Iterator[Match]:
    """Every run of one kind of them."""
    for found in _RUN.finditer(text):
        first = found.group()[0]
        check = INVALID_ENCODING if first == "\ufffd" else NUL if first == "\0" else CONTROL
        harmless = check is CONTROL and set(found.group()) <= _HARMLESS
        yield Match(check, found.start(), found.end(), "info" if harmless else check.severity)


def remove(text: str) -> str:
    """Take out the control characters; white space of an older time becomes a space."""
    return _CONTROLS.sub(lambda found: " " if set(found.group()) <= _HARMLESS else "", text)
