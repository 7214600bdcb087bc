"""What training minimises.

Shape suffixes: B pairs, N hard negatives of all of them, D model width, M masked tokens, V vocabulary.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedctl.model.encoder import Encoder, linear, norm
from embedctl.model.shape import Shape


def info_nce(
    query_BD: Tensor,
    passage_XD: Tensor,
    temperature: float | Tensor,
    *,
    same_2S: Tensor | None = None,
    symmetric: bool = False,
    dims: Sequence[int] = (),
    rows: slice | None = None,
) -> Tensor:
    """Mean cross-entropy, in nats, of picking each query's own passage out of the batch.

    passage_XD: first the B passages in the order of their queries, then any number of hard negatives
    same_2S:    (query, passage) where a passage is as good an answer to a query as its own: it is no negative
    symmetric:  also let each passage pick its query, and take the mean of both (Radford et al. 2021, arXiv:2103.00020)
    dims:       also the same of the first so many values of each vector, and the mean of all
                (Kusupati et al. 2022, arXiv:2205.13147)
    rows:       the part of the mean that these pairs make up; the parts of all add up to it
    Every other row is a negative (van den Oord et al. 2018, arXiv:1807.03748). Cosines are divided by the
    temperature. Vectors that tell nothing score ln(B): 4.16 at B = 64.
    """
    pairs, losses = len(query_BD), []
    some = slice(0, pairs) if rows is None else rows
    for dim in (*dims, query_BD.shape[1]):
        query, passage = (F.normalize(part[:, :dim], dim=-1) for part in (query_BD, passage_XD))
        losses.append(_picked(query[some], passage, temperature, same_2S, some.start))
        if symmetric:
            turned = None if same_2S is None else same_2S.flip(0)
            losses.append(_picked(passage[some], query, temperature, turned, some.start))
    return torch.stack(losses).mean() / pairs


def _picked(
    one_bD: Tensor, others_XD: Tensor, temperature: float | Tensor, same_2S: Tensor | None, first: int
) -> Tensor:
    """The sum of the cross-entropies of b rows, each with the other of its own number, the first with ``first``."""
    scores_bX = one_bD @ others_XD.T / temperature
    if same_2S is not None:
        rows, columns = same_2S[:, (same_2S[0] >= first) & (same_2S[0] < first + len(one_bD))]
        here = columns < len(others_XD)
        same_bX = torch.zeros_like(scores_bX, dtype=torch.bool)
        same_bX[rows[here] - first, columns[here]] = True
        scores_bX = scores_bX.masked_fill(same_bX, float("-inf"))
    own = torch.arange(first, first + len(one_bD), device=one_bD.device)
    return F.cross_entropy(scores_bX, own, reduction="sum")


class TokenGuess(nn.Module):
    """From a hidden state to a score for each word of the vocabulary; the words' own embeddings are its last matrix."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.dense = nn.Linear(shape.dim, shape.dim)
        self.norm = nn.LayerNorm(shape.dim, eps=shape.norm_epsilon)
        self.bias = nn.Parameter(torch.zeros(shape.vocabulary))

    def loss(self, encoder: Encoder, hidden_MD: Tensor, ids_M: Tensor) -> Tensor:
        """Mean cross-entropy, in nats, of the words that stood there; ln(V) for one that knows nothing.

        hidden_MD: last hidden states of the masked tokens alone
        """
        raised_MD = norm(self.norm, F.gelu(linear(self.dense, hidden_MD)))
        dtype = hidden_MD.dtype
        scores_MV = F.linear(raised_MD, encoder.words.weight.to(dtype), self.bias.to(dtype))
        return F.cross_entropy(scores_MV.float(), ids_M)
