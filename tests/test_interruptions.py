"""Training that is stopped or killed ends, resumed, in the bits of a run left alone."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from embedctl.checkpoint import files
from embedctl.loading import Loaded
from tests.conftest import options, prepare, state, tiny, train
from tests.test_training import losses


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_a_checkpoint_and_resume_ends_in_the_same_weights(number: int):
    settings = ("training.epochs=15",)
    whole = prepare(*settings, workspace="whole")
    prepare(*settings, workspace="stopped")
    child = subprocess.Popen(
        [sys.executable, "-m", "embedctl", *options(*settings, workspace="stopped"), "train"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    metrics = Path("stopped/runs/main/metrics.jsonl")
    wait_for(lambda: metrics.is_file() and metrics.read_text().count("loss_nats") >= 3, child)
    child.send_signal(number)
    _, error = child.communicate(timeout=60)

    stopped = tiny(*settings, workspace="stopped")
    step = files.head(stopped.layout.checkpoints).step
    assert child.returncode == 128 + number
    assert f"stopped after step {step} of" in error
    assert "embedctl train --resume goes on" in error
    assert step >= 3
    train(stopped, resume=True)
    train(whole)
    assert state(stopped) == state(whole)


def test_killed_without_warning_it_goes_on_from_the_last_checkpoint():
    settings = ("training.epochs=15", "checkpoint.every_steps=3")
    whole = prepare(*settings, workspace="whole")
    killed = prepare(*settings, workspace="killed")
    words = [*options(*settings, workspace="killed"), "train"]
    for _ in range(2):
        child = subprocess.Popen([sys.executable, "-m", "embedctl", *words], stderr=subprocess.PIPE)
        before = _newest(killed)
        wait_for(lambda before=before: _newest(killed) > before + 5, child)
        child.kill()
        child.communicate()
        words = [*words[:-1], "train", "--resume"] if words[-1] == "train" else words

    train(killed, resume=True)
    train(whole)

    assert state(killed) == state(whole)
    assert losses(killed) == losses(whole)


def _newest(loaded: Loaded) -> int:
    return max((int(path.name[5:]) for path in loaded.layout.checkpoints.glob("step-*")), default=0)


def wait_for(ready, child: "subprocess.Popen", seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
