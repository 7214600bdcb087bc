"""Text that was decoded with the wrong encoding, by ftfy."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from embedctl.data.checks.kinds import MOJIBAKE, Match

_LINE = re.compile(r"[^\n]+")
# What passes for ordinary characters in every encoding, but nobody writes: U+FFFD through GBK, and fresh memory.
_PLAIN_SIGNS = re.compile("(?:\u951f\u65a4\u62f7|\u70eb{3}|\u5c6f{3})")


def screen() -> str:
    """The pattern of ftfy in the syntax of RE2: what may be mojibake at all."""
    from ftfy.badness import BADNESS_RE

    return f"{_in_one_line(BADNESS_RE.pattern)}|[\x80-\x84\x86-\x9f]|{_PLAIN_SIGNS.pattern}"


def examine(text: str) -> Iterator[Match]:
    """Every line that reads better in another encoding."""
    for line in _LINE.finditer(text):
        if line.group().isascii():
            continue
        better = _fixed(line.group())
        if better != line.group():
            start, end = _difference(line.group(), better)
            yield Match(MOJIBAKE, line.start() + start, line.start() + end, MOJIBAKE.severity)
        for sign in _PLAIN_SIGNS.finditer(line.group()):
            yield Match(MOJIBAKE, line.start() + sign.start(), line.start() + sign.end(), MOJIBAKE.severity)


def fix(text: str) -> str:
    """Decode again what was decoded wrongly, line by line."""
    return _LINE.sub(lambda line: _settled(line.group()), text)


def _settled(line: str) -> str:
    # Every layer that comes off makes the line shorter, so that this ends.
    while len(better := _fixed(line)) < len(line):
        line = better
    return line


def _fixed(line: str) -> str:
    import ftfy

    better: str = ftfy.fix_encoding(line, _config())
    return better


@cache
def _config() -> Any:
    from ftfy import TextFixerConfig

    return TextFixerConfig(unescape_html=False, explain=False)


def _difference(line: str, better: str) -> tuple[int, int]:
    start = 0
    while start < min(len(line), len(better)) and line[start] == better[start]:
        start += 1
    end = 0
    while end < min(len(line), len(better)) - start and line[-1 - end] == better[-1 - end]:
        end += 1
    return start, max(start + 1, len(line) - end)


def _in_one_line(pattern: str) -> str:
    """Without the white space and comments of ``re.VERBOSE``, with classes that know all letters."""
    parts, position, within = [], 0, False
    while position < len(pattern):
        character = pattern[position]
        if character == "\\":
            parts.append(_letters_of_all(pattern[position : position + 2], within=within))
            position += 2
            continue
        if character == "#" and not within:
            position = pattern.index("\n", position)
            continue
        within = (within or character == "[") and character != "]"
        if within or not character.isspace():
            parts.append(character)
        position += 1
    return "".join(parts)


def _letters_of_all(escape: str, *, within: bool) -> str:
    wide = {r"\w": r"\pL\pN_", r"\s": r"\s\x{85}\x{a0}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{3000}"}
    if escape not in wide:
        return escape
    return wide[escape] if within else f"[{wide[escape]}]"
