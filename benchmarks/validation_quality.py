"""How much of hostile text the checks find, and how often they cry wolf.

    python -m benchmarks.validation_quality DATA [--json]

A hit is a finding of the right check of severity low or more (for invisible text and bidi controls: high or more).
The rules for SQL and prompts were written with one half of the hostile texts in view (even SHA-1 of the text), so
both halves are shown; many prompts of the other half are combinations of the same few. The naughty strings, the
mojibake and the secrets were all in view. A false alarm is a finding of at least low severity whose default action
is not ``keep``.
"""

import argparse
import csv
import gzip
import hashlib
import json
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.hidden_text import hidden
from benchmarks.machine import describe
from embedctl.data.checks.examiner import Examiner
from embedctl.data.checks.kinds import TIERS, Match
from embedctl.settings import ActionSettings, ValidationSettings

RESULT = Path(__file__).parent / "results" / "validation.json"

Case = tuple[str, frozenset[str]]

# Sections of the naughty strings that are attacks or defects, and the checks of which one must strike. Left out, as
# they are unusual but well-formed text: reserved and numeric strings, symbols, scripts, emoji, fonts of upside-down
# letters and stacked accents (no check claims them), innocent words, phone crashers, file names of MS-DOS, a message.
NAUGHTY: dict[str, tuple[str, ...]] = {
    "Non-whitespace C0 controls": ("control_characters",),
    "Non-whitespace C1 controls": ("control_characters",),
    "Unicode additional control characters": ("invisible_text", "bidi_override"),
    '"Byte order marks"': ("control_characters", "invisible_text", "empty"),
    "Trick Unicode": ("bidi_override", "invisible_text"),
    "Unicode font": ("homoglyphs",),
    "Script Injection": ("markup_injection",),
    "SQL Injection": ("sql_injection",),
    "Server Code Injection": ("command_injection",),
    "Command Injection (Ruby)": ("command_injection",),
    "XXE Injection (XML)": ("command_injection", "markup_injection"),
    "Unwanted Interpolation": ("command_injection",),
    "File Inclusion": ("command_injection",),
    "Known CVEs and Vulnerabilities": ("command_injection",),
    "IRC specific strings": ("command_injection",),
    "Terminal escape codes": ("control_characters",),
    "jinja2 injection": ("command_injection",),
}
# Single lines of those sections that are ordinary text, whatever stands around them.
_ORDINARY = frozenset({"", " ", "%", "_", "-", "--", "\ufeff", "\u2029test\u2029"})


_ENGLISH = ("medquad", "digitalgov_web", "eltec_novels lines")


@dataclass(frozen=True)
class Found:
    """How many of the hostile texts of one kind were found, in the half that was in view and in the other."""

    kind: str
    seen: int
    seen_found: int
    unseen: int
    unseen_found: int
    missed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Alarms:
    """How many harmless records of one source raise an alarm."""

    source: str
    records: int
    alarms: int
    high: int
    megabytes: float
    seconds: float
    by_check: dict[str, int] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--json", action="store_true", help="print figures and misses as JSON")
    arguments = parser.parse_args()
    examiner = Examiner(ValidationSettings())
    found = [_found(examiner, kind, cases, least) for kind, cases, least in hostile(arguments.data)]
    alarms = [_alarms(examiner, source, texts) for source, texts in harmless(arguments.data)]
    RESULT.write_text(json.dumps(_result(found, alarms), indent=2) + "\n", encoding="utf-8")
    if arguments.json:
        print(json.dumps({"hostile": [asdict(f) for f in found], "harmless": [asdict(a) for a in alarms]}, indent=1))
    else:
        print(table(found, alarms))


def hostile(data: Path) -> Iterator[tuple[str, list[Case], str]]:
    """Kind, cases, and the least severity that counts."""
    text = data / "validation_text"
    yield (
        "sql_injection",
        [_case(row["text"], "sql_injection") for row in _rows(text / "sql_injection/payloads.jsonl")],
        "low",
    )
    prompts = _rows(text / "prompt_injection/train.jsonl")
    yield "prompt_injection", [_case(row["text"], "prompt_injection") for row in prompts if row["label"] == 1], "low"
    yield "naughty strings", naughty(text / "naughty_strings/blns.txt"), "low"
    yield "mojibake", mojibake(text / "mojibake"), "low"
    lines = (text / "utf8/utf8tests.bin").read_bytes().split(b"\n")
    broken = [line.decode(errors="replace") for line in lines if b":invalid:" in line or b"invalid" in line[:40]]
    yield "invalid UTF-8", [_case(line, "invalid_encoding") for line in broken if "\ufffd" in line], "low"
    files = [
        path.read_text(encoding="utf-8") for path in sorted((text / "secrets").rglob("*.txt")) if _holds_secret(path)
    ]
    yield "secrets (files)", [_case(file, "secret") for file in files], "low"
    yield from hidden()


def naughty(path: Path) -> list[Case]:
    """The strings of the sections that are attacks or defects."""
    cases, section, start_of_comment = [], "", True
    for line in path.read_text(encoding="utf-8").split("\n"):
        comment = line.startswith("#")
        if comment and start_of_comment:
            section = line.strip("# \t")
        start_of_comment = not comment
        checks = next((checks for title, checks in NAUGHTY.items() if section.startswith(title)), None)
        if checks and not comment and line not in _ORDINARY:
            cases.append((line, frozenset(checks)))
    return cases


def mojibake(folder: Path) -> list[Case]:
    """What ftfy's authors repair by decoding again; not what differs in the shape of quotation marks alone."""
    cases = []
    for name in ("in-the-wild.json", "synthetic.json"):
        for case in json.loads((folder / name).read_text(encoding="utf-8")):
            if (
                case.get("expect") == "pass"
                and "negative" not in case["label"]
                and _decodes(case["original"], case["fixed"])
            ):
                cases.append(_case(case["original"], "mojibake"))
    return cases


def _decodes(original: str, fixed: str) -> bool:
    plain = str.maketrans(
        {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u201e": '"', "\u0149": "n", "'": None}
    )
    letters = original.translate(plain).replace("\u01cc", "nj").replace("\u01c9", "lj")
    return letters != fixed.translate(plain)


def harmless(data: Path) -> Iterator[tuple[str, list[str]]]:
    """Source and texts."""
    for name in ("owasp_cheatsheets", "sql_lessons"):
        yield name, [row["text"] for row in _rows(data / f"benign_technical/{name}.jsonl.gz")]
    with zipfile.ZipFile(data / "udhr_multilingual/udhr2.zip") as archive:
        files = [archive.read(name).decode() for name in archive.namelist() if name.endswith(".txt")]
    yield "udhr files", [file for file in files if file.strip()]
    yield "udhr lines", [line for file in files for line in file.split("\n") if line.strip()]
    pairs = list(_rows(data / "medquad/qa.jsonl.gz"))
    yield "medquad", [text for pair in pairs for text in (pair["question"], pair["answer"]) if text.strip()]
    yield "digitalgov_web", [row["text"] for row in _rows(data / "digitalgov_web/posts.jsonl.gz")]
    novels = [gzip.decompress(path.read_bytes()).decode() for path in sorted((data / "eltec_novels").glob("*.gz"))]
    yield "eltec_novels lines", [line for novel in novels for line in novel.split("\n") if line.strip()]
    prompts = _rows(data / "validation_text/prompt_injection/train.jsonl")
    yield "prompts, label 0", [row["text"] for row in prompts if row["label"] == 0]
    papers = json.loads(gzip.decompress((data / "pubmedqa/ori_pqal.json.gz").read_bytes()))
    yield "pubmedqa abstracts", [" ".join(paper["CONTEXTS"]) for paper in papers.values()]
    with (data / "banking77/train.csv").open(encoding="utf-8", newline="") as file:
        yield "banking77 questions", [row["text"] for row in csv.DictReader(file)]


def _found(examiner: Examiner, kind: str, cases: Sequence[Case], least: str) -> Found:
    counts = [[0, 0], [0, 0]]
    missed = []
    for (text, checks), matches in zip(cases, examiner.examine([text for text, _ in cases]), strict=True):
        half = hashlib.sha1(text.encode()).digest()[0] % 2
        hit = any(match.check.name in checks and _reaches(match, least) for match in matches)
        counts[half][0] += 1
        counts[half][1] += hit
        if not hit:
            missed.append(text[:200])
    return Found(kind, *counts[0], *counts[1], missed=missed)


def _alarms(examiner: Examiner, source: str, texts: Sequence[str]) -> Alarms:
    actions = ActionSettings().model_dump()
    seconds = float("inf")
    for _ in range(2):  # the first run builds the automata
        started = time.process_time()
        results = [
            matches for first in range(0, len(texts), 4096) for matches in examiner.examine(texts[first : first + 4096])
        ]
        seconds = min(seconds, time.process_time() - started)
    alarms = high = 0
    by_check: dict[str, int] = {}
    for matches in results:
        names = {m.check.name for m in matches if _reaches(m, "low") and actions[m.check.name] != "keep"}
        alarms += bool(names)
        high += any(_reaches(match, "high") for match in matches)
        for name in names:
            by_check[name] = by_check.get(name, 0) + 1
    size = sum(len(text.encode()) for text in texts) / 1e6
    return Alarms(source, len(texts), alarms, high, size, seconds, by_check)


def _result(found: Sequence[Found], alarms: Sequence[Alarms]) -> dict[str, Any]:
    """The counts, without the texts that were missed."""
    rows = [*found, _total(found)]
    return {
        "command": "python -m benchmarks.validation_quality DATA",
        "machine": describe("google-re2", "ftfy", "detect-secrets"),
        "hostile": [{"kind": f.kind, "texts": f.seen + f.unseen, "found": f.seen_found + f.unseen_found} for f in rows],
        "harmless": [
            {"source": a.source, "records": a.records, "alarms": a.alarms, "high": a.high}
            for a in (*alarms, _sum("together", alarms))
        ],
    }


def tables(result: dict[str, Any]) -> str:
    """The figures as Markdown; the kinds of hidden text in one line."""
    kinds = {row["kind"]: row for row in result["hostile"]}
    shown = ("sql_injection", "prompt_injection", "naughty strings", "mojibake", "invalid UTF-8", "secrets (files)")
    hidden_rows = [row for name, row in kinds.items() if name not in (*shown, "together")]
    rows = [kinds[name] for name in shown]
    rows.append(
        {
            "kind": f"hidden and disguised text, {len(hidden_rows)} kinds",
            "texts": sum(row["texts"] for row in hidden_rows),
            "found": sum(row["found"] for row in hidden_rows),
        }
    )
    lines = ["| hostile | texts | found | |", "|---|--:|--:|--:|"]
    for row in (*rows, kinds["together"]):
        name = row["kind"].replace("_", " ")
        lines.append(f"| {name} | {row['texts']:,} | {row['found']:,} | {100 * row['found'] / row['texts']:.1f} % |")
    lines += ["", "| harmless | records | flagged or dropped | of severity high |", "|---|--:|--:|--:|"]
    for row in result["harmless"]:
        name = row["source"].replace("_", " ")
        lines.append(f"| {name} | {row['records']:,} | {row['alarms']:,} | {row['high']:,} |")
    measured = f"Measured on {result['machine']['date']}, {result['machine']['versions']}."
    return "\n".join([*lines, "", f"{measured} Command: `{result['command']}`."])


def table(found: Sequence[Found], alarms: Sequence[Alarms]) -> str:
    lines = [f"{'hostile':26}{'in view':>18}{'other half':>18}{'all':>18}"]
    for row in (*found, _total(found)):
        lines.append(
            f"{row.kind:26}{_share(row.seen_found, row.seen):>18}{_share(row.unseen_found, row.unseen):>18}"
            f"{_share(row.seen_found + row.unseen_found, row.seen + row.unseen):>18}"
        )
    lines += ["", f"{'harmless':26}{'alarms':>18}{'of high severity':>20}{'MB/s':>8}  of which"]
    english = [source for source in alarms if source.source in _ENGLISH]
    for source in (*alarms, _sum("the three English ones", english), _sum("together", alarms)):
        kinds = ", ".join(f"{name} {number}" for name, number in sorted(source.by_check.items()))
        lines.append(
            f"{source.source:26}{_share(source.alarms, source.records, 3):>18}"
            f"{_share(source.high, source.records, 3):>20}"
            f"{source.megabytes / source.seconds:8.1f}  {kinds}"
        )
    lines += ["", "left out of the naughty strings: sections of unusual but well-formed text (see NAUGHTY)"]
    return "\n".join(lines)


def _total(found: Sequence[Found]) -> Found:
    return Found(
        "together", sum(f.seen for f in found), sum(f.seen_found for f in found),
        sum(f.unseen for f in found), sum(f.unseen_found for f in found),
    )  # fmt: skip


def _sum(name: str, alarms: Sequence[Alarms]) -> Alarms:
    return Alarms(
        name, sum(a.records for a in alarms), sum(a.alarms for a in alarms), sum(a.high for a in alarms),
        sum(a.megabytes for a in alarms), sum(a.seconds for a in alarms),
    )  # fmt: skip


def _share(part: int, whole: int, places: int = 1) -> str:
    return f"{part}/{whole} {100 * part / max(1, whole):.{places}f} %"


def _reaches(match: Match, least: Any) -> bool:
    return TIERS.index(match.severity) >= TIERS.index(least)


def _case(text: str, check: str) -> Case:
    return text, frozenset({check})


def _holds_secret(path: Path) -> bool:
    """Two files of timings and one of comments hold none."""
    return path.parent.name != "performance" and not path.name.startswith("only_comments")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    opened: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines)


if __name__ == "__main__":
    main()
