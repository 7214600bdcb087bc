"""Pinecone: the real SDK against a server on this machine that keeps Pinecone's limits and fails on demand."""

import json
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from pydantic import SecretStr

from embedctl.embedding.generation import generate
from embedctl.embedding.vectors import matrix
from embedctl.errors import AuthError, DataError, EmbedctlError, NotFoundError, RemoteError
from embedctl.loading import Loaded
from embedctl.settings import StoreSettings
from embedctl.store.pinecone import PineconeStore
from embedctl.store.retrying import Patience, persist
from tests.conftest import Run, options, prepare, train
from tests.loopback_pinecone import KEY, LoopbackPinecone, serve
from tests.rows import batch, random_batch
from tests.test_embedding import vectors


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackPinecone]:
    with serve() as pinecone:
        monkeypatch.setenv("PINECONE_CONTROLLER_HOST", pinecone.url)
        monkeypatch.setenv("PINECONE_API_KEY", KEY)
        yield pinecone


class Clock:
    """Time that passes only when somebody waits."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def now(self) -> float:
        return self.seconds


def opened(**settings: object) -> PineconeStore:
    return PineconeStore(StoreSettings(kind="pinecone", **settings), SecretStr(KEY))


def send(store: PineconeStore, rows: pa.RecordBatch, clock: Clock | None = None) -> None:
    clock = clock or Clock()
    persist(lambda: store.write(rows, model="m"), "here", Patience(sleep=clock.sleep, now=clock.now))


def embedded() -> tuple[Loaded, list[str]]:
    more = ["store.kind=pinecone", "store.namespace=tests"]
    loaded = prepare(*more)
    train(loaded, max_steps=2)
    generate(loaded.settings.embedding, loaded.settings.compute, loaded.layout)
    return loaded, options(*more)


def test_the_index_is_made_filled_and_searched_and_a_second_upsert_sends_nothing(server: LoopbackPinecone, run: Run):
    loaded, words = embedded()

    first = json.loads(run(*words, "--json", "embed", "upsert").out)
    sent = server.sent
    second = json.loads(run(*words, "--json", "embed", "upsert").out)
    hits = json.loads(run(*words, "--json", "embed", "search", "what sings near river?", "-k", "3").out)["hits"]

    ids, values = vectors(loaded)
    stored = server.vectors(namespace="tests")
    assert (first["written"], second["written"], second["unchanged"]) == (len(ids), 0, len(ids))
    assert sent == server.sent == len(ids)
    assert all(np.array_equal(np.array(stored[id_]["values"], np.float32), values[n]) for n, id_ in enumerate(ids))
    assert len(hits) == 3
    assert hits[0]["metadata"]["text"]
    assert not any(name.startswith("embedctl_") for hit in hits for name in hit["metadata"])
    assert json.loads(run(*words, "--json", "status").out)[-1]["facts"]["vectors"] == len(ids)


def test_an_index_emptied_behind_our_back_is_filled_again(server: LoopbackPinecone, run: Run):
    loaded, words = embedded()
    run(*words, "embed", "upsert")
    server.indexes["main"]["spaces"].clear()

    ran = run(*words, "embed", "upsert")

    assert "sending all again" in ran.err
    assert len(server.vectors(namespace="tests")) == len(vectors(loaded)[0])


@pytest.mark.parametrize(
    "faults",
    [["500", "503"], ["429:1"], ["reset"], ["applied-reset"], ["applied-500"], ["text"], ["408", "reset", "502"]],
)
def test_what_passes_is_tried_again_and_all_arrives(server: LoopbackPinecone, faults: list[str]):
    store = opened()
    store.create(4)
    wanted = random_batch(25)
    server.faults = list(faults)

    send(store, wanted)

    stored = server.vectors()
    assert list(stored) == wanted.column("id").to_pylist()
    assert np.array_equal(np.array([one["values"] for one in stored.values()], np.float32), matrix(wanted))
    assert server.faults == []


def test_the_server_says_how_long_to_wait(server: LoopbackPinecone):
    clock = Clock()
    store = opened()
    store.create(4)
    server.faults = ["429:7"]

    send(store, random_batch(2), clock)

    assert 7 <= clock.seconds < 8


def test_a_server_that_keeps_failing_ends_in_exit_6_within_the_deadline(server: LoopbackPinecone):
    clock = Clock()
    store = opened()
    store.create(4)
    server.faults = ["503"] * 1000

    with pytest.raises(RemoteError, match="kept failing"):
        send(store, random_batch(2), clock)

    assert 200 < clock.seconds <= 300


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("401", AuthError), ("403", AuthError), ("402", AuthError), ("404", NotFoundError), ("400", DataError)],
)
def test_what_will_not_pass_is_said_at_once(server: LoopbackPinecone, fault: str, kind: type[EmbedctlError]):
    clock = Clock()
    store = opened()
    store.create(4)
    server.faults = [fault]
    before = len(server.requests)

    with pytest.raises(kind):
        send(store, random_batch(2), clock)

    assert (clock.seconds, len(server.requests) - before) == (0, 1)


def test_a_count_that_is_too_low_is_not_taken_for_success(server: LoopbackPinecone):
    store = opened()
    store.create(4)
    server.faults = ["fewer"]

    send(store, random_batch(2))

    assert server.sent == 4


def test_metadata_that_pinecone_does_not_take_is_made_plain(server: LoopbackPinecone):
    store = opened()
    store.create(4)
    metadata = {"none": None, "nested": {"a": 1}, "mixed": [1, "a"], "tags": ["a", "b"], "big": 2**40, "yes": True}

    store.write(batch(["x"], np.ones((1, 4)), metadata=[metadata]), model="m")

    kept = server.vectors()["x"]["metadata"]
    assert {name: value for name, value in kept.items() if not name.startswith("embedctl_")} == {
        "nested": '{"a": 1}', "mixed": '[1, "a"]', "tags": ["a", "b"], "big": 2**40, "yes": True,
    }  # fmt: skip


def test_an_index_of_another_width_is_refused(server: LoopbackPinecone, run: Run):
    opened().create(7)
    _, words = embedded()

    ran = run(*words, "embed", "upsert")

    assert ran.code == 2
    assert "holds vectors of 7 dimensions, these have 32" in ran.err


@pytest.mark.parametrize("key", [None, "", "  ", "two words", "schlüssel", "wrong-key"])
def test_without_a_good_key_it_says_so_and_never_shows_it(
    server: LoopbackPinecone, run: Run, monkeypatch: pytest.MonkeyPatch, key: str | None
):
    _, words = embedded()
    monkeypatch.delenv("PINECONE_API_KEY")
    if key is not None:
        monkeypatch.setenv("PINECONE_API_KEY", key)

    ran = run(*words, "embed", "upsert")

    assert ran.code == 7
    assert "PINECONE_API_KEY" in ran.err
    assert not (key and key.strip()) or key not in ran.out + ran.err


def test_a_stopped_upsert_goes_on_where_it_was(server: LoopbackPinecone, run: Run):
    loaded, words = embedded()
    # One request for the statistics before the first batch, then the third batch meets a wall.
    server.faults = ["", "", "", "", "403"]
    stopped = run(*words, "embed", "upsert", "--batch-size", "10")
    sent = server.sent

    finished = json.loads(run(*words, "--json", "embed", "upsert", "--batch-size", "10").out)

    total = len(vectors(loaded)[0])
    assert stopped.code == 7
    assert 0 < finished["unchanged"] < total
    assert server.sent - sent == finished["written"] == total - finished["unchanged"]
    assert len(server.vectors(namespace="tests")) == total
