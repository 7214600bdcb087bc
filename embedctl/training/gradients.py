"""The gradient of a batch, within the memory of a piece of it, and over all processes of the run.

Contrastive: the vectors of all texts give the loss over the whole batch and with that the gradient of each vector,
which a pass piece by piece carries back to the weights (Gao et al. 2021, arXiv:2101.06983). Memory is set by the
piece, negatives by the batch.
"""

from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from embedctl.model.encoder import Encoder
from embedctl.model.encoding import Piece, embed_pieces, flat_batches
from embedctl.model.objective import info_nce
from embedctl.ranks import Ranks
from embedctl.settings import TrainingSettings
from embedctl.training.laying import Laid
from embedctl.training.masks import MaskBatch
from embedctl.training.pairs import PairBatch
from embedctl.training.trainee import Trainee

# So many scores of queries with passages are in memory at a time: 4 MiB, and a few times that for their gradient.
_SCORES = 2**20


def accumulate_pairs(
    trainee: Trainee, laid: Laid, settings: TrainingSettings, *, share: float, dtype: torch.dtype, ranks: Ranks
) -> Tensor:
    """Add ``share`` times the gradient of the batch's loss to the weights' gradients; return the loss in nats.

    With one chunk this is plain back-propagation; with several it gives the same gradient. With several processes
    the gradients of each are parts of a sum.
    """
    batch = laid.batch
    assert isinstance(batch, PairBatch)
    encoder = trainee.encoder
    with nullcontext() if len(laid.chunks) == 1 else torch.no_grad():
        vectors = [embed_pieces(encoder, chunk, dtype) for chunk in laid.chunks]
    whole_XD = ranks.assemble(torch.cat(vectors).detach(), laid.places, len(batch.lengths)).requires_grad_()
    learned = [trainee.log_temperature] if trainee.log_temperature is not None else []
    loss, (gradient_XD, *others) = _of_vectors(trainee, whole_XD, laid, settings, share, [whole_XD, *learned])
    if ranks.is_first:
        for weight, gradient in zip(learned, others, strict=True):
            weight.grad = gradient if weight.grad is None else weight.grad + gradient
    own_bD = gradient_XD[torch.tensor(laid.places, device=gradient_XD.device)]
    for chunk, gradient, vector in zip(laid.chunks, torch.split(own_bD, laid.sizes), vectors, strict=True):
        torch.autograd.backward(vector if vector.requires_grad else embed_pieces(encoder, chunk, dtype), gradient)
    return loss


def _of_vectors(
    trainee: Trainee, whole_XD: Tensor, laid: Laid, settings: TrainingSettings, share: float, wanted: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """The loss, and ``share`` times its gradient by each of ``wanted``, some rows of the scores at a time."""
    assert isinstance(laid.batch, PairBatch)
    pairs, total = len(laid.batch.queries), whole_XD.new_zeros(())
    gradients = [torch.zeros_like(value) for value in wanted]
    many = max(1, _SCORES // (len(whole_XD) - pairs))
    for first in range(0, pairs, many):
        part = info_nce(
            whole_XD[:pairs],
            whole_XD[pairs:],
            trainee.temperature,
            same_2S=laid.same,
            symmetric=settings.symmetric,
            dims=settings.matryoshka_dims,
            rows=slice(first, min(first + many, pairs)),
        )
        for gradient, more in zip(gradients, torch.autograd.grad(part * share, wanted), strict=True):
            gradient += more
        total += part.detach()
    return total, gradients


def accumulate_masks(trainee: Trainee, laid: Laid, *, share: float, dtype: torch.dtype, ranks: Ranks) -> Tensor:
    """The same for hidden words: the mean over those of the whole batch, a piece at a time."""
    batch = laid.batch
    assert isinstance(batch, MaskBatch)
    words = max(1, sum(map(len, batch.answers)))
    total = next(trainee.parameters()).new_zeros(())
    for (piece,) in laid.chunks:
        members = [laid.places[i] for i in piece.members]
        loss = _guess(trainee, trainee.encoder, batch, piece, members, dtype) / words
        torch.autograd.backward(loss * share)
        total += loss.detach()
    return ranks.assemble(total.view(1, 1), [ranks.rank], ranks.size).sum()


def loss_of_masks(trainee: Trainee, encoder: Encoder, batch: MaskBatch, *, dtype: torch.dtype) -> float:
    """The loss alone, in nats, of ``encoder`` with the head of ``trainee``."""
    words = max(1, sum(map(len, batch.answers)))
    with torch.inference_mode():
        return sum(
            float(_guess(trainee, encoder, batch, piece, list(piece.members), dtype)) / words
            for piece in flat_batches(batch.texts, device=next(encoder.parameters()).device, tokens=16_384)
        )


def _guess(
    trainee: Trainee, encoder: Encoder, batch: MaskBatch, piece: Piece, members: list[int], dtype: torch.dtype
) -> Tensor:
    """The sum of the losses of all hidden words of a piece, whose texts are ``members`` of the batch."""
    assert trainee.guess is not None
    device = trainee.guess.bias.device
    answers = np.concatenate([batch.answers[i] for i in members])
    if not len(answers):
        return torch.zeros((), device=device, requires_grad=True)
    rows = torch.from_numpy(np.flatnonzero(np.concatenate([batch.asked[i] for i in members]))).to(device)
    hidden_MD = encoder.hidden(piece.batch, dtype).index_select(0, rows)
    ids_M = torch.from_numpy(answers.astype(np.int64)).to(device)
    return trainee.guess.loss(encoder, hidden_MD, ids_M) * len(answers)
