"""Stores: twice is once, what is found is nearest, and models are never mixed."""

import json
import multiprocessing
import shutil
import subprocess
import sys
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pytest
import torch

from embedctl.checkpoint import files
from embedctl.embedding.generation import generate
from embedctl.loading import Loaded
from embedctl.model.encoding import encode
from embedctl.settings import StoreSettings
from embedctl.store.lance import LanceStore
from embedctl.store.protocol import Busy
from embedctl.store.search import Searcher, Wanted
from embedctl.store.upsert import Tally, upsert
from embedctl.tokens.tokenizer import encode_query
from tests.conftest import Run, options, prepare, train
from tests.rows import batch
from tests.test_embedding import vectors


def stored(*more: str, max_steps: int = 2) -> Loaded:
    loaded = prepare(*more)
    train(loaded, max_steps=max_steps)
    generate(loaded.settings.embedding, loaded.settings.compute, loaded.layout)
    return loaded


def opened(folder: str | Path) -> LanceStore:
    return LanceStore(Path(folder), StoreSettings(), "t")


def bring(loaded: Loaded) -> Tally:
    return upsert(loaded.settings.store, loaded.layout)


def in_store(loaded: Loaded) -> dict[str, np.ndarray]:
    table = lancedb.connect(str(loaded.layout.store)).open_table("main").to_arrow()
    values = np.stack(table.column("vector").to_numpy())
    return dict(zip(table.column("id").to_pylist(), values, strict=True))


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_the_store_holds_the_vectors_and_a_second_upsert_writes_nothing(dtype: str):
    loaded = stored(f"embedding.dtype={dtype}")

    first, second = bring(loaded), bring(loaded)

    ids, found = vectors(loaded)
    assert (first.written, first.unchanged) == (len(ids), 0)
    assert (second.written, second.unchanged) == (0, len(ids))
    assert all(np.array_equal(in_store(loaded)[id_], found[row]) for row, id_ in enumerate(ids))
    assert len(in_store(loaded)) == len(ids)


def test_only_what_changed_is_written():
    loaded = stored()
    bring(loaded)
    table = lancedb.connect(str(loaded.layout.store)).open_table("main")
    table.delete("id = 'r1#0'")
    table.update(where="id = 'r2#0'", values={"digest": "old"})

    assert bring(loaded).written == 2
    assert len(in_store(loaded)) == len(vectors(loaded)[0])


def test_another_model_replaces_the_vectors():
    loaded = stored()
    bring(loaded)
    train(loaded, resume=True, max_steps=4)
    generate(loaded.settings.embedding, loaded.settings.compute, loaded.layout)

    tally = bring(loaded)

    ids, found = vectors(loaded)
    assert tally.unchanged == 0
    assert all(np.array_equal(in_store(loaded)[id_], found[row]) for row, id_ in enumerate(ids))


def test_a_deleted_store_is_filled_again_and_status_sees_it(run: Run):
    loaded = stored()
    bring(loaded)
    shutil.rmtree(loaded.layout.store)

    before = json.loads(run(*options(), "--json", "status").out)[-1]
    tally = bring(loaded)

    assert before["state"] == "missing"
    assert tally.unchanged == 0
    assert json.loads(run(*options(), "--json", "status").out)[-1]["facts"]["vectors"] == tally.written


def test_a_killed_upsert_is_finished_by_the_next():
    loaded = stored()
    script = (
        "import os, signal, sys\n"
        "from embedctl.store import lance\n"
        "from embedctl.__main__ import main\n"
        "real, calls = lance.LanceStore.write, []\n"
        "def write(self, rows, **how):\n"
        "    real(self, rows, **how)\n"
        "    calls.append(1)\n"
        "    if len(calls) == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "lance.LanceStore.write = write\n"
        "main()\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, *options(), "embed", "upsert", "--batch-size", "10"])

    assert killed.returncode == -9
    tally = bring(loaded)

    ids, found = vectors(loaded)
    assert (tally.written, tally.unchanged) == (len(ids) - 20, 20)
    assert all(np.array_equal(in_store(loaded)[id_], found[row]) for row, id_ in enumerate(ids))


def test_an_answer_that_is_lost_doubles_no_row(monkeypatch: pytest.MonkeyPatch):
    loaded = stored("store.batch_size=10")
    write, lost = LanceStore.write, []

    def half_deaf(self: LanceStore, rows: pa.RecordBatch, *, model: str, new: bool = False) -> None:
        write(self, rows, model=model, new=new)
        if len(lost) < 3:
            lost.append(new)
            raise Busy("the answer was lost")

    monkeypatch.setattr(LanceStore, "write", half_deaf)
    tally = bring(loaded)

    table = lancedb.connect(str(loaded.layout.store)).open_table("main").to_arrow()
    assert any(lost)
    assert tally.sent == len(table) + 10 * len(lost)
    assert sorted(table.column("id").to_pylist()) == sorted(vectors(loaded)[0])


def test_an_id_that_is_there_twice_hides_no_other():
    store = opened("store")
    store.create(4)
    for first in (0, 0, 5):
        rows = batch([f"r{n}" for n in range(first, first + 5)], np.ones((5, 4)))
        store.write(rows, model="m", new=True)

    ids = [f"r{n}" for n in range(10)]

    assert store.count() == 15
    assert store.known(ids).keys() == store.fetch(ids).keys() == {*ids}


def _merge(folder: str, offset: int) -> None:
    store = opened(folder)
    for first in range(0, 200, 20):
        store.write(batch([f"r{n}" for n in range(first, first + 20)], np.full((20, 4), offset)), model="m")


def test_two_writers_at_once_leave_no_row_twice():
    opened("store").create(4)
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_merge, args=("store", n)) for n in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    ids = lancedb.connect("store").open_table("main").to_arrow().column("id").to_pylist()
    assert any(writer.exitcode == 0 for writer in writers)
    assert len(ids) == len(set(ids)) == 200


def test_search_shows_the_nearest_with_score_id_and_text(run: Run):
    bring(stored(max_steps=20))
    text = "The falcon number 8 shines slowly near the old candle. "

    ran = run(*options(), "embed", "search", text, "-k", "3")
    hits = json.loads(run(*options(), "--json", "embed", "search", text, "-k", "3").out)["hits"]

    assert ran.code == 0
    assert len(hits) == 3
    for hit in hits:
        assert f"{hit['score']:.3f}" in ran.out
        assert hit["id"] in ran.out
        assert " ".join(hit["metadata"]["text"].split())[:30] in " ".join(ran.out.split())


def test_search_equals_exact_search():
    loaded = stored("compute.precision=fp32", max_steps=10)
    bring(loaded)
    ids, values = vectors(loaded)
    model = files.load_model(files.head(loaded.layout.checkpoints), torch.device("cpu"))
    text = "what sings near river?"
    asked = np.array(encode_query(model.tokenizer, text, model.query_frame, 24), dtype=np.uint32)
    scores = values @ encode(model.encoder, [asked], dtype=torch.float32)[0]

    settings = loaded.settings
    searcher = Searcher(
        Wanted(10),
        settings=settings.store,
        embedding=settings.embedding,
        compute=settings.compute,
        layout=loaded.layout,
    )
    (hits,) = searcher.answers([text])

    assert [hit.score for hit in hits] == pytest.approx(sorted(scores, reverse=True)[:10], abs=1e-5)
    assert [hit.score for hit in hits] == pytest.approx([scores[ids.index(hit.id)] for hit in hits], abs=1e-5)


def test_asking_before_there_is_anything_says_what_to_type(run: Run):
    loaded = prepare()
    none = run(*options(), "embed", "search", "river")
    train(loaded, max_steps=1)
    empty = run(*options(), "embed", "search", "river")
    blank = run(*options(), "embed", "search", "  ")

    assert (none.code, empty.code, blank.code) == (12, 12, 2)
    assert "embedctl train" in none.err
    assert "embedctl embed upsert" in empty.err


def test_vectors_of_an_older_model_are_not_searched_with_a_newer(run: Run):
    loaded = stored()
    bring(loaded)
    train(loaded, resume=True, max_steps=3)

    ran = run(*options(), "embed", "search", "river")

    assert ran.code == 12
    assert "holds no vectors of the model at step 3" in ran.err


def test_a_table_of_another_width_is_refused(run: Run):
    loaded = stored()
    opened(loaded.layout.store).create(7)

    ran = run(*options(), "embed", "upsert")

    assert ran.code == 4
    assert "holds vectors of 7 dimensions, these have 32" in ran.err


def test_ids_are_never_taken_for_sql():
    store = opened("store")
    store.create(2)
    nasty = ["a'b", "'; DROP TABLE x; --", 'quo"te', "back\\slash", "ünïcode", "new\nline"]
    digests = [f"d{n}" for n in range(len(nasty))]
    store.write(batch(nasty, np.ones((len(nasty), 2)), digests=digests), model="m")

    assert store.known([*nasty, "missing"]) == {id_: f"d{n}" for n, id_ in enumerate(nasty)}
    assert store.known(["x' OR '1'='1"]) == {}


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_the_batch_size_changes_nothing(size: int):
    loaded = stored(f"store.batch_size={size}")

    assert bring(loaded).written == len(vectors(loaded)[0]) == len(in_store(loaded))
