"""Pinecone: the real SDK against a server on this machine that keeps Pinecone's limits and fails on demand."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr

from embedctl.embedding.generation import generate
from embedctl.embedding.vectors import matrix
from embedctl.errors import ConfigError
from embedctl.loading import Loaded
from embedctl.settings import StoreSettings
from embedctl.store.pinecone import PineconeStore
from embedctl.store.pinecone_faults import retry_after
from embedctl.store.pinecone_rows import decimals, sizes
from embedctl.store.upsert import Wish
from tests.conftest import Run, options, prepare, train
from tests.loopback_pinecone import KEY, LoopbackPinecone
from tests.rows import batch, random_batch, write_vectors
from tests.stores import bring, project
from tests.test_embedding import vectors


def opened(**settings: object) -> PineconeStore:
    return PineconeStore(StoreSettings(kind="pinecone", **settings), SecretStr(KEY))


def embedded(*settings: str) -> tuple[Loaded, list[str]]:
    more = ["store.kind=pinecone", "store.namespace=tests", *settings]
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
    assert all(np.array_equal(stored[id_]["values"], values[n]) for n, id_ in enumerate(ids))
    assert len(hits) == 3
    assert hits[0]["metadata"]["text"]
    assert not any(name.startswith("embedctl_") for hit in hits for name in hit["metadata"])
    assert json.loads(run(*words, "--json", "status").out)[-1]["facts"]["vectors"] == len(ids)


def test_an_index_of_documents_is_told_by_its_schema_and_filled_searched_verified_and_pruned(
    server: LoopbackPinecone, run: Run
):
    server.make("main", 32, field="embedding")
    loaded, words = embedded()

    first = json.loads(run(*words, "--json", "embed", "upsert", "--verify", "all").out)
    second = json.loads(run(*words, "--json", "embed", "upsert").out)
    hits = json.loads(run(*words, "--json", "embed", "search", "what sings near river?", "-k", "3").out)["hits"]

    ids, values = vectors(loaded)
    stored = server.vectors(namespace="tests")
    assert (first["written"], first["verified"], second["sent"]) == (len(ids), len(ids), 0)
    assert all(np.array_equal(stored[id_]["values"], values[n]) for n, id_ in enumerate(ids))
    assert {path for path, _ in server.requests if "upsert" in path} == {"/namespaces/tests/documents/upsert"}
    assert len(hits) == 3
    assert hits[0]["metadata"].keys() >= {"text", "record"}
    assert "embedding" not in hits[0]["metadata"]


def test_stale_documents_are_deleted(server: LoopbackPinecone):
    server.make("main", 4, field="embedding")
    loaded = project()
    write_vectors(loaded.layout, random_batch(20))
    bring(loaded)
    write_vectors(loaded.layout, random_batch(5))

    assert bring(loaded, Wish(prune_stale=True)).deleted == 15
    assert server.vectors().keys() == {f"r{n}" for n in range(5)}


def test_an_index_without_a_field_for_vectors_is_refused(server: LoopbackPinecone):
    server.make("main", 4, field="a")
    described = server.described
    kinds = {"fields": {"a": {"type": "string"}, "b": {"type": "sparse_vector"}}}
    server.described = lambda name: {**described(name), "schema": kinds}

    with pytest.raises(ConfigError, match="no field for vectors: a, b"):
        opened().create(4)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_smaller_vectors_are_stored_as_the_float32_that_they_are(server: LoopbackPinecone, run: Run, dtype: str):
    loaded, words = embedded(f"embedding.dtype={dtype}")

    ran = run(*words, "embed", "upsert", "--verify", "all")

    ids, values = vectors(loaded)
    stored = server.vectors(namespace="tests")
    assert (ran.code, len(stored)) == (0, len(ids))
    assert all(np.array_equal(stored[id_]["values"], values[n].astype(np.float32)) for n, id_ in enumerate(ids))


def test_rejects_end_with_5_and_the_file_is_named(server: LoopbackPinecone, run: Run):
    loaded, words = embedded()
    bad = vectors(loaded)[0][3]
    server.ids_refused = {bad}

    told = json.loads(run(*words, "--json", "embed", "upsert").out)
    ran = run(*words, "embed", "upsert")

    assert (told["ok"], told["code"], told["error"], told["rejected"]) == (False, 5, "partial", 1)
    assert ran.code == 5
    assert "1 vectors were rejected: ws/ledger/pinecone-main.rejects.jsonl says why" in ran.err
    assert json.loads(Path(told["rejects"]).read_text(encoding="utf-8"))["id"] == bad


def test_an_index_emptied_behind_our_back_is_filled_again(server: LoopbackPinecone, run: Run):
    loaded, words = embedded()
    run(*words, "embed", "upsert")
    server.vectors(namespace="tests").clear()

    ran = run(*words, "embed", "upsert")

    assert "sending all again" in ran.err
    assert len(server.vectors(namespace="tests")) == len(vectors(loaded)[0])


def test_metadata_that_pinecone_does_not_take_is_made_plain(server: LoopbackPinecone):
    store = opened()
    store.create(4)
    metadata = {"none": None, "nested": {"a": 1}, "mixed": [1, "a"], "tags": ["a", "b"], "big": 2**40, "yes": True}

    store.write(batch(["x"], np.ones((1, 4)), metadata=[metadata]), model="m")

    kept = server.vectors()["x"]["metadata"]
    assert {name: value for name, value in kept.items() if not name.startswith("embedctl_")} == {
        "nested": '{"a": 1}', "mixed": ["1", "a"], "tags": ["a", "b"], "big": 2**40, "yes": True,
    }  # fmt: skip


def test_decimals_are_the_shortest_that_are_the_same_float32():
    chance = np.random.default_rng(0)
    bits = chance.integers(0, 2**32, size=100_000, dtype=np.uint32)
    values = bits.view(np.float32)[np.isfinite(bits.view(np.float32))]

    written = decimals(values)
    shortest = [np.format_float_scientific(value, unique=True, trim="-") for value in values[:2000]]

    assert np.array_equal(np.array(json.loads(written), dtype=np.float32).view(np.uint32), values.view(np.uint32))
    for text, best in zip(written[1:-1].decode().split(","), shortest, strict=False):
        assert len(text.replace("-", "").split("e")[0].strip("0.").replace(".", "")) <= len(
            best.replace("-", "").split("e")[0].strip("0.").replace(".", "")
        )


def test_no_request_is_larger_than_it_was_taken_for(server: LoopbackPinecone):
    arrived = []
    answer = server.answer
    server.answer = lambda method, path, body, size: (arrived.append(size), answer(method, path, body, size))[1]
    store = opened()
    store.create(384)
    rows = random_batch(100, dim=384, text="é" * 900)

    store.write(rows, model="m" * 64)

    assert 0.9 < arrived[-1] / sizes(rows).sum() <= 1.0


def test_retry_after_is_read_as_seconds_and_as_a_date():
    assert retry_after({"Retry-After": "2.5"}) == 2.5
    assert retry_after({"retry-after": "Wed, 25 Nov 2026 04:00:10 GMT"}, now=1795579203.0) == 7.0
    assert retry_after({"retry-after": "Wed, 25 Nov 2026 04:00:10 GMT"}, now=1795579303.0) == 0.0
    assert retry_after({"retry-after": "86400"}) == 120.0
    assert [retry_after({"retry-after": odd}) for odd in ("soon", "nan", "", "-1")] == [None, None, None, 0.0]
    assert retry_after({}) is None


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
    loaded = project()
    write_vectors(loaded.layout, random_batch(3))
    monkeypatch.delenv("PINECONE_API_KEY")
    if key is not None:
        monkeypatch.setenv("PINECONE_API_KEY", key)

    ran = run(*options("store.kind=pinecone"), "embed", "upsert")

    assert ran.code == 7
    assert "PINECONE_API_KEY" in ran.err
    assert not (key and key.strip()) or key not in ran.out + ran.err


def test_the_key_may_come_from_the_env_file(server: LoopbackPinecone, run: Run, monkeypatch: pytest.MonkeyPatch):
    loaded = project()
    write_vectors(loaded.layout, random_batch(3))
    monkeypatch.delenv("PINECONE_API_KEY")
    Path(".env").write_text(f"PINECONE_API_KEY={KEY}\n", encoding="utf-8")

    assert run(*options("store.kind=pinecone"), "embed", "upsert").code == 0
    assert np.array_equal(server.vectors()["r1"]["values"], matrix(random_batch(3))[1])


@pytest.mark.parametrize("share", ["0", "2", "-1%", "some"])
def test_a_share_that_is_none_is_refused(run: Run, share: str):
    assert run(*options(), "embed", "upsert", f"--verify={share}").code == 2


def test_ids_beyond_ascii_are_sent_in_it_and_come_back_as_they_were(server: LoopbackPinecone):
    store = opened()
    store.create(4)
    ids = ["naïve.txt#0", "50%20", "tab\t", "plain #1", "你好"]

    store.write(batch(ids, np.eye(5, 4) + 1), model="m")

    assert all(id_.isascii() and id_.isprintable() for id_ in server.vectors())
    assert {"plain #1", "na%C3%AFve.txt#0", "50%2520"} < server.vectors().keys()
    assert store.fetch(ids).keys() == {*ids}
    assert {hit.id for hit in store.search(np.ones(4, np.float32), 9, model="m", where={})} == {*ids}
    store.delete(ids[:2])
    assert store.fetch(ids).keys() == {*ids[2:]}
