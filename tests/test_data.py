"""Sources: every record arrives, every fault names its place, nothing outside the source is read."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedctl.artifacts import manifest
from embedctl.artifacts.layout import Layout
from embedctl.data import corpus
from embedctl.data.fields import Fields
from embedctl.data.local import find_files, read_file
from embedctl.data.opening import Notes
from embedctl.data.records import Record, split_of
from embedctl.errors import DataError, NotFoundError
from embedctl.settings import DataSettings
from tests.conftest import REPOSITORY, Run

LAYOUT = Layout(Path("ws"), "main", "main")


def read(path: Path) -> list[Record]:
    return [record for file in find_files(path) for record in read_file(file, Fields(), Notes())]


def fetch(path: str = "text", **settings: object) -> list[Record]:
    corpus.fetch(DataSettings(path=Path(path), **settings), LAYOUT)
    return list(corpus.read_records(LAYOUT.corpus))


def write(name: str, content: str | bytes) -> Path:
    path = Path("text", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_every_format_gives_the_same_record():
    row = {"id": "a1", "text": "Line one,\nline “two”", "query": "which line?", "year": 2024}
    write("a.jsonl", json.dumps(row) + "\n\n")
    write("b.csv", 'id,text,query,year\na1,"Line one,\nline “two”",which line?,2024\n')
    write("c.tsv", 'id\ttext\tquery\tyear\na1\t"Line one,\nline “two”"\twhich line?\t2024\n')
    pq.write_table(pa.Table.from_pylist([row]), "text/d.parquet")

    records = read(Path("text"))

    assert len(records) == 4
    assert {(r.id, r.text, r.query) for r in records} == {("a1", row["text"], "which line?")}
    assert {str(r.metadata["year"]) for r in records} == {"2024"}


def test_a_text_file_is_one_record_named_by_its_path():
    write("sub/one.txt", "\ufeffwith a mark".encode())
    write("two.md", "über".encode("utf-16"))
    write("three.txt", b"caf\xe9")
    write(".hidden.txt", "no")

    assert {r.id: r.text for r in read(Path("text"))} == {
        "sub/one.txt": "with a mark",
        "two.md": "über",
        "three.txt": "café",
    }


def test_a_source_without_text_says_so():
    Path("empty").mkdir()
    Path("binary").mkdir()
    Path("binary/a.txt").write_bytes(b"\x7fELF\0\0\0")
    Path("binary/b.png").write_bytes(b"\x89PNG\0")

    with pytest.raises(NotFoundError, match="no file or folder at nowhere"):
        read(Path("nowhere"))
    with pytest.raises(DataError, match="no file in empty ends with one of"):
        read(Path("empty"))
    assert read(Path("binary")) == []
    with pytest.raises(DataError, match="binary"):
        fetch("binary")


def test_two_records_of_one_id_are_refused_and_leave_nothing():
    write("a.jsonl", '{"id": "x", "text": "one"}\n{"id": "x", "text": "two"}\n')

    with pytest.raises(DataError, match="'x' stands for two records"):
        fetch()

    assert not LAYOUT.corpus.exists()


def test_lone_surrogates_are_replaced():
    write("a.jsonl", '{"id": "\\ud800", "text": "a \\udc00 b", "query": "\\ud83d", "tag": "\\ud801"}\n')

    (record,) = fetch()

    assert (record.text, record.query) == ("a � b", "�")
    record.id.encode(), json.dumps(record.metadata).encode()


RECORDS = st.lists(
    st.tuples(st.text(), st.none() | st.text(min_size=1), st.dictionaries(st.text(), st.integers() | st.text())),
    min_size=1,
    max_size=8,
)


@given(rows=RECORDS)
def test_the_corpus_gives_back_what_it_was_given(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple]):
    folder = tmp_path_factory.mktemp("ws")
    own = {"id", "text", "query"}
    lines = [
        {**{k: v for k, v in extra.items() if k not in own}, "id": f"r{n}", "text": text, "query": query}
        for n, (text, query, extra) in enumerate(rows)
    ]
    (folder / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    layout = Layout(folder / "ws", "main", "main")

    corpus.fetch(DataSettings(path=folder), layout)

    found = [{**r.metadata, "id": r.id, "text": r.text, "query": r.query} for r in corpus.read_records(layout.corpus)]
    assert found == lines


def test_fetching_again_does_nothing_until_the_text_changes():
    write("a.txt", "one")
    made = [corpus.fetch(DataSettings(path=Path("text")), LAYOUT).made for _ in range(2)]
    write("a.txt", "two")
    made.append(corpus.fetch(DataSettings(path=Path("text")), LAYOUT).made)

    assert made == [True, False, True]


def test_max_records_is_a_limit():
    write("a.jsonl", "".join(f'{{"text": "t{n}"}}\n' for n in range(10)))

    assert [r.text for r in fetch(max_records=3)] == ["t0", "t1", "t2"]
    assert manifest.read(LAYOUT.corpus, "corpus").facts["records"] == 3


def test_a_local_pubmedqa_file_works_without_a_network():
    source = REPOSITORY / "examples/pubmedqa/ori_pqal.json.gz"
    articles = json.loads(gzip.decompress(source.read_bytes()))

    records = fetch(str(source), source="pubmedqa")

    assert len(records) == len(articles) == 1000
    first = articles[records[0].id]
    assert records[0].query == first["QUESTION"]
    assert records[0].text == "\n".join(first["CONTEXTS"])
    assert records[0].metadata["answer"] in ("yes", "no", "maybe")


@given(record_id=st.text(), one=st.floats(0, 99), other=st.floats(0, 99))
def test_a_record_stays_held_as_the_share_grows(record_id: str, one: float, other: float):
    small, large = sorted((one, other))

    assert not (split_of(record_id, small) == "held" and split_of(record_id, large) == "train")


def test_the_held_share_is_about_what_was_asked():
    held = sum(split_of(str(n), 10) == "held" for n in range(10_000))

    assert 900 < held < 1100


def test_the_command_says_what_to_type_next(run: Run):
    write("a.txt", "some text")

    ran = run("--set", "data.path=text", "data", "fetch")
    nothing = run("data", "fetch")

    assert (ran.code, nothing.code) == (0, 2)
    assert "corpus made: artifacts/corpus/main  1 records" in ran.out
    assert "next: embedctl data validate" in ran.err
    assert "data.path is not set" in nothing.err
