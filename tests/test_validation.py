"""Validation: every record gets its verdict, copies and leaks are found, and only new parts are judged again."""

import json
import random
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedctl.data import corpus, judging, validation
from embedctl.data.sample import sample_of
from embedctl.errors import ArtifactError, ConfigError
from tests.conftest import REPOSITORY, Run, options, tiny, write_corpus

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
    from embedctl.tokens.shards import TokenTable

    table = TokenTable(Path("ws/tokens/main"))
    assert table.strings("text", range(len(table))) == ["All is well here.", "A good text.", "A text with  inside."]
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


def test_what_will_be_cut_is_counted_by_the_tokenizer_that_will_be_used(run: Run):
    tokenizer = REPOSITORY / "tests" / "data" / "gpt2"
    rows = [{"id": f"r{n}", "text": " ".join(WORDS[n % 7 :]) * 4, "query": "what " * n} for n in range(40)]

    validate(run, f"tokens.tokenizer={tokenizer}", rows=rows)

    said = report()["truncation"]
    assert (said["basis"], said["max_tokens"], said["sampled_records"]) == ("tokenizer", 48, 40)
    assert (said["texts_split_percent"], said["queries_cut_percent"]) == (100.0, 46.15)


@pytest.mark.parametrize("readable", [True, False])
def test_of_a_damaged_corpus_nothing_is_committed(run: Run, readable: bool):
    right = validate(run)
    part = Path("ws/corpus/main/part-00000.parquet")
    content = part.read_bytes()
    shutil.rmtree("ws/validation")
    if readable:
        table = pq.read_table(part)
        pq.write_table(table.set_column(1, "text", pa.array(["another"] * len(table))), part)
    else:
        part.write_bytes(content[:50] + b"?" * 50 + content[100:])

    ran = run(*options(), "data", "validate")

    assert (ran.code, "part-00000.parquet is damaged" in ran.err) == (ArtifactError.exit_code, True)
    assert not [*Path("ws/validation").rglob("*.shard.json"), *Path("ws/validation").rglob("verdicts.parquet")]
    part.write_bytes(content)
    assert (right.code, run(*options(), "data", "validate").code) == (0, 0)
    assert verdicts()["sql"]["verdict"] == "flag"


@pytest.mark.parametrize("parts", [1, 3, 40])
def test_the_sample_is_of_all_over_the_corpus(tmp_path: Path, parts: int):
    paths = [tmp_path / f"part-{n:05}.parquet" for n in range(parts)]
    for number, path in enumerate(paths):
        texts = [f"{number} {row} {'early' if row < 50 else 'late'}" for row in range(100)]
        pq.write_table(pa.table({"text": texts, "query": pa.nulls(100, pa.string())}), path, row_group_size=10)

    drawn = [text.split() for text in sample_of(paths).texts]

    assert len({part for part, _, _ in drawn}) == min(parts, 16)
    early = [half for _, _, half in drawn].count("early")
    assert len(drawn) >= 100 and 0.4 < early / len(drawn) < 0.6
    assert len({tuple(row) for row in drawn}) == len(drawn)
    assert sample_of([]).texts == []
