"""Which languages a corpus is in, by its letters and by py3langid."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

_CHARACTERS = 400
_LEAST_LETTERS = 12
_LETTERS = re.compile(r"[^\W\d_]")
UNKNOWN = "und"


def mix(texts: Sequence[str]) -> dict[str, float]:
    """The share of the texts in each language (ISO 639-1; ``und`` where there are too few letters), biggest first."""
    counted = Counter(_language(text[:_CHARACTERS]) for text in texts)
    total = sum(counted.values())
    return {language: number / total for language, number in counted.most_common()}


def _language(text: str) -> str:
    if len(_LETTERS.findall(text)) < _LEAST_LETTERS:
        return UNKNOWN
    return str(_classifier().classify(text)[0])


def _classifier() -> Any:
    # Its model takes half a second to load, and only a report needs it.
    import py3langid

    return py3langid
