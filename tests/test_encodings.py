"""Encodings: every one is found and said; damage costs what is damaged and no more."""

import json

import pytest

from embedctl.data.opening import Notes
from tests.sources import read, said, write

__all__ = ["said"]  # a fixture

FRENCH = "L’été dernier, à la forêt, nous avons mangé des crêpes très sucrées ; c’était déjà Noël à l’hôtel. " * 3
RUSSIAN = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. " * 3
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。何でも薄暗い所で泣いていた。" * 3


@pytest.mark.parametrize(
    ("text", "encoding", "name"),
    [
        (FRENCH, "cp1252", "cp1252"),
        (FRENCH.replace("’", "'"), "latin-1", "cp1252"),
        (RUSSIAN, "koi8-r", "koi8_r"),
        (RUSSIAN, "cp1251", "cp1251"),
        (JAPANESE, "shift_jis", "cp932"),
        (RUSSIAN + "plain words", "utf-8", "utf-8"),
        (RUSSIAN, "utf-8-sig", "utf-8"),
        (FRENCH, "utf-16", "utf-16"),
        (FRENCH, "utf-16-le", "utf-16-le"),
        (FRENCH, "utf-16-be", "utf-16-be"),
        (JAPANESE, "utf-32", "utf-32"),
        ("café", "cp1252", "cp1252"),
    ],
)
def test_the_encoding_is_found_and_said(said: pytest.LogCaptureFixture, text: str, encoding: str, name: str):
    write("a.txt", text.encode(encoding))
    write("b.csv", f'id,text\nb,"{text}"\n'.encode(encoding))
    write("c.jsonl", json.dumps({"id": "c", "text": text}, ensure_ascii=False).encode(encoding))
    notes = Notes()

    records = read(notes=notes)

    assert [r.text for r in records] == [text] * 3
    assert notes.encodings == {name: 3}
    assert (f"text/a.txt is read as {name}" in said.text) == (name != "utf-8")


@pytest.mark.parametrize("plain", [0, 300_000], ids=["near", "far"])
@pytest.mark.parametrize("odd", [b"\xff", b"\xe9t\xe9", b"\xe2\x80"])
def test_an_odd_byte_far_into_a_file_of_utf8_costs_one_character(
    said: pytest.LogCaptureFixture, odd: bytes, plain: int
):
    # With plain text all around the fault, what is near it does not tell which encoding it is.
    text = "naïve – " * 100_000 + "plain text " * plain
    write("a.txt", text.encode() + odd + text[::-1].encode())
    notes = Notes()

    (record,) = read(notes=notes)

    assert record.text == text + odd.decode(errors="replace") + text[::-1]
    assert notes.encodings == {"utf-8": 1}
    assert "text/a.txt is UTF-8 with broken places" in said.text


def test_what_is_utf8_by_chance_makes_no_utf8():
    text = "LIBERTÉ» " + FRENCH  # É» is one character of UTF-8 in cp1252
    write("a.txt", text.encode("cp1252"))

    assert [r.text for r in read()] == [text]


def test_a_page_says_its_encoding():
    write("a.html", "<meta charset=windows-1251><p>Да".encode("cp1251"))

    assert [r.text for r in read()] == ["Да"]


def test_binary_files_are_passed_over_and_noted():
    write("a.txt", b"\x7fELF\0\0\0")
    write("b.md", b"%PDF-1.7\n...")
    write("c.csv", b"PK\3\4...")
    write("d.txt", "text " * 4000 + "\0 and a NUL far inside")
    notes = Notes()

    (record,) = read(notes=notes)

    assert record.id == "d.txt" and "\0" in record.text
    assert notes.binary == ["a.txt", "b.md", "c.csv"]


HEADS = {
    "elf": b"\x7fELF\2\1\1\0\0\0\0\0\0\0\0\0\3\0\x3e\0\1\0\0\0\x40\x10\0\0\0\0\0\0",
    "numbers": b"\1\2\3\4\0\5\0\6\0\7\0\1\2\0\3\0\4\0\5\0",
    "zeros": b"\0" * 20,
}


@pytest.mark.parametrize("head", HEADS)
def test_however_short_a_binary_file_is_no_utf16(head: str):
    whole = HEADS[head]
    names = [write(f"{size:02}.txt", whole[:size]).name for size in range(whole.index(0) + 1, len(whole) + 1)]
    notes = Notes()

    assert read(notes=notes) == []
    assert notes.binary == names
