"""What training minimises.

Shape suffixes: B pairs, N hard negatives of all of them, D model width, M masked tokens, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from embedctl.model.encoder import Encoder, linear, norm
from embedctl.model.shape import Shape

# So many scores of queries with passages are in memory at a time: 4 MiB, and a few times that for their gradient.
_SCORES = 2**20


def info_nce(
    query_BD: Tensor,
    passage_XD: Tensor,
    temperature: float | Tensor,
    *,
    same_2S: Tensor | None = None,
    symmetric: bool = False,
    dims: Sequence[int] = (),
) -> Tensor:
    """Mean cross-entropy, in nats, of picking each query's own passage out of the batch.

    passage_XD: first the B passages in the order of their queries, then any number of hard negatives
    same_2S:    (query, passage) where a passage is as good an answer to a query as its own: it is no negative
    symmetric:  also let each passage pick its query, and take the mean of both (Radford et al. 2021, arXiv:2103.00020)
    dims:       also the same of the first so many values of each vector, and the mean of all
                (Kusupati et al. 2022, arXiv:2205.13147)
    Every other row is a negative (van den Oord et al. 2018, arXiv:1807.03748). Cosines are divided by the
    temperature. Vectors that tell nothing score ln(B): 4.16 at B = 64.
    """
    pairs, losses = len(query_BD), []
    heat = torch.as_tensor(temperature, dtype=query_BD.dtype, device=query_BD.device)
    for dim in (*dims, query_BD.shape[1]):
        query, passage = (F.normalize(part[:, :dim], dim=-1) for part in (query_BD, passage_XD))
        losses.append(_picked(query, passage, heat, same_2S))
        if symmetric:
            turned = None if same_2S is None else same_2S[:, same_2S[1] < pairs].flip(0)
            losses.append(_picked(passage[:pairs], query, heat, turned))
    return torch.stack(losses).mean() / pairs


def _picked(one_bD: Tensor, others_XD: Tensor, heat: Tensor, same_2S: Tensor | None) -> Tensor:
    """The sum of the cross-entropies of b rows, each with the other of its own number."""
    total: Tensor = _Picked.apply(one_bD, others_XD, heat, same_2S)  # type: ignore[no-untyped-call]
    return total


class _Picked(torch.autograd.Function):
    """The table of scores is made some rows at a time, and its gradient with it: nothing of its size is kept."""

    @staticmethod
    def forward(ctx: Any, one_bD: Tensor, others_XD: Tensor, heat: Tensor, same_2S: Tensor | None) -> Tensor:
        total, heat_gradient = torch.zeros_like(heat), torch.zeros_like(heat)
        one_gradient_bD, others_gradient_XD = torch.empty_like(one_bD), torch.zeros_like(others_XD)
        many = max(1, _SCORES // len(others_XD))
        for first in range(0, len(one_bD), many):
            rows = slice(first, min(first + many, len(one_bD)))
            with torch.enable_grad():
                leaves = (one_bD[rows] @ others_XD.T).requires_grad_(), heat.detach().requires_grad_()
                part = _entropy(*leaves, same_2S, first)
                scores_gradient_rX, more = torch.autograd.grad(part, leaves)
            total += part.detach()
            heat_gradient += more
            torch.mm(scores_gradient_rX, others_XD, out=one_gradient_bD[rows])
            others_gradient_XD.addmm_(scores_gradient_rX.T, one_bD[rows])
        ctx.save_for_backward(one_gradient_bD, others_gradient_XD, heat_gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return (*(saved * gradient for saved in ctx.saved_tensors), None)


def _entropy(cosines_rX: Tensor, heat: Tensor, same_2S: Tensor | None, first: int) -> Tensor:
    """The cross-entropies of r rows, of which the first has number ``first``, summed up."""
    scores_rX = cosines_rX / heat
    if same_2S is not None:
        rows, columns = same_2S[:, (same_2S[0] >= first) & (same_2S[0] < first + len(scores_rX))]
        same_rX = torch.zeros_like(scores_rX, dtype=torch.bool)
        same_rX[rows - first, columns] = True
        scores_rX = scores_rX.masked_fill(same_rX, float("-inf"))
    own = torch.arange(first, first + len(scores_rX), device=scores_rX.device)
    return F.cross_entropy(scores_rX, own, reduction="sum")


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
