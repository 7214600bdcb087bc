"""Drawings of the validation page, as SVG that fits any screen."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from embedctl.data.lengths import PERCENTILES
from embedctl.data.page_markup import Html, grade, number, rank, spoken, tag

PERCENTILE_KEYS = tuple(f"p{percent}" for percent in PERCENTILES)
# On the narrowest screen a name fits between here and the right edge of the drawing.
_LEFTWARD_PERCENT = 75

# So many letters and digits fit under the drawing on a wide screen; twice as many as on the narrowest.
_LABEL_CHARACTERS = 76


def histogram(name: str, lengths: Mapping[str, Any], bins: Sequence[Mapping[str, int]]) -> Html:
    """Bars of equal width, each for lengths up to twice those of the last; 5th, 50th and 95th percentile marked."""
    top, base = 58, 210
    tallest = max(max(b["records"] for b in bins), 1)
    low, high = _octave(bins[0]["from"]), _octave(bins[-1]["to"])

    def x(length: float) -> float:
        return 100 * min(max((_octave(length) - low) / (high - low), 0), 1)

    def y(records: float) -> float:
        return base - (base - top) * records / tallest

    drawn = [tag("title", f"Lengths of the {name}"), tag("desc", _described(name, lengths, bins))]
    drawn += itertools.chain.from_iterable(_level(tick, y(tick)) for tick in _ticks(tallest))
    for b in bins:
        # A single record is to be seen, however tall the others are.
        height = max(base - y(b["records"]), 2.5) if b["records"] else 0
        drawn.append(_column(b, name, left=x(b["from"]), right=x(b["to"]), bottom=base, height=height))
    drawn.append(tag("line", class_="base", x1="0%", x2="100%", y1=base, y2=base))
    drawn += _edges([*(b["from"] for b in bins), bins[-1]["to"]], x, below=base + 17)
    drawn += _flags([(key, lengths[key]) for key in ("p5", "p50", "p95") if lengths.get(key) is not None], x, base)
    drawn.append(tag("text", "characters", x="100%", y=base + 36, class_="end"))
    drawn.append(tag("text", name, x=-8, y=top - 18, class_="end"))
    return tag("svg", *drawn, role="img", width="100%", height=base + 42)


def _octave(length: float) -> float:
    """Where a length stands on an axis that doubles; 0 gets an octave of its own below 1."""
    return math.log2(length) if length >= 1 else length - 1


def _column(bin_: Mapping[str, int], name: str, *, left: float, right: float, bottom: float, height: float) -> Html:
    hint = f"{number(bin_['from'])} to {number(bin_['to'] - 1)} characters: {number(bin_['records'])} {name}"
    return tag(
        "rect",
        tag("title", hint),
        class_="bar",
        x=f"{left:.2f}%",
        width=f"{right - left:.2f}%",
        y=f"{bottom - height:.1f}",
        height=f"{height:.1f}",
        data_from=bin_["from"],
        data_to=bin_["to"],
        data_records=bin_["records"],
    )


def _level(tick: int, height: float) -> tuple[Html, Html]:
    line = tag("line", class_="grid", x1="0%", x2="100%", y1=f"{height:.1f}", y2=f"{height:.1f}")
    label = number(tick) if tick < 1_000_000 else f"{tick / 1_000_000:g}M"
    return line, tag("text", label, class_="end", x=-8, y=f"{height + 4:.1f}")


def _edges(edges: Sequence[int], x: Callable[[float], float], *, below: float) -> list[Html]:
    """Labels of the axis: as many as have room, and half of them on a narrow screen."""
    step = math.ceil(len(edges) * (len(number(max(edges))) + 2) / _LABEL_CHARACTERS)
    return [
        tag("text", number(edge), x=f"{x(edge):.2f}%", y=below, class_="middle" if n % 2 == 0 else "middle minor")
        for n, edge in enumerate(edges[::step])
    ]


def _flags(marks: Sequence[tuple[str, float]], x: Callable[[float], float], base: float) -> list[Html]:
    """A dashed line per percentile with its name at the top, in rows such that no name covers another."""
    lines, names = [], []
    # A name near the right edge stands left of its line, and then above the others.
    for row, (key, length) in enumerate(sorted(marks, key=lambda mark: x(mark[1]) <= _LEFTWARD_PERCENT)):
        at, height = f"{x(length):.2f}%", 10 + 16 * row
        lines.append(tag("line", class_="mark", x1=at, x2=at, y1=height - 8, y2=base))
        kind, beside = ("flag end", -5) if x(length) > _LEFTWARD_PERCENT else ("flag", 5)
        name = f"{spoken(key)} {number(round(length))}"
        names.append(tag("text", name, class_=kind, x=at, y=height, dx=beside))
    return lines + names


def _described(name: str, lengths: Mapping[str, Any], bins: Sequence[Mapping[str, int]]) -> str:
    fullest = max(bins, key=lambda b: b["records"])
    said = f"Most {name} have {number(fullest['from'])} to {number(fullest['to'] - 1)} characters"
    marks = [f"{spoken(key)} {number(lengths[key])}" for key in PERCENTILE_KEYS if lengths.get(key) is not None]
    return f"{said}; {', '.join(marks)}." if marks else f"{said}."


def _ticks(tallest: int) -> list[int]:
    """Two to five round numbers from the first step up to ``tallest``."""
    magnitude = 10 ** int(math.log10(tallest))
    steps = (max(magnitude * share // 10, 1) for share in (2, 5, 10, 20))
    step = next(step for step in steps if tallest / step < 6)
    return list(range(step, tallest + 1, step))


def stack(parts: Mapping[str, int], *, label: str) -> Html:
    """One bar, divided; a part too thin to be seen is drawn a little wider than it is."""
    total = sum(parts.values())
    if not total:
        return Html("")
    wide = {name: max(100 * count / total, 1.0) for name, count in parts.items() if count}
    scale = 100 / sum(wide.values())
    drawn, left = [], 0.0
    for name, width in wide.items():
        hint = tag("title", f"{name}: {number(parts[name])}")
        across = {"x": f"{left:.2f}%", "width": f"{width * scale:.2f}%"}
        drawn.append(tag("rect", hint, class_=name, y=0, height=20, **across))
        left += width * scale
    said = ", ".join(f"{name} {number(count)}" for name, count in parts.items())
    drawn = [tag("title", label), tag("desc", said), *drawn]
    return tag("svg", *drawn, role="img", class_="stack", width="100%", height=20)


def bar(share: float) -> Html:
    rect = tag("rect", class_="bar", x=0, y=0, height=10, width=f"{max(100 * share, 0.5):.2f}%")
    return tag("svg", rect, width="100%", height=10, aria_hidden="true")


def swatch(name: str) -> Html:
    rect = tag("rect", class_=name, width=10, height=10)
    return tag("svg", rect, class_="inline", width=10, height=10, aria_hidden="true")


def severity_of(severity: str | None) -> Html:
    """The word, in its colour, behind four strokes of which more are filled the graver it is."""
    place = rank(severity)
    strokes = [
        tag("rect", class_="on" if n < place else "", x=4 * n, y=8 - 2 * n, width=3, height=2 + 2 * n) for n in range(4)
    ]
    meter = tag("svg", *strokes, class_="inline", width=15, height=10, aria_hidden="true")
    return tag("span", meter, severity or "not graded", class_=f"severity {grade(severity)}")
