"""Data sets from the Hub: the real ``datasets`` against a Hub on this machine, each fetch in a process of its own."""

import gzip
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedctl.data.corpus import read_records
from embedctl.data.hub import PRESETS
from tests.conftest import REPOSITORY, Ran
from tests.loopback_hub import LoopbackHub, serve

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


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    files = {"README.md": CARD.encode(), FILE: parquet(articles(1000))}
    with serve(LoopbackHub(PRESET.repository, PRESET.revision, files)) as running:
        yield running


def fetch(url: str, *settings: str, **environment: str) -> Ran:
    words = ["--workspace", "ws", "--set", "data.source=pubmedqa"]
    for setting in settings:
        words += ["--set", setting]
    env = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(Path("hf").resolve()), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "embedctl", *words, "data", "fetch"],
        env={**env, **environment},
        capture_output=True,
        text=True,
        timeout=90,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def corpus() -> Path:
    return next(Path("ws", "corpus").glob("*/manifest.json")).parent


def test_pubmedqa_comes_from_the_hub_at_its_pinned_revision_as_from_a_local_file(hub: LoopbackHub) -> None:
    assert fetch(hub.url).code == 0
    records = list(read_records(corpus()))
    assert [(r.id, r.query, r.text) for r in records] == [
        (str(a["pubid"]), a["question"], "\n".join(a["context"]["contexts"])) for a in articles(1000)
    ]
    assert all(r.metadata["answer"] in ("yes", "no", "maybe") for r in records)
    assert any(f"/resolve/{PRESET.revision}/{FILE}" in request for request in hub.requests)
    assert not any("/resolve/main/" in request for request in hub.requests)


def test_a_subset_reads_no_more_shards_than_it_needs_and_a_second_fetch_asks_nobody() -> None:
    preset = PRESETS["openwebtext"]
    shards = {
        f"plain_text/train-0000{n}-of-00003.parquet": parquet([{"text": f"page {n} {m}"} for m in range(40)])
        for n in range(3)
    }
    card = CARD.replace("pqa_labeled", "plain_text").encode()
    with serve(LoopbackHub(preset.repository, preset.revision, {"README.md": card, **shards})) as hub:
        settings = ("data.source=openwebtext", "data.max_records=50")
        assert fetch(hub.url, *settings).code == 0
        records = list(read_records(corpus()))
        assert [r.text for r in records] == [f"page {n // 40} {n % 40}" for n in range(50)]
        assert records[0].query is None
        contents = [request for request in hub.requests if request.startswith("GET /datasets/")]
        assert any("00001-of" in request for request in contents)
        assert not any("00002-of" in request for request in contents)
        asked = len(hub.requests)
        assert fetch(hub.url, *settings).code == 0
        assert len(hub.requests) == asked


def test_no_network_is_said_within_seconds() -> None:
    began = time.monotonic()
    done = fetch("http://127.0.0.1:9")
    assert (done.code, "cannot be reached" in done.err, "Traceback" in done.err) == (6, True, False)
    assert 'data.source = "local"' in done.err
    # datasets by itself tries for 23 seconds.
    assert time.monotonic() - began < 10


def test_an_offline_setting_is_named(hub: LoopbackHub) -> None:
    done = fetch(hub.url, HF_HUB_OFFLINE="1")
    assert (done.code, "HF_HUB_OFFLINE" in done.err) == (6, True)
    assert hub.requests == []


def test_a_revision_that_is_not_there_is_not_found(hub: LoopbackHub) -> None:
    done = fetch(hub.url, "data.revision=0123abc")
    assert (done.code, "0123abc" in done.err, "Traceback" in done.err) == (12, True, False)


def test_a_gated_data_set_needs_a_token_and_the_token_is_not_shown(hub: LoopbackHub) -> None:
    hub.gated = True
    refused = fetch(hub.url)
    assert (refused.code, "HF_TOKEN" in refused.err) == (7, True)
    allowed = fetch(hub.url, HF_TOKEN="hf_canary4711")
    assert allowed.code == 0
    assert "hf_canary4711" not in allowed.out + allowed.err
    assert not any(b"hf_canary4711" in path.read_bytes() for path in Path("ws").rglob("*") if path.is_file())


@pytest.mark.parametrize(("status", "code"), [(404, 12), (403, 7)])
def test_a_download_that_breaks_off_leaves_no_corpus_and_can_be_repeated(
    hub: LoopbackHub, status: int, code: int
) -> None:
    hub.broken = status
    done = fetch(hub.url)
    assert (done.code, "Traceback" in done.err) == (code, False)
    assert not list(Path("ws", "corpus").glob("*/manifest.json"))
    hub.broken = 0
    assert fetch(hub.url).code == 0


def test_other_columns_than_expected_are_named(hub: LoopbackHub) -> None:
    hub.files[FILE] = parquet([{"pubid": 1, "titel": "a"}])
    done = fetch(hub.url)
    assert (done.code, "no column 'question'" in done.err) == (3, True)
    assert "titel" in done.err
