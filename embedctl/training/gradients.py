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


def accumulate_pairs(
    trainee: Trainee, laid: Laid, settings: TrainingSettings, *, share: float, dtype: torch.dtype, ranks: Ranks
) -> Tensor:
    """Add ``share`` times the gradient of the batch's loss to the weights' gradients; return the loss in nats.

    With one chunk this is plain back-propagation; with several it gives the same gradient. With several processes
    the gradients of each are parts of a sum.
    """
    encoder = trainee.encoder
    with nullcontext() if len(laid.chunks) == 1 else torch.no_grad():
        vectors = [embed_pieces(encoder, chunk, dtype) for chunk in laid.chunks]
    loss, gradients = _of_vectors(trainee, torch.cat(vectors).detach(), laid, settings, share=share, ranks=ranks)
    if len(laid.chunks) == 1:
        torch.autograd.backward(vectors[0], gradients)
        return loss
    del vectors  # as large as the gradients
    for chunk, gradient in zip(laid.chunks, torch.split(gradients, laid.sizes), strict=True):
        torch.autograd.backward(embed_pieces(encoder, chunk, dtype), gradient)
    return loss


def _of_vectors(
    trainee: Trainee, own_bD: Tensor, laid: Laid, settings: TrainingSettings, *, share: float, ranks: Ranks
) -> tuple[Tensor, Tensor]:
    """The loss of the batch, and ``share`` times its gradient by this process's vectors, (b, D).

    That by a learned temperature is added to its own.
    """
    assert isinstance(laid.batch, PairBatch)
    pairs, texts = len(laid.batch.queries), len(laid.batch.lengths)
    whole_XD = ranks.assemble(own_bD, laid.places, texts).requires_grad_()
    # Split, and not cut with [:pairs]: the gradient of each cut is as large as the whole.
    query_BD, passage_XD = torch.split(whole_XD, [pairs, texts - pairs])
    loss = info_nce(
        query_BD,
        passage_XD,
        trainee.temperature,
        same_2S=laid.same,
        symmetric=settings.symmetric,
        dims=settings.matryoshka_dims,
    )
    learned = [trainee.log_temperature] if trainee.log_temperature is not None else []
    gradient_XD, *others = torch.autograd.grad(loss * share, [whole_XD, *learned])
    if ranks.is_first:
        for weight, gradient in zip(learned, others, strict=True):
            weight.grad = gradient if weight.grad is None else weight.grad + gradient
    return loss.detach(), gradient_XD[torch.tensor(laid.places, device=gradient_XD.device)]


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
