"""Reports of validation for the tests of their page, and a page as a browser reads it."""

from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from typing import Any

PERCENTILES = (98.0, 182.5, 489.0, 891.5, 1622.0, 3790.0, 7011.3)
HOSTILE = "<script>alert(1)</script>\u202e\"'&lt;"


def sample(id_: str, at: int, severity: str, shown: str) -> dict[str, Any]:
    return {"id": id_, "at_character": at, "severity": severity, "shown": shown}


def finding(check: str, severity: str, action: str, records: int, *samples: dict[str, Any]) -> dict[str, Any]:
    return {
        "check": check,
        "severity": severity,
        "action": action,
        "meaning": f"meaning of {check}",
        "records": records,
        "occurrences": records * 3 + 1,
        "excused_records": records // 5,
        "samples": list(samples),
    }


def lengths(first: int, *records: int) -> dict[str, Any]:
    bins = [{"from": first << n, "to": first << (n + 1), "records": count} for n, count in enumerate(records)]
    return {
        "count": sum(records),
        "mean": 1303.42,
        "std": 1411.9,
        "min": first + 1,
        "max": bins[-1]["to"] - 1,
        **dict(zip(("p1", "p5", "p25", "p50", "p75", "p95", "p99"), PERCENTILES, strict=True)),
        "histogram": bins,
    }


def full() -> dict[str, Any]:
    """A report like that of MedQuAD and some notes: nine findings, two sources, everything measured."""
    note = sample("notes:n-7", 1041, "medium", "SjÃ¶gren")
    return {
        "format": 2,
        "corpus": "main",
        "embedctl": "0.1.0",
        "records": 14386,
        "kept": 14341,
        "flagged": 12,
        "fixed": 9,
        "dropped": 24,
        "characters": 18750302,
        "bytes": 18811940,
        "worst_severity": "high",
        "sources": {
            "medquad": {"records": 12004, "kept": 11981, "flagged": 7, "fixed": 4, "dropped": 13},
            "notes": {"records": 2382, "kept": 2360, "flagged": 5, "fixed": 6, "dropped": 11},
        },
        "length_characters": lengths(16, 3, 28, 185, 914, 2680, 4160, 3797, 1968, 562, 86, 3),
        "query_length_characters": lengths(8, 13, 1455, 9614, 3252, 52),
        "languages": {"sampled_records": 2000, "shares": {"en": 0.9695, "es": 0.0215, "unknown": 0.0004}},
        "truncation": {
            "max_tokens": 256,
            "query_max_tokens": 64,
            "sampled_records": 1999,
            "basis": "tokenizer",
            "texts_split_percent": 38.3,
            "tokens_beyond_first_chunk_percent": 31.4,
            "queries_cut_percent": 0.05,
        },
        "duplicates": {
            "duplicate": 16,
            "near_duplicate": 6,
            "held_text_in_training": 2,
            "samples": [{"id": "medquad:3421-2", "of": "medquad:3419-1", "similarity": 0.93}],
        },
        "findings": [
            finding("duplicate", "low", "drop", 16),
            finding("near_duplicate", "low", "drop", 6),
            finding("held_text_in_training", "high", "drop", 2, sample("medquad:842-4", 0, "high", "How to")),
            finding("personal_data", "info", "keep", 1213, sample("medquad:1106-3", 88, "low", "niddk@…")),
            finding("mojibake", "medium", "fix", 9, note, note),
            finding("control_characters", "medium", "flag", 5, sample("notes:n-44", 17, "medium", "bell\\u{7}")),
            finding("sql_injection", "medium", "flag", 1, sample("notes:n-311", 902, "medium", "' OR '1'='1")),
            finding("bidi_override", "high", "flag", 3, sample("notes:gnp.exe", 12, "high", "\\u{202e}gnp")),
            finding("repetition", "low", "flag", 4),
        ],
        "changes": {"records": 10, "by_check": {"mojibake": 9, "nul": 1}},
    }


def meagre() -> dict[str, Any]:
    """One record in which nothing was found, and nothing else was measured."""
    counts = {"records": 1, "kept": 1, "flagged": 0, "fixed": 0, "dropped": 0, "characters": 12, "bytes": 12}
    tables = {key: type(value)() for key, value in full().items() if isinstance(value, dict | list)}
    unmeasured = {"length_characters": {"count": 0}, "query_length_characters": {"count": 0}}
    return {**full(), **tables, **unmeasured, **counts, "worst_severity": None}


def hostile() -> dict[str, Any]:
    """Wherever the data has a say: markup, a direction override, three hundred letters without a space."""
    report, long = full(), "x" * 300
    evil = finding(HOSTILE, HOSTILE, HOSTILE, 7, sample(HOSTILE, 5, HOSTILE, HOSTILE), sample(long, 6, "low", long))
    report["findings"] = [evil, finding(long, "critical", long, 1)]
    report["sources"] = {HOSTILE: {"records": 1}, long: {"records": 1_234_567_890}}
    report["languages"]["shares"] = {HOSTILE: 0.5, long: 0.5}
    report["duplicates"]["samples"] = [{"id": long, "of": HOSTILE, "similarity": 1.0}]
    report["changes"]["by_check"] = {HOSTILE: 1, long: 2}
    report["length_characters"] = lengths(1, *(7 << n for n in range(20)))
    return {**report, "corpus": HOSTILE, "embedctl": HOSTILE, "worst_severity": HOSTILE}


class Parsed(HTMLParser):
    """Elements as (name, attributes), and all text; an element that is not closed in order is an error."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(markup)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag != "meta":
            self._open.append(tag)
            # An end of a block is a gap, an end of a word within a line is not.
            self.text += "" if tag in ("span", "bdi", "code", "strong") else "\n"

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.text += data

    def all(self, name: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.elements if tag == name]


def numbers(value: object, key: str = "") -> Iterator[str]:
    """Every number of a report as a person would write it."""
    if isinstance(value, Mapping):
        for inner, child in value.items():
            yield from numbers(child, "share" if key == "shares" else inner)
    elif isinstance(value, list):
        for child in value:
            yield from numbers(child)
    elif isinstance(value, int | float):
        percent = 100 * value if key == "share" else value
        if key == "share" or key.endswith("_percent"):
            yield "nder 0.1%" if percent < 0.1 else f"{percent:.1f}%"
        else:
            yield f"{value:,.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else f"{value:,}"
