"""Fetching into the corpus: limits, sources, kills, growth. Whatever happened before, the result is the same."""

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedctl.artifacts import folder as folders
from embedctl.artifacts import manifest
from embedctl.artifacts.layout import Layout
from embedctl.artifacts.outcome import Outcome
from embedctl.data import corpus
from embedctl.data.records import Record
from embedctl.data.streams import size_of
from embedctl.loading import load
from embedctl.settings import DataSettings, NamedSourceSettings
from tests.conftest import Run

LAYOUT = Layout(Path("ws"), "main", "main")
Rows = Mapping[str, Mapping[str, Any]]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "PART_BYTES", 2000)


def write(path: str | Path, rows: Rows) -> None:
    """A .jsonl file of ``rows``: id -> fields."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"id": name, **row}) + "\n" for name, row in rows.items())
    file.write_text("".join(lines), encoding="utf-8")


def numbered(first: int, end: int, word: str = "text") -> dict[str, dict[str, str]]:
    return {f"r{n}": {"text": f"{word} {n} " * 20} for n in range(first, end)}


def fetch(layout: Layout = LAYOUT, *, fresh: bool = False, seed: int = 0, **values: Any) -> Outcome:
    chosen = values if "sources" in values or "path" in values else {"path": Path("text"), **values}
    return corpus.fetch(DataSettings(**chosen), layout, seed=seed, fresh=fresh)


def records(layout: Layout = LAYOUT) -> list[Record]:
    return list(corpus.read_records(layout.corpus))


def files(folder: Path) -> dict[str, bytes]:
    """Every file of an artifact, hidden ones included."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def alone(layout: Layout) -> None:
    """Nothing lies beside the corpus, and nothing in it that its manifest does not know."""
    assert [path.name for path in layout.corpus.parent.iterdir()] == [layout.corpus.name]
    found = manifest.read_verified(layout.corpus, "corpus")
    assert {*found.files, manifest.FILE} == set(files(layout.corpus))


def two(**limits: Any) -> dict[str, Any]:
    one = NamedSourceSettings(name="one", path=Path("one"), weight=3)
    return {"sources": (one, NamedSourceSettings(name="two", path=Path("two"))), **limits}


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


# Kills

TWICE = """
[[data.sources]]
name = "one"
path = "one"
weight = 3
max_bytes = 15_000
[[data.sources]]
name = "two"
path = "two"
sample_percent = 60.0
"""
SMALL = """
from pathlib import Path
from embedctl.data import corpus
from embedctl.loading import load
corpus.PART_BYTES = 20_000
loaded = load(None, workspace=Path("ws"))
print("ready", flush=True)
corpus.fetch(loaded.settings.data, loaded.layout)
"""


class Killed(BaseException):
    """As if the process had ended here: nothing is put in order."""


KillAt = Callable[[int], None]


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> KillAt:
    """Die at the n-th act on the disk from now on; 0: never."""
    left = [0]

    def dying(function: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
        def act(*words: Any) -> Any:
            left[0] -= 1
            dies = left[0] == 0
            if dies and not after:
                raise Killed
            result = function(*words)
            if dies:
                raise Killed
            return result

        return act

    acts = {"write_file": folders.write_file, "put_in_place": folders.put_in_place, "sync": lambda path: None}
    for name, function in (*acts.items(), ("remove_if_there", folders.remove_if_there)):
        monkeypatch.setattr(folders, name, dying(function, after=name == "write_file"))
    monkeypatch.setattr(os, "fsync", lambda handle: None)

    def arm(acts: int) -> None:
        left[0] = acts

    return arm


def fetch_here(layout: Layout) -> None:
    corpus.fetch(load(None).settings.data, layout)


def begin(kind: str, layout: Layout) -> None:
    """What is to be fetched: a first corpus, or one that has grown, with limits, a sample and a long record."""
    Path("config.toml").write_text(TWICE if kind == "grown" else '[data]\npath = "text"\n')
    write("text/a.jsonl", numbered(0, 40))
    Path("text/b.txt").write_bytes(b"\x7fELF\0\0\0")
    write("text/c.jsonl", numbered(40, 60))
    if kind == "grown":
        write("one/a.jsonl", numbered(0, 45))
        write("two/a.jsonl", numbered(0, 60))
        fetch_here(layout)
        write("one/a.jsonl", {**numbered(0, 80, "new"), "big": {"text": "b" * 9000}, **numbered(80, 90)})
        write("two/a.jsonl", {**numbered(0, 50), **numbered(70, 90)})


def committed(layout: Layout) -> dict[str, tuple[int, int]]:
    """The files of the parts that steps are noted for."""
    here = layout.corpus.parent
    noted = [json.loads(step.read_bytes().partition(b"\n")[0]) for step in here.glob(".main.steps/step-*")]
    parts = [here / ".main.partial" / f"{step['part']}.parquet" for step in noted if step["part"]]
    return {part.name: identity(part) for part in parts if part.is_file()}


def identity(file: Path) -> tuple[int, int]:
    return file.stat().st_ino, file.stat().st_mtime_ns


@pytest.mark.parametrize("kind", ["new", "grown"])
def test_dead_at_any_act_and_run_again_the_corpus_is_that_of_a_fetch_left_alone(kind: str, kill_at: KillAt):
    whole = Layout(Path("whole"), "main", "main")
    begin(kind, whole)
    fetch_here(whole)

    deaths, kept = 0, 0
    for acts in range(1, 400):
        layout = Layout(Path(f"ws{acts}"), "main", "main")
        begin(kind, layout)
        done = {}
        try:
            kill_at(acts)
            fetch_here(layout)
            break
        except Killed:
            deaths += 1
            kill_at(0)
            done = committed(layout)
        with contextlib.suppress(Killed):  # and once more on the way
            kill_at(9)
            fetch_here(layout)
        kill_at(0)
        fetch_here(layout)
        assert files(layout.corpus) == files(whole.corpus), acts
        alone(layout)
        finished = {name: identity(layout.corpus / name) for name in done}
        assert finished == done, acts
        kept = max(kept, len(done))
    assert deaths > 30
    assert kept >= 3


def test_killed_for_real_again_and_again_it_ends_as_if_left_alone():
    write("one/a.jsonl", {f"a{n}": {"text": f"text {n} " * 30} for n in range(4000)})
    write("two/a.jsonl", {f"b{n}": {"text": f"more {n} " * 50} for n in range(2000)})
    write("two/b.jsonl", numbered(0, 50))
    Path("config.toml").write_text(TWICE.replace("max_bytes = 15_000\n", ""))
    driver = [sys.executable, "-c", SMALL]
    began = time.monotonic()
    subprocess.run(driver, check=True, capture_output=True)
    took = time.monotonic() - began
    whole = files(LAYOUT.corpus)
    Path("ws").rename("whole")

    chance, done = random.Random(7), dict[str, tuple[int, int]]()
    for _ in range(4):
        with subprocess.Popen(driver, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
            assert running.stdout
            assert running.stdout.readline() == "ready\n"
            time.sleep(chance.uniform(0.1, took / 3))
            running.kill()
        if LAYOUT.corpus.exists():
            break
        now = committed(LAYOUT)
        assert done.items() <= now.items()
        done = now
    subprocess.run(driver, check=True, capture_output=True)

    assert files(LAYOUT.corpus) == whole
    assert done
    assert {name: identity(LAYOUT.corpus / name) for name in done} == done
    alone(LAYOUT)


def test_damage_and_strays_of_a_killed_run_do_not_reach_the_corpus(kill_at: KillAt):
    begin("new", LAYOUT)
    with contextlib.suppress(Killed):
        kill_at(25)
        fetch_here(LAYOUT)
    kill_at(0)
    partial = Path("ws/corpus/.main.partial")
    (first, *_) = sorted(name.removesuffix(".parquet") for name in committed(LAYOUT))
    note = (partial / f"{first}.shard.json").read_text()
    (partial / "part-00099.shard.json").write_text(note.replace(first, "part-00099"))
    (partial / "part-00099.parquet").write_bytes((partial / f"{first}.parquet").read_bytes())
    (partial / f"{first}.parquet").write_bytes(b"torn")
    (partial / "part-00098.parquet").write_bytes(b"torn before it was noted")
    fetch_here(LAYOUT)
    fetch_here(Layout(Path("whole"), "main", "main"))

    assert files(LAYOUT.corpus) == files(Path("whole/corpus/main"))


# What goes wrong


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
