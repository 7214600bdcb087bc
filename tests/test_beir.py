"""Collections in BEIR's layout and MTEB tasks: figures as trec_eval has them, in memory that does not grow."""

import gzip
import json
import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embedctl.checkpoint import files
from embedctl.errors import DataError
from embedctl.evaluation import beir, ranking
from embedctl.evaluation.beir import BeirFolder, Judged
from embedctl.evaluation.ranking import Ranking, rank_by_model, rank_by_words
from embedctl.settings import EvaluationSettings
from tests.conftest import Run, options, prepare, sentences, tiny, train

CPU = torch.device("cpu")


def write_folder(folder: Path, count: int = 60, *, grades: Mapping[str, Mapping[str, int]] | None = None) -> Path:
    """A collection of the texts that tiny corpora are made of, each the answer to its own query."""
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    pairs = sentences(count)
    documents = [{"_id": f"d{n}", "title": f"Note {n}", "text": text} for n, (_, text) in enumerate(pairs)]
    queries = [{"_id": f"q{n}", "text": query} for n, (query, _) in enumerate(pairs)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in documents), encoding="utf-8")
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries), encoding="utf-8")
    judged = {f"q{n}": {f"d{n}": 1} for n in range(count)} if grades is None else grades
    lines = [f"{query}\t{document}\t{grade}\n" for query, row in judged.items() for document, grade in row.items()]
    (folder / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines), encoding="utf-8")
    return folder


def ranked(
    scores: np.ndarray[Any, Any], names: Sequence[str], keep: int, sizes: Sequence[int]
) -> tuple[Ranking, list[list[str]]]:
    """What is kept when documents come in windows of ``sizes``, and so on from the first."""
    found = Ranking(len(scores), keep, CPU)
    first = step = 0
    while first < len(names):
        last = first + sizes[step % len(sizes)]
        numbers = found.admit(names[first:last])
        found.offer(torch.from_numpy(scores[:, first:last]), numbers, 0)
        first, step = last, step + 1
    kept = [[found.names[n] for n in row if n >= 0] for row in found._nearest.found().labels]
    return found, kept


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**20), sizes=st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_windows_and_ties_are_ordered_as_one_list(seed: int, sizes: list[int]):
    random = np.random.default_rng(seed)
    names = [f"{n:x}é"[::-1] for n in random.permutation(40)]
    scores = random.integers(-3, 3, (3, 40)).astype(np.float32)
    scores[random.random(scores.shape) < 0.2] = -np.inf
    scores[scores == 0] *= random.choice([-1, 1])

    _, kept = ranked(scores, names, 7, sizes)

    for row, best in zip(scores, kept, strict=True):
        there = sorted(((score, name) for score, name in zip(row, names, strict=True) if score > -np.inf), reverse=True)
        assert best == [name for _, name in there[: 7 + 1]]  # one more, for the query itself


def test_names_are_kept_only_of_the_best_and_of_one_window():
    names = [f"d{n}" for n in range(5000)]
    scores = np.random.default_rng(0).standard_normal((2, 5000)).astype(np.float32)

    found, kept = ranked(scores, names, 5, [100])

    assert len(found.names) <= 100 + 2 * (5 + 1)
    assert kept[0] == [names[n] for n in np.argsort(-scores[0])[: 5 + 1]]


@pytest.mark.parametrize(("graded", "grades"), [({"b": 1}, [1, 0]), ({"b": 1, "a": 2}, [2, 1, 0])])
def test_a_query_that_is_a_document_is_no_answer_to_itself_unless_it_is_judged_one(
    graded: dict[str, int], grades: list[int]
):
    found, _ = ranked(np.array([[3.0, 2.0, 1.0]], np.float32), ["a", "b", "c"], 3, [3])

    assert found.grades(Judged(["a"], ["text of a"], [graded]))[0].tolist() == grades


def test_what_is_left_beside_the_query_itself_is_as_many_as_for_any_other():
    scores = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]], np.float32)

    found, _ = ranked(scores, ["a", "b", "c"], 2, [1])

    assert [len(row) for row in found.grades(Judged(["a", "other"], ["", ""], [{"b": 1}, {"b": 1}]))] == [2, 2]


def test_a_broken_archive_and_an_endless_score_are_named():
    folder = write_folder(Path("c"), 30, grades={"q0": {"d1": 1}})
    raw = bytearray(gzip.compress((folder / "corpus.jsonl").read_bytes()))
    (folder / "corpus.jsonl").unlink()
    for place in range(12, len(raw) - 8, max(1, len(raw) // 60)):
        broken = bytearray(raw)
        broken[place] ^= 0x55
        (folder / "corpus.jsonl.gz").write_bytes(broken)
        with pytest.raises(DataError):
            list(BeirFolder.find(folder).documents())
    (folder / "qrels/test.tsv").write_text("q0\td1\tinf\n")
    with pytest.raises(DataError, match=r"test\.tsv:1"):
        BeirFolder.find(folder).judged()


def test_memory_does_not_grow_with_the_collection(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(beir, "_WINDOW", (100, 2**20))
    peaks = []
    for count in (300, 3000):
        grades = {f"q{n}": {f"d{n}": 1} for n in range(5)}
        found = BeirFolder.find(write_folder(Path(f"c{count}"), count, grades=grades))
        judged = found.judged()
        rank_by_words(Ranking(5, 10, CPU), found, judged)
        tracemalloc.start()
        rank_by_words(Ranking(5, 10, CPU), found, judged)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert peaks[1] < peaks[0] * 1.2


def test_files_may_be_compressed_and_lie_as_limit_has_them():
    plain = write_folder(Path("plain"), 8, grades={"q3": {"d3": 2, "d4": 0}, "q5": {"d1": 1}})
    Path("other").mkdir()
    for name in ("corpus.jsonl", "queries.jsonl"):
        Path(f"other/{name}.gz").write_bytes(gzip.compress((plain / name).read_bytes()))
    rows = [("q3", "d3", 2), ("q3", "d4", 0), ("q5", "d1", 1)]
    lines = [json.dumps({"query-id": q, "corpus-id": d, "score": score}) + "\n" for q, d, score in rows]
    Path("other/qrels.jsonl").write_text("".join(lines), encoding="utf-8")

    one, other = BeirFolder.find(plain), BeirFolder.find(Path("other"))

    assert one.judged() == other.judged()
    assert one.judged().grades == [{"d3": 2, "d4": 0}, {"d1": 1}]
    assert list(one.documents()) == list(other.documents())
    assert next(one.documents()).text.startswith("Note 0 The apple number 0")
    assert one.digest != other.digest


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("corpus.jsonl", b'{"_id": 7, "text": "a"}\n', "corpus.jsonl:1: want"),
        ("corpus.jsonl", b"{}\n", "corpus.jsonl:1: want"),
        ("corpus.jsonl", b"\xff\xfe\xfd", "corpus.jsonl cannot be read"),
        (
            "corpus.jsonl",
            b'{"_id": "d1", "text": "a"}\n{"_id": "d1", "text": "a b"}\n',
            "two documents are called 'd1'",
        ),
        ("queries.jsonl", b'{"_id": "q1"\n', "queries.jsonl:1: want"),
        ("queries.jsonl", b'{"_id": "q9", "text": "a"}\n', "judges query 'q0', which queries.jsonl does not hold"),
        ("qrels/test.tsv", b"q1\td1\n", "test.tsv:1: want query-id, corpus-id and a whole score"),
        ("qrels/test.tsv", b"query-id\tcorpus-id\tscore\nq1\td1\t0.5\n", "test.tsv:2: want"),
        ("qrels/test.tsv", b"query-id\tcorpus-id\tscore\n", "judges nothing"),
    ],
)
def test_what_is_wrong_with_a_folder_is_named_with_its_line(name: str, content: bytes, message: str):
    folder = write_folder(Path("c"), 3, grades={"q0": {"d1": 1}})
    (folder / name).write_bytes(content)
    if name == "corpus.jsonl":
        (folder / "queries.jsonl").write_text('{"_id": "q0", "text": "a"}\n', encoding="utf-8")

    with pytest.raises(DataError) as caught:
        found = BeirFolder.find(folder)
        judged = found.judged()
        kept = Ranking(len(judged.texts), 10, CPU)
        rank_by_words(kept, found, judged)
        kept.grades(judged)

    assert message in caught.value.message


def test_a_missing_file_is_named(run: Run):
    train(prepare(), max_steps=1)
    Path("empty").mkdir()

    ran = run(*options('evaluation.beir_folders=["empty"]'), "eval")

    assert ran.code == 2
    assert "no corpus.jsonl in empty" in ran.err


def test_scores_of_bm25_are_the_same_in_windows(monkeypatch: pytest.MonkeyPatch):
    found = BeirFolder.find(write_folder(Path("c")))
    judged = found.judged()
    figures = []
    for window in ((7, 2**20), (1000, 2**20), (1000, 200)):
        monkeypatch.setattr(beir, "_WINDOW", window)
        kept = Ranking(len(judged.texts), 100, CPU)
        assert rank_by_words(kept, found, judged) == 60
        figures.append([row.tolist() for row in kept.grades(judged)])

    assert figures[0] == figures[1] == figures[2]
    assert all(row[0] == 1 for row in figures[0])


def test_the_run_and_bm25_are_measured_on_a_folder_and_a_changed_file_is_noticed(run: Run):
    folder = write_folder(Path("c"))
    more = ("training.epochs=12", "training.learning_rate=0.003", 'evaluation.beir_folders=["c"]')
    train(prepare(*more))

    ran = run(*options(*more), "eval")
    (figures,) = json.loads(Path("ws/evaluation/main/report.json").read_text())["beir"]
    before = run(*options(*more), "status", "--json")
    text = (folder / "corpus.jsonl").read_text().replace("river", "brook")
    (folder / "corpus.jsonl").write_text(text, encoding="utf-8")
    after = run(*options(*more), "status", "--json")

    assert "c: 60 queries, 60 documents" in ran.out
    assert all(name in ran.out for name in ("BM25", "nDCG@10", "MRR@100", "MAP@100"))
    # Chance finds a sixth; most of the documents were trained on, without their titles.
    assert figures["model"]["recall_at_10"] > 0.4
    assert figures["bm25"]["recall_at_1"] == 1
    states = [{row["kind"]: row["state"] for row in json.loads(ran.out)}["evaluation"] for ran in (before, after)]
    assert states == ["up to date", "stale"]


def test_prompts_of_the_model_are_put_before_and_long_documents_cut(monkeypatch: pytest.MonkeyPatch):
    loaded = prepare("tokens.query_prompt=ask:", "tokens.passage_prompt=text:", "tokens.max_tokens=24")
    train(loaded, max_steps=1)
    model = files.load_model(files.head(loaded.layout.checkpoints), CPU)
    found = BeirFolder.find(write_folder(Path("c")))
    seen: list[list[int]] = []
    real = ranking.unit_vectors

    def noting(encoder: Any, texts: Any, **more: Any) -> Any:
        seen.extend(text.tolist() for text in texts)
        return real(encoder, texts, **more)

    monkeypatch.setattr(ranking, "unit_vectors", noting)
    judged = found.judged()
    counted = rank_by_model(Ranking(60, 100, CPU), model, found, judged, dtype=torch.float32)

    begins = [model.tokenizer.encode(prompt, add_special_tokens=False).ids for prompt in ("ask:", "text:")]
    assert all(ids[1 : 1 + len(begins[0])] == begins[0] for ids in seen[:60])
    assert all(ids[1 : 1 + len(begins[1])] == begins[1] for ids in seen[60:])
    assert len(seen) == 120
    assert max(map(len, seen[60:])) == 24
    whole = model.tokenizer.encode_batch([document.text for document in found.documents()], add_special_tokens=False)
    assert counted.cut_documents == sum(len(ids) + 2 + len(begins[1]) > 24 for ids in whole) > 0


def test_a_model_from_elsewhere_is_measured_without_a_project_and_leaves_the_report_of_the_run(run: Run):
    write_folder(Path("c"))
    train(prepare(), max_steps=1)
    assert run(*options(), "eval").code == 0
    assert run(*options(), "model", "export", "--to", "published").code == 0
    step = files.head(Path("ws/runs/main/checkpoints")).folder
    report = Path("ws/evaluation/main/report.json").read_bytes()
    only = options('evaluation.beir_folders=["c"]', workspace="empty")

    published = json.loads(run(*only, "--json", "eval", "--model", "published").out)
    of_step = json.loads(run(*only, "--json", "eval", "--model", str(step)).out)
    here = json.loads(run(*options(), "--json", "eval", "--model", "published").out)
    again = json.loads(run(*only, "--json", "eval", "--model", "published").out)

    assert published["facts"]["beir"][0]["model"] == of_step["facts"]["beir"][0]["model"]
    assert "retrieval" not in published["facts"]
    assert set(here["facts"]["retrieval"]) >= {"model", "bm25"}
    assert here["facts"]["retrieval"]["model"] == json.loads(report)["retrieval"]["model"]
    assert Path("ws/evaluation/main/report.json").read_bytes() == report
    assert (published["made"], again["made"]) == (True, False)


def test_folders_start_where_the_file_lies_and_a_run_notes_them_absolute():
    from embedctl.loading import load
    from embedctl.template import config_text

    Path("sub").mkdir()
    Path("sub/config.toml").write_text('[evaluation]\nbeir_folders = ["a", "/b"]\n', encoding="utf-8")

    found = load(Path("sub/config.toml")).settings

    assert found.evaluation.beir_folders == (Path("sub/a"), Path("/b"))
    assert str(Path("sub/a").absolute()) in config_text(found)


def test_settings_of_what_is_measured_are_in_the_fingerprint():
    from embedctl.evaluation.report import recipe_of

    compute = tiny().settings.compute
    one = EvaluationSettings(beir_folders=(write_folder(Path("c"), 3),))
    moved = EvaluationSettings(beir_folders=(write_folder(Path("elsewhere"), 3),))
    other = EvaluationSettings(beir_folders=(write_folder(Path("more"), 4),))

    assert recipe_of(one, compute) == recipe_of(moved, compute) != recipe_of(other, compute)
    assert recipe_of(one.model_copy(update={"mteb_tasks": ("A",)}), compute) != recipe_of(one, compute)
