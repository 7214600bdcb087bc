"""What an attack says once its encodings are taken off."""

import html
import re
import unicodedata
from urllib.parse import unquote

# Where any of these stands, decoding may show more.
SCREEN = (
    r"%(?:25)?[0-9a-fA-F]{2}|%u[0-9a-fA-F]{4}|&#[xX]?[0-9a-fA-F]{2}|&(?:lt|gt|quot|apos|colon|lpar|tab|newline|sol);"
    r"|\\x[0-9a-fA-F]{2}|\\u\{?[0-9a-fA-F]{4}|\\[0-3][0-7]{2}|/\*|[\x{ff01}-\x{ff5e}\x{fe64}\x{fe65}]|\\0"
)

_ENTITY = re.compile(r"&#(?:[xX]0{0,12}([0-9a-fA-F]{1,6})|0{0,12}([0-9]{1,7}));?")
_WIDE_PERCENT = re.compile(r"%u([0-9a-fA-F]{4})")
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u\{?([0-9a-fA-F]{4})\}?|([0-3][0-7]{2}))")
_COMMENT = re.compile(r"/\*!?[0-9]{0,5}([^*/]{0,40})\*/")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u00ad\u200b-\u200f\u2060\ufeff]|\\\\0(?![0-9])")


def unmask(text: str) -> str:
    """``text`` without percent, HTML and backslash encodings, full-width forms and invisible fillers."""
    for _ in range(3):
        before = text
        text = unquote(text, errors="replace") if "%" in text else text
        text = _WIDE_PERCENT.sub(lambda code: _character(code.group(1), 16), text) if "%u" in text else text
        text = html.unescape(_ENTITY.sub(_entity, text)) if "&" in text else text
        text = _ESCAPE.sub(_escaped, text) if "\\" in text else text
        if text == before:
            break
    text = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return _CONTROL.sub("", text)


def without_comments(text: str) -> str:
    """``text`` with SQL comments inside words and between them taken out."""
    return _COMMENT.sub(lambda comment: f" {comment.group(1)} " if comment.group(1).strip() else "", text)


def _entity(found: "re.Match[str]") -> str:
    return _character(found.group(1), 16) if found.group(1) else _character(found.group(2), 10)


def _escaped(found: "re.Match[str]") -> str:
    octal = found.group(3)
    return _character(octal, 8) if octal else _character(found.group(1) or found.group(2), 16)


def _character(digits: str, base: int) -> str:
    code = int(digits, base)
    return chr(code) if code < 0xD800 or 0xDFFF < code < 0x110000 else "\ufffd"
