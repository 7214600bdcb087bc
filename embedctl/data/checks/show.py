"""A finding as a report shows it: with a little around it, nothing invisible, and no secret."""

import hashlib

from embedctl.data.checks import personal, secrets
from embedctl.data.checks.kinds import Match
from embedctl.visible import visible

_AROUND = 12
_LONGEST = 60
_BEGINNING = 4
# Shorter ones can be found by trying, with their beginning and a digest to compare with.
_LONG = 20
# So far around the shown piece secrets are looked for: the longest of them is a private key.
_MARGIN = 10_000


def excerpt(text: str, match: Match) -> str:
    """The place and a few characters around it.

    A character that cannot be seen is written as its code point. Of a secret that touches the piece, what
    :func:`redacted` leaves; of personal data only the kind.
    """
    first = max(0, match.start - _AROUND)
    last = min(len(text), min(match.end, match.start + _LONGEST) + _AROUND)
    margin = max(0, first - _MARGIN)
    pieces, position = [], first
    for start, end, shown in _covers(text[margin : last + _MARGIN], margin):
        if end <= position or start >= last:
            continue
        pieces += [visible(text[position : max(position, start)]), shown]
        position = end
    return "".join([*pieces, visible(text[position : max(position, last)])])


def redacted(value: str) -> str:
    """What may be shown of a secret: enough of a long one to find it again, of one that can be guessed its length."""
    if len(value) < _LONG:
        return f"[secret of {len(value)} characters]"
    digest = hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"[secret {visible(value[:_BEGINNING])}… sha256 {digest}]"


def _covers(text: str, offset: int) -> list[tuple[int, int, str]]:
    """Spans that must not be shown, joined where they overlap, each with what stands for it."""
    spans = [(found.start, found.end, "") for found in secrets.find(text)]
    spans += [(found.start, found.end, f"[{found.kind}]") for found in personal.find(text)]
    joined: list[tuple[int, int, str]] = []
    for start, end, kind in sorted(spans):
        if joined and start < joined[-1][1]:
            before = joined.pop()
            start, end, kind = before[0], max(before[1], end), before[2] and kind and before[2]
        joined.append((start, end, kind))
    return [(start + offset, end + offset, kind or redacted(text[start:end])) for start, end, kind in joined]
