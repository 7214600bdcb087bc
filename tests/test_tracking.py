"""Trackers: W&B and TensorBoard hold one run over a resume, and no secret."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import options, prepare
from tests.test_training import losses


def scalars(folder: Path, name: str) -> list:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return found.Scalars(name)


def test_wandb_offline_tracks_without_a_key_and_holds_no_secret(monkeypatch: pytest.MonkeyPatch):
    loaded = prepare("training.wandb_project=demo", "training.tensorboard=true", "training.epochs=1")
    monkeypatch.setenv("PINECONE_API_KEY", "pc-canary-4711")
    environment = {**os.environ, "PINECONE_API_KEY": "pc-canary-4711"}
    words = [*options("training.wandb_project=demo", "training.tensorboard=true", "training.epochs=1"), "train"]

    for more in (("--max-steps", "3"), ("--resume",)):
        ran = subprocess.run(
            [sys.executable, "-m", "embedctl", *words, *more], env=environment, capture_output=True, timeout=100
        )
        assert ran.returncode == 0, ran.stderr

    folder = loaded.layout.run_folder
    # Both parts are of one run.
    kept = [path.stem for path in folder.glob("wandb/offline-run-*/run-*.wandb")]
    assert len(kept) == 2
    assert len(set(kept)) == 1
    steps = [event.step for event in scalars(folder / "tensorboard", "loss_nats")]
    assert steps == list(range(1, len(losses(loaded)) + 1))
    kept = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"canary" not in kept
    assert not list(Path().glob("wandb"))
