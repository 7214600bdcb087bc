"""From token ids to vectors, many texts at a time: the one forward path of training, embedding and search."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from embedctl.errors import DataError, OutOfMemory, is_out_of_memory
from embedctl.model import native
from embedctl.model.batch import FlatBatch, sent
from embedctl.model.budget import CPU_TOKENS, Budget
from embedctl.model.encoder import Encoder
from embedctl.model.nearest import unit
from embedctl.progress import Tick, Watch, unwatched

Ids = npt.NDArray[np.unsignedinteger[Any]]
Vectors = npt.NDArray[np.float32]

_LEAST_TOKENS = 32
# Of fewer tokens for each thread, all threads share every step.
_ALONE_TOKENS = 512
_MOST_ALONE_TOKENS = 2048


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
    depends on the other texts, nor on the number of threads; ``watch`` may be called by any of these.
    """
    budget = budget or Budget(next(encoder.parameters()).device)
    work = _Work(encoder, texts, dtype, budget, watch)
    threads = work.threads()
    if threads == 1:
        work.run()
        return work.vectors
    with ThreadPoolExecutor(threads, initializer=native.compute_alone) as pool:
        try:
            for each in [pool.submit(work.run) for _ in range(threads)]:
                each.result()
        finally:
            work.stop()
    return work.vectors


class _Work:
    """Texts to be encoded, in order of length, which one thread or several take some at a time."""

    def __init__(
        self, encoder: Encoder, texts: Sequence[Ids], dtype: torch.dtype, budget: Budget, watch: Watch
    ) -> None:
        self.vectors: Vectors = np.zeros((len(texts), encoder.shape.dim), dtype=np.float32)
        self._encoder, self._texts, self._dtype, self._budget, self._watch = encoder, texts, dtype, budget, watch
        self._lengths = np.array([len(text) for text in texts], dtype=np.int64)
        self._order = np.argsort(self._lengths, kind="stable")
        self._most = budget.tokens
        # A text without a token has no vector but zeros.
        self._taken = self._done = int((self._lengths == 0).sum())
        self._lock = Lock()

    def threads(self) -> int:
        """How many are to share it: each takes texts of its own through the whole model, and waits for no other."""
        total, threads = int(self._lengths.sum()), torch.get_num_threads()
        if self._encoder.whole is None or total < threads * _ALONE_TOKENS:
            return 1
        self._most = min(_MOST_ALONE_TOKENS, -(-total // threads))
        return threads

    def run(self) -> None:
        """Take what is left."""
        with torch.inference_mode():
            while len(members := self._take()):
                self._encode(members)

    def stop(self) -> None:
        """Nothing more is taken."""
        with self._lock:
            self._taken = len(self._order)

    def _take(self) -> npt.NDArray[np.int64]:
        with self._lock:
            left = self._order[self._taken :]
            members = left[: _fitting(self._lengths[left], min(self._most, self._budget.tokens))]
            self._taken += len(members)
            return members

    def _encode(self, members: npt.NDArray[np.int64]) -> None:
        tokens, began = int(self._lengths[members].sum()), time.monotonic()
        found = _attempt(self._encoder, [self._texts[i] for i in members], self._dtype)
        if found is None:
            if len(members) == 1:
                raise OutOfMemory(f"a text of {tokens:,} tokens does not fit", hint="lower tokens.max_tokens")
            self._budget.shrink(tokens)
            for half in np.array_split(members, 2):
                self._encode(half)
            return
        with self._lock:
            self.vectors[members] = found
            self._budget.learn(tokens, time.monotonic() - began)
            self._done += len(members)
            self._watch(Tick(self._done, len(self._order), "texts"))


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
    """How many of the first texts make up ``tokens``; one at least, if there is one."""
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
