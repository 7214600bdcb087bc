"""Repair takes out what was found and nothing else; excerpts show it without giving a secret away."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedctl.data.checks.repair import FIXABLE, repair
from embedctl.data.checks.show import excerpt
from tests.test_checks import DISGUISED, HARMLESS, HIDDEN, HOSTILE, INVISIBLE_BUT_NEEDED, found, matches, tags

PIECES = [
    "a", " ", "\u200b", "\u200d", "\u202e", "\u2066", "\u2069", "\ufe0f", "\0", "\x07", "Ã©", "â€™", "Ã", "key", "=",
    "\u00ad", "\U0001f3f4", tags("x"), "\U000e007f", "password", "hunter2x9", "@b.example", ".org", "1.2.3.4", "\u3164",
    "+49 30 901820", "AKIA", "Z7VXRT5QLMNW3KPD", ":", "'", '"', "\n", "://u:p4ssw0rd@h", "👩", "א", "م",
    "-----BEGIN PRIVATE KEY-----",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=3)), max_size=12),
    st.sets(st.sampled_from(sorted(FIXABLE))),
)
def test_repairing_twice_changes_nothing(pieces: list[str], names: set[str]):
    text = "".join(pieces).encode(errors="ignore").decode()

    once = repair(text, frozenset(names))

    assert repair(once, frozenset(names)) == once


REPAIRABLE = [(text, check) for text, check in HOSTILE if check in FIXABLE]
REPAIRABLE += [(text, "invisible_text") for text in HIDDEN] + [(text, "bidi_override") for text in DISGUISED]


@pytest.mark.parametrize(("text", "check"), REPAIRABLE)
def test_repaired_text_has_no_such_finding(text: str, check: str):
    assert check in found(text)

    assert check not in found(repair(text, frozenset({check})))


@pytest.mark.parametrize("text", [text for text in HARMLESS + INVISIBLE_BUT_NEEDED if "@" not in text])
def test_harmless_text_is_not_repaired(text: str):
    assert repair(text, FIXABLE) == text


def test_repair_touches_only_what_it_is_asked_for():
    assert repair("a\0b\x07c", frozenset({"nul"})) == "ab\x07c"
    assert repair("caf\u00c3\u00a9 'x'", frozenset({"mojibake"})) == "café 'x'"
    assert repair("mail a.b@c.example now", frozenset({"personal_data"})) == "mail [e-mail address] now"


CANARIES = ["ghp_aB3dE5gH7jK9mN1pQ3sT5vX7zA9cE1gH3jK5", "AKIAZ7VXRT5QLMNW3KPD", "Tr0ub4dor&3xQ9"]


@pytest.mark.parametrize("canary", CANARIES)
@pytest.mark.parametrize(
    "around", ["{}", "\x07{}\x07", "' OR 1=1 -- {}", "\u202e{}", "x\u200bpq {} \0", "{}" + "z" * 200]
)
def test_excerpts_never_leak_a_secret(canary: str, around: str):
    text = around.format(f'password = "{canary}" ')

    shown = [excerpt(text, match) for match in matches(text)]

    # Of one that can be guessed nothing is shown, of a long one four characters.
    least = 5 if len(canary) >= 20 else 3
    assert any("[secret" in piece for piece in shown)
    assert not any(canary[i : i + least] in piece for piece in shown for i in range(len(canary) - least + 1))
    assert any("sha256" in piece for piece in shown) == (len(canary) >= 20)


def test_a_short_password_is_not_shown_at_all():
    text = "see postgres://admin:abc@db.example.org/x for more"

    shown = [excerpt(text, match) for match in matches(text)]

    assert shown
    assert not any("abc" in piece for piece in shown)


def test_excerpts_show_what_cannot_be_seen_and_hide_persons():
    hidden = "pass\u200bword of jane@mail.example.org"
    [place] = [match for match in matches(hidden) if match.check.name == "invisible_text"]

    assert excerpt(hidden, place) == "pass\\u{200b}word of [e-mail address]"
