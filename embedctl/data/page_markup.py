"""Elements of a page: whatever comes from the data is shown as text.

That holds by construction: ``tag`` escapes each child and each attribute, and only what ``tag`` made itself
(``Html``) passes through it again unchanged.
"""

import itertools
from collections.abc import Iterable, Sequence
from html import escape

from embedctl.data.checks.kinds import TIERS
from embedctl.visible import unseen, visible


class Html(str):
    """Markup made by ``tag``: nothing in it is left to escape."""

    __slots__ = ()


# --- words and numbers ---


def number(value: float | None) -> str:
    """With thousands separators and at most two decimals; a dash for what is not known."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}".rstrip("0").rstrip(".")


def percent(value: float) -> str:
    """One decimal; what is almost nothing or almost all is not rounded to it."""
    if 0 < value < 0.1:
        return "under 0.1%"
    if 99.9 < value < 100:
        return "over 99.9%"
    return f"{value:.1f}%" if value % 100 else f"{value:.0f}%"


def several(count: int, noun: str) -> str:
    return f"{number(count)} {noun}" if count == 1 else f"{number(count)} {noun}s"


def binary(size: int) -> str:
    """The size in the unit that fits, in brackets; nothing for less than a KiB."""
    units = [(size / 1024**n, unit) for n, unit in enumerate(("KiB", "MiB", "GiB", "TiB"), start=1)]
    fitting = [f" ({amount:,.1f} {unit})" for amount, unit in units if amount >= 1]
    return fitting[-1] if fitting else ""


def spoken(key: str) -> str:
    """A statistic's name for a person: p50 is the median."""
    return {"min": "shortest", "max": "longest", "p50": "median", "std": "std. dev."}.get(key, key)


def rank(severity: object) -> int:
    return TIERS.index(severity) if severity in TIERS else 0


def grade(severity: object) -> str:
    return TIERS[rank(severity)]


def data(value: object) -> Html:
    """A name or an id from the data: as it is, and with no say over the direction of what stands around it."""
    return tag("bdi", tag("code", "" if value is None else str(value)))


def details(summary: str, unspoken: str, inside: Html) -> Html:
    """Folded. ``unspoken`` is for who hears the summary without seeing what it stands below."""
    return tag("details", tag("summary", summary, tag("span", unspoken, class_="hidden")), inside)


def scroll(caption: str, head: Html, rows: Sequence[Html], *, class_: str) -> Html:
    """A table that scrolls within itself where the screen is too narrow; focusable, so that keys can do it."""
    table = tag(
        "table", tag("caption", caption, class_="hidden"), tag("thead", head), tag("tbody", *rows), class_=class_
    )
    return tag("div", table, class_="scroll", role="region", tabindex=0, aria_label=caption)


def tag(name: str, *children: str, **attributes: str | int | float) -> Html:
    """An element. ``class_`` is class, ``aria_label`` is aria-label; an empty class is left out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(visible(str(value)))}"'
        for key, value in attributes.items()
        if value != ""
    )
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def join(children: Iterable[str]) -> Html:
    return Html("".join(child if isinstance(child, Html) else text_of(child) for child in children))


def text_of(text: str) -> Html:
    """Text from anywhere, inert; what cannot be seen is set apart from the letters around it."""
    return Html(
        "".join(
            f'<span class="unseen">{escape(visible(run))}</span>' if unseen else escape(run)
            for unseen, run in ((key, "".join(group)) for key, group in itertools.groupby(text, unseen))
        )
    )
