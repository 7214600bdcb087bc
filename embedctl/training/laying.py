"""Batches laid flat, and sent to the GPU, by the prefetch thread while the model works on the one before."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from embedctl.model.batch import sent
from embedctl.model.encoding import Piece, flat_batches
from embedctl.ranks import Ranks
from embedctl.training.masks import MaskBatch
from embedctl.training.pairs import PairBatch

Batch = PairBatch | MaskBatch


@dataclass(frozen=True, slots=True)
class Laid:
    """This process's part of a batch.

    places: which texts of the batch
    chunks: what is in memory at a time; ``members`` of the pieces of a chunk are places in the chunk
    sizes:  texts of each chunk
    same:   contrastive: :meth:`PairBatch.same`, (2, S)
    copied: set when the last copy to the GPU has arrived; ``None`` on a CPU
    """

    batch: Batch
    chunk: int
    places: list[int]
    chunks: list[list[Piece]]
    sizes: list[int]
    same: torch.Tensor | None = None
    copied: torch.cuda.Event | None = None

    def arrive(self) -> None:
        """Let the work that follows wait for the copies, and the memory of the copies for that work."""
        if self.copied is None:
            return
        stream = torch.cuda.current_stream()
        stream.wait_event(self.copied)
        for piece in (piece for chunk in self.chunks for piece in chunk):
            for tensor in (piece.batch.ids_T, piece.batch.lengths_B, piece.batch.positions_T, piece.batch.back_B):
                tensor.record_stream(stream)
        if self.same is not None:
            self.same.record_stream(stream)


class Layer:
    """Lays batches for a device. ``stream``: its copies go beside the work on a GPU."""

    def __init__(self, device: torch.device, ranks: Ranks) -> None:
        self._device, self._ranks = device, ranks
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def lay(self, batch: Batch, chunk: int) -> Laid:
        """``chunk``: pairs, or tokens of hidden words, in memory at a time."""
        if self._stream is None:
            return self._laid(batch, chunk)
        # The device too: on leaving, a stream alone turns to the first GPU, where this thread would then hold memory.
        with torch.cuda.device(self._stream.device), torch.cuda.stream(self._stream):
            laid = self._laid(batch, chunk)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record(self._stream)
        return replace(laid, copied=copied)

    def _laid(self, batch: Batch, chunk: int) -> Laid:
        places = self._ranks.share(batch.lengths)
        texts = batch.texts
        own = [texts[i] for i in places]
        if isinstance(batch, MaskBatch):
            pieces = [[piece] for piece in flat_batches(own, device=self._device, tokens=chunk)]
            return Laid(batch, chunk, places, pieces, [len(piece.members) for (piece,) in pieces])
        pairs = len(batch.queries)
        cut = _cut(places, len(own) if chunk >= pairs else max(1, chunk * len(texts) // pairs))
        chunks = [flat_batches([texts[i] for i in some], device=self._device) for some in cut]
        same = sent(torch.from_numpy(batch.same()), self._device)
        return Laid(batch, chunk, [i for some in cut for i in some], chunks, [len(some) for some in cut], same)


def _cut(places: Sequence[int], many: int) -> list[Sequence[int]]:
    """At most ``many`` at a time. They come in order of length: each chunk takes its share of short and long texts."""
    chunks = -(-len(places) // many)
    return [places[first::chunks] for first in range(chunks)]
