"""Validation: what is bad is found, what is good is left alone, and no text makes it slow."""

import json
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from embedctl.data import checks
from embedctl.data.validation import describe
from embedctl.settings import ValidationSettings
from tests.conftest import Run, options

DEFAULTS = ValidationSettings()


def found(text: str, settings: ValidationSettings = DEFAULTS) -> set[str]:
    return {match.check.name for match in checks.examine(text, settings)}


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("\u200b\u200b", "empty"),
        ("broken \ufffd here", "invalid_utf8"),
        ("a\0b", "nul"),
        ("bell \x07 rings", "control_characters"),
        ("c1 \x9b31m", "control_characters"),
        ("user \u202egnp.exe", "bidi_override"),
        ("hidden" + "".join(chr(0xE0000 + ord(c)) for c in "message"), "tag_characters"),
        ("stego" + "\u200b\u200c" * 5 + "text", "invisible_run"),
        ("x' OR '1'='1", "sql_injection"),
        ("1; DROP TABLE users", "sql_injection"),
        ("id=1 UNION ALL SELECT password FROM t", "sql_injection"),
        ("admin'--", "sql_injection"),
        ("pg_sleep(10)", "sql_injection"),
        ("<script>alert(1)</script>", "markup_injection"),
        ("<img src=x onerror=alert(1)>", "markup_injection"),
        ("; rm -rf /", "command_injection"),
        ("file=../../etc", "command_injection"),
    ],
)
def test_bad_text_is_found(text: str, check: str):
    assert check in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "An ordinary sentence, with 'quotes' and a dash -- like this.",
        "We select the union of both sets and drop the table of results.",
        "Prices rose; insert the coin. 1 or 2 of them?",
        "Zeile eins\r\n\tZeile zwei: Straße, naïve, 你好, 🏳️‍🌈 👩‍👩‍👧",
        "\u202bשלום\u202c עולם",
        "می‌خواهم",
        "Scotland 🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    ],
)
def test_good_text_is_left_alone(text: str):
    assert found(text) == set()


def test_lengths_have_limits():
    limits = ValidationSettings(min_characters=5, max_characters=10)

    assert found("four", limits) == {"too_short"}
    assert found("12345", limits) == found("1234567890", limits) == set()
    assert found("12345678901", limits) == {"too_long"}


@pytest.mark.parametrize("piece", ["' or ", "union ", "; ", "<script ", "../", "\u200b", "a'", "or 1", "$( ", "\u202e"])
def test_no_text_makes_a_pattern_slow(piece: str):
    def seconds(length: int) -> float:
        text = (piece * (length // len(piece) + 1))[:length]
        started = time.perf_counter()
        for _ in checks.examine(text, DEFAULTS):
            pass
        return time.perf_counter() - started

    # Four times the text in quadratic time would take sixteen times as long.
    small = min(seconds(50_000) for _ in range(3))
    assert min(seconds(200_000) for _ in range(3)) < 9 * small + 0.02


def test_the_distribution_of_lengths():
    figures = describe(list(range(1, 101)))

    assert figures == {
        "count": 100, "mean": 50.5, "std": 28.87, "min": 1, "max": 100,
        "p1": 2.0, "p5": 6.0, "p25": 25.8, "p50": 50.5, "p75": 75.2, "p95": 95.0, "p99": 99.0,
    }  # fmt: skip
    assert describe([]) == {"count": 0}


ROWS = [
    {"id": "good", "text": "All is well here.", "query": "is it?"},
    {"id": "sql", "text": "x' OR '1'='1"},
    {"id": "void", "text": "   "},
    {"id": "query", "text": "A good text.", "query": "bad \x07 query"},
]


def validate(run: Run, *more: str, words: tuple[str, ...] = ()):
    Path("text").mkdir(exist_ok=True)
    Path("text/a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    assert run(*options(*more), "data", "fetch").code == 0
    return run(*options(*more), "data", "validate", *words)


def test_every_record_gets_a_verdict_and_the_report_counts_them(run: Run):
    ran = validate(run)

    report = json.loads(Path("ws/validation/main/report.json").read_text())
    verdicts = {row["id"]: row for row in pq.read_table("ws/validation/main/verdicts.parquet").to_pylist()}
    assert ran.code == 0
    assert {name: row["verdict"] for name, row in verdicts.items()} == {
        "good": "keep", "sql": "flag", "void": "drop", "query": "flag",
    }  # fmt: skip
    assert verdicts["query"]["checks"] == ["control_characters"]
    assert (report["records"], report["kept"], report["flagged"], report["dropped"]) == (4, 1, 2, 1)
    samples = {finding["check"]: finding["samples"][0]["shown"] for finding in report["findings"]}
    assert samples["control_characters"] == "bad \\u{7} query"


def test_what_is_dropped_is_not_tokenized(run: Run):
    validate(run, "validation.on_suspicious=drop", "data.held_percent=0")

    ran = run(*options("validation.on_suspicious=drop", "data.held_percent=0"), "--json", "data", "tokenize")

    assert json.loads(ran.out)["facts"]["records"] == 1


@pytest.mark.parametrize(("severity", "code"), [("medium", 3), ("high", 0), ("never", 0)])
def test_fail_on_sets_the_exit_code_and_keeps_the_report(run: Run, severity: str, code: int):
    ran = validate(run, words=("--fail-on", severity))

    assert ran.code == code
    assert Path("ws/validation/main/report.json").is_file()
    assert ("severity medium" in ran.err) == (code == 3)


def test_an_unknown_severity_is_a_usage_error(run: Run):
    ran = validate(run, words=("--fail-on", "mild"))

    assert ran.code == 2
    assert "never, low, medium, high, critical" in ran.err.replace("\n", " ")
