"""From token ids to vectors, many texts at a time: the one forward path of training, embedding and search."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from embedctl.errors import DataError, OutOfMemory, is_out_of_memory
from embedctl.model.batch import FlatBatch, sent
from embedctl.model.budget import CPU_TOKENS, Budget
from embedctl.model.encoder import Encoder
from embedctl.model.nearest import unit
from embedctl.progress import Tick, Watch, unwatched

Ids = npt.NDArray[np.unsignedinteger[Any]]
Vectors = npt.NDArray[np.float32]

_LEAST_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Piece:
    """Some texts of a batch, laid flat; ``members``: their places in the batch, in the order of the flat run."""

    members: list[int]
    batch: FlatBatch


def flat_batches(
    texts: Sequence[Ids], *, device: torch.device, tokens: int | None = None, exact: bool = False
) -> list[Piece]:
    """All of ``texts``, in order of length, at most ``tokens`` at a time (but one text at least).

    On a CPU never more than its cache likes, which changes nothing but the time.
    """
    limit = sum(map(len, texts)) if tokens is None else tokens
    if device.type == "cpu":
        limit = min(limit, CPU_TOKENS)
    pieces = []
    for members in _batches([len(text) for text in texts], limit):
        batch = FlatBatch([torch.from_numpy(texts[i].astype(np.int64)) for i in members], device=device, exact=exact)
        pieces.append(Piece(members, batch))
    return pieces


def embed(encoder: Encoder, texts: Sequence[Ids], dtype: torch.dtype, *, exact: bool = False) -> Tensor:
    """Vectors, float32 (B, D), of a batch of texts (token ids with their special tokens), in their order."""
    device = next(encoder.parameters()).device
    return embed_pieces(encoder, flat_batches(texts, device=device, exact=exact), dtype)


def embed_pieces(encoder: Encoder, pieces: Sequence[Piece], dtype: torch.dtype) -> Tensor:
    """The same for a batch that is laid flat already."""
    batches = [piece.batch for piece in pieces]
    parts: Sequence[Tensor | None] = [None] * len(batches)
    if encoder.whole is None:
        # Looked up for all pieces at once: each look-up has a gradient as large as the vocabulary.
        ids_T = torch.cat([batch.ids_T for batch in batches])
        embedded_TD = encoder.embedded(ids_T, torch.cat([batch.positions_T for batch in batches]))
        parts = torch.split(embedded_TD, [len(batch.ids_T) for batch in batches])
    vectors_BD = torch.cat([encoder(batch, dtype, part) for batch, part in zip(batches, parts, strict=True)])
    members = [i for piece in pieces for i in piece.members]
    back_B = torch.empty(len(members), dtype=torch.int64)
    back_B[torch.tensor(members)] = torch.arange(len(members))
    return vectors_BD.index_select(0, sent(back_B, vectors_BD.device))


def encode(
    encoder: Encoder,
    texts: Sequence[Ids],
    *,
    dtype: torch.dtype,
    budget: Budget | None = None,
    watch: Watch = unwatched,
) -> Vectors:
    """Vectors, float32 (N, D), in the order of ``texts``, computed without a graph.

    Texts are taken in order of length, as many as the budget allows, so that little work differs in size. Where
    memory runs out, half as many; raises :class:`OutOfMemory` where not one text fits. On a CPU no bit of a vector
    depends on the other texts.
    """
    budget = budget or Budget(next(encoder.parameters()).device)
    vectors = np.zeros((len(texts), encoder.shape.dim), dtype=np.float32)
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    order = np.argsort(lengths, kind="stable")
    done = 0
    with torch.inference_mode():
        while done < len(order):
            members = order[done : done + _fitting(lengths[order[done:]], budget.tokens)]
            tokens, began = int(lengths[members].sum()), time.monotonic()
            found = _attempt(encoder, [texts[i] for i in members], dtype)
            if found is None:
                if len(members) == 1:
                    raise OutOfMemory(f"a text of {tokens:,} tokens does not fit", hint="lower tokens.max_tokens")
                budget.shrink(tokens)
                continue
            vectors[members] = found
            budget.learn(tokens, time.monotonic() - began)
            done += len(members)
            watch(Tick(done, len(texts), "texts"))
    return vectors


def _attempt(encoder: Encoder, texts: Sequence[Ids], dtype: torch.dtype) -> Vectors | None:
    """Vectors of a batch; ``None``: no memory. The fault is let go here, and what it held with it."""
    # Kernels for a few rows add up in another order: the vector of a short text would depend on its company.
    times = -(-_LEAST_TOKENS // sum(map(len, texts)))
    try:
        found: Vectors = embed(encoder, [*texts] * times, dtype, exact=True)[: len(texts)].cpu().numpy()
        return found
    except (RuntimeError, MemoryError) as fault:
        if not is_out_of_memory(fault):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def _fitting(lengths: npt.NDArray[np.int64], tokens: int) -> int:
    """How many of the first texts make up ``tokens``; one at least."""
    return max(1, int(np.searchsorted(np.cumsum(lengths[:tokens]), tokens, side="right")))


def unit_vectors(encoder: Encoder, texts: Sequence[Ids], *, dtype: torch.dtype) -> Vectors:
    """The same with length 1, so that products are cosines; :class:`DataError` if one is not finite."""
    vectors = encode(encoder, texts, dtype=dtype)
    if not np.isfinite(vectors).all():
        raise DataError("a vector is not finite", hint="embedctl checkpoint list; restore another step")
    return unit(vectors)


def _batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    members: list[int] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if members and tokens + lengths[index] > batch_tokens:
            yield members
            members, tokens = [], 0
        members.append(index)
        tokens += lengths[index]
    if members:
        yield members
