"""Evaluation: the figures are right, exact, and honest about ties and baselines."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from embedctl.checkpoint import files
from embedctl.evaluation import retrieval
from embedctl.evaluation.bm25 import Bm25
from embedctl.evaluation.metrics import ranks_of, retrieval_metrics, spearman
from embedctl.evaluation.report import evaluate
from embedctl.settings import EvaluationSettings
from embedctl.tokens.shards import TokenTable
from tests.conftest import Run, options, prepare, sentences, train


def test_metrics_of_known_ranks():
    metrics = retrieval_metrics(np.array([0, 1, 9, 10, 99]), (1, 10, 100))

    assert metrics["recall_at_1"] == pytest.approx(1 / 5)
    assert metrics["recall_at_10"] == pytest.approx(3 / 5)
    assert metrics["recall_at_100"] == 1
    assert metrics["ndcg_at_10"] == pytest.approx((1 + 1 / np.log2(3) + 1 / np.log2(11)) / 5)
    assert metrics["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 10 + 1 / 11 + 1 / 100) / 5)


def test_ties_count_against_the_answer():
    assert ranks_of(np.ones((1, 7)), np.array([3])).tolist() == [6]
    assert ranks_of(np.array([[0.1, 0.9, 0.5]]), np.array([1])).tolist() == [0]
    assert ranks_of(np.array([[0.1, 0.9, 0.5]]), np.array([0])).tolist() == [2]


@given(values=st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=30))
def test_spearman_is_scipys(values: list[tuple[int, int]]):
    one, other = (np.array(column, dtype=np.float64) for column in zip(*values, strict=True))
    if len(set(one)) == 1 or len(set(other)) == 1:
        assert spearman(one, other) == 0.0
    else:
        assert spearman(one, other) == pytest.approx(spearmanr(one, other).statistic, abs=1e-12)


def test_bm25_scores_by_hand():
    index = Bm25(["the cat sat", "the dog sat down here", "a bird"])

    # N 3, "cat" in 1 text of 3 words, average length 10/3; idf = ln(1 + 2.5/1.5)
    norm = 1.2 * (0.25 + 0.75 * 3 / (10 / 3))
    assert index.scores("Cat?")[0] == pytest.approx(np.log(1 + 2.5 / 1.5) / (1 + norm))
    assert index.scores("Cat?")[1:].tolist() == [0, 0]
    assert index.scores("unknown words").tolist() == [0, 0, 0]
    assert index.score_all([]).shape == (0, 3)


def test_bm25_finds_what_shares_the_rare_word():
    texts = [text for _, text in sentences(60)]
    index = Bm25(texts)

    assert all(int(np.argmax(index.scores(f"number {n}"))) == n for n in range(60))


def test_the_best_chunk_of_a_record_counts_and_bm25_reads_the_whole_text():
    loaded = prepare("tokens.max_tokens=16", "tokens.overlap_tokens=4")
    train(loaded, max_steps=1)
    table = TokenTable(loaded.layout.tokens)

    task = retrieval.held_task(table, EvaluationSettings(), seed=0)

    assert task is not None
    assert task.kind == "query"
    assert len(task.rows) > len(task.records) == 60
    assert retrieval._whole_texts(table, task) == [text for _, text in sentences(60)]
    scores = np.zeros((1, len(task.rows)))
    scores[0, task.firsts[5] + 1] = 1.0
    assert retrieval._ranks(scores, task, np.array([5])).tolist() == [0]


def test_the_length_of_a_vector_does_not_count(monkeypatch: pytest.MonkeyPatch):
    loaded = prepare()
    train(loaded, max_steps=4)
    table, settings = TokenTable(loaded.layout.tokens), EvaluationSettings()
    encoder = files.load_model(files.head(loaded.layout.checkpoints), torch.device("cpu")).encoder
    task = retrieval.held_task(table, settings, seed=0)
    assert task is not None
    before = retrieval.evaluate_model(encoder, table, task, settings, dtype=torch.float32)
    real = retrieval.encode

    def stretched(*given: Any, **more: Any) -> Any:
        vectors = real(*given, **more)
        return vectors * np.random.default_rng(0).choice([0.5, 2, 8], (len(vectors), 1)).astype(np.float32)

    monkeypatch.setattr(retrieval, "encode", stretched)

    assert retrieval.evaluate_model(encoder, table, task, settings, dtype=torch.float32) == before


def test_a_limit_keeps_every_answer_among_the_searched():
    table = TokenTable(prepare().layout.tokens)

    task = retrieval.held_task(table, EvaluationSettings(max_documents=20), seed=0)

    assert task is not None
    assert len(task.records) == 20
    assert task.records[task.answers].tolist() == np.flatnonzero(table.held).tolist()


def test_the_held_records_alone_can_be_searched():
    table = TokenTable(prepare().layout.tokens)

    task = retrieval.held_task(table, EvaluationSettings(documents="held"), seed=0)

    assert task is not None
    assert task.records.tolist() == np.flatnonzero(table.held).tolist()
    assert task.answers.tolist() == list(range(len(task.queries)))


def test_without_queries_runs_of_words_are_asked_for():
    loaded = prepare(queries=False)
    train(loaded, max_steps=1)

    report = evaluate(loaded.settings.evaluation, loaded.settings.compute, loaded.layout).manifest.facts

    figures = report["retrieval"]
    assert figures["task"] == "cloze"
    assert figures["bm25"]["recall_at_10"] > 0.5


def test_training_shows_in_the_figures_and_all_three_are_reported(run: Run):
    more = ("training.epochs=30", "training.learning_rate=0.003")
    train(prepare(*more))

    ran = run(*options(*more), "eval")
    figures = json.loads(Path("ws/evaluation/main/report.json").read_text())["retrieval"]

    assert figures["model"]["ndcg_at_10"] > figures["untrained"]["ndcg_at_10"] + 0.1
    assert 0 < figures["bm25"]["ndcg_at_10"] <= 1
    assert all(name in ran.out for name in ("model", "before training", "BM25", "recall@10", "nDCG@10", "MRR"))
    assert run(*options(*more), "--json", "eval").out.count('"made": false') == 1


def test_similarity_is_read_from_a_file_and_its_faults_are_named(run: Run):
    train(prepare(), max_steps=2)
    Path("pairs.tsv").write_text(
        "sentence1\tsentence2\tscore\nthe river\tthe river\t5\nthe river\tan engine\t1\nx\ty\t0\n", encoding="utf-8"
    )
    Path("bad.jsonl").write_text('{"sentence1": "a", "sentence2": "b", "score": "high"}\n', encoding="utf-8")

    good = json.loads(run(*options("evaluation.similarity_file=pairs.tsv"), "--json", "eval").out)
    bad = run(*options("evaluation.similarity_file=bad.jsonl"), "eval")
    missing = run(*options("evaluation.similarity_file=none.csv"), "eval")

    assert good["facts"]["similarity"]["pairs"] == 3
    assert good["facts"]["similarity"]["spearman"] >= 0.5
    assert bad.code == 3
    assert "bad.jsonl:1" in bad.err
    assert missing.code == 2


def test_with_nothing_held_out_it_says_so(run: Run):
    train(prepare("data.held_percent=0"), max_steps=1)

    ran = run(*options("data.held_percent=0"), "eval")

    assert ran.code == 3
    assert "raise data.held_percent" in ran.err
