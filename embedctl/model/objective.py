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
    same_BX: Tensor | None = None,
    symmetric: bool = False,
    dims: Sequence[int] = (),
) -> Tensor:
    """Mean cross-entropy, in nats, of picking each query's own passage out of the batch.

    passage_XD: first the B passages in the order of their queries, then any number of hard negatives
    same_BX:    bool, passages that are as good an answer to a query as its own: they are no negatives
    symmetric:  also let each passage pick its query, and take the mean of both (Radford et al. 2021, arXiv:2103.00020)
    dims:       also the same of the first so many values of each vector, and the mean of all
                (Kusupati et al. 2022, arXiv:2205.13147)
    Every other row is a negative (van den Oord et al. 2018, arXiv:1807.03748). Cosines are divided by the
    temperature. Vectors that tell nothing score ln(B): 4.16 at B = 64.
    """
    losses = []
    for dim in (*dims, query_BD.shape[1]):
        query, passage = (F.normalize(part[:, :dim], dim=-1) for part in (query_BD, passage_XD))
        scores_BX = query @ passage.T / temperature
        if same_BX is not None:
            scores_BX = scores_BX.masked_fill(same_BX, float("-inf"))
        own = torch.arange(len(query), device=query.device)
        losses.append(F.cross_entropy(scores_BX, own))
        if symmetric:
            losses.append(F.cross_entropy(scores_BX[:, : len(query)].T, own))
    return torch.stack(losses).mean()


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
