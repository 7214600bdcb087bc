"""A corpus that grows: what is the same stays as it is, and the whole is what a fresh fetch would give."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedctl.artifacts.layout import Layout
from embedctl.data import corpus, streams
from embedctl.data.records import Record
from embedctl.settings import DataSettings
from tests.corpora import LAYOUT, alone, fetch, numbered, records, small_parts, write

__all__ = ["small_parts"]  # a fixture

# Growth


def test_what_is_the_same_stays_the_same_file_and_only_the_rest_is_written():
    write("text/a.jsonl", numbered(0, 100))
    fetch()
    before = {part.name: part.stat().st_ino for part in corpus.parts_of(LAYOUT.corpus)}
    write("text/a.jsonl", {**numbered(0, 99), "r99": {"text": "other"}, **numbered(100, 103)})
    made = fetch()

    after = {part.name: part.stat().st_ino for part in corpus.parts_of(LAYOUT.corpus)}
    same = {name for name in before if after[name] == before[name]}
    assert same == set(before) - {max(before)}
    assert set(after) - set(before) == {f"part-{len(before):05d}.parquet"}
    counts = {name: made.manifest.facts[f"{name}_records"] for name in ("new", "changed", "gone")}
    assert counts == {"new": 3, "changed": 1, "gone": 0}
    alone(LAYOUT)


def test_records_that_are_gone_vanish_and_fresh_writes_in_the_order_of_the_source():
    write("text/a.jsonl", numbered(0, 60))
    fetch()
    rows = {**numbered(200, 205), **numbered(10, 60)}
    write("text/a.jsonl", rows)

    grown = fetch().manifest
    assert [r.id for r in records()] == [*(f"r{n}" for n in range(10, 60)), *(f"r{n}" for n in range(200, 205))]
    assert (grown.facts["new_records"], grown.facts["gone_records"]) == (5, 10)
    fresh = fetch(fresh=True).manifest
    assert [r.id for r in records()] == list(rows)
    assert "new_records" not in fresh.facts
    assert fresh.fingerprint == grown.fingerprint
    alone(LAYOUT)


def test_another_reading_of_the_source_begins_anew():
    write("text/a.jsonl", {f"r{n}": {"text": "old", "body": f"b {n}"} for n in range(5)})
    fetch()

    made = fetch(text_field="body")

    assert [r.text for r in records()] == [f"b {n}" for n in range(5)]
    assert "new_records" not in made.manifest.facts


def test_another_reader_makes_what_was_fetched_stale_and_begins_anew(monkeypatch: pytest.MonkeyPatch):
    write("text/a.jsonl", numbered(0, 5))
    fetch()
    before = corpus.recipe_of(DataSettings(path=Path("text")))
    monkeypatch.setattr(streams, "FORMAT", streams.FORMAT + 1)

    made = fetch()

    assert corpus.recipe_of(DataSettings(path=Path("text"))) != before
    assert (made.made, "new_records" in made.manifest.facts) == (True, False)


def test_nothing_is_built_on_a_corpus_that_is_damaged():
    write("text/a.jsonl", numbered(0, 60))
    fetch()
    part = corpus.parts_of(LAYOUT.corpus)[0]
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    write("text/a.jsonl", numbered(0, 61))

    made = fetch()

    assert "new_records" not in made.manifest.facts
    assert [r.id for r in records()] == [f"r{n}" for n in range(61)]
    alone(LAYOUT)


def test_a_touched_file_changes_nothing():
    write("text/a.jsonl", numbered(0, 5))
    fetch()
    os.utime("text/a.jsonl", (1, 1))

    assert not fetch().made


def test_a_higher_limit_adds_and_a_lower_one_takes_away():
    write("text/a.jsonl", numbered(0, 50))
    fetch(max_records=20)
    first = corpus.parts_of(LAYOUT.corpus)[0].stat().st_ino

    assert fetch(max_records=40).manifest.facts["new_records"] == 20
    assert corpus.parts_of(LAYOUT.corpus)[0].stat().st_ino == first
    assert fetch(max_records=10).manifest.facts["gone_records"] == 30
    assert [r.id for r in records()] == [f"r{n}" for n in range(10)]


STATES = st.lists(
    st.dictionaries(st.integers(0, 40), st.integers(0, 2), min_size=1, max_size=40), min_size=2, max_size=5
)


@settings(max_examples=40, deadline=None)
@given(states=STATES, limit=st.sampled_from([0, 0, 15]))
def test_a_grown_corpus_holds_what_a_fresh_one_would(
    tmp_path_factory: pytest.TempPathFactory, states: list[dict[int, int]], limit: int
):
    root = tmp_path_factory.mktemp("grown")
    before: dict[str, Record] = {}
    for number, state in enumerate(states):
        rows = {f"r{n}": {"text": f"{n} {version} " * 30} for n, version in state.items()}
        write(root / "text/a.jsonl", rows)
        grown = fetch(Layout(root / "ws", "main", "main"), path=root / "text", max_records=limit)
        fetch(Layout(root / f"fresh{number}", "main", "main"), path=root / "text", max_records=limit)

        found = {r.id: r for r in records(Layout(root / "ws", "main", "main"))}
        assert found == {r.id: r for r in records(Layout(root / f"fresh{number}", "main", "main"))}
        alone(Layout(root / "ws", "main", "main"))
        if number and grown.made:
            facts = grown.manifest.facts
            assert facts["new_records"] == len(found.keys() - before.keys())
            assert facts["gone_records"] == len(before.keys() - found.keys())
            assert facts["changed_records"] == sum(before[i] != found[i] for i in found.keys() & before.keys())
            assert facts["records"] == len(found)
        before = found
