"""Malformed files: an error of ours names the place, and no bytes whatever make anything else happen."""

import gzip
import json
import random
from time import process_time

import pytest

from embedctl.errors import DataError, EmbedctlError
from tests.sources import read, said, write
from tests.test_formats import PACKERS, WRITERS
from tests.test_hostile_files import zipped
from tests.test_markup import PAGE, XML

__all__ = ["said"]  # a fixture

# Rows


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "fine"}\n{"text": "cut\n', "text/a.jsonl:2: not JSON: Invalid control character"),
        ("a.jsonl", "[" * 100_000, "text/a.jsonl:1: not JSON: nested too deep: [[["),
        ("a.jsonl", '{"text": ' + "9" * 5000 + "}", "text/a.jsonl:1: not JSON: a number with too many digits"),
        ("a.jsonl", '{"text": "x", "m": ' + "[" * 200 + "]" * 200 + "}", "text/a.jsonl:1: nested deeper than 64"),
        ("a.jsonl", '["text"]', 'text/a.jsonl:1: want an object of fields, got ["text"]'),
        ("a.jsonl", '{"text": "\x1b[31m', "text/a.jsonl:1: not JSON: Invalid control character"),
        ("a.json", '[{"text": "x"},\n {"text": "y" "z"}]', "text/a.json:2: not JSON that can be read: Expecting ','"),
        ("a.json", "[" * 100_000, "text/a.json:1: not JSON that can be read: nested too deep"),
        ("a.json", '{"text": ' + "9" * 5000 + "}", "text/a.json:1: not JSON that can be read: a number"),
        ("a.json", '[{"text": "x"}', "text/a.json:1: not JSON that can be read: want ','"),
        ("a.json", "7", "text/a.json:1: not JSON that can be read: want an array or an object"),
        ("a.csv", 'text\nfine\n"open\nrow\n', "text/a.csv:3: not CSV: a quote that opens in this row is never closed"),
        ("a.csv", "text,id\nx,1,surplus\n", "text/a.csv:2: not CSV: 3 fields, but the header has 2"),
        ("a.csv", "text,text\nx,y\n", "text/a.csv:1: not CSV: two columns are named 'text'"),
        ("a.txt.gz", gzip.compress(b"x" * 9999, mtime=0)[:-6], "text/a.txt.gz is damaged"),
        ("a.txt.gz", b"junk", "text/a.txt.gz is damaged"),
        ("a.txt.zst", b"junk and more junk", "text/a.txt.zst is damaged"),
        ("a.zip", b"junk", "text/a.zip is not a zip file"),
        ("a.parquet", b"junk and more junk", "text/a.parquet: after row 0: not Parquet"),
        ("a.arrow", b"junk and more junk", "text/a.arrow: after row 0: not Arrow"),
        ("a.feather", b"FEA1 and more", "text/a.feather: after row 0: not Arrow that can be read: Feather version 1"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(name: str, content: str | bytes, message: str):
    write(name, content)

    with pytest.raises(DataError) as caught:
        read()

    assert caught.value.message.startswith(message)
    assert "\x1b" not in caught.value.message


def test_of_keys_that_come_twice_the_last_counts():
    write("a.jsonl", '{"text": "one", "text": "two"}')

    assert [r.text for r in read()] == ["two"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "x" * 2000),
        ("a.html", "<p>" + "x" * 2000),
        ("a.jsonl", '{"text": "' + "x" * 2000 + '"}'),
        ("a.json", '[{"text": "' + "x" * 2000 + '"}]'),
        ("a.json", '{"a": 1, ' + ", ".join(f'"k{n}": {n}' for n in range(200)) + "}"),
        ("a.csv", "text\n" + "x" * 2000 + "\n"),
        ("a.csv", "text,a\nx," + ",".join(['"\n"'] * 1000) + "\n"),
        ("a.xml", "<Document><QAPair><Answer>" + "x" * 2000 + "</Answer></QAPair></Document>"),
    ],
)
def test_a_text_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, content: str):
    for module in ("fields", "formats", "objects", "markup"):
        monkeypatch.setattr(f"embedctl.data.{module}.MOST_CHARACTERS", 1000)
    write(name, content)

    with pytest.raises(DataError, match=r"text/a\.\w+.*(1,000|2,000)"):
        read()


# Fuzz


ROWS: list[dict[str, object]] = [{"id": f"{n}", "text": f"text {n} ü", "query": "q", "n": "1"} for n in range(20)]
VALID = {
    **{form: written(ROWS) for form, written in WRITERS.items()},
    ".html": PAGE.encode(),
    ".xml": XML.encode(),
    ".txt": "some text – with “marks”\n".encode() * 5,
}
PIECES = (
    b"\0",
    b"\xff",
    b'"',
    b"{",
    b"[",
    b"\n",
    b"<",
    b"\xed\xa0\x80",
    b"\xff\xfe",
    b"9" * 40,
    b"\\ud800",
    b"&#x110000;",
)


def mutated(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(changed) + 1)
        match chance.randrange(4):
            case 0:
                changed[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del changed[at : at + chance.randint(1, 40)]
            case 2:
                changed[at:at] = chance.choice(PIECES)
            case _:
                changed[at:at] = changed[at : at + chance.randint(1, 60)]
    return bytes(changed)


@pytest.mark.parametrize("form", VALID)
def test_a_mutated_file_gives_records_or_an_error_of_ours(form: str):
    chance = random.Random(form)
    ends = list(PACKERS)
    for number in range(200):
        end = ends[number % len(ends)]
        pack = PACKERS[end]
        data = mutated(pack(VALID[form]), chance) if number % 2 else pack(mutated(VALID[form], chance))
        path = write(f"a{form}{end}", data)
        began = process_time()
        try:
            for record in read(path):
                row = [record.id, record.text, record.query, dict(record.metadata)]
                json.dumps(row, ensure_ascii=False, allow_nan=False).encode()
        except EmbedctlError as fault:
            assert fault.message.encode()
        assert process_time() - began < 5


def test_a_mutated_zip_gives_records_or_an_error_of_ours():
    chance = random.Random(1)
    data = zipped(**{"a.txt": "text " * 50, "b/c.jsonl": '{"text": "x"}\n' * 9}).read_bytes()
    for _ in range(200):
        path = write("z.zip", mutated(data, chance))
        try:
            read(path)
        except EmbedctlError as fault:
            assert fault.message.encode()
