"""Data sets from the Hub: the real ``datasets`` against a Hub on this machine, each fetch in a process of its own."""

import gzip
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedctl.artifacts import manifest
from embedctl.data.corpus import parts_of, read_records
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


def test_pubmedqa_is_the_same_from_the_hub_at_its_pinned_revision_as_from_a_local_file(
    fetch: Fetch, hub: LoopbackHub
) -> None:
    assert fetch().code == 0
    records = list(read_records(corpus()))
    Path("ws").rename("hub")
    assert fetch(f"data.path={REPOSITORY / 'examples/pubmedqa/ori_pqal.json.gz'}").code == 0
    assert list(read_records(corpus())) == records
    assert [(r.id, r.query, r.text) for r in records] == [
        (str(a["pubid"]), a["question"], "\n".join(a["context"]["contexts"])) for a in articles(1000)
    ]
    assert {r.metadata["answer"] for r in records} == {"yes", "no", "maybe"}
    assert all({"answer", "conclusion", "meshes"} == set(r.metadata) for r in records)
    assert any(f"/resolve/{PRESET.revision}/{FILE}" in request for request in hub.requests)
    assert not any("/resolve/main/" in request for request in hub.requests)


def test_a_subset_reads_no_more_shards_than_it_needs_and_a_second_fetch_asks_nobody(
    fetch: Fetch, server: Server
) -> None:
    preset = PRESETS["openwebtext"]
    shards = {
        f"plain_text/train-0000{n}-of-00003.parquet": parquet([{"text": f"page {n} {m}"} for m in range(40)])
        for n in range(3)
    }
    card = CARD.replace("pqa_labeled", "plain_text").encode()
    hub = server.show(LoopbackHub(preset.repository, preset.revision, {"README.md": card, **shards}))
    settings = ("data.source=openwebtext", "data.max_records=50")
    assert fetch(*settings).code == 0
    records = list(read_records(corpus()))
    assert [r.text for r in records] == [f"page {n // 40} {n % 40}" for n in range(50)]
    assert records[0].query is None
    contents = [request for request in hub.requests if request.startswith("GET /datasets/")]
    assert any("00001-of" in request for request in contents)
    assert not any("00002-of" in request for request in contents)
    asked = len(hub.requests)
    assert fetch(*settings).code == 0
    assert len(hub.requests) == asked


def test_the_other_configurations_of_pubmedqa_need_no_answers(fetch: Fetch, server: Server) -> None:
    rows = [{"pubid": 7, "question": "why?", "context": {"contexts": ["because", "so"]}, "long_answer": "thus"}]
    card = CARD.replace("pqa_labeled", "pqa_unlabeled").encode()
    files = {"README.md": card, FILE.replace("labeled", "unlabeled"): parquet(rows)}
    server.show(LoopbackHub(PRESET.repository, PRESET.revision, files))
    assert fetch("data.configuration=pqa_unlabeled").code == 0
    (record,) = read_records(corpus())
    assert (record.id, record.query, record.text) == ("7", "why?", "because\nso")
    assert record.metadata == {"conclusion": "thus"}


NAME = "someone/things"
FIRST, SECOND = "a" * 40, "b" * 40
ANY = ("data.source=hub", f"data.dataset={NAME}")


def show(server: Server, files: dict[str, bytes], revision: str = FIRST) -> LoopbackHub:
    return server.show(LoopbackHub(NAME, revision, files))


def facts() -> dict[str, Any]:
    return manifest.read(corpus(), "corpus").facts


def test_any_data_set_is_read_by_the_names_of_its_fields(fetch: Fetch, server: Server) -> None:
    show(server, {"README.md": CARD.encode(), FILE: parquet(articles(50))})
    fields = ("data.text_field=context.contexts", "data.query_field=question", "data.id_field=pubid")
    assert fetch(*ANY, *fields, "data.metadata_fields=['final_decision']").code == 0
    assert [(r.id, r.query, r.text, dict(r.metadata)) for r in read_records(corpus())] == [
        (str(a["pubid"]), a["question"], "\n".join(a["context"]["contexts"]), {"final_decision": a["final_decision"]})
        for a in articles(50)
    ]
    assert facts()["sources"]["data"]["revision"] == FIRST


TEXTS = [f"text {n}" for n in range(5)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()),
        ("train.csv", b"text\n" + "".join(f"{text}\n" for text in TEXTS).encode()),
        ("train.txt", "".join(f"{text}\n" for text in TEXTS).encode()),
        ("train.jsonl.gz", gzip.compress("".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode())),
    ],
)
def test_plain_builders_work(fetch: Fetch, server: Server, name: str, content: bytes) -> None:
    show(server, {name: content})
    done = fetch(*ANY)
    assert done.code == 0, done.err
    assert [(r.id, r.text, r.source) for r in read_records(corpus())] == [
        (f"things:{n}", text, NAME) for n, text in enumerate(TEXTS, start=1)
    ]


@pytest.mark.parametrize(
    "files",
    [
        {"train.pkl": b"cos\nsystem\n"},
        {"train/a.png": b"\x89PNG", "train/b.png": b"\x89PNG"},
        {"train/a.wav": b"RIFF"},
        {"train-0.tar": b"\0" * 1024},
        {"things.py": b"import os", "train.csv": b"text\na\n"},
    ],
)
def test_what_is_not_plain_data_of_its_own_is_refused_before_any_of_it_is_read(
    fetch: Fetch, server: Server, files: dict[str, bytes]
) -> None:
    hub = show(server, files)
    done = fetch(*ANY)
    assert (done.code, "Traceback" in done.err) == (11, False), done.err
    assert not hub.sent.keys() - {"", "README.md", "things.py"}


def test_a_card_that_names_a_file_of_this_machine_is_refused(fetch: Fetch, server: Server) -> None:
    Path("secret.txt").write_text("canary")
    card = CARD.replace("pqa_labeled/train-*", str(Path("secret.txt").resolve()))
    show(server, {"README.md": card.encode(), "train.txt": b"a\n"})
    done = fetch(*ANY)
    assert (done.code, "names files that are not its own" in done.err) == (11, True), done.err


def test_pictures_in_a_table_are_not_decoded(fetch: Fetch, server: Server) -> None:
    features = {"text": {"dtype": "string", "_type": "Value"}, "picture": {"_type": "Image"}}
    kind = pa.schema({"text": pa.string(), "picture": pa.struct({"bytes": pa.binary(), "path": pa.string()})})
    table = pa.Table.from_pylist([{"text": "a", "picture": {"bytes": b"no picture", "path": None}}], schema=kind)
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    show(server, {"train.parquet": sink.getvalue()})
    done = fetch(*ANY, "data.metadata_fields=[]")
    assert (done.code, [r.text for r in read_records(corpus())]) == (0, ["a"]), done.err


def test_a_name_that_is_none_is_refused_before_anyone_is_asked(fetch: Fetch, hub: LoopbackHub) -> None:
    for name in ("json", "../x/y", "hf://buckets/a/b", "", "/etc/passwd", "a/b/c"):
        done = fetch("data.source=hub", f"data.dataset={name}")
        assert (done.code, "data.dataset" in done.err) == (2, True)
    assert hub.requests == []


def test_what_is_missing_is_named_with_what_there_is(fetch: Fetch, server: Server) -> None:
    two = CARD.replace("---\n", "", 1).split("\n", 1)[1].removesuffix("---\n")
    card = f"---\nconfigs:\n{two}{two.replace('pqa_labeled', 'other')}---\n"
    show(
        server, {"README.md": card.encode(), FILE: parquet(articles(5)), "other/train-0.parquet": parquet(articles(5))}
    )
    unnamed = fetch(*ANY)
    wrong = fetch(*ANY, "data.configuration=nope")
    split = fetch(*ANY, "data.configuration=other", "data.split=test")
    other = fetch("data.source=hub", "data.dataset=someone/else")
    assert (unnamed.code, wrong.code, split.code, other.code) == (12, 12, 12, 12)
    assert "data.configuration to one of: pqa_labeled, other" in unnamed.err
    assert "data.configuration to one of: pqa_labeled, other" in wrong.err
    assert "no split 'test'" in split.err
    assert "data.split to one of: train" in split.err
    assert "someone/else" in other.err


def test_a_damaged_file_of_the_hub_is_said_to_be_one(fetch: Fetch, server: Server) -> None:
    for name, content in (("train.parquet", b"PAR1 nothing"), ("train.jsonl", b"{nothing"), ("train.csv", b'a\n"')):
        show(server, {name: content})
        done = fetch(*ANY)
        assert (done.code, "Traceback" in done.err) == (3, False), done.err


def shards(word: str) -> dict[str, bytes]:
    """Four of about a megabyte."""
    return {
        f"data/train-0000{n}-of-00004.parquet": parquet(
            [{"id": f"{n}-{m}", "text": f"{word} {n} {m} " * 400} for m in range(250)]
        )
        for n in range(4)
    }


def test_broken_off_on_the_way_it_goes_on_at_the_commit_where_it_was(fetch: Fetch, server: Server) -> None:
    hub = show(server, shards("first"))
    assert fetch(*ANY, part_bytes=300_000).code == 0
    whole = {path.name: path.read_bytes() for path in corpus().iterdir()}
    shutil.rmtree("ws")
    for cut in (False, True):
        hub.broken, hub.cut, hub.broken_at = 0 if cut else 500, cut, "00002-of-00004.parquet"
        done = fetch(*ANY, part_bytes=300_000)
        assert (done.code, "run the same command again" in done.err, "Traceback" in done.err) == (6, True, False)
    hub.move_on(SECOND, shards("second"))
    hub.broken, hub.cut = 0, False
    hub.sent.clear()
    assert fetch(*ANY, part_bytes=300_000).code == 0
    assert {path.name: path.read_bytes() for path in corpus().iterdir()} == whole
    assert facts()["sources"]["data"]["revision"] == FIRST
    sent = [hub.sent[name] / len(content) for name, content in hub.commits[FIRST].items()]
    # Of the first one the schema is read again; the second was not done to the end when the third broke off.
    assert (sent[0] < 0.2, sent[3] >= 1) == (True, True), sent


def test_after_damage_nothing_of_an_older_commit_is_mixed_in(fetch: Fetch, server: Server) -> None:
    hub = show(server, shards("first"))
    hub.broken, hub.broken_at = 500, "00003-of-00004.parquet"
    assert fetch(*ANY, part_bytes=300_000).code == 6
    Path("ws/corpus/.main.partial/part-00000.parquet").write_bytes(b"torn")
    newer = shards("second")
    hub.move_on(SECOND, dict(list(newer.items())[:2]))
    hub.broken_at = "00001-of-00004.parquet"
    assert fetch(*ANY, part_bytes=300_000).code == 6
    hub.broken = 0
    assert fetch(*ANY, part_bytes=300_000).code == 0
    found = {path.name: path.read_bytes() for path in corpus().iterdir()}
    shutil.rmtree("ws")
    assert fetch(*ANY, part_bytes=300_000).code == 0
    assert found == {path.name: path.read_bytes() for path in corpus().iterdir()}


def test_killed_on_the_way_it_does_not_download_again_what_is_done(server: Server) -> None:
    hub = show(server, shards("first"))
    small = "from embedctl.data import corpus\ncorpus.PART_BYTES = 300_000"
    running: list[subprocess.Popen[str]] = []

    def kill(name: str) -> None:
        if "00003" in name and running:
            running.pop().kill()

    hub.before = kill
    whole = f"{small}\nfrom embedctl.cli.app import main\nmain({words_of(*ANY)!r})"
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(Path("hf").resolve()), "HF_HUB_DISABLE_XET": "1"}
    process = subprocess.Popen([sys.executable, "-c", whole], env=env, text=True)
    running.append(process)
    assert process.wait(60) == -9
    hub.sent.clear()
    assert alone(hub.url, *ANY, code=small).code == 0
    sent = [hub.sent[name] / len(content) for name, content in hub.files.items()]
    assert (sent[0] < 0.2, sent[1] == 0, sent[3] >= 1) == (True, True, True), sent
    assert [r.id for r in read_records(corpus())] == [f"{n}-{m}" for n in range(4) for m in range(250)]


def test_a_newer_revision_adds_what_is_new(fetch: Fetch, server: Server) -> None:
    rows = [{"id": str(n), "text": f"text {n}"} for n in range(20)]
    hub = show(server, {"train.parquet": parquet(rows)})
    assert fetch(*ANY, f"data.revision={FIRST}").code == 0
    first = [(part.name, part.stat().st_ino) for part in parts_of(corpus())]
    hub.move_on(SECOND, {"train.parquet": parquet([*rows, {"id": "20", "text": "new"}])})
    assert fetch(*ANY, "data.revision=main").code == 0
    assert [(part.name, part.stat().st_ino) for part in parts_of(corpus())][:1] == first
    assert (facts()["new_records"], facts()["sources"]["data"]["revision"]) == (1, SECOND)


@pytest.mark.parametrize("where", ["closed", "silent", "unnamed", "hanging"])
def test_no_network_is_said_within_seconds(where: str) -> None:
    # A host that takes the connection and says nothing; datasets by itself tries for minutes.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        urls = {
            "closed": "http://127.0.0.1:9",
            "silent": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "unnamed": "http://no-such-host.invalid",
            "hanging": "http://slow-resolver.invalid",
        }
        slow = "import socket, time; socket.getaddrinfo = lambda *_, **__: time.sleep(80)"
        began = time.monotonic()
        done = alone(urls[where], code=slow if where == "hanging" else "")
    assert (done.code, "cannot be reached" in done.err, "Traceback" in done.err) == (6, True, False)
    assert 'data.source = "local"' in done.err
    # Some three seconds, and what a process takes to start on a busy machine; without us half a minute and more.
    assert time.monotonic() - began < 20


def test_an_offline_setting_is_named(fetch: Fetch, hub: LoopbackHub) -> None:
    done = fetch(HF_HUB_OFFLINE="1")
    assert (done.code, "HF_HUB_OFFLINE" in done.err) == (6, True)
    assert hub.requests == []


def test_a_revision_that_is_not_there_is_not_found(fetch: Fetch, hub: LoopbackHub) -> None:
    done = fetch("data.revision=0123abc")
    assert (done.code, "0123abc" in done.err, "Traceback" in done.err) == (12, True, False)


def test_a_gated_data_set_needs_a_token_and_the_token_is_not_shown(fetch: Fetch, hub: LoopbackHub) -> None:
    hub.gated = True
    refused = fetch()
    assert (refused.code, "HF_TOKEN" in refused.err) == (7, True)
    allowed = fetch(HF_TOKEN="hf_canary4711")
    assert allowed.code == 0
    assert "hf_canary4711" not in allowed.out + allowed.err
    assert not any(b"hf_canary4711" in path.read_bytes() for path in Path("ws").rglob("*") if path.is_file())


@pytest.mark.parametrize(("status", "code"), [(404, 12), (403, 7), (500, 6)])
def test_a_download_that_breaks_off_leaves_no_corpus_and_can_be_repeated(
    fetch: Fetch, hub: LoopbackHub, status: int, code: int
) -> None:
    hub.broken = status
    done = fetch()
    assert (done.code, "Traceback" in done.err) == (code, False)
    assert not list(Path("ws", "corpus").glob("*/manifest.json"))
    hub.broken = 0
    assert fetch().code == 0


def test_other_columns_than_expected_are_named(fetch: Fetch, hub: LoopbackHub) -> None:
    hub.files[FILE] = parquet([{"pubid": 1, "titel": "a"}])
    done = fetch()
    assert (done.code, "no column 'question'" in done.err) == (3, True)
    assert "titel" in done.err
