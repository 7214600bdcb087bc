"""Which pairs make up which batch: functions of (seed, epoch, index), never of history.

So resuming needs the number of the next batch and nothing else.
"""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from embedctl.errors import DataError
from embedctl.mining.negatives import Negatives
from embedctl.settings import TrainingSettings
from embedctl.tokens.shards import Ids, TokenTable

# A crop stands in for a query, so it is about as long as one.
_CROP_TOKENS = (8, 33)
# In one of ten pairs the crop stays in the passage, so that the same words still count (Lee et al. 2019).
_CROP_STAYS = 0.1


@dataclass(frozen=True, slots=True)
class PairBatch:
    """P pairs: token ids of the queries, of the passages that answer them, and of mined ones that seem to.

    records: (P) the record of each pair;  mined: where each of ``negatives`` comes from
    """

    queries: list[Ids]
    passages: list[Ids]
    negatives: list[Ids] = field(default_factory=list)
    records: list[int] = field(default_factory=list)
    mined: list["Mined"] = field(default_factory=list)

    @property
    def texts(self) -> list[Ids]:
        return [*self.queries, *self.passages, *self.negatives]

    @property
    def lengths(self) -> list[int]:
        return [len(text) for text in self.texts]

    @property
    def padded_tokens(self) -> int:
        """What a trainer that pads queries and passages each to their longest computes."""
        passages = [*self.passages, *self.negatives]
        return sum(len(texts) * max(map(len, texts)) for texts in (self.queries, passages))

    def same(self) -> npt.NDArray[np.int64]:
        """(2, S) pairs of a query and a passage or negative that answers it as well as its own.

        Those of the same text as one of its answers, and those that were asked the same or belong to its record.
        They are few: a table of all would be larger than everything else.
        """
        pairs = len(self.queries)
        queries = _numbered([*self.queries, *(negative.query for negative in self.mined)])
        passages = _numbered([*self.passages, *self.negatives])
        found: list[tuple[int, int]] = []
        askers = _places(queries[:pairs])
        answered = _places(passages[:pairs])
        owners = _places(np.array(self.records, dtype=np.int64))
        for place, number in enumerate(passages.tolist()):
            # Whoever asks what a pair with this passage asks, ...
            asked = {int(queries[n]) for n in answered.get(number, [])}
            if place >= pairs:
                # ... or what the record of this mined chunk was asked.
                asked.add(int(queries[place]))
                found += [(row, place) for row in owners.get(self.mined[place - pairs].record, [])]
            found += [(row, place) for query in asked for row in askers.get(query, []) if row != place]
        return np.array(found, dtype=np.int64).reshape(-1, 2).T


@dataclass(frozen=True, slots=True)
class Mined:
    """Where a mined chunk comes from: its record, and the query of that."""

    record: int
    query: Ids


@dataclass(frozen=True, slots=True)
class _Epoch:
    """The draws of one epoch, for each of P pairs."""

    order: npt.NDArray[np.int64]
    draws: npt.NDArray[np.float64]  # (P, 5) uniform: chunk, crop or not, crop length, crop place, crop stays


class PairStream:
    """The training pairs of a token table: one per record, a new chunk of it each epoch.

    A record with a query gives (query, chunk); one without gives (crop, rest of the chunk), an inverse
    cloze (Lee et al. 2019, arXiv:1906.00300).
    """

    def __init__(
        self, table: TokenTable, settings: TrainingSettings, *, seed: int, mined: Negatives | None = None
    ) -> None:
        """mined: chunks that seem to answer a record's query and do not"""
        self._table = table
        self._crop_share = settings.crop_share
        self._seed, self._mined, self._hard = seed, mined, settings.hard_negatives
        trained = ~table.held
        frame = table.frame.count
        longest = np.maximum.reduceat(table.lengths, table.record_starts[:-1])
        # A record without query has to have room for a crop and something that remains.
        useful = (table.query_lengths > 0) | (longest >= frame + 2 * _CROP_TOKENS[0])
        self._records = np.flatnonzero(trained & useful)
        if len(self._records) < 2:
            raise DataError(
                f"{len(self._records)} of {table.records} records can be trained on; want at least 2",
                hint="fetch more text, or lower data.held_percent",
            )
        self._batch = min(settings.batch_pairs, len(self._records))
        self._epoch = lru_cache(maxsize=2)(self._draw)

    @property
    def batches_per_epoch(self) -> int:
        """The tail of an epoch that does not fill a batch is dropped."""
        return len(self._records) // self._batch

    def batch(self, number: int) -> PairBatch:
        """Batch ``number``, counted from 0 over all epochs."""
        epoch, row = divmod(number, self.batches_per_epoch)
        drawn = self._epoch(epoch)
        chosen = drawn.order[row * self._batch : (row + 1) * self._batch]
        records = [int(self._records[i]) for i in chosen]
        pairs = [self._pair(record, drawn.draws[i]) for record, i in zip(records, chosen, strict=True)]
        rows = [int(row) for record in records for row in self._mined_for(record)]
        owners = np.searchsorted(self._table.record_starts, rows, side="right") - 1
        return PairBatch(
            [query for query, _ in pairs],
            [passage for _, passage in pairs],
            [self._table.passage(row) for row in rows],
            records,
            [Mined(int(record), self._table.query(int(record))) for record in owners],
        )

    def _mined_for(self, record: int) -> npt.NDArray[np.int64]:
        """The hardest ``hard_negatives`` of a record; where fewer were found, those."""
        return np.zeros(0, np.int64) if self._mined is None else self._mined.of(record)[: self._hard]

    def _draw(self, epoch: int) -> _Epoch:
        generator = np.random.Generator(np.random.Philox(key=[self._seed, epoch]))
        return _Epoch(generator.permutation(len(self._records)), generator.random((len(self._records), 5)))

    def _pair(self, record: int, draw: npt.NDArray[np.float64]) -> tuple[Ids, Ids]:
        starts = self._table.record_starts
        first, last = int(starts[record]), int(starts[record + 1])
        passage = self._table.passage(first + int(draw[0] * (last - first)))
        query = self._table.query(record)
        room = len(passage) - self._table.frame.count >= 2 * _CROP_TOKENS[0]
        if room and (not len(query) or draw[1] < self._crop_share):
            return self._crop(passage, draw)
        return (query, passage) if len(query) else self._crop(self._longest(first, last), draw)

    def _longest(self, first: int, last: int) -> Ids:
        return self._table.passage(first + int(np.argmax(self._table.lengths[first:last])))

    def _crop(self, passage: Ids, draw: npt.NDArray[np.float64]) -> tuple[Ids, Ids]:
        frame = self._table.frame
        inner = passage[len(frame.prefix) : len(passage) - len(frame.suffix)]
        low, high = _CROP_TOKENS
        length = min(low + int(draw[2] * (high - low)), len(inner) // 2)
        start = int(draw[3] * (len(inner) - length + 1))
        crop, rest = inner[start : start + length], inner
        if draw[4] >= _CROP_STAYS:
            rest = np.concatenate([inner[:start], inner[start + length :]])
        return self._table.query_frame.around(crop), frame.around(rest)


def _numbered(texts: list[Ids]) -> npt.NDArray[np.int64]:
    """Equal texts have equal numbers."""
    known: dict[bytes, int] = {}
    return np.array([known.setdefault(text.tobytes(), len(known)) for text in texts], dtype=np.int64)


def _places(numbers: npt.NDArray[np.int64]) -> dict[int, list[int]]:
    """Where each number stands."""
    found: dict[int, list[int]] = {}
    for place, number in enumerate(numbers.tolist()):
        found.setdefault(number, []).append(place)
    return found
