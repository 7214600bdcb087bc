"""Text that says the same over and over."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from embedctl.data.checks.kinds import REPETITION, Match, Tier

RUN = 100
_STRIDE = 20
# A multiple of every width that a character has in UTF-8.
_STRIDE_BYTES = 24
_FIVE = re.compile(r"(.)\1{4}", re.DOTALL)
_SAME = re.compile(r"(.)\1*+", re.DOTALL)
_LAYOUT = frozenset(" \t\n\r-=_.*#~+|`\u00a0\u2500\u2501\u2550\u2014\u2013\u2026")
_LINES = 8
_PROBE = 24
_AROUND = 4000
_WORDS = re.compile(r"\S+")
_SAMPLE_CHARACTERS = 100_000


def suspects(texts: Sequence[str], encoded: Sequence[bytes]) -> list[int]:
    """The numbers of the texts worth a closer look; of no other has :func:`examine` anything to say.

    encoded: the same texts in UTF-8
    """
    runs = _with_runs(encoded)
    return [
        number
        for number, text in enumerate(texts)
        if len(text) > RUN and (number in runs or _may_repeat(text)) and not text.isspace()
    ]


def _with_runs(encoded: Sequence[bytes]) -> set[int]:
    """The numbers of the texts that may hold a run of more than ``RUN`` times one character."""
    samples = np.frombuffer(b"".join(encoded), np.uint8)[::_STRIDE_BYTES]
    same = samples[1:] == samples[:-1]
    # Whatever the width of its characters, a run of more than 100 of them puts the same byte at four samples in a row.
    places = np.flatnonzero(same[:-2] & same[1:-1] & same[2:]) * _STRIDE_BYTES
    ends = np.cumsum([len(text) for text in encoded])
    return set(np.searchsorted(ends, places, side="right").tolist())


def examine(text: str) -> Iterator[Match]:
    """Long runs of one character, and text that is mostly one line or one phrase."""
    if len(text) <= RUN:
        return
    yield from _runs(text)
    if _may_repeat(text):
        severity = _of_phrases(text[:_SAMPLE_CHARACTERS])
        if severity:
            yield Match(REPETITION, 0, len(text), severity)


def _runs(text: str) -> Iterator[Match]:
    """Runs of more than ``RUN`` times one character; rules and gaps of a layout only if they are most of the text."""
    last = 0
    # A run so long leaves the same character at five samples in a row.
    for samples in _FIVE.finditer(text[::_STRIDE]):
        at = samples.start() * _STRIDE
        if at < last:
            continue
        start, last = _extent(text, at + 2 * _STRIDE, last)
        if last - start > RUN and (text[start] not in _LAYOUT or 2 * (last - start) > len(text)):
            yield Match(REPETITION, start, last, "medium" if 2 * (last - start) > len(text) else "low")


def _extent(text: str, at: int, after: int) -> tuple[int, int]:
    """The run of one character around ``at``; it does not begin before ``after``, where the one before ended."""
    start = after + len(text[after:at].rstrip(text[at]))
    run = _SAME.match(text, at)
    assert run is not None
    return start, run.end()


def _may_repeat(text: str) -> bool:
    """Whether most pieces of the text come back so often that a closer look pays."""
    size = len(text)
    one, other = size // 8, size * 5 // 8
    # Most texts are done with here, so it is written out.
    again = (text.count(text[one : one + _PROBE], max(0, one - _AROUND), one + _AROUND) > 3) + (
        text.count(text[other : other + _PROBE], max(0, other - _AROUND), other + _AROUND) > 3
    )
    return again > 0 and again + _comes_back(text, size * 3 // 8) + _comes_back(text, size * 7 // 8) > 2


def _comes_back(text: str, start: int) -> bool:
    probe = text[start : start + _PROBE]
    return len(probe) == _PROBE and text.count(probe, max(0, start - _AROUND), start + _AROUND) > 3


def _of_phrases(text: str) -> Tier | None:
    """How much of the text one line or one run of words takes, if it is most of it."""
    lines = [line.strip() for line in text.splitlines() if any(c.isalnum() for c in line)]
    if len(lines) >= _LINES:
        line, times = Counter(lines).most_common(1)[0]
        if times >= _LINES and 2 * times > len(lines) and times * len(line) * 2 > len(text):
            return "medium"
    words = [word for word in _WORDS.findall(text.lower()) if any(c.isalpha() for c in word)]
    if len(words) < 24:
        return None
    # Where one phrase of n words is most of the text, its words are most of the words.
    return _of_words(words)


def _of_words(words: list[str]) -> Tier | None:
    runs = Counter(zip(words, words[1:], words[2:], words[3:], strict=False))
    repeated = sum(count for count in runs.values() if count >= 4)
    share = repeated / len(words)
    # A song or a law repeats lines; it does not have so few different runs of words.
    if share > 0.8 and len(runs) * 5 < len(words):
        return "medium"
    return "low" if share > 0.65 and len(runs) * 3 < len(words) else None
