"""A fetch that is killed and run again: the bytes are those of a fetch left alone."""

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embedctl.artifacts import folder as folders
from embedctl.artifacts.layout import Layout
from embedctl.data import corpus
from embedctl.loading import load
from tests.corpora import LAYOUT, alone, files, numbered, small_parts, write

__all__ = ["small_parts"]  # a fixture

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

    def steps() -> list[Path]:
        return list(LAYOUT.corpus.parent.glob(".main.steps/step-*"))

    chance, done = random.Random(7), dict[str, tuple[int, int]]()
    for _ in range(4):
        with subprocess.Popen(driver, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
            assert running.stdout
            assert running.stdout.readline() == "ready\n"
            # However slow the machine is, it gets somewhat farther each time.
            before = len(steps())
            while len(steps()) == before and running.poll() is None:
                time.sleep(0.002)
            time.sleep(chance.uniform(0, took / 6))
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
