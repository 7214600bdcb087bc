"""What an upsert does beside sending: a dry run, pruning, verifying."""

import numpy as np
import pytest

from embedctl.errors import ArtifactError
from embedctl.store.upsert import Wish
from tests.loopback_pinecone import LoopbackPinecone
from tests.rows import batch, random_batch, write_vectors
from tests.stores import bring, project


@pytest.mark.parametrize("kind", ["pinecone", "lancedb"])
def test_dry_run_tells_and_does_nothing(server: LoopbackPinecone, kind: str):
    loaded = project(kind=kind)
    write_vectors(loaded.layout, random_batch(20), batch(["zero"], np.zeros((1, 4))))

    first = bring(loaded, Wish(dry_run=True))
    made = server.indexes or (loaded.layout.store / "main.lance").exists()
    bring(loaded)
    write_vectors(loaded.layout, batch(["r1", "new"], np.ones((2, 4)), digests=["x", "y"]))
    second = bring(loaded, Wish(dry_run=True, prune_stale=True))

    assert not made
    assert (first.written, first.rejected, first.sent) == (20, 1, 0)
    assert (second.written, second.changed, second.deleted, second.sent) == (2, 1, 19, 0)


@pytest.mark.parametrize("kind", ["pinecone", "lancedb"])
def test_prune_deletes_what_the_vectors_no_longer_hold_and_nothing_else(server: LoopbackPinecone, kind: str):
    loaded = project(kind=kind)
    write_vectors(loaded.layout, random_batch(2500))
    bring(loaded)
    if kind == "pinecone":
        server.vectors()["theirs"] = {"values": np.ones(4, np.float32), "metadata": {}}
    write_vectors(loaded.layout, random_batch(100))

    tally = bring(loaded, Wish(prune_stale=True))
    again = bring(loaded, Wish(prune_stale=True))

    assert (tally.deleted, tally.written, again.deleted, again.sent) == (2400, 0, 0, 0)
    if kind == "pinecone":
        assert server.vectors().keys() == {*random_batch(100).column("id").to_pylist(), "theirs"}
        assert [len(body["ids"]) for path, body in server.requests if path == "/vectors/delete"] == [1000, 1000, 400]


@pytest.mark.parametrize("kind", ["pinecone", "lancedb"])
def test_verify_finds_what_was_tampered_with_and_the_next_run_mends_it(server: LoopbackPinecone, kind: str):
    loaded = project(kind=kind)
    rows = random_batch(250)
    write_vectors(loaded.layout, rows)
    whole = bring(loaded, Wish(verify_share=1.0))
    if kind == "pinecone":
        values = server.vectors()["r77"]["values"]
        values[2] = np.nextafter(values[2], np.float32(9))
    else:
        import lancedb

        table = lancedb.connect(str(loaded.layout.store)).open_table("main")
        table.update(where="id = 'r77'", values={"vector": [1.0, 2.0, 3.0, 4.0]})

    with pytest.raises(ArtifactError, match="r77"):
        bring(loaded, Wish(verify_share=1.0))
    mended = bring(loaded, Wish(verify_share=1.0))

    assert (whole.verified, mended.verified, mended.sent) == (250, 250, 1)


def test_a_sample_is_some_of_them_but_never_none(server: LoopbackPinecone):
    loaded = project()
    write_vectors(loaded.layout, random_batch(1000))

    assert 0 < bring(loaded, Wish(verify_share=0.1)).verified < 300
    assert bring(loaded, Wish(verify_share=0.0001)).verified == 1
