"""The upsert above all stores: what passes is tried again, what is bad is set aside, and nothing is sent twice."""

import json
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from embedctl.embedding.vectors import matrix
from embedctl.errors import AuthError, DataError, EmbedctlError, NotFoundError, RemoteError
from embedctl.store.ledger import open_ledger
from tests.loopback_pinecone import APPLIED, BEFORE, METADATA_BYTES, LoopbackPinecone, serve
from tests.rows import batch, random_batch, write_vectors
from tests.stores import Clock, assert_stored, bring, project


def sizes(server: LoopbackPinecone) -> list[int]:
    return [len(body["vectors"]) for path, body in server.requests if path == "/vectors/upsert"]


@pytest.mark.parametrize("faults", [[fault] for fault in BEFORE + APPLIED + ("slow",)] + [["408", "reset", "502"]])
def test_what_passes_is_tried_again_and_all_arrives(server: LoopbackPinecone, faults: list[str]):
    loaded = project("store.timeout_seconds=0.3")
    rows = random_batch(25)
    write_vectors(loaded.layout, rows)
    server.hang_seconds = 0.6
    server.faults = ["", "", *faults]  # two questions for the statistics come first

    tally = bring(loaded)

    assert_stored(server, rows)
    assert (tally.written, tally.rejected, server.faults) == (25, 0, [])
    # None of these answers was taken for a yes.
    assert server.sent == 25 if faults == ["slow"] else server.sent >= 25 * (1 + len(faults))


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_under_many_faults_the_store_ends_exact_and_amplification_is_told(share: float):
    with serve(LoopbackPinecone(share=share, seed=7)) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PINECONE_CONTROLLER_HOST", server.url)
        loaded = project("store.batch_size=20", "store.timeout_seconds=0.2")
        server.hang_seconds = 0.3
        rows = random_batch(1000)
        write_vectors(loaded.layout, rows)

        tally = bring(loaded)

        assert_stored(server, rows)
    assert tally.sent == server.sent > 1000
    assert tally.amplification == round(server.sent / 1000, 3)


def test_a_second_run_only_asks_for_the_count(server: LoopbackPinecone):
    loaded = project()
    write_vectors(loaded.layout, random_batch(300))
    bring(loaded)
    before = len(server.requests)

    second = bring(loaded)

    asked = {path for path, _ in server.requests[before:]}
    assert (second.written, second.sent, second.unchanged) == (0, 0, 300)
    assert asked == {"/indexes/main", "/describe_index_stats"}


def test_only_what_changed_is_sent_again(server: LoopbackPinecone):
    loaded = project()
    rows = random_batch(300)
    write_vectors(loaded.layout, rows)
    bring(loaded)
    values = matrix(rows).copy()
    values[[7, 200]] += 1
    digests = [f"new{n}" if n in (7, 200) else d for n, d in enumerate(rows.column("digest").to_pylist())]
    changed = batch(
        [*rows.column("id").to_pylist(), "r300"], np.vstack([values, np.ones((1, 4))]), digests=[*digests, "x"]
    )
    write_vectors(loaded.layout, changed)

    tally = bring(loaded)

    assert (tally.written, tally.changed, tally.unchanged, tally.sent) == (3, 2, 298, 3)
    assert_stored(server, changed)


def test_what_one_namespace_has_acknowledged_another_has_not(server: LoopbackPinecone):
    write_vectors(project().layout, random_batch(50))
    bring(project())

    tally = bring(project("store.namespace=second"))

    assert (tally.written, tally.unchanged) == (50, 0)
    assert bring(project()).sent == 0


def test_an_index_that_was_made_anew_is_filled_again(server: LoopbackPinecone, monkeypatch: pytest.MonkeyPatch):
    loaded = project()
    write_vectors(loaded.layout, random_batch(50))
    bring(loaded)

    with serve() as other:
        monkeypatch.setenv("PINECONE_CONTROLLER_HOST", other.url)
        tally = bring(loaded)
        assert_stored(other, random_batch(50))

    assert tally.written == 50


def test_one_bad_record_among_many_is_found_and_named(server: LoopbackPinecone):
    loaded = project()
    rows = random_batch(2000)
    write_vectors(loaded.layout, rows)
    server.ids_refused = {"r1234"}

    tally = bring(loaded)

    lines = [json.loads(line) for line in Path("ws/ledger/pinecone-main.rejects.jsonl").read_text("utf-8").splitlines()]
    assert (tally.written, tally.rejected, [line["id"] for line in lines]) == (1999, 1, ["r1234"])
    assert "bad id" in lines[0]["reason"]
    assert_stored(server, rows.take(pa.array([n for n in range(2000) if n != 1234])))
    sent = server.sent

    server.ids_refused = set()
    again = bring(loaded)

    assert (again.written, again.rejects, server.sent - sent) == (1, None, 1)
    assert not Path("ws/ledger/pinecone-main.rejects.jsonl").exists()
    assert_stored(server, rows)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (batch([""], np.ones((1, 4))), "ASCII"),
        (batch(["x" * 513], np.ones((1, 4))), "ASCII"),
        (batch(["ü" * 100], np.ones((1, 4))), "ASCII"),
        (batch(["x"], np.zeros((1, 4))), "zero"),
        (batch(["x"], np.array([[1, np.nan, 1, 1]])), "finite"),
        (batch(["x"], np.array([[1, np.inf, 1, 1]])), "finite"),
        (batch(["x"], np.ones((1, 3))), "3 values"),
        (batch(["x"], np.ones((1, 4)), metadata=[{"text": "x" * METADATA_BYTES}]), "metadata"),
    ],
)
def test_what_no_store_takes_is_set_aside_before_it_is_sent(server: LoopbackPinecone, bad: pa.RecordBatch, reason: str):
    loaded = project()
    write_vectors(loaded.layout, random_batch(10), bad)

    tally = bring(loaded)

    assert (tally.written, tally.rejected, server.sent) == (10, 1, 10)
    assert reason in Path("ws/ledger/pinecone-main.rejects.jsonl").read_text("utf-8")
    assert_stored(server, random_batch(10))


def test_values_at_the_edges_of_float32_are_no_rejects_and_keep_their_bits(server: LoopbackPinecone):
    loaded = project()
    edges = np.array([[1e-45, 0, 0, 0], [3.4e38, -3.4e38, 1, 0], [-0.0, 1e-30, 0, 0], [0.1, 1 / 3, 1e16, 2**24 + 1]])
    rows = batch(["a", "b", "c", "d"], edges)
    write_vectors(loaded.layout, rows)

    bring(loaded)

    assert_stored(server, rows)


def test_a_store_that_refuses_everything_is_not_asked_for_each_record(server: LoopbackPinecone):
    loaded = project()
    rows = random_batch(3000)
    write_vectors(loaded.layout, rows)
    server.ids_refused = set(rows.column("id").to_pylist())

    with pytest.raises(DataError, match="takes none"):
        bring(loaded)

    assert len(server.requests) < 200


def test_413_halves_the_batch(server: LoopbackPinecone):
    loaded = project()
    write_vectors(loaded.layout, random_batch(10))
    server.faults = ["", "", "413", "", "413"]

    bring(loaded)

    assert sorted(sizes(server)) == [2, 3, 5, 5, 10]


def test_requests_keep_to_the_limits_of_count_and_bytes(server: LoopbackPinecone):
    loaded = project()
    write_vectors(loaded.layout, random_batch(2500))
    bring(loaded)
    counted = sizes(server)
    write_vectors(loaded.layout, random_batch(300, text="é" * 15_000))
    bring(project("store.namespace=other"))

    assert max(counted) == 1000
    assert sum(sizes(server)) == 2800
    assert len(sizes(server)) > len(counted) + 3


@pytest.mark.parametrize(
    ("fault", "kind"), [("401", AuthError), ("403", AuthError), ("402", AuthError), ("404", NotFoundError)]
)
def test_a_key_that_is_not_good_ends_before_any_work(server: LoopbackPinecone, fault: str, kind: type[EmbedctlError]):
    loaded = project()
    write_vectors(loaded.layout, random_batch(10))
    server.faults = [fault]
    clock = Clock()

    with pytest.raises(kind):
        bring(loaded, clock=clock)

    assert (clock.waits, server.sent) == (0, 0)


@pytest.mark.parametrize("fault", ["503", "reset", "429:3"])
def test_a_server_that_keeps_failing_ends_in_exit_6_within_the_deadline_and_nothing_is_lost(
    server: LoopbackPinecone, fault: str
):
    loaded = project("store.batch_size=10")
    rows = random_batch(200)
    write_vectors(loaded.layout, rows)
    server.faults = [""] * 8 + [fault] * 10_000
    clock = Clock()

    with pytest.raises(RemoteError, match="kept failing"):
        bring(loaded, clock=clock, deadline_seconds=300)
    asked, server.faults = len(server.requests), []
    again = bring(loaded)

    assert 200 < clock.seconds <= 301
    assert asked < 400  # it waits; it does not spin
    assert 0 < again.unchanged < 200
    assert_stored(server, rows)


@pytest.mark.parametrize("after", ["429:7", "503:7"])
def test_the_server_says_how_long_to_wait(server: LoopbackPinecone, after: str):
    loaded = project()
    write_vectors(loaded.layout, random_batch(2))
    server.faults = ["", "", after]
    clock = Clock()

    bring(loaded, clock=clock)

    assert 7 <= clock.seconds < 8


def test_several_requests_are_under_way_at_once(server: LoopbackPinecone):
    loaded = project("store.batch_size=10")
    write_vectors(loaded.layout, random_batch(400))
    server.latency = 0.02
    seen = []
    arrived = server.arrived
    server.arrived = lambda *of: (seen.append(threading.active_count()), arrived(*of))[1]

    bring(loaded)

    assert max(seen) > 8
    assert_stored(server, random_batch(400))


def test_a_count_that_lags_behind_is_no_reason_to_send_all_again(server: LoopbackPinecone):
    loaded = project()
    write_vectors(loaded.layout, random_batch(300))
    bring(loaded)
    server.stats = lambda: {"namespaces": {"": {"vectorCount": 200}}, "dimension": 4, "totalVectorCount": 200}

    assert bring(loaded).sent == 0


def test_the_ledger_knows_each_batch(server: LoopbackPinecone):
    loaded = project("store.batch_size=10")
    write_vectors(loaded.layout, random_batch(25))
    server.faults = ["", "", "500"]
    bring(loaded)

    with open_ledger(loaded.layout.ledger) as ledger:
        (target,) = (row[0] for row in ledger._connection.execute("SELECT name FROM targets"))
        states = ledger.batches(target)

    assert [(state, rows) for state, _, rows in states] == [("acknowledged", 10)] * 2 + [("acknowledged", 5)]
    assert sorted(tries for _, tries, _ in states) == [1, 1, 2]
