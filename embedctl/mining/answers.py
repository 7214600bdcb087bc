"""Which chunks answer a query for sure and so are no negatives: a search in sorted keys, never over all pairs."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embedctl.tokens.shards import Ids, TokenTable

Places = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Pairs:
    """J pairs of places: ``left`` (J,) in order, ``right`` (J,)."""

    left: Places
    right: Places


class Answers:
    """The searched chunks (C), and for any record those of a record that was asked the same, its own among them, and
    those of the same text as one of its own.

    In memory are 24 bytes for each chunk and 8 for each record.
    """

    def __init__(self, table: TokenTable, rows: Places) -> None:
        """rows: (C,) numbers of the searched chunks, in order"""
        self._owners = table.record_of()[rows]
        self._asked = _keys_of(table.query(record) for record in range(table.records))
        self._texts = _keys_of(table.passage(int(row)) for row in rows)

    def own(self, records: Places) -> Pairs:
        """(place in ``records``, place among the chunks) of the chunks that each record consists of."""
        return _spread(*(np.searchsorted(self._owners, records, side) for side in ("left", "right")))

    def among(self, first: int, last: int) -> "Window":
        """The same question, about the chunks ``first`` to ``last`` alone."""
        return Window(self, _Sorted(self._asked[self._owners[first:last]]), _Sorted(self._texts[first:last]))

    def asked(self, records: Places) -> Keys:
        """What stands for each record's query."""
        return self._asked[records]

    def texts(self, places: Places) -> Keys:
        """What stands for each chunk's text."""
        return self._texts[places]


@dataclass(frozen=True, slots=True)
class Window:
    """Some neighbouring chunks, by the query of their record and by their text."""

    answers: Answers
    by_query: "_Sorted"
    by_text: "_Sorted"

    def of(self, records: Places) -> Pairs:
        """(place in ``records``, place in the window) of all sure answers; some stand there twice."""
        own = self.answers.own(records)
        same_query = self.by_query.find(self.answers.asked(records))
        same_text = self.by_text.find(self.answers.texts(own.right))
        left = np.concatenate([same_query.left, own.left[same_text.left]])
        return Pairs(left, np.concatenate([same_query.right, same_text.right]))


class _Sorted:
    """Where each of some keys stands among others."""

    def __init__(self, keys: Keys) -> None:
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]

    def find(self, keys: Keys) -> Pairs:
        """All (place in ``keys``, place here) of equal ones."""
        found = _spread(*(np.searchsorted(self._keys, keys, side) for side in ("left", "right")))
        return Pairs(found.left, self._order[found.right])


def _spread(first: Places, last: Places) -> Pairs:
    """(n, place) for each n and each place from ``first[n]`` to ``last[n]``, exclusive."""
    counts = last - first
    left = np.repeat(np.arange(len(first)), counts)
    inner = np.arange(len(left)) - np.repeat(np.cumsum(counts) - counts, counts)
    return Pairs(left, first[left] + inner)


def _keys_of(texts: Iterable[Ids]) -> Keys:
    """64 bits of a hash for each text: two different ones of a billion collide with a chance of 3 %."""
    digests = (hashlib.blake2b(text.tobytes(), digest_size=8).digest() for text in texts)
    return np.array([int.from_bytes(found, "little") for found in digests], dtype=np.uint64)
