"""What can be found in a text, the checks in the order of ``validation.actions``; and what can become of it."""

from dataclasses import dataclass
from typing import Literal

Tier = Literal["info", "low", "medium", "high", "critical"]
TIERS: tuple[Tier, ...] = ("info", "low", "medium", "high", "critical")

Verdict = Literal["keep", "flag", "fix", "drop"]
# Each with the word by which the records that it was given to are counted.
VERDICTS: dict[Verdict, str] = {"keep": "kept", "flag": "flagged", "fix": "fixed", "drop": "dropped"}


@dataclass(frozen=True, slots=True)
class Check:
    """What is looked for, how grave it usually is, and what it means (a phrase for a table)."""

    name: str
    severity: Tier
    meaning: str


@dataclass(frozen=True, slots=True)
class Match:
    """One place where a check struck: ``start`` and ``end`` in characters.

    severity: by context; ``info`` is what the context shows to be harmless, and never changes a verdict
    """

    check: Check
    start: int
    end: int
    severity: Tier


EMPTY = Check("empty", "medium", "no visible character")
TOO_SHORT = Check("too_short", "low", "fewer characters than validation.min_characters")
TOO_LONG = Check("too_long", "medium", "more characters than validation.max_characters")
INVALID_ENCODING = Check("invalid_encoding", "medium", "bytes that made no sense (U+FFFD stands for them)")
NUL = Check("nul", "high", "a NUL character")
CONTROL = Check("control_characters", "medium", "non-printable control characters")
INVISIBLE = Check("invisible_text", "high", "characters that cannot be seen and may carry a message")
BIDI = Check("bidi_override", "high", "direction controls that disguise what is read")
HOMOGLYPHS = Check("homoglyphs", "medium", "look-alike letters of another script")
MOJIBAKE = Check("mojibake", "medium", "text decoded with the wrong encoding")
SQL = Check("sql_injection", "medium", "looks like an SQL injection")
COMMAND = Check("command_injection", "medium", "looks like an injected command, path, template or format string")
MARKUP = Check("markup_injection", "medium", "looks like script injected into a page")
PROMPT = Check("prompt_injection", "medium", "an order to a language model")
SECRET = Check("secret", "high", "looks like a key, a token or a password")
PERSONAL = Check("personal_data", "low", "an e-mail or IP address, a card, account or telephone number")
REPETITION = Check("repetition", "low", "mostly the same lines, words or character again")
DUPLICATE = Check("duplicate", "low", "the same text and query as an earlier record")
NEAR_DUPLICATE = Check("near_duplicate", "low", "nearly the same text as an earlier record")
HELD = Check("held_text_in_training", "medium", "a training record whose text or query is held out for evaluation")

CHECKS: tuple[Check, ...] = (
    EMPTY, TOO_SHORT, TOO_LONG, INVALID_ENCODING, NUL, CONTROL, INVISIBLE, BIDI, HOMOGLYPHS, MOJIBAKE,
    SQL, COMMAND, MARKUP, PROMPT, SECRET, PERSONAL, REPETITION, DUPLICATE, NEAR_DUPLICATE, HELD,
)  # fmt: skip
