"""How long many texts are: a count for each length, so that memory grows with how different they are alone.

L different lengths.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)


class Lengths:
    """Lengths of texts, in characters or tokens."""

    def __init__(self, lengths: Sequence[int] | npt.NDArray[np.int64] = ()) -> None:
        self._counts: Counter[int] = Counter()
        self.add(lengths)

    def add(self, lengths: Sequence[int] | npt.NDArray[np.int64]) -> None:
        values, counts = np.unique(np.asarray(lengths, dtype=np.int64), return_counts=True)
        self._counts.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))

    @property
    def total(self) -> int:
        """All of them together."""
        return sum(length * count for length, count in self._counts.items())

    def describe(self) -> dict[str, JsonValue]:
        """Count, mean, standard deviation, extremes and percentiles."""
        values, counts = self._ordered()
        if not len(values):
            return {"count": 0}
        size = int(counts.sum())
        mean = self.total / size
        # The p-th percentile lies (size - 1) * p / 100 places after the shortest, between two lengths if need be.
        places = np.array(PERCENTILES) / 100 * (size - 1)
        ends = np.cumsum(counts)
        lower, upper = (values[np.searchsorted(ends, at, side="right")] for at in (np.floor(places), np.ceil(places)))
        points = lower + (upper - lower) * (places % 1)
        return {
            "count": size,
            "mean": round(mean, 2),
            "std": round(float(np.sqrt(((values - mean) ** 2) @ counts / size)), 2),
            "min": int(values[0]),
            "max": int(values[-1]),
            **{f"p{percent}": round(float(point), 1) for percent, point in zip(PERCENTILES, points, strict=True)},
        }

    def histogram(self) -> list[JsonValue]:
        """How many lie between two powers of two: ``from`` (inclusive), ``to`` (exclusive), ``records``."""
        values, counts = self._ordered()
        if not len(values):
            return []
        bins = np.zeros(int(values[-1]).bit_length() + 1, np.int64)
        np.add.at(bins, np.ceil(np.log2(values + 1)).astype(np.int64), counts)
        bounds = [0, *(2**n for n in range(len(bins)))]
        first = int(np.flatnonzero(bins)[0])
        return [{"from": bounds[n], "to": bounds[n + 1], "records": int(bins[n])} for n in range(first, len(bins))]

    def _ordered(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(L,) the lengths, and (L,) how many there are of each."""
        pairs = np.array(sorted(self._counts.items()), np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]
