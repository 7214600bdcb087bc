"""What was sent or deleted without an answer: the store may hold the old, the new or nothing, and nothing is taken for
granted."""

from pathlib import Path

import numpy as np
import pytest

from embedctl.errors import RefusedError, RemoteError
from embedctl.store.ledger import open_ledger
from embedctl.store.upsert import Wish
from tests.loopback_pinecone import LoopbackPinecone
from tests.rows import batch, random_batch, write_vectors
from tests.stores import assert_stored, bring, project

LOST = ["", "", *["applied-reset"] * 200]  # two questions for the statistics come first


def of_another_model(count: int):
    values = np.random.default_rng(1).normal(size=(count, 4)).astype(np.float32)
    return batch([f"r{n}" for n in range(count)], values, digests=[f"b{n}" for n in range(count)])


def test_a_store_that_took_another_models_vectors_without_an_answer_gets_the_first_ones_back(server: LoopbackPinecone):
    loaded = project()
    write_vectors(loaded.layout, random_batch(20))
    bring(loaded)
    write_vectors(loaded.layout, of_another_model(20), model="other")
    server.faults = [*LOST]
    with pytest.raises(RemoteError):
        bring(loaded, deadline_seconds=1.0)
    server.faults = []
    assert_stored(server, of_another_model(20))

    write_vectors(loaded.layout, random_batch(20))
    tally = bring(loaded)

    assert_stored(server, random_batch(20))
    assert tally.written == 20


def test_what_was_taken_without_an_answer_and_is_gone_from_the_vectors_is_pruned(server: LoopbackPinecone):
    loaded = project()
    write_vectors(loaded.layout, random_batch(10))
    bring(loaded)
    write_vectors(loaded.layout, random_batch(12))
    server.faults = [*LOST]
    with pytest.raises(RemoteError):
        bring(loaded, deadline_seconds=1.0)
    server.faults = []
    assert len(server.vectors()) == 12

    write_vectors(loaded.layout, random_batch(10))
    tally = bring(loaded, Wish(prune_stale=True))

    assert tally.deleted == 2
    assert_stored(server, random_batch(10))
    assert bring(loaded).sent == 0


def test_what_was_deleted_without_an_answer_is_sent_again_when_it_comes_back(server: LoopbackPinecone):
    loaded = project()
    write_vectors(loaded.layout, random_batch(5002))
    bring(loaded)
    write_vectors(loaded.layout, random_batch(5000))
    bring(loaded)
    server.faults = [*LOST]
    with pytest.raises(RemoteError):
        bring(loaded, Wish(prune_stale=True), deadline_seconds=1.0)
    server.faults = []
    assert len(server.vectors()) == 5000

    write_vectors(loaded.layout, random_batch(5002))
    bring(loaded)

    assert_stored(server, random_batch(5002))


def test_a_count_of_none_that_lags_behind_sends_what_is_new_alone(server: LoopbackPinecone):
    loaded = project()
    write_vectors(loaded.layout, random_batch(50))
    bring(loaded)
    write_vectors(loaded.layout, random_batch(51))
    stats = server.stats
    server.stats = lambda: {"namespaces": {}, "dimension": 4, "totalVectorCount": 0}

    tally = bring(loaded)

    server.stats = stats
    assert (tally.sent, tally.unchanged) == (1, 50)
    assert_stored(server, random_batch(51))


def test_the_namespace_without_a_name_is_counted_by_either_of_its_names(server: LoopbackPinecone):
    loaded = project()
    write_vectors(loaded.layout, random_batch(50))
    server.unnamed = "__default__"
    bring(loaded)
    before = len(server.requests)

    tally = bring(loaded, Wish(verify_share=1.0))

    assert (tally.sent, tally.verified) == (0, 50)
    assert not [path for path, _ in server.requests[before:] if path == "/vectors/upsert"]


def test_many_records_that_stay_refused_are_all_told_each_time(server: LoopbackPinecone):
    loaded = project()
    rows = random_batch(300)
    write_vectors(loaded.layout, rows)
    server.ids_refused = {f"r{n}" for n in range(25)}

    tallies = [bring(loaded), bring(loaded)]

    assert [(t.written, t.rejected) for t in tallies] == [(275, 25), (0, 25)]
    assert len(Path(tallies[1].rejects or "").read_text().splitlines()) == 25
    with open_ledger(loaded.layout.ledger) as ledger:
        assert ledger.count(tallies[0].target) == 275


def test_another_projects_vectors_stay_also_where_the_count_lags_behind(server: LoopbackPinecone):
    first, second = (project(f"project.name={name}", f"project.run={name}") for name in ("a", "b"))
    write_vectors(first.layout, random_batch(30))
    bring(first)
    write_vectors(second.layout, random_batch(20))
    server.stats = lambda: {"namespaces": {}, "dimension": 4, "totalVectorCount": 0}

    with pytest.raises(RefusedError, match="project a"):
        bring(second, Wish(prune_stale=True))
    assert len(server.vectors()) == 30
