"""The upsert is killed, the server lives on: what it holds in the end is exact, and little was sent twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import lancedb
import numpy as np
import pytest

from embedctl.embedding.vectors import matrix
from embedctl.errors import LockedError
from tests.conftest import REPOSITORY, options, tiny
from tests.loopback_pinecone import KEY
from tests.rows import random_batch, write_vectors
from tests.stores import bring


@contextmanager
def apart(*words: str) -> Iterator[str]:
    """The loopback Pinecone as a process of its own; its address."""
    program = [sys.executable, "-m", "tests.loopback_pinecone", *words]
    server = subprocess.Popen(program, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip()
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def asked(url: str, what: str) -> dict:
    with urllib.request.urlopen(f"{url}/{what}") as answer:
        return json.load(answer)


def start(url: str, *settings: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "embedctl", "-q", *options(*settings), "embed", "upsert"]
    environment = {**os.environ, "PINECONE_CONTROLLER_HOST": url, "PINECONE_API_KEY": KEY}
    return subprocess.Popen(words, env=environment)


def test_killed_again_and_again_under_faults_the_store_ends_exact():
    rows = random_batch(3000)
    settings = ("store.kind=pinecone", "store.batch_size=20", "store.timeout_seconds=0.5")
    write_vectors(tiny(*settings).layout, rows)
    with apart("--faults", "0.2", "--latency", "0.005") as url:
        for applied in sorted(random.Random(1).sample(range(100, 2500), 3)):
            running = start(url, *settings)
            while asked(url, "_figures")["applied"] < applied and running.poll() is None:
                time.sleep(0.002)
            running.kill()
            assert running.wait() == -signal.SIGKILL
        assert start(url, *settings).wait() == 0
        found = asked(url, "_dump")

    expected = {
        id_: vector.tobytes().hex() for id_, vector in zip(rows.column("id").to_pylist(), matrix(rows), strict=True)
    }
    assert found["stored"][""] == expected
    assert found["applied"] <= 1.5 * len(rows)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_good_order_with_what_was_taken_noted(number: signal.Signals):
    settings = ("store.kind=pinecone", "store.batch_size=10")
    write_vectors(tiny(*settings).layout, random_batch(3000))
    with apart("--latency", "0.02") as url:
        running = start(url, *settings)
        while asked(url, "_figures")["applied"] < 200:
            time.sleep(0.002)
        running.send_signal(number)
        assert running.wait(timeout=10) == 128 + number
        assert start(url, *settings).wait() == 0
        assert asked(url, "_figures")["sent"] == 3000


SLOW = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background would not hear it
from lancedb.table import LanceTable
from embedctl.store import sending
from tests.conftest import tiny
from tests.stores import bring
real, sending._LANDING_SECONDS = LanceTable.add, 0.1

def add(self, columns):
    print("adding", flush=True)
    time.sleep(1)
    return real(self, columns)

LanceTable.add = add
bring(tiny("store.batch_size=10"))
"""


@pytest.mark.parametrize("signals", [1, 3])
def test_an_upsert_that_is_stopped_adds_nothing_after_the_next_has_begun(signals: int):
    settings = ("store.batch_size=10",)
    loaded = tiny(*settings)
    write_vectors(loaded.layout, random_batch(30))
    # Not the command, which when it is stopped takes its threads with it.
    stopped = subprocess.Popen(
        [sys.executable, "-c", SLOW], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert stopped.stdout is not None
    assert stopped.stdout.readline() == "adding\n"
    for _ in range(signals):
        stopped.send_signal(signal.SIGINT)
        time.sleep(0.2)

    while stopped.poll() is None:
        with suppress(LockedError):
            bring(loaded)

    bring(loaded)
    assert stopped.wait() == -signal.SIGINT
    stopped.stdout.close()
    table = lancedb.connect(str(Path("ws/store"))).open_table("main").to_arrow()
    assert sorted(table.column("id").to_pylist()) == sorted(f"r{n}" for n in range(30))


def test_lancedb_killed_at_random_times_ends_exact():
    rows = random_batch(4000, dim=64)
    settings = ("store.batch_size=100",)
    loaded = tiny(*settings)
    write_vectors(loaded.layout, rows)
    chance, kills = random.Random(2), 0
    for _ in range(3):
        running = start("", *settings)
        while not (loaded.layout.store / "main.lance").exists():
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.5))
        running.kill()
        kills += running.wait() == -signal.SIGKILL
    assert start("", *settings).wait() == 0

    table = lancedb.connect(str(Path("ws/store"))).open_table("main").to_arrow()
    stored = dict(zip(table.column("id").to_pylist(), np.stack(table.column("vector").to_numpy()), strict=True))
    assert kills
    assert len(table) == len(stored) == 4000
    assert all(
        np.array_equal(stored[id_], v) for id_, v in zip(rows.column("id").to_pylist(), matrix(rows), strict=True)
    )
