"""Which words are hidden in which batch: functions of (seed, epoch, index), as pairs are."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from embedctl.errors import DataError
from embedctl.settings import TrainingSettings
from embedctl.tokens import tokenizer as tokenizers
from embedctl.tokens.shards import Ids, TokenTable

# Of the tokens to guess 80 % are hidden, 10 % replaced by another word and 10 % left (Devlin et al. 2018).
_HIDDEN, _REPLACED = 0.8, 0.9
# Held records are asked for words in so many tokens at most.
_HELD_TOKENS = 100_000


@dataclass(frozen=True, slots=True)
class MaskBatch:
    """Texts with hidden words.

    texts:   token ids as the model sees them
    asked:   for each text bool, which tokens are to be guessed
    answers: for each text the token ids that stood at those places
    """

    texts: list[Ids]
    asked: list[npt.NDArray[np.bool_]]
    answers: list[Ids]

    @property
    def lengths(self) -> list[int]:
        return [len(text) for text in self.texts]

    @property
    def padded_tokens(self) -> int:
        """What a trainer that pads all texts to the longest computes."""
        return len(self.texts) * max(self.lengths)


class MaskStream:
    """Every chunk of every training record once an epoch, about ``batch_tokens`` tokens at a time."""

    def __init__(self, table: TokenTable, settings: TrainingSettings, *, seed: int) -> None:
        self._hide = _Hiding(table, settings.mask_share)
        self._seed = seed
        self._rows = _rows_of(table, held=False)
        self._lengths = table.lengths[self._rows].astype(np.int64)
        total = int(self._lengths.sum())
        if not total:
            raise DataError("no record can be trained on", hint="fetch more text, or lower data.held_percent")
        # At least one text begins in every batch.
        self._batch = min(max(settings.batch_tokens, int(self._lengths.max())), total)
        self._epoch = lru_cache(maxsize=2)(self._draw)

    @property
    def batches_per_epoch(self) -> int:
        """The tail of an epoch that does not fill a batch is dropped."""
        return int(self._lengths.sum()) // self._batch

    def batch(self, number: int) -> MaskBatch:
        """Batch ``number``, counted from 0 over all epochs."""
        epoch, row = divmod(number, self.batches_per_epoch)
        order, begins = self._epoch(epoch)
        first, last = np.searchsorted(begins, [row * self._batch, (row + 1) * self._batch])
        generator = np.random.Generator(np.random.Philox(key=[self._seed, (epoch << 32) + row + 1]))
        return self._hide.batch(self._rows[order[first:last]], generator)

    def _draw(self, epoch: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The order of an epoch, and the number of tokens before each text in it."""
        order = np.random.Generator(np.random.Philox(key=[self._seed, epoch << 32])).permutation(len(self._rows))
        lengths = self._lengths[order]
        return order, np.cumsum(lengths) - lengths


def held_batch(table: TokenTable, settings: TrainingSettings, *, seed: int) -> MaskBatch | None:
    """Words hidden in held records, always the same; ``None`` if no record is held."""
    rows = _rows_of(table, held=True)
    if not len(rows):
        return None
    generator = np.random.Generator(np.random.Philox(key=seed))
    rows = generator.permutation(rows)
    some = int(np.searchsorted(np.cumsum(table.lengths[rows]), _HELD_TOKENS)) + 1
    return _Hiding(table, settings.mask_share).batch(rows[:some], generator)


class _Hiding:
    """Hides words of chunks."""

    def __init__(self, table: TokenTable, share: float) -> None:
        mask = table.tokenizer.token_to_id(tokenizers.MASK)
        if mask is None:
            raise DataError(
                f"this tokenizer has no {tokenizers.MASK}, so no word can be hidden",
                hint="unset tokens.tokenizer to train one, or train with training.objective = contrastive",
            )
        self._table, self._share = table, share
        self._mask, self._vocabulary = mask, table.tokenizer.get_vocab_size()

    def batch(self, rows: npt.NDArray[np.int64], generator: np.random.Generator) -> MaskBatch:
        masked = [self._hide(self._table.passage(int(row)), generator) for row in rows]
        texts, asked, answers = (list(part) for part in zip(*masked, strict=True))
        return MaskBatch(texts, asked, answers)

    def _hide(self, text: Ids, generator: np.random.Generator) -> tuple[Ids, npt.NDArray[np.bool_], Ids]:
        frame = self._table.frame
        inner = np.zeros(len(text), dtype=bool)
        inner[len(frame.prefix) : len(text) - len(frame.suffix)] = True
        draw, fate = generator.random(len(text)), generator.random(len(text))
        others = generator.integers(0, self._vocabulary, len(text))
        asked = inner & (draw < self._share)
        seen = text.copy()
        seen[asked & (fate < _HIDDEN)] = self._mask
        replaced = asked & (fate >= _HIDDEN) & (fate < _REPLACED)
        seen[replaced] = others[replaced]
        return seen, asked, text[asked]


def _rows_of(table: TokenTable, *, held: bool) -> npt.NDArray[np.int64]:
    """The chunks of held records, or of the others."""
    of_record = table.held if held else ~table.held
    return np.flatnonzero(np.repeat(of_record, np.diff(table.record_starts)))
