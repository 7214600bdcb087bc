"""Lengths are described as numpy describes them all at once, in memory for the different ones alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedctl.data.lengths import PERCENTILES, Lengths

LENGTHS = st.lists(st.integers(0, 10**6), min_size=1)


def test_the_distribution_of_lengths():
    figures = Lengths(list(range(1, 101))).describe()

    assert figures == {
        "count": 100, "mean": 50.5, "std": 28.87, "min": 1, "max": 100,
        "p1": 2.0, "p5": 6.0, "p25": 25.8, "p50": 50.5, "p75": 75.2, "p95": 95.0, "p99": 99.0,
    }  # fmt: skip
    assert (Lengths().describe(), Lengths().histogram()) == ({"count": 0}, [])


@given(lengths=LENGTHS, cut=st.integers(0, 50))
def test_figures_are_those_of_numpy_in_however_many_pieces_they_come(lengths: list[int], cut: int):
    found = Lengths(lengths[:cut])
    found.add(np.array(lengths[cut:], np.int64))

    figures = found.describe()
    array = np.array(lengths)
    known = {"count": len(array), "mean": array.mean(), "std": array.std(), "min": array.min(), "max": array.max()}
    known |= {f"p{p}": point for p, point in zip(PERCENTILES, np.percentile(array, PERCENTILES), strict=True)}
    assert figures == pytest.approx(known, abs=0.051)
    assert found.total == sum(lengths)


@given(lengths=LENGTHS)
def test_a_histogram_holds_every_length_once(lengths: list[int]):
    bars = Lengths(lengths).histogram()

    assert sum(bar["records"] for bar in bars) == len(lengths)
    assert all(bar["records"] == sum(bar["from"] <= n < bar["to"] for n in lengths) for bar in bars)
