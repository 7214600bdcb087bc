"""Fetching into the corpus: limits, samples, several sources, and what goes wrong."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedctl.artifacts.layout import Layout
from embedctl.data import corpus
from embedctl.data.streams import size_of
from embedctl.errors import DataError
from embedctl.loading import load
from embedctl.settings import NamedSourceSettings
from tests.conftest import Run
from tests.corpora import LAYOUT, alone, fetch, numbered, records, small_parts, two, write

__all__ = ["small_parts"]  # a fixture

# Records


RECORDS = st.lists(
    st.tuples(st.text(), st.none() | st.text(min_size=1), st.dictionaries(st.text(), st.integers() | st.text())),
    min_size=1,
    max_size=8,
)


@settings(deadline=None, max_examples=40)
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

    fetch(layout, path=folder)

    found = [{**r.metadata, "id": r.id, "text": r.text, "query": r.query} for r in records(layout)]
    # A query of white space alone is none.
    given = [{**line, "query": line["query"] if (line["query"] or "").strip() else None} for line in lines]
    assert found == given


def test_two_records_of_one_id_are_refused_and_leave_nothing():
    Path("text").mkdir()
    Path("text/a.jsonl").write_text('{"id": "x", "text": "one"}\n{"id": "x", "text": "two"}\n', encoding="utf-8")

    with pytest.raises(DataError, match="'x' stands for two records"):
        fetch()

    assert not LAYOUT.corpus.exists()


# Limits and samples


def test_limits_are_kept_to_the_record_and_to_the_byte():
    write("text/a.jsonl", {f"r{n}": {"text": "é" * 10, "query": "abc"} for n in range(50)})

    fetch(max_records=7)
    assert len(records()) == 7
    fetch(max_bytes=23 * 5 + 22)
    assert len(records()) == 5
    assert sum(size_of(record) for record in records()) == 23 * 5


def test_a_sample_is_drawn_by_the_seed_and_grows_with_its_source():
    write("text/a.jsonl", numbered(0, 2000))
    fetch(sample_percent=25.0, seed=1)
    first = {record.id for record in records()}
    fetch(sample_percent=25.0, seed=2)
    other = {record.id for record in records()}
    write("text/a.jsonl", {**numbered(5000, 5100), **numbered(0, 2000)})
    made = fetch(sample_percent=25.0, seed=1, fresh=True)

    assert 400 < len(first) < 600
    assert first != other
    assert first < {record.id for record in records()}
    assert made.manifest.facts["records"] == len(records())


# Several sources


def test_sources_take_turns_by_their_weights_and_name_their_records():
    write("one/a.jsonl", numbered(0, 30))
    write("two/a.jsonl", numbered(0, 30))

    facts = fetch(**two()).manifest.facts

    names = [record.id.split("/")[0] for record in records()]
    assert Counter(names[:40]) == {"one": 30, "two": 10}
    assert all(abs(names[:n].count("one") - 0.75 * n) < 1 for n in range(41))
    assert names[40:] == ["two"] * 20
    assert [r.id for r in records() if r.id.startswith("one")] == [f"one/r{n}" for n in range(30)]
    assert {r.source for r in records()} == {"one/a.jsonl", "two/a.jsonl"}
    assert {name: entry["records"] for name, entry in facts["sources"].items()} == {"one": 30, "two": 30}  # type: ignore


def test_the_whole_has_limits_and_so_has_each_source():
    write("one/a.jsonl", numbered(0, 50))
    write("two/a.jsonl", numbered(0, 50))
    each = (NamedSourceSettings(name="one", path=Path("one"), max_records=4), two()["sources"][1])

    fetch(**two(max_records=8))
    assert Counter(r.id[:3] for r in records()) == {"one": 6, "two": 2}
    fetch(**two(max_bytes=3000))
    assert 2500 < sum(size_of(r) for r in records()) <= 3000
    fetch(sources=each)
    assert Counter(r.id[:3] for r in records()) == {"one": 4, "two": 50}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('name = "b"\npath = "x"\nweigth = 2', "data.sources.1.weigth"),
        ('name = "b"\npath = "x"\nweight = "much"', "data.sources.1.weight"),
        ('path = "x"', "data.sources.1.name"),
        ('name = "a"\npath = "x"', "same name (a, a)"),
        ('name = "a/b"\npath = "x"', "data.sources.1.name"),
    ],
)
def test_a_mistake_in_a_source_is_named(run: Run, table: str, said: str):
    Path("config.toml").write_text(f'[[data.sources]]\nname = "a"\npath = "x"\n[[data.sources]]\n{table}\n')

    ran = run("data", "fetch")

    assert (ran.code, said in ran.err) == (2, True), ran.err
    assert "config.toml" in ran.err


def test_a_path_beside_sources_is_refused(run: Run):
    Path("config.toml").write_text('[data]\npath = "x"\n[[data.sources]]\nname = "a"\npath = "x"\n')

    ran = run("data", "fetch")

    assert (ran.code, "with sources, each of them says where its text is" in ran.err) == (2, True)


def test_paths_of_sources_are_meant_from_the_file():
    write("sub/one/a.jsonl", numbered(0, 3))
    Path("sub/config.toml").write_text('[[data.sources]]\nname = "a"\npath = "one"\n')

    loaded = load(Path("sub/config.toml"))
    corpus.fetch(loaded.settings.data, loaded.layout)

    assert [r.id for r in records(loaded.layout)] == ["a/r0", "a/r1", "a/r2"]


# What the command says


def test_the_command_says_what_to_type_next(run: Run):
    write("text/a.jsonl", numbered(0, 1))

    ran = run("--set", "data.path=text", "data", "fetch")
    nothing = run("data", "fetch")

    assert (ran.code, nothing.code) == (0, 2)
    assert "corpus made: artifacts/corpus/main  1 records" in ran.out
    assert "next: embedctl data validate" in ran.err
    assert "data.path is not set" in nothing.err


def test_a_source_without_text_is_told(run: Run):
    Path("empty").mkdir()
    Path("binary").mkdir()
    Path("binary/a.txt").write_bytes(b"\x7fELF\0\0\0")
    for path, code, said in (
        ("empty", 3, "no file in empty"),
        ("binary", 3, "1 files are all binary"),
        ("nowhere", 12, "no file or folder at nowhere"),
    ):
        ran = run("--set", f"data.path={path}", "data", "fetch")
        assert (ran.code, said in ran.err, " hint: " in ran.err) == (code, True, True), ran.err


def test_a_bad_line_is_mended_and_the_next_fetch_works(run: Run):
    write("text/a.jsonl", numbered(0, 100))
    with Path("text/a.jsonl").open("a", encoding="utf-8") as file:
        file.write("{torn\n")

    bad = run("--set", "data.path=text", "data", "fetch")
    write("text/a.jsonl", numbered(0, 101))
    good = run("--set", "data.path=text", "data", "fetch")

    assert (bad.code, "text/a.jsonl:101: not JSON" in bad.err) == (3, True)
    assert (good.code, "101 records" in good.out) == (0, True)
    alone(Layout(Path("artifacts"), "main", "main"))
