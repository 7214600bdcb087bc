"""Sentence pairs that people have scored: vectors are measured by them, so nothing is trained on them."""

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedctl.errors import ConfigError, DataError

_WANTED = ("sentence1", "sentence2", "score")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sentences, how alike they are (the more, the higher), and where they stand (``file:line``)."""

    first: str
    second: str
    score: float
    where: str


def there(file: Path) -> Path:
    """The file, or a ``ConfigError``."""
    if not file.is_file():
        raise ConfigError(f"no file at {file}", hint="set evaluation.similarity_file, or unset it")
    return file


def read_pairs(file: Path) -> Iterator[Pair]:
    """Every pair of a ``.csv``, ``.tsv`` or ``.jsonl`` file."""
    with there(file).open(encoding="utf-8-sig", newline="") as stream:
        try:
            for number, row in _lines(file, stream) if file.suffix == ".jsonl" else _rows(file, stream):
                yield _pair(file, number, row)
        except (UnicodeDecodeError, csv.Error) as fault:
            raise DataError(f"{file} cannot be read: {fault}", hint="write it again, in UTF-8") from None


def _pair(file: Path, number: int, row: Any) -> Pair:
    try:
        score = float(row["score"])
        if not math.isfinite(score):
            raise ValueError(score)
        return Pair(str(row["sentence1"]), str(row["sentence2"]), score, f"{file.name}:{number}")
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{file}:{number}: want {', '.join(_WANTED)}, got {str(row)[:80]}") from None


def _rows(file: Path, stream: Iterator[str]) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(stream, delimiter="\t" if file.suffix == ".tsv" else ",")
    return ((reader.line_num, row) for row in reader)


def _lines(file: Path, stream: Iterator[str]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(stream, start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as fault:
                raise DataError(f"{file}:{number}: not JSON: {fault}") from None
