"""Faults from outside, in every command: a full disk, a busy folder, a signal, a missing network. Nothing is lost."""

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import embedctl
from embedctl.artifacts import manifest
from embedctl.artifacts.folder import lock
from embedctl.checkpoint import files
from tests.conftest import TINY, Run, options, prepare, state, tiny, train, write_corpus

PACKAGE = str(Path(embedctl.__file__).parent) + os.sep
# Each command that writes an artifact, with what makes it due again in a finished project.
WRITERS: dict[str, tuple[str, ...]] = {
    "data fetch": ("data.max_records=50",),
    "data validate": ("validation.min_characters=2",),
    "data tokenize": ("tokens.vocabulary_size=500",),
    "train": ("training.temperature=0.1",),
    "eval": ("evaluation.recall_at=[5]",),
    "embed generate": ("embedding.dtype=float16",),
    "embed upsert": ("store.collection=other",),
    "embed export --format parquet": (),
    "model export": (),
}
SEARCH = "embed search falcon"
# Written by code of PyTorch, which has its own way with a full disk.
GRAPHS = ("model export --format onnx", "model export --format torchscript")


def artifacts(workspace: Path) -> dict[str, str]:
    """The content of every file that is not a lock, a log, the ledger's or the cache's own, nor still growing."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(workspace.rglob("*"))
        if path.is_file() and not {".locks", "ledger", "cache"} & set(path.parts) and ".partial" not in str(path)
    }


def command(words: str, *settings: str) -> list[str]:
    return [sys.executable, "-m", "embedctl", *options(*settings), *words.split()]


def whole(workspace: Path, run: Run) -> None:
    """All artifacts verify, and no half-written folder stands under a real name."""
    assert not [p for p in workspace.rglob("*.partial") if not p.name.startswith(".")]
    rows = json.loads(run("--json", *options(), "checkpoint", "list").out)
    assert rows and not any(row["damaged"] for row in rows)


@pytest.mark.parametrize("words", [*WRITERS, *GRAPHS])
def test_a_full_disk_ends_with_9_and_loses_nothing(finished: Path, run: Run, words: str) -> None:
    # A file may not grow beyond this, which is how a full disk looks to whoever writes.
    def small() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))

    before = artifacts(finished)
    done = subprocess.run(
        command(words, *WRITERS.get(words, ())), preexec_fn=small, capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, "Traceback" in done.stderr) == (9, False), done.stderr
    assert "larger than the system allows" in done.stderr or "the ledger cannot be written" in done.stderr
    left = artifacts(finished)
    # A new training run sets the old one aside, whole.
    kept = {path.replace("runs/main.old-1", "runs/main"): content for path, content in left.items()}
    assert {path: kept.get(path) for path in before} == before
    again = run(*options(*WRITERS.get(words, ())), *words.split())
    assert again.code == 0, again.err
    whole(finished, run)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="mounting needs root")
def test_a_really_full_file_system_ends_with_9_and_goes_on_after_space_is_made(tmp_path: Path, run: Run) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1600k", "tmpfs", small], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine does not mount")
    try:
        write_corpus(Path("text"))
        settings = ("training.epochs=6", "checkpoint.every_steps=2", "checkpoint.keep_last=50")
        words = [sys.executable, "-m", "embedctl", "-q", *options(*settings, workspace=str(small)), "run"]
        full = subprocess.run(words, capture_output=True, text=True, timeout=100)
        assert (full.returncode, "the disk is full" in full.stderr) == (9, True), full
        saved = files.scan(tiny(workspace=str(small)).layout.checkpoints)
        assert saved and all(c.step % 2 == 0 for c in saved)
        subprocess.run(["mount", "-o", "remount,size=64m", small], check=True)
        assert subprocess.run(words, capture_output=True, timeout=100).returncode == 0
        plain = prepare("training.epochs=6", workspace="plain")
        train(plain)
        assert state(tiny(workspace=str(small))) == state(plain)
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.parametrize("words", WRITERS)
def test_a_second_writer_is_refused_with_10_and_told_who_the_first_is(finished: Path, run: Run, words: str) -> None:
    layout = tiny().layout
    guards: dict[str, Path] = {
        "data fetch": layout.lock(layout.corpus),
        "data validate": layout.lock(layout.validation),
        "data tokenize": layout.lock(layout.tokens),
        "train": layout.lock(layout.run_folder),
        "eval": layout.lock(layout.evaluation),
        "embed generate": layout.lock(layout.vectors),
        "embed upsert": layout.root / ".locks" / "store-lancedb.lock",
    }
    if words not in guards:
        guards[words] = layout.lock(layout.exports)
    before = artifacts(finished)
    with lock(guards[words]):
        done = run(*options(*WRITERS[words]), *words.split())
    assert (done.code, f"process {os.getpid()}" in done.err) == (10, True), done.err
    assert artifacts(finished) == before


@pytest.mark.parametrize("words", [*WRITERS, SEARCH, "run", "status", "doctor", "checkpoint list", "config show"])
def test_a_signal_at_any_time_ends_the_command_and_loses_nothing(finished: Path, run: Run, words: str) -> None:
    settings = WRITERS.get(words, ())
    for delay, number in ((0.05, signal.SIGINT), (0.3, signal.SIGINT), (0.7, signal.SIGTERM), (1.2, signal.SIGINT)):
        before = artifacts(finished)
        running = subprocess.Popen(command(words, *settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(delay)
        running.send_signal(number)
        _, err = running.communicate(timeout=60)
        # On a busy machine the signal may come while Python itself starts, which tells that in its own way.
        if "Fatal Python error: init_import_site" in err:
            continue
        assert "Traceback" not in err or (running.returncode == -number and PACKAGE not in err), err
        # Before the program has taken the signal over, the system ends it; or it was done before the signal came.
        assert running.returncode in (128 + number, -number, 0, 2 if words == "train" else 0), err
        if running.returncode == 0:
            break
        if words != "train":
            # Nothing is gone, and what was made anew before the signal came was made whole.
            assert set(artifacts(finished)) >= set(before)
            for note in finished.rglob("manifest.json"):
                kind = json.loads(note.read_text(encoding="utf-8"))["kind"]
                manifest.read_verified(note.parent, kind)
    resume = words == "train" and json.loads(run("--json", *options(*settings), "status").out)[3]["state"]
    again = run(*options(*settings), *words.split(), *(["--resume"] if resume == "unfinished" else []))
    assert again.code == 0, again.err
    whole(finished, run)


def test_nohup_is_respected() -> None:
    program = (
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from embedctl.errors import stopping_signals; print([s.name for s in stopping_signals()])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "['SIGINT', 'SIGTERM']"


def test_without_a_network_nothing_but_the_hub_and_pinecone_is_missed(run: Run) -> None:
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode:
        pytest.skip("this machine does not take the network away")
    write_corpus(Path("text"))
    offline: Callable[..., subprocess.CompletedProcess[str]] = lambda *words: subprocess.run(  # noqa: E731
        ["unshare", "-rn", *words], capture_output=True, text=True, timeout=100
    )
    done = offline(*command("run", "training.wandb_project=mine"))
    assert done.returncode == 0, done.stderr
    assert offline(*command(SEARCH)).returncode == 0
    hub = offline(*command("data fetch", "data.source=pubmedqa", "data.path="))
    assert (hub.returncode, "cannot be reached" in hub.stderr) == (6, True), hub.stderr


def test_binary_files_are_no_text(run: Run) -> None:
    Path("text").mkdir()
    Path("text", "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + os.urandom(100))
    done = run(*options(), "run")
    assert (done.code, "Traceback" in done.err) == (3, False)
    assert ".jsonl" in done.err


def test_the_settings_of_these_tests_reach_the_commands() -> None:
    for settings in WRITERS.values():
        assert tiny(*settings).settings != tiny().settings or not settings
    assert TINY
