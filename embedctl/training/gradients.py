"""The gradient of a batch, within the memory of a piece of it, and over all processes of the run.

Contrastive: the vectors of all texts give the loss over the whole batch and with that the gradient of each vector,
which a pass piece by piece carries back to the weights (Gao et al. 2021, arXiv:2101.06983). Memory is set by the
piece, negatives by the batch.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from embedctl.model.encoder import Encoder
from embedctl.model.encoding import Ids, Piece, embed, flat_batches
from embedctl.model.objective import info_nce
from embedctl.settings import TrainingSettings
from embedctl.training.masks import MaskBatch
from embedctl.training.pairs import PairBatch
from embedctl.training.ranks import Ranks
from embedctl.training.trainee import Trainee

_ALONE = Ranks()


def accumulate_pairs(
    trainee: Trainee,
    batch: PairBatch,
    settings: TrainingSettings,
    *,
    chunk_pairs: int,
    share: float,
    dtype: torch.dtype,
    ranks: Ranks = _ALONE,
) -> Tensor:
    """Add ``share`` times the gradient of the batch's loss to the weights' gradients; return the loss in nats.

    With a chunk as large as the batch this is plain back-propagation; a smaller one gives the same gradient.
    With several processes the gradients of each are parts of a sum.
    """
    encoder, pairs, texts = trainee.encoder, len(batch.queries), batch.texts
    places = ranks.share(batch.lengths)
    own = [texts[i] for i in places]
    if chunk_pairs >= pairs:
        chunks = [own]
        vectors = [embed(encoder, own, dtype)]
    else:
        chunks = _cut(own, max(1, chunk_pairs * len(texts) // pairs))
        with torch.no_grad():
            vectors = [embed(encoder, chunk, dtype) for chunk in chunks]
    whole_XD = ranks.assemble(torch.cat(vectors).detach(), places, len(texts)).requires_grad_()
    loss = info_nce(
        whole_XD[:pairs],
        whole_XD[pairs:],
        trainee.temperature,
        same_BX=torch.from_numpy(batch.same()).to(whole_XD.device),
        symmetric=settings.symmetric,
        dims=settings.matryoshka_dims,
    )
    learned = [trainee.log_temperature] if trainee.log_temperature is not None else []
    gradient_XD, *others = torch.autograd.grad(loss * share, [whole_XD, *learned])
    if ranks.is_first:
        for weight, gradient in zip(learned, others, strict=True):
            weight.grad = gradient if weight.grad is None else weight.grad + gradient
    own_bD = gradient_XD[torch.tensor(places, device=gradient_XD.device)]
    for chunk, gradient, vector in zip(chunks, torch.split(own_bD, [len(c) for c in chunks]), vectors, strict=True):
        torch.autograd.backward(vector if vector.requires_grad else embed(encoder, chunk, dtype), gradient)
    return loss.detach()


def accumulate_masks(
    trainee: Trainee,
    batch: MaskBatch,
    *,
    chunk_tokens: int,
    share: float,
    dtype: torch.dtype,
    ranks: Ranks = _ALONE,
) -> Tensor:
    """The same for hidden words: the mean over those of the whole batch, a piece of ``chunk_tokens`` at a time."""
    assert trainee.guess is not None
    device = trainee.guess.bias.device
    places = ranks.share(batch.lengths)
    words = sum(map(len, batch.answers))
    total = torch.zeros((), device=device)
    for piece in flat_batches([batch.texts[i] for i in places], device=device, tokens=chunk_tokens):
        members = [places[i] for i in piece.members]
        loss = _guess(trainee, trainee.encoder, batch, piece, members, dtype) / words
        torch.autograd.backward(loss * share)
        total += loss.detach()
    return ranks.assemble(total.view(1, 1), [ranks.rank], ranks.size).sum()


def loss_of_masks(trainee: Trainee, encoder: Encoder, batch: MaskBatch, *, dtype: torch.dtype) -> float:
    """The loss alone, in nats, of ``encoder`` with the head of ``trainee``."""
    words = sum(map(len, batch.answers))
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


def _cut(texts: Sequence[Ids], many: int) -> list[list[Ids]]:
    return [list(texts[first : first + many]) for first in range(0, len(texts), many)]
