"""The findings on the validation page: a table of checks, each with samples to unfold."""

from collections.abc import Mapping, Sequence
from typing import Any

from embedctl.data.page_drawing import severity_of
from embedctl.data.page_markup import Html, data, details, grade, number, rank, several, tag


def findings_table(findings: Sequence[Mapping[str, Any]]) -> list[Html]:
    if not findings:
        return [tag("p", "No check found anything.")]
    ordered = sorted(findings, key=lambda f: (-rank(f.get("severity")), -(f.get("records") or 0), f.get("check", "")))
    excused = any(finding.get("excused_records") for finding in findings)
    columns = {"Severity": "", "Check": "", "Action": "", "Records": "number", "Places": "number"}
    if excused:
        columns["Excused"] = "number"
    # Roles, because the cells of a narrow screen are not laid out as a table and would lose theirs.
    head = tag("tr", *(tag("th", c, role="columnheader", class_=k) for c, k in columns.items()), role="row")
    table = tag(
        "table",
        tag("caption", "Findings, the gravest first", class_="hidden"),
        tag("thead", head, role="rowgroup"),
        *(_finding(finding, columns) for finding in ordered),
        role="table",
        class_="findings",
    )
    note = "Excused: records in which the check struck and was let pass."
    return [table, tag("p", note, class_="note")] if excused else [table]


def _finding(finding: Mapping[str, Any], columns: Mapping[str, str]) -> Html:
    """One body of the table: the finding, and below it its samples, folded."""
    check = tag("code", finding.get("check", ""))
    meaning = tag("span", finding.get("meaning") or "", class_="meaning")
    counts = {"Records": "records", "Places": "occurrences", "Excused": "excused_records"}
    cells = [
        tag("td", severity_of(finding.get("severity")), role="cell", class_="graded"),
        tag("th", check, meaning, role="rowheader", scope="row", class_="check"),
        tag("td", finding.get("action") or "", role="cell", data_label="Action"),
        *(
            tag("td", number(finding.get(key)), role="cell", class_="number", data_label=label)
            for label, key in counts.items()
            if label in columns
        ),
    ]
    rows = [tag("tr", *cells, role="row")]
    if samples := finding.get("samples"):
        inside = tag("ul", *(_sample(sample, finding) for sample in samples), class_="samples")
        unfold = details(several(len(samples), "sample"), f" of {finding.get('check', '')}", inside)
        below = tag("td", unfold, role="cell", colspan=len(columns) - 1)
        rows.append(tag("tr", tag("td", role="cell"), below, role="row", class_="more"))
    return tag("tbody", *rows, role="rowgroup")


def _sample(sample: Mapping[str, Any], finding: Mapping[str, Any]) -> Html:
    where: list[str] = [data(sample.get("id"))]
    if (at := sample.get("at_character")) is not None:
        where += [" ", tag("span", f"at character {number(at)}")]
    if (severity := sample.get("severity")) and severity != finding.get("severity"):
        where += [" ", tag("span", severity, class_=f"severity {grade(severity)}")]
    lines = [tag("div", *where, class_="where")]
    if (shown := sample.get("shown")) is not None:
        lines.append(tag("bdi", shown, class_="shown"))
    return tag("li", *lines)
