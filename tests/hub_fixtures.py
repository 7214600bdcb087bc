"""What tests of the Hub share: a server on this machine, a process that fetches, small data sets."""

import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedctl.artifacts import manifest
from embedctl.data.hub import PRESETS
from tests.conftest import REPOSITORY, Ran
from tests.loopback_hub import LoopbackHub, Server, Worker

PRESET = PRESETS["pubmedqa"]
FILE = "pqa_labeled/train-00000-of-00001.parquet"
CARD = """---
configs:
- config_name: pqa_labeled
  data_files:
  - split: train
    path: pqa_labeled/train-*
---
"""


def articles(count: int) -> list[dict[str, Any]]:
    source = REPOSITORY / "examples" / "pubmedqa" / "ori_pqal.json.gz"
    with gzip.open(source, "rt", encoding="utf-8") as file:
        records = list(json.load(file).items())[:count]
    return [
        {
            "pubid": int(name),
            "question": article["QUESTION"],
            "context": {"contexts": article["CONTEXTS"], "labels": article["LABELS"], "meshes": article["MESHES"]},
            "long_answer": article["LONG_ANSWER"],
            "final_decision": article["final_decision"],
        }
        for name, article in records
    ]


def parquet(rows: list[dict[str, Any]], group: int = 100) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=group, compression="none")
    return sink.getvalue()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.end()


@pytest.fixture(scope="module")
def worker(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    running = Worker(server.url, tmp_path_factory.mktemp("hf") / "home")
    yield running
    running.end()


Fetch = Callable[..., Ran]


@pytest.fixture
def fetch(worker: Worker) -> Fetch:
    """``embedctl data fetch`` with settings, in the working folder."""

    def run(*settings: str, part_bytes: int = 0, **environment: str) -> Ran:
        return worker.run(words_of(*settings), environment, part_bytes)

    return run


@pytest.fixture
def hub(server: Server) -> LoopbackHub:
    files = {"README.md": CARD.encode(), FILE: parquet(articles(1000))}
    return server.show(LoopbackHub(PRESET.repository, PRESET.revision, files))


def words_of(*settings: str) -> list[str]:
    words = ["--workspace", "ws", "--set", "data.source=pubmedqa"]
    for setting in settings:
        words += ["--set", setting]
    return [*words, "data", "fetch"]


def alone(url: str, *settings: str, code: str = "", **environment: str) -> Ran:
    """The same in a process of its own; ``code`` is run before."""
    env = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(Path("hf").resolve()), "HF_HUB_DISABLE_XET": "1"}
    whole = f"{code}\nfrom embedctl.cli.app import main\nmain({words_of(*settings)!r})"
    done = subprocess.run(
        [sys.executable, "-c", whole], env={**env, **environment}, capture_output=True, text=True, timeout=90
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def corpus() -> Path:
    return next(Path("ws", "corpus").glob("*/manifest.json")).parent


NAME = "someone/things"
FIRST, SECOND = "a" * 40, "b" * 40
ANY = ("data.source=hub", f"data.dataset={NAME}")


def show(server: Server, files: dict[str, bytes], revision: str = FIRST) -> LoopbackHub:
    return server.show(LoopbackHub(NAME, revision, files))


def facts() -> dict[str, Any]:
    return manifest.read(corpus(), "corpus").facts
