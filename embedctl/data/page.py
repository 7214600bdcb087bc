"""The validation report as one page of HTML: it loads nothing, runs nothing, and reads well on paper.

Whatever comes from the data is shown as text. That holds by construction: ``tag`` escapes each child and each
attribute, and only what ``tag`` made itself (``Html``) passes through it again unchanged.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Any

from embedctl.data.checks.kinds import VERDICTS
from embedctl.data.page_drawing import PERCENTILE_KEYS, bar, histogram, stack, swatch
from embedctl.data.page_findings import findings_table
from embedctl.data.page_markup import (
    Html,
    binary,
    data,
    details,
    grade,
    join,
    number,
    percent,
    scroll,
    several,
    spoken,
    tag,
)
from embedctl.visible import visible

_PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="$policy">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<meta name="robots" content="noindex">
<title>$title</title>
<style>$style</style>
</head>
<body>
$body
</body>
</html>
""")


def page(report: Mapping[str, Any], *, title: str) -> str:
    """The whole page. Tables that ``report`` lacks are left out of it."""
    style = resources.files("embedctl.data").joinpath("page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    body = tag("main", _header(report, title), *(_section(*each) for each in _contents(report)))
    return _PAGE.substitute(
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        title=escape(visible(title)),
        style=style,
        body=join([body, _footer(report)]),
    )


def _contents(report: Mapping[str, Any]) -> Iterable[tuple[str, Sequence[Html]]]:
    """(heading, content) of each section that has something to say."""
    sections: tuple[tuple[str, Callable[[Any], Sequence[Html]], Any], ...] = (
        ("Findings", findings_table, report.get("findings")),
        ("Sources", _sources, report.get("sources")),
        ("Lengths", _lengths, report),
        ("Languages", _languages, report.get("languages")),
        ("Truncation", _truncation, report.get("truncation")),
        ("Duplicates", _duplicates, report.get("duplicates")),
        ("Changes", _changes, report.get("changes")),
    )
    for heading, write, table in sections:
        if table is not None and (content := write(table)):
            yield heading, content


def _section(heading: str, content: Sequence[Html]) -> Html:
    key = heading.lower()
    return tag("section", tag("h2", heading, id=key), tag("div", *content), aria_labelledby=key)


def _header(report: Mapping[str, Any], title: str) -> Html:
    children = [tag("h1", title), tag("p", *_sentence(report), class_="verdict")]
    if report.get("records"):
        parts = _parts(report)
        children += [stack(parts, label="Verdicts"), _legend(report, parts)]
    return tag("header", *children)


def _sentence(report: Mapping[str, Any]) -> list[str]:
    """The verdict as a person would say it."""
    records = report.get("records") or 0
    if not records:
        return ["No records were validated."]
    said: list[str] = [several(records, "record")]
    for name in VERDICTS.values():
        if report.get(name):
            said += [": " if len(said) == 1 else ", ", tag("span", f"{number(report[name])} {name}", class_="whole")]
    if worst := report.get("worst_severity"):
        return [*said, ". Worst finding: ", tag("strong", worst, class_=grade(worst)), "."]
    return [*said, ". Nothing was found."]


def _parts(counts: Mapping[str, Any]) -> dict[str, int]:
    """The verdicts that divide the records: ``fixed`` is one unless the others add up without it."""
    parts = {name: counts.get(name) or 0 for name in VERDICTS.values()}
    if sum(parts.values()) > (counts.get("records") or 0):
        del parts["fixed"]
    return parts


def _legend(report: Mapping[str, Any], parts: Mapping[str, int]) -> Html:
    cells = []
    for name in VERDICTS.values():
        count = report.get(name)
        share = "not counted" if count is None else percent(100 * count / report["records"])
        small = tag("small", share if name in parts else f"{share}, counted among the others")
        square = swatch(name) if name in parts else ""
        cells.append(tag("div", tag("dt", square, name), tag("dd", number(count), small)))
    return tag("dl", *cells, class_="parts")


def _sources(sources: Mapping[str, Mapping[str, Any]]) -> list[Html]:
    if not sources:
        return []
    names = ("records", *VERDICTS.values())
    head = tag("tr", tag("th", "Source"), *(tag("th", n.capitalize(), class_="number") for n in names))
    rows = [
        tag(
            "tr",
            tag("th", data(source), scope="row"),
            *(tag("td", number(counts.get(name)), class_="number") for name in names),
        )
        for source, counts in sources.items()
    ]
    return [scroll("Records by source", head, rows, class_="wide")]


def _lengths(report: Mapping[str, Any]) -> list[Html]:
    content: list[Html] = []
    if report.get("characters") is not None and report.get("bytes") is not None:
        size = f"{several(report['characters'], 'character')} in {several(report['bytes'], 'byte')}"
        content.append(tag("p", f"{size}{binary(report['bytes'])}."))
    for name, key in (("Texts", "length_characters"), ("Queries", "query_length_characters")):
        table = report.get(key)
        if table and table.get("count"):
            content += [tag("h3", f"{name} ({number(table['count'])})"), *_distribution(name.lower(), table)]
        elif table:
            content.append(tag("p", f"There are no {name.lower()}."))
    return content


def _distribution(name: str, lengths: Mapping[str, Any]) -> list[Html]:
    facts = [
        tag("div", tag("dt", spoken(key)), tag("dd", number(lengths[key])))
        for key in ("min", *PERCENTILE_KEYS, "max", "mean", "std")
        if lengths.get(key) is not None
    ]
    content = [tag("dl", *facts, class_="facts")] if facts else []
    if bins := lengths.get("histogram"):
        heads = ("From", "Below", name.capitalize())
        rows = [
            tag("tr", *(tag("td", number(b[key]), class_="number") for key in ("from", "to", "records"))) for b in bins
        ]
        head = tag("tr", *(tag("th", heading, class_="number") for heading in heads))
        table = scroll(f"{name.capitalize()} by length in characters", head, rows, class_="narrow")
        figure = tag("figure", histogram(name, lengths, bins), details("As a table", f", {name}", table))
        content = [figure, *content]
    return content


def _languages(languages: Mapping[str, Any]) -> list[Html]:
    shares: Mapping[str, float] = languages.get("shares") or {}
    if not shares:
        return []
    rows = [
        tag(
            "tr",
            tag("th", data(language), scope="row"),
            tag("td", bar(share), class_="share"),
            tag("td", percent(100 * share), class_="number"),
        )
        for language, share in sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    ]
    head = tag("tr", tag("th", "Language"), tag("td"), tag("th", "Share", class_="number"))
    caption = "Share of each language"
    content = [tag("table", tag("caption", caption, class_="hidden"), tag("thead", head), tag("tbody", *rows))]
    if languages.get("sampled_records") is not None:
        content.append(tag("p", f"Guessed from {several(languages['sampled_records'], 'record')}.", class_="note"))
    return content


def _truncation(truncation: Mapping[str, Any]) -> list[Html]:
    """What the model will not see, in words."""
    said = []
    if (split := truncation.get("texts_split_percent")) is not None:
        said.append(f"{percent(split)} of the texts are longer than {_limit(truncation, 'max_tokens')} and are split.")
    if (beyond := truncation.get("tokens_beyond_first_chunk_percent")) is not None:
        said.append(f"{percent(beyond)} of all tokens lie beyond the first chunk of their text.")
    if (cut := truncation.get("queries_cut_percent")) is not None:
        limit = _limit(truncation, "query_max_tokens")
        said.append(f"{percent(cut)} of the queries are longer than {limit} and are cut.")
    if not said:
        return []
    how = {"tokenizer": "Counted by the tokenizer", "estimate": "Estimated from the number of characters"}
    basis = how.get(truncation.get("basis", ""), "Measured")
    sampled = truncation.get("sampled_records")
    note = basis if sampled is None else f"{basis}, on {several(sampled, 'record')}"
    sentences = " ".join(sentence[0].upper() + sentence[1:] for sentence in said)
    return [tag("p", sentences), tag("p", f"{note}.", class_="note")]


def _limit(truncation: Mapping[str, Any], key: str) -> str:
    limit = truncation.get(key)
    return "the limit" if limit is None else several(limit, "token")


def _duplicates(duplicates: Mapping[str, Any]) -> list[Html]:
    meanings = {
        "duplicate": "The same text and query as an earlier record",
        "near_duplicate": "Nearly the same text as an earlier record",
        "held_text_in_training": "For training, but with a text or query that is held out too",
    }
    counts = {meaning: duplicates[key] for key, meaning in meanings.items() if duplicates.get(key) is not None}
    if counts and not any(counts.values()):
        return [tag("p", "No record repeats another.")]
    rows = [
        tag("tr", tag("td", meaning), tag("td", number(count), class_="number")) for meaning, count in counts.items()
    ]
    head = tag("tr", tag("th", "What repeats"), tag("th", "Records", class_="number"))
    content = [scroll("Duplicates", head, rows, class_="narrow")] if rows else []
    if samples := duplicates.get("samples"):
        inside = tag("ul", *map(_pair, samples), class_="samples")
        content.append(details(several(len(samples), "sample"), " of duplicates", inside))
    return content


def _pair(sample: Mapping[str, Any]) -> Html:
    words: list[str] = [data(sample.get("id")), " ", tag("span", "repeats"), " ", data(sample.get("of"))]
    if (similarity := sample.get("similarity")) is not None:
        words += [" ", tag("span", f"similarity {number(similarity)}")]
    return tag("li", *words, class_="where")


def _changes(changes: Mapping[str, Any]) -> list[Html]:
    if changes.get("records") is None:
        return []
    if not changes["records"]:
        return [tag("p", "No text was changed.")]
    content = [tag("p", f"{several(changes['records'], 'record')} changed before going on.")]
    by_check: Mapping[str, int] = changes.get("by_check") or {}
    if by_check:
        head = tag("tr", tag("th", "Fixed"), tag("th", "Records", class_="number"))
        rows = [
            tag("tr", tag("th", data(check), scope="row"), tag("td", number(count), class_="number"))
            for check, count in sorted(by_check.items(), key=lambda item: (-item[1], item[0]))
        ]
        content.append(scroll("Records changed, by check", head, rows, class_="narrow"))
    return content


def _footer(report: Mapping[str, Any]) -> Html:
    said = [f"{name} {report[key]}" for name, key in _ORIGIN if report.get(key) is not None]
    return tag("footer", tag("p", " · ".join([*said, "This page loads nothing and runs no script."])))


_ORIGIN = (("Corpus", "corpus"), ("embedctl", "embedctl"), ("report format", "format"))
