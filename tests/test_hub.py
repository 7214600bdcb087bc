"""Data sets from the Hub: the real ``datasets`` against a Hub on this machine, each fetch in a process of its own."""

import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedctl.data.corpus import read_records
from embedctl.data.hub import PRESETS
from tests import hub_fixtures
from tests.conftest import REPOSITORY
from tests.hub_fixtures import ANY, CARD, FILE, FIRST, NAME, PRESET, Fetch, articles, corpus, facts, parquet, show
from tests.loopback_hub import LoopbackHub, Server

# The fixtures that its tests ask for.
fetch, hub, server, worker = (getattr(hub_fixtures, name) for name in ("fetch", "hub", "server", "worker"))


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


LINES = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.jsonl", LINES),
        ("train.csv", b"text\n" + "".join(f"{text}\n" for text in TEXTS).encode()),
        ("train.txt", "".join(f"{text}\n" for text in TEXTS).encode()),
        ("train.jsonl.gz", gzip.compress(LINES, mtime=0)),
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
