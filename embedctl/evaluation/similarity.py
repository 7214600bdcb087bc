"""Similarity: do cosines rank sentence pairs as people do?"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer

from embedctl.checkpoint.files import Model
from embedctl.errors import ConfigError, DataError
from embedctl.evaluation.metrics import spearman
from embedctl.model.encoder import Encoder
from embedctl.model.encoding import encode
from embedctl.tokens.tokenizer import Frame, encode_query

_WANTED = ("sentence1", "sentence2", "score")


@dataclass(frozen=True, slots=True)
class SentencePairs:
    """P pairs: ``sentences`` (2 * P), neighbours belong together, and the ``scores`` (P,) that people gave them."""

    sentences: list[str]
    scores: npt.NDArray[np.float64]


def read_pairs(file: Path) -> SentencePairs:
    """Scored pairs of a .csv, .tsv or .jsonl file; raises :class:`DataError` with the place of a bad one."""
    pairs = list(_read_pairs(file))
    if len(pairs) < 2:
        raise DataError(f"{file} holds {len(pairs)} pairs; want at least 2")
    return SentencePairs([text for pair in pairs for text in pair[:2]], np.array([score for _, _, score in pairs]))


def evaluate_similarity(model: Model, file: Path, *, dtype: torch.dtype) -> dict[str, float]:
    """Spearman correlation of the cosine with the scores in ``file``."""
    pairs = read_pairs(file)
    limit = min(model.query_max_tokens, model.encoder.shape.max_tokens)
    found = spearman_of(model.encoder, model.tokenizer, pairs, frame=model.query_frame, limit=limit, dtype=dtype)
    return {"pairs": len(pairs.scores), "spearman": found}


def spearman_of(
    encoder: Encoder, tokenizer: Tokenizer, pairs: SentencePairs, *, frame: Frame, limit: int, dtype: torch.dtype
) -> float:
    """Spearman correlation of the cosines with the scores; sentences are taken as queries of ``limit`` tokens."""
    ids = [np.asarray(encode_query(tokenizer, text, frame, limit), dtype=np.uint32) for text in pairs.sentences]
    vectors = encode(encoder, ids, dtype=dtype)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return spearman((vectors[0::2] * vectors[1::2]).sum(axis=1), pairs.scores)


def _read_pairs(file: Path) -> Iterator[tuple[str, str, float]]:
    if not file.is_file():
        raise ConfigError(f"no file at {file}", hint="set evaluation.similarity_file, or unset it")
    with file.open(encoding="utf-8-sig", newline="") as stream:
        if file.suffix == ".jsonl":
            rows: Iterator[tuple[int, Any]] = (
                (n, _parse(file, n, line)) for n, line in enumerate(stream, 1) if line.strip()
            )
        else:
            reader = csv.DictReader(stream, delimiter="\t" if file.suffix == ".tsv" else ",")
            rows = ((reader.line_num, row) for row in reader)
        for number, row in rows:
            try:
                yield str(row["sentence1"]), str(row["sentence2"]), float(row["score"])
            except (KeyError, TypeError, ValueError):
                raise DataError(f"{file}:{number}: want {', '.join(_WANTED)}, got {str(row)[:80]}") from None


def _parse(file: Path, number: int, line: str) -> object:
    try:
        return json.loads(line)
    except ValueError as fault:
        raise DataError(f"{file}:{number}: not JSON: {fault}") from None
