"""MTEB's tasks: its figures are those of our own search, and its data come from the Hub."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from embedctl.errors import ConfigError
from embedctl.evaluation import mteb_tasks
from tests.conftest import REPOSITORY, Run, options, prepare, tiny, train
from tests.loopback_hub import LoopbackHub, Server
from tests.test_beir import write_folder

CARD = """---
configs:
- config_name: default
  data_files: [{split: train, path: qrels.jsonl}]
- config_name: corpus
  data_files: [{split: train, path: corpus.jsonl}]
- config_name: queries
  data_files: [{split: train, path: queries.jsonl}]
---
"""


def test_without_mteb_it_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch):
    train(prepare(), max_steps=1)
    monkeypatch.setitem(sys.modules, "mteb", None)

    ran = run(*options('evaluation.mteb_tasks=["NFCorpus"]'), "eval")

    assert ran.code == 2
    assert "pip install 'embedctl[eval]'" in ran.err


def test_an_unknown_task_is_named_with_the_nearest():
    nearest = "KeyError: 'NFCorpsu' not found. Did you mean: 'NFCorpus'?"

    def get_task(name: str) -> None:
        raise KeyError(nearest)

    with pytest.raises(ConfigError) as caught:
        mteb_tasks._task(SimpleNamespace(get_task=get_task), "NFCorpsu")

    assert caught.value.hint == nearest.removeprefix("KeyError: ")


def test_a_task_is_fetched_from_the_hub_and_measured():
    mteb = pytest.importorskip("mteb")
    wanted = mteb.get_task("NanoSciFactRetrieval").metadata.dataset
    folder = write_folder(Path("c"))
    judged = [line.split("\t") for line in (folder / "qrels/test.tsv").read_text().splitlines()[1:]]
    qrels = [{"query-id": query, "corpus-id": document, "score": int(grade)} for query, document, grade in judged]
    contents = {
        "README.md": CARD.encode(),
        "qrels.jsonl": "".join(json.dumps(row) + "\n" for row in qrels).encode(),
        **{name: (folder / name).read_bytes() for name in ("corpus.jsonl", "queries.jsonl")},
    }
    train(prepare("training.epochs=6", "training.learning_rate=0.003"))
    server = Server()
    server.show(LoopbackHub(wanted["path"], wanted["revision"], contents))
    home = {"HF_ENDPOINT": server.url, "HF_HOME": str(Path("hf").resolve()), "HF_HUB_DISABLE_XET": "1"}
    both = (
        "training.epochs=6", "training.learning_rate=0.003",
        'evaluation.mteb_tasks=["NanoSciFactRetrieval"]', 'evaluation.beir_folders=["c"]',
    )  # fmt: skip

    try:
        done = subprocess.run(
            [sys.executable, "-m", "embedctl", *options(*both), "--json", "eval"],
            env={**os.environ, **home, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
    finally:
        server.end()

    assert done.returncode == 0, done.stderr
    report = json.loads((tiny().layout.evaluation / "report.json").read_text())
    found = report["mteb"]["NanoSciFactRetrieval"]
    assert found["metric"] == "ndcg_at_10"
    assert 0.05 < found["main_score"] < 1
    assert found["main_score"] == pytest.approx(report["beir"][0]["model"]["ndcg_at_10"], abs=1e-5)
