"""Pinecone: the real SDK against a server on this machine that keeps Pinecone's limits and fails on demand."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
from pydantic import SecretStr

from embedctl.embedding.generation import generate
from embedctl.errors import AuthError, DataError, EmbedctlError, NotFoundError, RemoteError
from embedctl.loading import Loaded
from embedctl.settings import StoreSettings
from embedctl.store.pinecone import PineconeStore
from embedctl.store.protocol import Row
from tests.conftest import Run, options, prepare, train
from tests.loopback_pinecone import KEY, METADATA_BYTES, LoopbackPinecone, serve
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


def opened(clock: Clock | None = None, **settings: object) -> PineconeStore:
    clock = clock or Clock()
    return PineconeStore(
        StoreSettings(kind="pinecone", **settings), SecretStr(KEY), "pinecone:test", sleep=clock.sleep, now=clock.now
    )


def rows(count: int, dim: int = 4, **metadata: object) -> list[Row]:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(count, dim)).astype(np.float32)
    return [Row(f"r{n}", values[n], f"d{n}", {"n": n, **metadata}) for n in range(count)]


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
    wanted = rows(25)
    server.faults = list(faults)

    store.write(wanted, model="m")

    stored = server.vectors()
    assert stored.keys() == {row.id for row in wanted}
    assert all(np.array_equal(np.array(stored[row.id]["values"], np.float32), row.values) for row in wanted)
    assert server.faults == []


def test_the_server_says_how_long_to_wait(server: LoopbackPinecone):
    clock = Clock()
    store = opened(clock)
    store.create(4)
    server.faults = ["429:7"]

    store.write(rows(2), model="m")

    assert 7 <= clock.seconds < 8


def test_a_server_that_keeps_failing_ends_in_exit_6_within_the_deadline(server: LoopbackPinecone):
    clock = Clock()
    store = opened(clock)
    store.create(4)
    server.faults = ["503"] * 1000

    with pytest.raises(RemoteError, match="kept failing"):
        store.write(rows(2), model="m")

    assert 200 < clock.seconds <= 300


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("401", AuthError), ("403", AuthError), ("402", AuthError), ("404", NotFoundError), ("400", DataError)],
)
def test_what_will_not_pass_is_said_at_once(server: LoopbackPinecone, fault: str, kind: type[EmbedctlError]):
    clock = Clock()
    store = opened(clock)
    store.create(4)
    server.faults = [fault]
    before = len(server.requests)

    with pytest.raises(kind):
        store.write(rows(2), model="m")

    assert (clock.seconds, len(server.requests) - before) == (0, 1)


def test_a_count_that_is_too_low_is_not_taken_for_success(server: LoopbackPinecone):
    store = opened()
    store.create(4)
    server.faults = ["fewer"]

    with pytest.raises(RemoteError, match="acknowledged 1 of 2"):
        store.write(rows(2), model="m")


def test_requests_keep_to_the_limits(server: LoopbackPinecone):
    store = opened(batch_size=5000)
    store.create(4)

    store.write(rows(2500), model="m")
    store.write(rows(300, text="é" * 15_000), model="m")
    many = rows(600, dim=4)
    store.write([Row(row.id, row.values, row.digest, {"a": "x" * 3000}) for row in many], model="m")

    assert len(server.vectors()) == 2500


def test_413_halves_the_batch(server: LoopbackPinecone):
    store = opened()
    store.create(4)
    server.faults = ["413", "", "413"]

    store.write(rows(10), model="m")

    assert len(server.vectors()) == 10
    sizes = [len(body["vectors"]) for path, body in server.requests if path == "/vectors/upsert"]
    assert sizes == [10, 5, 5, 2, 3]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Row("", np.ones(4, np.float32), "d", {}), "is not one for Pinecone"),
        (Row("x" * 513, np.ones(4, np.float32), "d", {}), "is not one for Pinecone"),
        (Row("ünïcode", np.ones(4, np.float32), "d", {}), "is not one for Pinecone"),
        (Row("x", np.zeros(4, np.float32), "d", {}), "zero"),
        (Row("x", np.full(4, np.nan, np.float32), "d", {}), "not finite"),
        (Row("x", np.ones(3, np.float32), "d", {}), "has 3 numbers"),
        (Row("x", np.ones(4, np.float32), "d", {"text": "x" * METADATA_BYTES}), "with_text = false"),
    ],
)
def test_what_the_sdk_would_let_through_is_refused_before_it_is_sent(server: LoopbackPinecone, row: Row, message: str):
    store = opened()
    store.create(4)

    with pytest.raises(DataError) as caught:
        store.write([*rows(3), row], model="m")

    assert message in f"{caught.value.message} {caught.value.hint}"
    assert server.sent == 0


def test_metadata_that_pinecone_does_not_take_is_made_plain(server: LoopbackPinecone):
    store = opened()
    store.create(4)
    metadata = {"none": None, "nested": {"a": 1}, "mixed": [1, "a"], "tags": ["a", "b"], "big": 2**40, "yes": True}

    store.write([Row("x", np.ones(4, np.float32), "d", metadata)], model="m")

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
