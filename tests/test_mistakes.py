"""Mistakes in settings and on the machine: told as what they are, with the place, and never as a bug."""

import json
import os
import subprocess
import sys
import threading
import tomllib
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace

import pytest

from embedctl.cli.faults import translate
from embedctl.errors import OutOfMemory
from embedctl.loading import load
from embedctl.memory.gpus import read_gpus
from embedctl.template import config_text
from tests.conftest import Run, options, prepare, train


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("training: {1: 2}\n", "1 is no name of a setting"),
        ("yes: {}\n", "True is no name"),
        ("project: {run: 2024-02-30}\n", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
        ("training: &a\n  x: *a\n", "not valid YAML"),
    ],
)
def test_odd_yaml_is_named(run: Run, text: str, said: str):
    Path("config.yaml").write_text(text)

    ran = run("config", "check")

    assert (ran.code, said in ran.err) == (2, True)


def test_lists_that_are_no_json_are_named_in_the_environment_and_in_its_file(run: Run, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setenv("EMBEDCTL_EVALUATION__RECALL_AT", "1,10")
        told = run("config", "check"), run("doctor")
    Path(".env").write_text("EMBEDCTL_EVALUATION__RECALL_AT=1,10\n")
    of_file = run("config", "check")

    assert [ran.code for ran in (*told, of_file)] == [2, 0, 2]
    assert "environment: a value of evaluation" in told[0].err
    assert ".env: a value of evaluation" in of_file.err


def test_homes_and_names_that_cannot_be_are_told(run: Run):
    for key in ("data.path", "model.init_from", "embedding.model"):
        assert run("--set", f"{key}=~nosuchuser/x", "config", "check").code == 2
    Path("config.toml").write_text("x = " + "[" * 5000)
    assert run("config", "check").code == 2
    Path("config.toml").unlink()
    assert run("--set", f"project.name={'a' * 300}", "data", "fetch").code == 2


def test_a_config_with_any_sign_is_toml_again():
    settings = load(overrides=['tokens.query_prompt=🙂 \x7f "a\\b" ü']).settings

    again = tomllib.loads(config_text(settings))

    assert again["tokens"]["query_prompt"] == settings.tokens.query_prompt


def test_want_of_memory_is_told_as_that():
    for fault in (OSError(12, "Cannot allocate memory"), BrokenProcessPool("a child process terminated abruptly")):
        assert isinstance(translate(fault), OutOfMemory)


def test_status_shows_what_there_is_beside_what_cannot_be_read(run: Run):
    loaded = prepare()
    train(loaded, max_steps=1)
    (loaded.layout.tokens / "manifest.json").write_bytes(b"")

    torn = run(*options(), "status")
    unmined = run(*options("training.hard_negatives=2"), "--json", "status")

    assert (torn.code, "damaged" in torn.out) == (0, True)
    assert (unmined.code, {row["kind"] for row in json.loads(unmined.out)} > {"checkpoint"}) == (0, True)


def test_a_gpu_that_fell_off_the_bus_hides_no_other():
    class NVMLError(Exception):
        pass

    def handle(index: int) -> int:
        if index == 0:
            raise NVMLError("GPU is lost")
        return index

    def missing(*_: object) -> None:
        raise NVMLError("Not Supported")

    names = ("MemoryInfo", "UtilizationRates", "PowerUsage", "Temperature", "ComputeRunningProcesses")
    nvml = SimpleNamespace(
        NVMLError=NVMLError,
        NVML_TEMPERATURE_GPU=0,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=handle,
        nvmlDeviceGetName=lambda handle: f"card {handle}",
        **{f"nvmlDeviceGet{name}": missing for name in names},
    )

    assert [gpu.name for gpu in read_gpus(nvml)] == ["unknown", "card 1"]
    nvml.nvmlDeviceGetCount = missing
    assert read_gpus(nvml) == []


def test_readings_reach_a_pipe_as_they_are_made():
    words = [sys.executable, "-m", "embedctl", "--json", "mem", "watch", "--interval", "60"]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=env, text=True) as process:
        assert process.stdout is not None
        late = threading.Timer(30, process.kill)
        late.start()
        first = process.stdout.readline()
        late.cancel()
        process.terminate()

    assert "host" in json.loads(first)
