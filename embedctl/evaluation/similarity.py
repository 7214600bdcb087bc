"""Similarity: do cosines rank sentence pairs as people do?"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer

from embedctl.checkpoint.files import Model
from embedctl.data import pairs as scored
from embedctl.errors import DataError
from embedctl.evaluation.metrics import spearman
from embedctl.model.encoder import Encoder
from embedctl.model.encoding import encode
from embedctl.model.nearest import unit
from embedctl.tokens.tokenizer import Frame, encode_texts


@dataclass(frozen=True, slots=True)
class SentencePairs:
    """P pairs: ``sentences`` (2 * P), neighbours belong together, and the ``scores`` (P,) that people gave them."""

    sentences: list[str]
    scores: npt.NDArray[np.float64]


def read_pairs(file: Path) -> SentencePairs:
    """Scored pairs of a .csv, .tsv or .jsonl file; raises :class:`DataError` with the place of a bad one."""
    pairs = list(scored.read_pairs(file))
    if len(pairs) < 2:
        raise DataError(f"{file} holds {len(pairs)} pairs; want at least 2")
    sentences = [text for pair in pairs for text in (pair.first, pair.second)]
    if len({pair.score for pair in pairs}) < 2:
        raise DataError(f"{file}: all scores are {pairs[0].score:g}, so there is no order to find")
    return SentencePairs(sentences, np.array([pair.score for pair in pairs]))


def evaluate_similarity(model: Model, file: Path, *, dtype: torch.dtype) -> dict[str, float]:
    """Spearman correlation of the cosine with the scores in ``file``."""
    pairs = read_pairs(file)
    limit = model.query_max_tokens
    found = spearman_of(model.encoder, model.tokenizer, pairs, frame=model.query_frame, limit=limit, dtype=dtype)
    return {"pairs": len(pairs.scores), "spearman": found}


def spearman_of(
    encoder: Encoder, tokenizer: Tokenizer, pairs: SentencePairs, *, frame: Frame, limit: int, dtype: torch.dtype
) -> float:
    """Spearman correlation of the cosines with the scores; sentences are taken as queries of ``limit`` tokens."""
    vectors = unit(encode(encoder, encode_texts(tokenizer, pairs.sentences, frame, limit).ids, dtype=dtype))
    return spearman((vectors[0::2] * vectors[1::2]).sum(axis=1), pairs.scores)
