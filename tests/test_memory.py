"""Readings of memory: NVML as cards and drivers really answer, the host, and a beat that does not stack up."""

import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from embedctl.memory import gpus, host
from embedctl.memory.beat import beat
from embedctl.memory.gpus import Nvml, read_gpus
from tests.conftest import Run

GIB = 2**30


class NVMLError(Exception):
    """As pynvml's own."""


def fake_nvml(*cards: dict[str, Any]) -> SimpleNamespace:
    """NVML with ``cards``; what a card does not have raises, as the library does."""

    def ask(name: str) -> Any:
        def call(handle: dict[str, Any], *_: object) -> Any:
            if name not in handle:
                raise NVMLError("Not Supported")
            return handle[name]

        return call

    names = (
        "nvmlDeviceGetName", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetTemperature", "nvmlDeviceGetComputeRunningProcesses",
    )  # fmt: skip
    return SimpleNamespace(
        NVMLError=NVMLError,
        NVML_TEMPERATURE_GPU=0,
        nvmlDeviceGetCount=lambda: len(cards),
        nvmlDeviceGetHandleByIndex=lambda index: cards[index],
        **{name: ask(name) for name in names},
    )


BIG = {
    "nvmlDeviceGetName": "NVIDIA H200",
    "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=129 * GIB, total=141 * GIB),
    "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=97, memory=40),
    "nvmlDeviceGetPowerUsage": 654_321,
    "nvmlDeviceGetTemperature": 61,
    "nvmlDeviceGetComputeRunningProcesses": [
        SimpleNamespace(pid=os.getpid(), usedGpuMemory=100 * GIB),
        # Inside a container the driver does not say how much.
        SimpleNamespace(pid=2**22 + 1, usedGpuMemory=None),
    ],
}
SHARED = {"nvmlDeviceGetName": b"NVIDIA GB10"}


def test_a_card_says_what_it_knows_and_never_zero_for_unknown() -> None:
    big, shared = read_gpus(fake_nvml(BIG, SHARED))
    assert (big.name, big.memory_used_bytes, big.utilization_percent, big.power_watts) == (
        "NVIDIA H200", 129 * GIB, 97, 654.321,
    )  # fmt: skip
    assert [(p.pid, p.memory_used_bytes) for p in big.processes] == [(os.getpid(), 100 * GIB), (2**22 + 1, None)]
    assert (shared.index, shared.name) == (1, "NVIDIA GB10")
    assert {shared.memory_used_bytes, shared.memory_total_bytes, shared.power_watts, shared.temperature_celsius} == {
        None
    }


def test_watch_shows_every_card_and_its_processes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import nullcontext

    monkeypatch.setattr(gpus, "open_nvml", lambda: nullcontext(Nvml(fake_nvml(BIG, SHARED), "")))
    done = run("mem", "watch", "--once")
    assert (done.code, done.err) == (0, "")
    for shown in (
        "NVIDIA H200",
        "129.0 GiB of 141.0 GiB",
        "91%",
        "97 %",
        "654",
        f"{os.getpid()}   python",
        "100.0 GiB",
        str(2**22 + 1),
        "host",
    ):
        assert shown in done.out, shown
    assert "shared with the host" in done.out
    read = json.loads(run("--json", "mem", "watch", "--once").out)
    assert read["gpus"][0]["processes"] == [
        {"pid": os.getpid(), "memory_used_bytes": 100 * GIB},
        {"pid": 2**22 + 1, "memory_used_bytes": None},
    ]


def test_without_a_driver_it_says_so_once_and_shows_the_host(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    def fail() -> None:
        raise pynvml.NVMLError_LibraryNotFound

    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    done = run("mem", "watch", "--once")
    assert (done.code, done.err.count("no GPU to watch")) == (0, 1)
    assert "host" in done.out and "python" in done.out
    assert json.loads(run("--json", "-q", "mem", "watch", "--once").out)["gpus"] == []


def test_nvml_is_closed_after_use(monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    calls: list[str] = []
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: calls.append("init"))
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: calls.append("shutdown"))
    with pytest.raises(RuntimeError), gpus.open_nvml() as nvml:
        assert nvml.library is pynvml
        raise RuntimeError
    assert calls == ["init", "shutdown"]


def test_the_host_is_the_machine_or_the_limit_of_the_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    here = host.read_host(processes=3)
    assert 0 < here.memory_used_bytes < here.memory_total_bytes
    assert len(here.processes) == 3
    sizes = [p.rss_bytes for p in here.processes]
    assert sizes == sorted(sizes, reverse=True)
    (tmp_path / "max").write_text(f"{GIB}\n")
    (tmp_path / "now").write_text(f"{GIB // 4}\n")
    monkeypatch.setattr(host, "_CGROUP_FILES", ((str(tmp_path / "max"), str(tmp_path / "now")),))
    assert (host.read_host().memory_total_bytes, host.read_host().memory_used_bytes) == (GIB, GIB // 4)
    (tmp_path / "max").write_text("max\n")
    assert host.read_host().memory_total_bytes == here.memory_total_bytes


def test_a_processs_own_memory_is_what_it_holds() -> None:
    before = host.process_rss_bytes()
    held = bytearray(os.urandom(1)) * (64 * 2**20)
    assert 60 * 2**20 < host.process_rss_bytes() - before < 80 * 2**20
    assert len(held)


def test_a_slow_reading_shortens_the_wait_and_never_stacks_up() -> None:
    clock = SimpleNamespace(now=0.0, slept=[])
    costs = iter([0.25, 1.5, 0.0])

    def read() -> float:
        clock.now += next(costs)
        return clock.now

    def sleep(seconds: float) -> None:
        clock.slept.append(seconds)
        clock.now += seconds

    readings = beat(read, 1.0, now=lambda: clock.now, sleep=sleep)
    assert [next(readings) for _ in range(3)] == [0.25, 2.5, 2.5]
    assert clock.slept == [0.75, 0.0]


def test_json_is_one_object_a_line_until_ctrl_c() -> None:
    watching = subprocess.Popen(
        [sys.executable, "-m", "embedctl", "--json", "-q", "mem", "watch", "--interval", "0.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout
    lines = [watching.stdout.readline() for _ in range(3)]
    time.sleep(0.05)
    watching.send_signal(signal.SIGINT)
    _, err = watching.communicate(timeout=20)
    assert all(json.loads(text)["host"]["memory_total_bytes"] > 0 for text in lines)
    assert (watching.returncode, "Traceback" in err) == (130, False)
