"""Validation: every record gets its verdict, copies and leaks are found, and only new parts are judged again."""

import itertools
import json
import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedctl.data import corpus, duplicates, judging, validation
from embedctl.data.records import split_of
from embedctl.data.sketches import sketch
from embedctl.errors import ConfigError
from tests.conftest import REPOSITORY, Run, options, sentences, tiny, write_corpus

ROWS = [
    {"id": "good", "text": "All is well here.", "query": "is it?"},
    {"id": "sql", "text": "x' OR '1'='1"},
    {"id": "void", "text": "   "},
    {"id": "query", "text": "A good text.", "query": "bad \x07 query"},
    {"id": "nul", "text": "A text with \0 inside."},
]


def validate(run: Run, *more: str, words: tuple[str, ...] = (), rows: list[dict[str, str]] = ROWS):
    Path("text").mkdir(exist_ok=True)
    Path("text/a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert run(*options(*more), "data", "fetch").code == 0
    return run(*options(*more), "data", "validate", *words)


def verdicts() -> dict[str, dict[str, object]]:
    return {row["id"]: row for row in pq.read_table("ws/validation/main/verdicts.parquet").to_pylist()}


def report() -> dict[str, object]:
    return json.loads(Path("ws/validation/main/report.json").read_text(encoding="utf-8"))


def test_every_record_gets_a_verdict_and_the_report_counts_them(run: Run):
    ran = validate(run)

    said = report()
    assert ran.code == 0
    assert {name: row["verdict"] for name, row in verdicts().items()} == {
        "good": "keep", "sql": "flag", "void": "drop", "query": "flag", "nul": "fix",
    }  # fmt: skip
    assert verdicts()["query"]["checks"] == ["control_characters"]
    assert [said[name] for name in ("records", "kept", "flagged", "fixed", "dropped")] == [5, 1, 2, 1, 1]
    samples = {finding["check"]: finding["samples"][0]["shown"] for finding in said["findings"]}
    assert samples["control_characters"] == "bad \\u{7} query"
    assert "5 records" in Path("ws/validation/main/report.html").read_text(encoding="utf-8")


def test_what_is_dropped_is_not_tokenized_and_what_is_mended_is_tokenized_as_mended(run: Run):
    more = ("validation.actions.sql_injection=drop", "data.held_percent=0")
    validate(run, *more)

    ran = run(*options(*more), "--json", "data", "tokenize")

    rows = pq.read_table("ws/corpus/main/part-00000.parquet").to_pylist()
    assert "\0" in rows[4]["text"]
    assert json.loads(ran.out)["facts"]["records"] == 3
    import pyarrow as pa

    tokens = pa.ipc.open_file("ws/tokens/main/part-00000.arrow").read_all().to_pylist()
    assert [row["text"] for row in tokens] == ["All is well here.", "A good text.", "A text with  inside."]
    assert report()["changes"] == {"records": 1, "by_check": {"nul": 1}}


def test_an_action_that_fails_ends_with_3_and_one_that_cannot_mend_is_refused(run: Run):
    assert validate(run, "validation.actions.sql_injection=fail").code == 3
    assert verdicts()["sql"]["verdict"] == "flag"
    with pytest.raises(ConfigError, match="there is no fix for it"):
        loaded = tiny("validation.actions.sql_injection=fix")
        validation.validate(loaded.settings.validation, loaded.layout)


WORDS = [f"{a}{b}" for a in ("ba", "ke", "mi", "so", "tu") for b in ("lor", "nen", "rast", "vig", "zum", "pel")]
STORY = " ".join(random.Random(4).choices(WORDS, k=200))


def test_a_failing_action_counts_whatever_else_is_found_in_the_record(run: Run):
    rows = [{"id": "both", "text": "x' OR '1'='1 \0"}, {"id": "good", "text": "All is well."}]

    ran = validate(run, "validation.actions.sql_injection=fail", rows=rows)

    assert (ran.code, verdicts()["both"]["verdict"]) == (3, "fix")
    assert "1 records have findings whose action is fail" in ran.err


def test_copies_can_fail(run: Run):
    rows = [{"id": "a", "text": STORY}, {"id": "b", "text": STORY}]

    ran = validate(run, "validation.actions.duplicate=fail", "data.held_percent=0", rows=rows)

    assert (ran.code, verdicts()["b"]["verdict"]) == (3, "flag")


def test_as_json_a_failure_is_one_document_with_the_facts(run: Run):
    ran = validate(run, words=("--json", "--fail-on", "high"))

    told = json.loads(ran.out)
    assert (ran.code, told["ok"], told["code"], told["facts"]["records"]) == (3, False, 3, 5)
    assert "severity high" in told["message"]


def test_other_checks_judge_every_part_anew(monkeypatch: pytest.MonkeyPatch):
    write_corpus(Path("text"), 20)
    loaded = tiny()
    corpus.fetch(loaded.settings.data, loaded.layout)

    def again() -> bool:
        return validation.validate(loaded.settings.validation, loaded.layout).made

    first = [again(), again()]
    monkeypatch.setattr(judging, "FORMAT", judging.FORMAT + 1)
    judged: list[str] = []
    once = judging.judge
    monkeypatch.setattr(judging, "judge", lambda work: judged.append(work.name) or once(work))

    assert (first, again(), judged) == ([True, False], True, ["part-00000"])


def test_what_a_killed_run_has_left_beside_a_finished_one_goes():
    write_corpus(Path("text"), 20)
    loaded = tiny()
    corpus.fetch(loaded.settings.data, loaded.layout)
    made = [validation.validate(loaded.settings.validation, loaded.layout).made]
    stray = loaded.layout.validation.with_name(".main.stale")
    stray.mkdir()

    made.append(validation.validate(loaded.settings.validation, loaded.layout).made)

    assert (made, stray.exists()) == ([True, False], False)


def copies_of(texts: list[str], queries: list[int], held: list[bool], **more: object) -> dict[int, tuple[str, int]]:
    """For each copy what it is, and of which."""
    found = duplicates.copies(
        sketch(texts),
        np.array(queries, np.uint64),
        np.array(held),
        similarity=0.8,
        **more,  # type: ignore[arg-type]
    )
    return {copy.row: (copy.check, copy.of) for check in duplicates.CHECKS for copy in found.first(check, 99)}


NEAR = STORY[:600] + " another" + STORY[600:]


def test_a_near_copy_is_found_though_an_earlier_record_is_like_both():
    found = copies_of([STORY, NEAR, STORY + " end"], [1, 2, 2], [False] * 3)

    assert found == {2: ("near_duplicate", 1)}


def test_of_a_held_record_and_its_copies_in_training_the_held_one_stays():
    assert copies_of([STORY, STORY], [0, 0], [False, True]) == {0: ("held_text_in_training", 1)}
    assert copies_of([NEAR, STORY], [0, 0], [False, True]) == {0: ("held_text_in_training", 1)}


def test_without_the_check_of_held_texts_copies_are_still_found():
    wanted = ("duplicate", "near_duplicate")

    assert copies_of([STORY, STORY, NEAR], [0] * 3, [False, False, True], wanted=wanted) == {
        1: ("duplicate", 0),
        2: ("near_duplicate", 0),
    }
    assert copies_of([STORY, STORY], [0, 0], [False, False], wanted=()) == {}


def test_copies_are_dropped_and_the_first_stays(run: Run):
    rows = [
        {"id": "a", "text": STORY},
        {"id": "b", "text": STORY.upper().replace(" ", "  ")},
        {"id": "c", "text": STORY[:600] + " another" + STORY[600:]},
        {"id": "d", "text": STORY, "query": "a question?"},
        {"id": "e", "text": " ".join(reversed(STORY.split()))},
    ]
    validate(run, "data.held_percent=0", rows=rows)

    found = verdicts()
    assert {name: row["verdict"] for name, row in found.items()} == {
        "a": "keep", "b": "drop", "c": "drop", "d": "keep", "e": "keep",
    }  # fmt: skip
    assert (found["b"]["checks"], found["c"]["checks"]) == (["duplicate"], ["near_duplicate"])
    assert (found["b"]["copy_of"], found["c"]["copy_of"]) == ("a", "a")


def test_no_held_text_or_query_is_trained_on(run: Run):
    pairs = sentences(40)
    rows = [{"id": f"r{n}", "text": text, "query": query} for n, (query, text) in enumerate(pairs)]
    # The same texts under other ids with other queries, and the same queries with other texts.
    rows += [{"id": f"s{n}", "text": text, "query": f"other {n}"} for n, (_, text) in enumerate(pairs)]
    rows += [{"id": f"t{n}", "text": f"another text {n}", "query": query} for n, (query, _) in enumerate(pairs)]
    validate(run, rows=rows)

    used = [row for row in rows if verdicts()[row["id"]]["verdict"] != "drop"]
    held = [row for row in used if split_of(row["id"], 20) == "held"]
    trained = [row for row in used if split_of(row["id"], 20) == "train"]
    assert len(held) > 5 and len(trained) > 20
    assert not {row["text"] for row in held} & {row["text"] for row in trained}
    assert not {row["query"] for row in held} & {row["query"] for row in trained}
    assert report()["duplicates"]["held_text_in_training"] > 0


@given(st.lists(st.sampled_from(["alpha beta", "Alpha  BETA!", "gamma", "", "ünder", "\0", "a\0b"]), max_size=12))
def test_a_sketch_depends_on_the_words_of_its_text_alone(texts: list[str]):
    together = sketch(texts)

    alone = [sketch([text]) for text in texts]
    assert together.words.tolist() == [int(one.words[0]) for one in alone]
    assert all((together.signatures[n] == one.signatures[0]).all() for n, one in enumerate(alone))
    assert sketch(["alpha beta"]).words[0] == sketch(["Alpha  BETA!"]).words[0] != sketch(["gamma"]).words[0]
    assert sketch(["it's “so” – ok…"]).words[0] == sketch(['It’s "so" - ok']).words[0]


def test_the_estimated_similarity_is_near_the_true_one():
    words = [f"word{n}" for n in range(3000)]
    texts = [" ".join(words), " ".join(words[:2700] + [f"new{n}" for n in range(300)])]
    both = sketch(texts)

    estimate = float((both.signatures[0] == both.signatures[1]).mean())
    # 2,697 of 3,303 runs are in common.
    assert abs(estimate - 0.82) < 0.15
    found = duplicates.copies(both, np.zeros(2, np.uint64), np.zeros(2, bool), similarity=0.6)
    assert [(copy.row, copy.of) for copy in found.first("near_duplicate", 9)] == [(1, 0)]


def test_only_new_parts_are_judged_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(corpus, "PART_BYTES", 2000)
    write_corpus(Path("text"), 60)

    def again() -> dict[str, int]:
        loaded = tiny()
        corpus.fetch(loaded.settings.data, loaded.layout)
        validation.validate(loaded.settings.validation, loaded.layout, held_percent=20)
        return {path.name: path.stat().st_ino for path in loaded.layout.validation.glob("findings-*")}

    first = again()
    with Path("text/records.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"id": "new", "text": "Something that was not there before."}\n')
    grown = again()

    # The same files, under the same names, and one more.
    assert len(first) > 2
    assert {name: grown[name] for name in first} == first
    assert set(grown) - set(first) == {f"findings-part-{len(first):05d}.parquet"}
    assert verdicts()["new"]["verdict"] == "keep"


@pytest.mark.parametrize(("severity", "code"), [("medium", 3), ("high", 3), ("critical", 0), ("never", 0)])
def test_fail_on_sets_the_exit_code_and_keeps_the_report(run: Run, severity: str, code: int):
    ran = validate(run, words=("--fail-on", severity))

    assert ran.code == code
    assert Path("ws/validation/main/report.json").is_file()
    assert ("severity high" in ran.err) == (code == 3)


def test_an_unknown_severity_is_a_usage_error(run: Run):
    ran = validate(run, words=("--fail-on", "mild"))

    assert ran.code == 2
    assert "never, low, medium, high, critical" in ran.err.replace("\n", " ")


def test_a_text_that_nearly_repeats_a_held_one_leaks_though_the_same_words_are_in_training_too():
    words = [f"word{n}" for n in range(300)]
    texts = [" ".join([*words[:-3], "other"]), " ".join(words), " ".join(words)]

    found = duplicates.copies(sketch(texts), np.zeros(3, np.uint64), np.array([False, False, True]), similarity=0.8)

    assert [(copy.row, copy.of) for copy in found.first("held_text_in_training", 9)] == [(0, 2), (1, 2)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_no_order_of_records_hides_a_near_copy_of_held_text(order: tuple[int, ...]):
    words = [f"word{n}" for n in range(300)]
    # Two training records of equal words, one a little further off, and the held one.
    texts = [" ".join(words), " ".join(words), " ".join([*words, "more"]), " ".join([*words[:150], "x", *words[150:]])]
    held = np.array([place == 3 for place in order])

    together = sketch([texts[place] for place in order])
    found = duplicates.copies(together, np.arange(1, 5).astype(np.uint64), held, similarity=0.8)

    leaks = {copy.row: copy.of for copy in found.first("held_text_in_training", 9)}
    assert leaks == {row: order.index(3) for row in range(4) if order[row] != 3}


def test_what_will_be_cut_is_counted_by_the_tokenizer_that_will_be_used(run: Run):
    tokenizer = REPOSITORY / "tests" / "data" / "gpt2"
    rows = [{"id": f"r{n}", "text": " ".join(WORDS[n % 7 :]) * 4, "query": "what " * n} for n in range(40)]

    validate(run, f"tokens.tokenizer={tokenizer}", rows=rows)

    said = report()["truncation"]
    assert (said["basis"], said["max_tokens"], said["sampled_records"]) == ("tokenizer", 48, 40)
    assert (said["texts_split_percent"], said["queries_cut_percent"]) == (100.0, 46.15)
