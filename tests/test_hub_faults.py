"""The Hub breaks off, moves on, refuses or is not there: it is said, and nothing is lost."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from embedctl.data.corpus import parts_of, read_records
from tests import hub_fixtures
from tests.hub_fixtures import (
    ANY,
    CARD,
    FILE,
    FIRST,
    SECOND,
    Fetch,
    alone,
    articles,
    corpus,
    facts,
    parquet,
    show,
    words_of,
)
from tests.loopback_hub import LoopbackHub, Server

# The fixtures that its tests ask for.
fetch, hub, server, worker = (getattr(hub_fixtures, name) for name in ("fetch", "hub", "server", "worker"))


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
