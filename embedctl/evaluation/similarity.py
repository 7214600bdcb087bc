"""Similarity: do cosines rank sentence pairs as people do?"""

from pathlib import Path

import numpy as np
import torch

from embedctl.checkpoint.files import Model
from embedctl.data.pairs import read_pairs
from embedctl.errors import DataError
from embedctl.evaluation.metrics import spearman
from embedctl.model.encoding import encode
from embedctl.tokens.tokenizer import encode_query


def evaluate_similarity(model: Model, file: Path, *, dtype: torch.dtype) -> dict[str, float]:
    """Spearman correlation of the cosine with the scores in ``file``."""
    pairs = list(read_pairs(file))
    if len(pairs) < 2:
        raise DataError(f"{file} holds {len(pairs)} pairs; want at least 2")
    limit = min(model.query_max_tokens, model.encoder.shape.max_tokens)
    ids = [
        np.asarray(encode_query(model.tokenizer, text, model.frame, limit), dtype=np.uint32)
        for pair in pairs
        for text in (pair.first, pair.second)
    ]
    vectors = encode(model.encoder, ids, dtype=dtype)
    cosines = (vectors[0::2] * vectors[1::2]).sum(axis=1)
    return {"pairs": len(pairs), "spearman": spearman(cosines, np.array([pair.score for pair in pairs]))}
