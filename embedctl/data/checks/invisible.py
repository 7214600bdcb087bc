"""Characters that cannot be seen: harmless where a script or an emoji needs them, else a hiding place."""

import re
import unicodedata
from collections.abc import Iterator

from embedctl.data.checks.direction import RIGHT_TO_LEFT
from embedctl.data.checks.kinds import INVISIBLE, Match, Tier

_TAGS = "\U000e0000-\U000e007f"
_SELECTORS = "\ufe00-\ufe0f\U000e0100-\U000e01ef"
_FILLERS = "\u115f\u1160\u3164\uffa0\u2800"
_FORMATS = (
    "\u00ad\u034f\u061c\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2060-\u2065\u206a-\u206f\ufeff\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
)
CHARACTERS = f"{_FORMATS}{_FILLERS}{_SELECTORS}\U000e0000-\U000e0fff"

_RUN = re.compile(f"[{CHARACTERS}]+")
_FLAG = re.compile("[\U000e0030-\U000e0039\U000e0061-\U000e007a]{1,8}\U000e007f")
_TAG = re.compile(f"[{_TAGS}]")
_SELECTOR = re.compile(f"[{_SELECTORS}]")
# Scripts that shape or part their letters with U+200C and U+200D: Arabic to Thaana, the Indic ones, and so on.
_JOINING = re.compile(
    "[\u0600-\u07ff\u0840-\u08ff\u0900-\u0fff\u1000-\u109f\u1700-\u18af\u1900-\u1cff"
    "\ua800-\uabff\ufb1d-\ufdff\ufe70-\ufefc\U00010a00-\U00010aff\U00011000-\U00011fff\U0001e900-\U0001e95f]"
)
# Scripts without spaces, where U+200B says where a line may break.
_UNSPACED = re.compile("[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1900-\u1aff\u3000-\u30ff\u4e00-\u9fff\ua980-\uaadf]")
_BASE_OF_SELECTOR = re.compile(
    "[\u1800-\u18af\u2000-\u2bff\u2e80-\u9fff\ua840-\ua87f\uf900-\ufaff\U00020000-\U000323af]"
)
_NEEDED_BY = {
    "\u17b4": re.compile("[\u1780-\u17ff]"),
    "\u17b5": re.compile("[\u1780-\u17ff]"),
    "\u115f": re.compile("[\u1100-\u11ff\ua960-\ua97f\ud7b0-\ud7ff]"),
    "\u1160": re.compile("[\u1100-\u11ff\ua960-\ua97f\ud7b0-\ud7ff]"),
    "\u2800": re.compile("[\u2801-\u28ff]"),
    **dict.fromkeys("\u180b\u180c\u180d\u180e\u180f", re.compile("[\u1800-\u18af]")),
}


def examine(text: str) -> Iterator[Match]:
    """Every run of characters that cannot be seen, with what its surroundings make of it."""
    runs = list(_RUN.finditer(text))
    scattered = _is_scattered(text, runs)
    for run in runs:
        severity = _severity(text, run.start(), run.end())
        if severity == "info" and scattered and run.group()[0] in "\u200b\u00ad":
            severity = "high"
        yield Match(INVISIBLE, run.start(), run.end(), severity)


def remove(text: str) -> str:
    """Take out what :func:`examine` finds harmful; what a script or an emoji needs stays."""
    while harmful := [match for match in examine(text) if match.severity != "info"]:
        ends = [0, *(match.end for match in harmful)]
        starts = [*(match.start for match in harmful), len(text)]
        text = "".join(text[end:start] for end, start in zip(ends, starts, strict=True))
    return text


def _is_scattered(text: str, runs: "list[re.Match[str]]") -> bool:
    """Whether single break marks stand so thick that they can only be a code, not hints for line breaks."""
    breaks = sum(run.group()[0] in "\u200b\u00ad" for run in runs)
    if breaks < 8 or _UNSPACED.search(text):
        return False
    hyphens = text.count("\u00ad")
    return breaks * 12 > len(text) if hyphens < breaks else breaks * 3 > len(text)


def _severity(text: str, start: int, end: int) -> Tier:
    run = text[start:end]
    before, after = text[start - 1 : start], text[end : end + 1]
    if _TAG.search(run):
        return "info" if before == "\U0001f3f4" and _FLAG.fullmatch(run) else "critical"
    if len(run) >= 10:
        return "critical"
    selectors = _SELECTOR.findall(run)
    if len(selectors) > 1:
        return "critical"
    if selectors:
        return _of_selector(run, before, after)
    if len(run) > 1:
        return _of_short_run(text, run, before, after)
    return _of_single(text, run, before, after, start)


def _of_selector(run: str, before: str, after: str) -> Tier:
    """A variation selector picks a glyph of the character before it; U+200D may follow in an emoji."""
    if run[0] not in "\ufe0e\ufe0f":
        fits = len(run) == 1 and bool(_BASE_OF_SELECTOR.match(before))
    elif before and before in "0123456789#*":
        fits = len(run) == 1 and after == "\u20e3"
    else:
        fits = _is_pictogram(before) and run[1:] in ("", "\u200d")
    return "info" if fits else "high"


def _of_short_run(text: str, run: str, before: str, after: str) -> Tier:
    edge = not before or not after or before.isspace() or after.isspace()
    if run in ("\u200b\u200b", "\u200c\u200c") and edge and run[0] == "\u200b":
        return "info"  # what translation services leave behind
    needed = _JOINING.match(before or " ") or _JOINING.match(after or " ")
    if needed and len(run) == 2 and set(run) <= set("\u200b\u200c\u200d\u200e\u200f"):
        return "info"
    if set(run) <= set("\u200e\u200f\u061c") and RIGHT_TO_LEFT.search(text):
        return "info"
    if _are_needed(run, before, after) or (set(run) <= {"\u2800"} and "\u2800" < after <= "\u28ff"):
        return "info"
    return "high"


def _are_needed(run: str, before: str, after: str) -> bool:
    patterns = [_NEEDED_BY.get(mark) for mark in set(run)]
    return all(pattern and (pattern.match(before) or pattern.match(after)) for pattern in patterns)


def _of_single(text: str, mark: str, before: str, after: str, start: int) -> Tier:
    near = before + after
    inside = before.isalnum() and after.isalnum()
    if mark == "\u00ad" or (mark == "\ufeff" and start == 0):
        return "info"
    if mark in "\u200c\u200d":
        emoji = mark == "\u200d" and _is_pictogram(before) and _is_pictogram(after)
        return "info" if emoji or _JOINING.search(near) else "high"
    if mark in "\u200e\u200f\u061c":
        return "high" if inside and not RIGHT_TO_LEFT.search(text) else "info"
    if mark == "\u200b":
        return "high" if inside and not _UNSPACED.search(near) else "info"
    if mark in "\u2060\ufeff":
        return "high" if inside and not _UNSPACED.search(near) else "medium"
    if mark == "\u034f":
        return "info" if any(unicodedata.combining(c) for c in near) or RIGHT_TO_LEFT.search(near) else "high"
    pattern = _NEEDED_BY.get(mark)
    return "info" if pattern and pattern.search(near) else "high"


def _is_pictogram(character: str) -> bool:
    """Whether it may be part of an emoji sequence."""
    return bool(character) and (
        unicodedata.category(character) in ("So", "Sk", "Sm")
        or character in "\u203c\u2049\u2139\u3030\u303d\ufe0f\u20e3\U000e007f"
    )
