"""Where in a text a finding stands: quoted as code, in a document about the matter, or bare."""

import re
from bisect import bisect_right

from embedctl.data.checks.kinds import Tier
from embedctl.data.checks.patterns import compiled

_FENCE = re.compile(r"^[ \t]{0,8}(?:>[ \t]?)?(`{3,}|~{3,})", re.MULTILINE)
_INLINE = re.compile(r"(?<!`)(`{1,2})(?!`)[^`\n]{1,400}\1(?!`)")
_INDENTED = re.compile(r"(?:(?<=\n\n)|(?<=\n\r\n))(?: {4}|\t)[^\n]*(?:\n(?: {4}|\t)[^\n]*)*")
_ELEMENT = compiled(r"(?s)<(?:pre|code|kbd|samp)\b[^>]{0,100}>.*?</(?:pre|code|kbd|samp)>")
_SHORTCODE = compiled(r"\{\{[<%][^\n]{0,400}?[>%]\}\}")
_MATTER = compiled(
    r"\b(?:sql|xss|csrf|injection|attack|attacker|vulnerab|exploit|payload|sanitiz|sanitis|escap(?:e|ing)|malicious"
    r"|untrusted|database|query|queries|command|shell|script|javascript|html|browser|server|template|syntax|parser"
    r"|developer|code|function|jailbreak|prompt injection|prompts?|language model|llm|chatbot|security|owasp|tutorial"
    r"|documentation|example|configur|password|credential|token|api|variable)\w{0,6}\b"
)
_PROSE = re.compile(r"[^\W\d_]{2,}")
_STRUCTURE = re.compile(r"[{}\[\]\"=;]")
_DOCUMENT_CHARACTERS = 800
_WORDS_OF_THE_MATTER = 8


class Context:
    """What surrounds the findings in one text; worked out when it is first asked for."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._code: tuple[list[int], list[int]] | None = None
        self._document: bool | None = None

    def temper(self, start: int, end: int, severity: Tier) -> Tier:
        """``info`` for what the context shows to be quoted or explained, else the severity as given."""
        if self.is_code(start, end) or self.is_about_it():
            return "info"
        return severity

    def is_code(self, start: int, end: int) -> bool:
        """Whether the place lies in code that stands in a text of words."""
        if self._code is None:
            self._code = _quoted(self._text)
        starts, ends = self._code
        at = bisect_right(starts, start) - 1
        return at >= 0 and start < ends[at] and end <= ends[at] + 1

    def without_code(self) -> str:
        """The text without what is quoted as code."""
        self.is_code(0, 0)
        starts, ends = self._code or ([], [])
        pieces, position = [], 0
        for start, end in zip(starts, ends, strict=True):
            pieces.append(self._text[position:start])
            position = end
        return " ".join([*pieces, self._text[position:]]) if starts else self._text

    def is_code_mostly(self) -> bool:
        """Whether more of the text is quoted code than not."""
        return 2 * len(self.without_code()) < len(self._text)

    def is_about_it(self) -> bool:
        """Whether the text is a longer document of the trade, with the words that come with it."""
        if self._document is None:
            self._document = len(self._text) >= _DOCUMENT_CHARACTERS and _is_technical(self._text)
        return self._document


def _is_technical(text: str) -> bool:
    if 8 * len(_STRUCTURE.findall(text)) > len(text):
        return False  # data, not prose
    words = [found.group().lower()[:6] for found in _MATTER.finditer(text)]
    return len(words) >= _WORDS_OF_THE_MATTER and len(set(words)) >= 4


def _quoted(text: str) -> tuple[list[int], list[int]]:
    """Starts and ends of the code in ``text``, none if there is next to nothing else."""
    spans = _fenced(text)
    spans += [found.span() for found in _INLINE.finditer(text)]
    if "<" in text:
        spans += [found.span() for found in _ELEMENT.finditer(text)]
    if "{{" in text:
        spans += [found.span() for found in _SHORTCODE.finditer(text)]
    if "\n    " in text or "\n\t" in text:
        spans += [found.span() for found in _INDENTED.finditer(text)]
    starts, ends = _joined(spans)
    outside, position = [], 0
    for start, end in zip(starts, ends, strict=True):
        outside.append(text[position:start])
        position = end
    outside.append(text[position:])
    if sum(len(_PROSE.findall(piece)) for piece in outside) < 4:
        return [], []
    return starts, ends


def _fenced(text: str) -> list[tuple[int, int]]:
    spans, opened = [], None
    for fence in _FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif fence.group(1)[0] == opened.group(1)[0] and len(fence.group(1)) >= len(opened.group(1)):
            spans.append((opened.start(), fence.end()))
            opened = None
    return spans


def _joined(spans: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    starts: list[int] = []
    ends: list[int] = []
    for start, end in sorted(spans):
        if ends and start <= ends[-1]:
            ends[-1] = max(ends[-1], end)
        else:
            starts.append(start)
            ends.append(end)
    return starts, ends
