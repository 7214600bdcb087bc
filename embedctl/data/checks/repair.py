"""Takes out of a text what checks have found, where that can be done without guessing."""

from collections.abc import Callable

from embedctl.data.checks import direction, invisible, mojibake, personal, secrets
from embedctl.data.checks.controls import remove as remove_controls

_MOST_ROUNDS = 8


def repair(text: str, checks: frozenset[str]) -> str:
    """``text`` without what these checks find harmful; repairing twice changes nothing more.

    One repair may uncover work for another (an invisible character in a password), so they go around until
    nothing changes.
    """
    fixes = [fix for name, fix in _FIXES.items() if name in checks]
    for _ in range(_MOST_ROUNDS):
        before = text
        for fix in fixes:
            text = fix(text)
        if text == before:
            break
    return text


def _without_nul(text: str) -> str:
    return text.replace("\0", "")


def _without_secrets(text: str) -> str:
    return _covered(text, [(found.start, found.end, "[secret]") for found in secrets.find(text)])


def _without_personal_data(text: str) -> str:
    return _covered(text, [(found.start, found.end, f"[{found.kind}]") for found in personal.find(text)])


def _covered(text: str, spans: list[tuple[int, int, str]]) -> str:
    pieces, position = [], 0
    for start, end, shown in sorted(spans):
        if start >= position:
            pieces += [text[position:start], shown]
        position = max(position, end)
    return "".join([*pieces, text[position:]])


_FIXES: dict[str, Callable[[str], str]] = {
    "nul": _without_nul,
    "mojibake": mojibake.fix,
    "control_characters": remove_controls,
    "invisible_text": invisible.remove,
    "bidi_override": direction.remove,
    "secret": _without_secrets,
    "personal_data": _without_personal_data,
}
FIXABLE: frozenset[str] = frozenset(_FIXES)
