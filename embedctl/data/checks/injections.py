"""From the patterns of an attack to findings: in a short text each sign counts, in a long one only clear attacks."""

from collections.abc import Callable, Iterator
from typing import Any

from embedctl.data.checks import commands, disguise, markup, prompts, sql
from embedctl.data.checks.context import Context
from embedctl.data.checks.kinds import COMMAND, MARKUP, PROMPT, SQL, Check, Match
from embedctl.data.checks.patterns import compiled, spans, subject

_SHORT_CHARACTERS = 500
_MOST_MATCHES = 50
# What makes a script element or a handler of a longer page an attack, not a left-over.
_RUNS = compiled(
    r"alert\s{0,2}[(`]|document\.cookie|fromcharcode|eval\s{0,2}\(|(?:java|vb)script\s{0,4}:|xss|prompt\s{0,2}\(|confirm\s{0,2}\(|atob\s{0,2}\(|onerror"
)


def examine(kind: str, text: str, context: Context, *, disguised: bool) -> Iterator[Match]:
    """What one kind of attack has left in ``text``.

    disguised: the text holds encodings, and is looked at without them too
    """
    check, strong, whole, short_characters = _KINDS[kind]
    if len(text) > short_characters:
        yield from _in_long(check, strong, text, context)
        return
    found = next(spans(strong, text), None)
    if found:
        yield Match(check, *found, context.temper(*found, check.severity))
    elif whole(text):
        yield Match(check, 0, len(text), _of_whole(check, whole, text, context))
    elif disguised:
        plain = disguise.unmask(text)
        if plain != text and (strong.search(plain) or whole(plain)):
            yield Match(check, 0, len(text), "info" if context.is_code_mostly() else check.severity)


def _in_long(check: Check, strong: Any, text: str, context: Context) -> Iterator[Match]:
    matches = 0
    for start, end in spans(strong, text):
        around = text[max(0, start - 40) : end + 80]
        if check is MARKUP and not _RUNS.search(around):
            continue
        yield Match(check, start, end, context.temper(start, end, check.severity))
        matches += 1
        if matches == _MOST_MATCHES:
            return


def _of_whole(check: Check, whole: Callable[[str], bool], text: str, context: Context) -> Any:
    """The severity of a sign that spans the text: none if it vanishes with the quoted code."""
    bare = context.without_code()
    return check.severity if bare == text or whole(bare) else "info"


def _is_sql(text: str) -> bool:
    return sql.is_enough(sql.weigh(text))


def _is_command(text: str) -> bool:
    return bool(commands.WHOLE.search(subject(text)))


def _is_markup(text: str) -> bool:
    return bool(markup.WHOLE.search(subject(text)))


_KINDS: dict[str, tuple[Check, Any, Callable[[str], bool], int]] = {
    "sql": (SQL, sql.STRONG, _is_sql, _SHORT_CHARACTERS),
    "command": (COMMAND, commands.STRONG, _is_command, _SHORT_CHARACTERS),
    "markup": (MARKUP, markup.STRONG, _is_markup, _SHORT_CHARACTERS),
    "prompt": (PROMPT, prompts.STRONG, prompts.is_order, prompts.SHORT_CHARACTERS),
}
