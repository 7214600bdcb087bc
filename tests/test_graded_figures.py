"""Figures of graded answers: by hand, and as trec_eval has them."""

import numpy as np
import pytest

from embedctl.evaluation.beir import Judged
from embedctl.evaluation.metrics import graded_metrics
from tests.test_beir import ranked


def test_figures_of_graded_answers_by_hand():
    found = [np.array([0, 2, 1, 0]), np.array([0, 0]), np.array([3] + [0] * 9 + [1])]
    judged = [np.array([1, 2, 3, 0]), np.array([0]), np.array([3, 1])]

    figures = graded_metrics(found, judged, (1, 2))

    two, three, four = np.log2([3, 4, 5])
    first = (2 / two + 1 / three) / (3 + 2 / two + 1 / three)
    third = 3 / (3 + 1 / two)
    assert four > three
    assert figures["ndcg_at_10"] == pytest.approx((first + 0 + third) / 3)
    assert figures["recall_at_1"] == pytest.approx((0 + 0 + 1 / 2) / 3)
    assert figures["recall_at_2"] == pytest.approx((1 / 3 + 0 + 1 / 2) / 3)
    assert figures["recall_at_10"] == pytest.approx((2 / 3 + 0 + 1 / 2) / 3)
    assert figures["mrr_at_100"] == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert figures["map_at_100"] == pytest.approx(((1 / 2 + 2 / 3) / 3 + 0 + (1 + 2 / 11) / 2) / 3)


def test_the_figures_are_those_of_trec_eval():
    pytrec_eval = pytest.importorskip("pytrec_eval")
    random = np.random.default_rng(0)
    names = [f"d{n}" for n in range(300)]
    # Few values, so that many are equal.
    scores = random.integers(0, 40, (50, 300)).astype(np.float32) / 7
    grades = [{name: int(random.integers(0, 4)) for name in random.choice(names, 12, replace=False)} for _ in range(50)]
    run = {
        f"q{q}": {name: float(score) for name, score in zip(names, row, strict=True)} for q, row in enumerate(scores)
    }
    measures = {"ndcg_cut_10", "recall_10", "recall_100", "map_cut_100"}

    found, _ = ranked(scores, names, 100, [64])
    figures = graded_metrics(
        found.grades(Judged([""] * 50, [""] * 50, grades)), [np.array(list(row.values())) for row in grades], (10, 100)
    )
    theirs = pytrec_eval.RelevanceEvaluator({f"q{q}": row for q, row in enumerate(grades)}, measures).evaluate(run)

    mean = {name: np.mean([row[name] for row in theirs.values()]) for name in measures}
    assert figures["ndcg_at_10"] == pytest.approx(mean["ndcg_cut_10"], abs=1e-12)
    assert figures["map_at_100"] == pytest.approx(mean["map_cut_100"], abs=1e-12)
    assert figures["recall_at_10"] == pytest.approx(mean["recall_10"], abs=1e-12)
    assert figures["recall_at_100"] == pytest.approx(mean["recall_100"], abs=1e-12)
