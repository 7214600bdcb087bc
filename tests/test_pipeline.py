"""``run`` and ``status``: what is up to date is left alone, what is not says why, and a cut run is finished."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from embedctl.checkpoint import files
from tests.conftest import TINY, Run, options, prepare, state, tiny, train, write_corpus

STEPS = ("corpus", "validation", "tokens", "checkpoint", "evaluation", "vectors", "store")


def states(run: Run, *more: str) -> dict[str, tuple[str, str]]:
    """(state, why) of each artifact as ``status`` tells them."""
    rows: list[dict[str, Any]] = json.loads(run("--json", *options(*more), "status").out)
    return {row["kind"]: (row["state"], row["why"]) for row in rows}


def times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("manifest.json"))}


def test_run_does_the_whole_job_and_the_second_time_nothing(run: Run) -> None:
    write_corpus(Path("text"))
    assert {state for state, _ in states(run).values()} == {"missing"}
    first = run(*options(), "run")
    assert first.code == 0, first.err
    for shown in (
        "fetch",
        "upsert",
        "60 records",
        "vectors/main",
        "main.lance",
        "runs/main",
        "recall@10",
        "BM25",
        "before training",
    ):
        assert shown in first.out, shown
    assert "embed search" in first.out
    assert set(states(run).values()) == {("up to date", "")}
    before = times(Path("ws"))
    second = run("--json", *options(), "run")
    told = json.loads(second.out)
    assert [step["made"] for step in told["steps"]] == [False] * 6
    assert (told["upsert"]["written"], times(Path("ws"))) == (0, before)
    assert "everything is up to date" in run(*options(), "status").out


@pytest.mark.parametrize(
    ("setting", "stale"),
    [
        ("store.collection=other", {"store": "missing"}),
        ("embedding.dtype=float16", {"vectors": "dtype", "store": "vectors"}),
        ("evaluation.recall_at=[5]", {"evaluation": "recall_at"}),
        ("training.temperature=0.1", {"checkpoint": "temperature"}),
        ("tokens.max_tokens=40", {"tokens": "max_tokens", "checkpoint": "tokens"}),
        ("data.held_percent=30", {"validation": "held_percent", "tokens": "held_percent"}),
        ("validation.min_characters=3", {"validation": "min_characters", "tokens": "validation"}),
        ("data.max_records=50", {"corpus": "max_records", "validation": "corpus"}),
    ],
)
def test_status_names_what_a_changed_setting_makes_stale(
    finished: Path, run: Run, setting: str, stale: dict[str, str]
) -> None:
    found = states(run, setting)
    first = next(iter(stale))
    behind = [kind for kind in STEPS if found[kind][0] != "up to date"]
    assert behind[0] == first
    for kind in STEPS[: STEPS.index(first)]:
        assert found[kind] == ("up to date", "")
    for kind, why in stale.items():
        assert why in found[kind][0] + found[kind][1], (kind, found[kind])
    if first not in ("evaluation", "store"):
        assert found["store"][0] == "stale"


def test_a_changed_setting_is_made_good_by_run_and_only_from_there_on(run: Run) -> None:
    write_corpus(Path("text"))
    assert run(*options(), "run").code == 0
    told = json.loads(run("--json", *options("training.temperature=0.1"), "run").out)
    assert [step["step"] for step in told["steps"] if step["made"]] == ["train", "eval", "embed"]
    assert told["upsert"]["written"] > 0
    assert Path("ws", "runs", "main.old-1").is_dir()
    assert set(states(run, "training.temperature=0.1").values()) == {("up to date", "")}


def test_changed_text_is_seen(run: Run) -> None:
    write_corpus(Path("text"), 40)
    assert run(*options(), "run").code == 0
    write_corpus(Path("text"), 41)
    assert states(run)["corpus"][0] == "stale"
    assert run(*options(), "run").code == 0
    assert set(states(run).values()) == {("up to date", "")}


def test_an_unfinished_run_is_gone_on_with_to_the_same_weights(run: Run) -> None:
    whole = prepare(workspace="whole")
    train(whole)
    part = prepare(workspace="ws")
    train(part, max_steps=3)
    assert states(run)["checkpoint"][0] == "unfinished"
    assert run(*options(), "run").code == 0
    assert state(part) == state(whole)


def test_a_killed_run_is_finished_by_the_next(run: Run) -> None:
    write_corpus(Path("text"))
    command = [sys.executable, "-m", "embedctl", "-q", *options("training.epochs=6", "checkpoint.every_steps=2"), "run"]
    for _ in range(2):
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        runs = Path("ws", "runs", "main", "checkpoints")
        known = len(list(runs.glob("*/manifest.json")))
        deadline = time.monotonic() + 60
        while len(list(runs.glob("*/manifest.json"))) <= known and time.monotonic() < deadline:
            assert running.poll() is None
            time.sleep(0.01)
        running.kill()
        assert running.wait(30) == -signal.SIGKILL
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    whole = prepare("training.epochs=6", "checkpoint.every_steps=2", workspace="whole")
    train(whole)
    assert state(tiny("training.epochs=6", "checkpoint.every_steps=2")) != {}
    cut = tiny("training.epochs=6", "checkpoint.every_steps=2", workspace="ws")
    assert state(cut) == state(whole)
    assert set(states(run, "training.epochs=6", "checkpoint.every_steps=2").values()) == {("up to date", "")}


def test_a_restored_head_is_what_is_embedded_and_status_says_so(run: Run) -> None:
    write_corpus(Path("text"))
    assert run(*options(), "run").code == 0
    assert run(*options(), "checkpoint", "restore", "0").code == 0
    found = states(run)
    assert found["checkpoint"] == ("up to date", "head restored to step 0")
    assert found["vectors"][0] == found["evaluation"][0] == found["store"][0] == "stale"


def test_a_damaged_artifact_is_called_so_and_made_again(run: Run) -> None:
    write_corpus(Path("text"))
    assert run(*options(), "run").code == 0
    (Path("ws", "vectors", "main", "manifest.json")).write_text("{", encoding="utf-8")
    assert states(run)["vectors"][0] == "damaged"
    assert run(*options(), "run").code == 0
    assert states(run)["vectors"] == ("up to date", "")


def test_two_runs_share_one_corpus(run: Run) -> None:
    write_corpus(Path("text"))
    assert run(*options(), "run").code == 0
    told = json.loads(run("--json", *options("project.run=wide", "model.dim=48", "store.collection=wide"), "run").out)
    assert [step["step"] for step in told["steps"] if step["made"]] == ["train", "eval", "embed"]
    assert files.scan(tiny().layout.checkpoints)[-1].step == told["steps"][3]["facts"]["step"]


def test_the_settings_of_the_tests_are_settings() -> None:
    assert tiny().settings.training.batch_pairs == 8
    assert len({setting.split("=")[0] for setting in TINY}) == len(TINY)
