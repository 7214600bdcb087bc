"""Formats: the same records come out of every format, packed or not."""

import gzip
import io
import json
import zipfile
from collections.abc import Callable

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedctl.data.fields import Fields
from embedctl.errors import DataError
from tests.sources import read, said, write

__all__ = ["said"]  # a fixture

Row = dict[str, object]


def table(rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows)


def as_csv(rows: list[Row], delimiter: str) -> bytes:
    import csv

    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def as_parquet(rows: list[Row]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table(rows), sink, row_group_size=3)
    return sink.getvalue()


def as_stream(rows: list[Row]) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table(rows).schema) as writer:
        writer.write_table(table(rows), max_chunksize=2)
    return sink.getvalue()


def as_feather(rows: list[Row]) -> bytes:
    sink = io.BytesIO()
    pyarrow.feather.write_feather(table(rows), sink)
    return sink.getvalue()


def as_lines(rows: list[Row]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


WRITERS: dict[str, Callable[[list[Row]], bytes]] = {
    ".jsonl": as_lines,
    ".ndjson": as_lines,
    ".json": lambda rows: json.dumps(rows, indent=1).encode(),
    ".csv": lambda rows: as_csv(rows, ","),
    ".tsv": lambda rows: as_csv(rows, "\t"),
    ".parquet": as_parquet,
    ".arrow": as_stream,
    ".feather": as_feather,
}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
}

# A NUL in the head of a file says that it is binary.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
ROWS = st.lists(st.fixed_dictionaries({"text": TEXTS, "query": TEXTS, "tag": TEXTS}), min_size=1, max_size=6)


@pytest.mark.parametrize("form", WRITERS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=ROWS)
def test_records_survive_every_format_packed_or_not(
    tmp_path_factory: pytest.TempPathFactory, form: str, rows: list[Row]
):
    rows = [{"id": f"r{n}", **row} for n, row in enumerate(rows)]
    folder = tmp_path_factory.mktemp("text")
    data = WRITERS[form](rows)
    for end, pack in PACKERS.items():
        (folder / f"a{form}{end}").write_bytes(pack(data))
    with zipfile.ZipFile(folder / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"inner/b{form}", data)
        archive.writestr(f"inner/c{form}.gz", gzip.compress(data))

    records = read(folder)

    expected = [
        (row["id"], row["text"], row["query"] if row["query"].strip() else None, {"tag": row["tag"]}) for row in rows
    ]
    assert [(r.id, r.text, r.query, dict(r.metadata)) for r in records] == expected * 5
    assert {r.source for r in records} >= {f"a{form}.gz", f"z.zip/inner/b{form}"}


@settings(max_examples=25, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff")))
def test_a_whole_file_is_its_text(tmp_path_factory: pytest.TempPathFactory, text: str):
    folder = tmp_path_factory.mktemp("text")
    (folder / "a.txt").write_bytes(text.encode())
    (folder / "b.md.gz").write_bytes(gzip.compress(text.encode("utf-8-sig")))
    (folder / "c.txt").write_bytes(text.encode("utf-16"))
    (folder / "d.txt").write_bytes(text.encode("utf-32"))

    assert {(r.id, r.text) for r in read(folder)} == {(name, text) for name in ("a.txt", "b.md.gz", "c.txt", "d.txt")}


def test_a_file_is_named_by_its_path_and_hidden_ones_are_left_out():
    write("sub/one.txt", "1")
    write("two.md", "2")
    write(".hidden.txt", "no")
    write(".hidden/three.txt", "no")

    assert [(r.id, r.text) for r in read()] == [("sub/one.txt", "1"), ("two.md", "2")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[{"text": "a"}, {"text": "b", "id": 7}]', [("a.json:1", "a"), ("7", "b")]),
        ('{"x": {"text": "a"}, "y": {"text": "b", "id": "own"}}', [("x", "a"), ("own", "b")]),
        ('{"about": {"of": 1}, "text": "a"}', [("a.json:1", "a")]),
        ('{"text": "a"}\n{"text": "b"}\n', [("a.json:1", "a"), ("a.json:2", "b")]),
        ("[]", []),
    ],
)
def test_json_is_an_array_a_table_by_id_or_one_object(content: str, expected: list[tuple[str, str]]):
    write("a.json", content)

    assert [(r.id, r.text) for r in read()] == expected


def test_a_large_json_array_is_read_across_its_chunks():
    texts = [f"{n} " + 'ä\\"\n' * (n % 50_000) for n in range(0, 200_000, 7919)]
    write("a.json", json.dumps([{"text": text, "n": 12345} for text in texts]))

    assert [r.text for r in read()] == texts


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 50])
def test_json_does_not_depend_on_where_it_is_cut(monkeypatch: pytest.MonkeyPatch, chunk: int):
    monkeypatch.setattr("embedctl.data.objects._CHUNK", chunk)
    rows = [{"text": 'a "quote" \U0001f600 \n', "n": 12345, "x": -1.5e10, "ok": True}, {"text": "", "n": 67}]
    write("a.json", json.dumps(rows, indent=1))
    write("b.json", "\n".join(json.dumps(row) for row in rows))

    assert [{"text": r.text, **r.metadata} for r in read()] == rows * 2


def test_dotted_fields_reach_into_objects_and_lists_are_joined():
    row = {"pubid": 7, "question": "why?", "context": {"contexts": ["one", "two"], "labels": ["A"]}, "x": None}
    write("a.jsonl", json.dumps(row))
    pq.write_table(table([row]), "text/b.parquet")
    fields = Fields("context.contexts", "question", "pubid")

    records = read(fields=fields)
    chosen = read(fields=Fields("context.contexts", "question", "pubid", ("context.labels",)))

    assert [(r.id, r.text, r.query) for r in records] == [("7", "one\ntwo", "why?")] * 2
    assert [dict(r.metadata) for r in records] == [{"context": {"labels": ["A"]}}] * 2
    assert [dict(r.metadata) for r in chosen] == [{"context.labels": ["A"]}] * 2


@pytest.mark.parametrize("form", WRITERS)
def test_a_missing_text_names_the_fields_and_the_likely_one(form: str):
    write(f"a{form}", WRITERS[form]([{"id": "x", "body": "some longer text of the row", "lang": "en"}]))

    with pytest.raises(DataError, match="no field 'text'; it has id, body, lang") as caught:
        read()

    assert caught.value.hint == "--set data.text_field=body"
    assert [r.text for r in read(fields=Fields(text="body"))] == ["some longer text of the row"]


def test_metadata_is_json_whatever_the_row_held():
    line = '{"text": "t", "a": NaN, "b": [Infinity, "\\ud800"], "c": 1e999, "d": {"\\udfff": true}, "e": null}'
    write("a.jsonl", line)
    from datetime import UTC, datetime
    from decimal import Decimal

    odd = {
        "text": "t",
        "at": datetime(2024, 5, 1, tzinfo=UTC),
        "price": Decimal("1.50"),
        "raw": b"\xff!",
        "n": float("nan"),
    }
    pq.write_table(table([odd]), "text/b.parquet")

    first, second = read()

    assert first.metadata == {"a": None, "b": [None, "\ufffd"], "c": None, "d": {"\ufffd": True}}
    assert second.metadata == {"at": "2024-05-01T00:00:00+00:00", "price": "1.50", "raw": "\ufffd!", "n": None}
    json.dumps([dict(r.metadata) for r in (first, second)], allow_nan=False).encode()


def test_surrogate_pairs_are_joined_and_lone_ones_replaced():
    write("a.jsonl", '{"id": "\\ud800", "text": "\\ud83d\\ude00 a \\udc00", "query": "\\ud83d"}')

    (record,) = read()

    assert (record.id, record.text, record.query) == ("\ufffd", "😀 a \ufffd", "\ufffd")


def test_spreadsheets_of_europe_are_read():
    write("a.csv", "id;text\n1;eins, zwei\n")

    assert [(r.id, r.text) for r in read()] == [("1", "eins, zwei")]


def test_a_row_is_numbered_by_the_line_it_begins_in():
    write("a.csv", 'text\n"one\ntwo"\n\nthree\n')
    write("b.jsonl", '{"text": "a"}\n\n{"text": "b"}\n')

    assert [r.id for r in read()] == ["a.csv:2", "a.csv:5", "b.jsonl:1", "b.jsonl:3"]
