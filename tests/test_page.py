"""The page of the validation report: every number is on it, nothing is loaded, and what the data says is only text."""

import itertools
import re
import shutil
import subprocess
from collections.abc import Mapping
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedctl.data.page import page
from embedctl.visible import visible
from tests.pages import HOSTILE, Parsed, finding, full, hostile, meagre, numbers, sample

CHROMIUM = Path("/usr/bin/chromium")


@pytest.mark.parametrize("report", [full(), meagre(), hostile(), {}], ids=["full", "meagre", "hostile", "nothing"])
def test_a_page_is_well_formed(report: dict[str, Any]):
    parsed = Parsed(page(report, title="Data of main"))

    levels = [int(tag[1]) for tag, _ in parsed.elements if re.fullmatch("h[1-6]", tag)]
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert parsed.all("html") == [{"lang": "en"}]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))
    assert len(set(ids)) == len(ids)
    assert {a["aria-labelledby"] for a in parsed.all("section")} <= set(ids)


def test_every_number_of_the_report_is_on_the_page():
    text = Parsed(page(full(), title="t")).text

    missing = [n for n in numbers(full()) if not re.search(rf"(?<![\d,.]){re.escape(n)}(?![\d]|[,.]\d)", text)]

    assert missing == []


def test_the_verdict_is_one_sentence():
    def verdict(**report: object) -> str:
        return page(report, title="t").split('class="verdict">')[1].split("</p>")[0]

    said = re.sub("<[^>]*>", "", verdict(**full()))
    assert said == "14,386 records: 14,341 kept, 12 flagged, 9 fixed, 24 dropped. Worst finding: high."
    assert re.sub("<[^>]*>", "", verdict(**meagre())) == "1 record: 1 kept. Nothing was found."
    assert verdict(records=0) == verdict() == "No records were validated."


def test_the_gravest_finding_comes_first():
    text = Parsed(page(full(), title="t")).text

    places = [
        text.index(f"meaning of {check}") for check in ("bidi_override", "mojibake", "duplicate", "personal_data")
    ]
    assert places == sorted(places)


SECTIONS = {
    "findings": "Findings",
    "sources": "Sources",
    "languages": "Languages",
    "truncation": "Truncation",
    "duplicates": "Duplicates",
    "changes": "Changes",
}


def headings(report: Mapping[str, Any]) -> list[str]:
    return re.findall(r"<h2[^>]*>(.*?)</h2>", page(report, title="t"))


@pytest.mark.parametrize("key", sorted(full()))
@pytest.mark.parametrize("absent", [None, "empty", "missing"])
def test_a_missing_table_is_left_out_and_the_others_stay(key: str, absent: str | None):
    report = full()
    before = headings(report)
    if absent == "missing":
        del report[key]
    else:
        report[key] = None if absent is None or not isinstance(report[key], dict | list) else type(report[key])()

    left = headings(report)

    # A list of no findings says so; of the lengths, other tables are left.
    gone = {SECTIONS.get(key)} - ({"Findings"} if report.get("findings") == [] else set())
    assert left == [heading for heading in before if heading not in gone]


def test_a_table_without_its_details_is_enough():
    report = {
        "records": 3,
        "findings": [{"check": "nul"}],
        "sources": {"a": {}},
        "length_characters": {"count": 3},
        "languages": {"shares": {"en": 1.0}},
        "truncation": {"texts_split_percent": 0.0},
        "duplicates": {"duplicate": 1},
        "changes": {"records": 1},
    }

    text = Parsed(page(report, title="t")).text
    headings = ("Findings", "Sources", "Lengths", "Languages", "Truncation", "Duplicates", "Changes")
    assert [heading for heading in headings if f"\n{heading}\n" not in text] == []
    assert "not graded" in text and "None" not in text


def test_bars_of_a_histogram_sum_to_its_count():
    report = full()

    bars = [bar for bar in Parsed(page(report, title="t")).all("rect") if "data-records" in bar]

    expected = report["length_characters"]["histogram"] + report["query_length_characters"]["histogram"]
    assert [{k: int(bar[f"data-{k}"]) for k in ("from", "to", "records")} for bar in bars] == expected
    assert sum(b["records"] for b in expected) == 2 * 14386
    assert sum(int(bar["data-records"]) for bar in bars) == 2 * 14386


def test_a_bar_is_as_tall_as_its_share_and_never_invisible():
    bars = [bar for bar in Parsed(page(full(), title="t")).all("rect") if "data-records" in bar][:11]

    sizes = {int(bar["data-records"]): float(bar["height"]) for bar in bars}
    assert sizes[2680] / sizes[4160] == pytest.approx(2680 / 4160, abs=0.001)
    assert sizes[914] / sizes[4160] == pytest.approx(914 / 4160, abs=0.001)
    assert 2 < sizes[3] < sizes[914]


@pytest.mark.parametrize("fixed", [0, 9])
def test_the_bar_of_verdicts_is_whole(fixed: int):
    # Where kept, flagged and dropped are all records already, a fixed one is among them and no part of its own.
    report = {"records": 30, "kept": 21 - fixed, "flagged": 6, "dropped": 3, "fixed": 9}

    markup = page(report, title="t")

    stack = Parsed(markup[markup.index('class="stack"') - 50 :].split("<svg")[1].split("</svg>")[0].split(">", 1)[1])
    widths = {rect["class"]: float(rect["width"].rstrip("%")) for rect in stack.all("rect")}
    assert sum(widths.values()) == pytest.approx(100, abs=0.05)
    assert ("fixed" in widths) == bool(fixed)
    assert ("counted among the others" in markup) == (not fixed)


@pytest.mark.parametrize("report", [full(), hostile()], ids=["full", "hostile"])
def test_nothing_is_loaded_and_nothing_runs(report: dict[str, Any]):
    markup = page(report, title=HOSTILE)
    parsed = Parsed(markup)

    names = {tag for tag, _ in parsed.elements}
    attributes = {name for _, each in parsed.elements for name in each}
    assert not names & {"script", "link", "img", "image", "iframe", "object", "embed", "use", "a", "form", "base"}
    assert not attributes & {"src", "href", "xlink:href", "style", "srcset", "action", "data"}
    assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"url\(|@import|https?://", markup)
    policy = next(m["content"] for m in parsed.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; style-src 'sha256-") and "unsafe" not in policy


def test_hostile_text_is_text():
    markup = page(hostile(), title=HOSTILE)

    text = Parsed(markup).text
    assert text.count(HOSTILE.replace("\u202e", "\\u{202e}")) >= 12
    assert "\u202e" not in markup
    assert text.count("x" * 300) >= 6


@given(st.text())
def test_any_id_is_shown_as_text(id_: str):
    report = {"records": 1, "findings": [finding("nul", "high", "fix", 1, sample(id_, 0, "high", id_))]}
    harmless = {"records": 1, "findings": [finding("nul", "high", "fix", 1, sample("a", 0, "high", "a"))]}

    parsed = Parsed(page(report, title=id_))

    assert parsed.text.count(visible(id_)) >= 3
    assert [tag for tag, _ in parsed.elements if tag != "span"] == [
        tag for tag, _ in Parsed(page(harmless, title="a")).elements if tag != "span"
    ]


def test_what_cannot_be_seen_is_written_out():
    assert visible("a b\u00a0\u200b\u202e\0\n\ufe0f\u3164\ud800é你") == (
        "a b\\u{a0}\\u{200b}\\u{202e}\\u{0}\\u{a}\\u{fe0f}\\u{3164}\\u{d800}é你"
    )
    page({"records": 1, "corpus": "\ud800"}, title="\udfff").encode()


def test_colours_are_told_apart_from_the_paper():
    """WCAG 2 AA, 1.4.3 and 1.4.11: 4.5 for words, 3 for drawings."""
    style = resources.files("embedctl.data").joinpath("page.css").read_text(encoding="utf-8")
    light, dark = (dict(re.findall(r"--(\w+): (#\w{6});", block)) for block in style.split("@media")[:2])

    for theme in (light, dark):
        for word in ("ink", "soft", "info", "low", "medium", "high", "critical", "mark"):
            assert contrast(theme[word], theme["paper"]) >= 4.5, word
            assert contrast(theme[word], theme["wash"]) >= 4.5, word
        for drawing in ("bar", "kept", "flagged", "fixed", "dropped"):
            assert contrast(theme[drawing], theme["paper"]) >= 3, drawing


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted(map(luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    channels = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


PROBE = """<!doctype html><meta charset="utf-8"><style>iframe { border: 0 }</style><pre></pre><script>
function measure(frame) {
  const page = frame.contentDocument, root = page.documentElement;
  const folded = root.scrollWidth;
  page.querySelectorAll("details").forEach(each => each.open = true);
  const styled = frame.contentWindow.getComputedStyle(page.body).maxWidth !== "none";
  document.querySelector("pre").textContent += `${styled} ${folded} ${root.scrollWidth} ${root.clientWidth};`;
}
</script>"""


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.is_file(), reason="needs /usr/bin/chromium")
def test_a_phone_shows_the_whole_width(tmp_path: Path):
    # Each frame loses some of its width to a scroll bar, which a phone does not have: the harder case.
    pages = [escape(page(report, title=HOSTILE)) for report in (full(), meagre(), hostile(), {})]
    frames = [
        f'<iframe width="{width}" height="800" onload="measure(this)" srcdoc="{markup}"></iframe>'
        for markup in pages
        for width in (320, 360)
    ]
    (tmp_path / "probe.html").write_text(PROBE + "".join(frames), encoding="utf-8")

    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    options += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path / 'user'}"]
    chromium = shutil.which("chromium") or str(CHROMIUM)
    ran = subprocess.run(
        [chromium, *options, "--dump-dom", (tmp_path / "probe.html").as_uri()],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )

    measured = ran.stdout.split("<pre>")[1].split("</pre>")[0].split(";")[:-1]
    assert len(measured) == len(frames)
    for each in measured:
        styled, *widths, client = each.split()
        assert styled == "true", "the policy of the page must let its own style pass"
        assert max(map(int, widths)) <= int(client), each
