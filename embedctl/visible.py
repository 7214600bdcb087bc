"""Text from outside as it can be shown: nothing in it is obeyed by a terminal, and nothing hides."""

import re

# Control and format characters are not printable. These are, by the book (letters, marks, symbols), and yet nothing
# is seen of them.
_BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")


def unseen(character: str) -> bool:
    """Whether nothing is seen of a character, or it acts on those around it."""
    return not character.isprintable() or _BLANK.match(character) is not None


def visible(text: str, *, but: str = "") -> str:
    r"""``text`` with each character that is not seen as its code point: ``\u{202e}``; those of ``but`` stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"\\u{{{ord(c):x}}}" if c not in but and unseen(c) else c for c in text)
