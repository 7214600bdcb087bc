"""A store beside what happens to it: killed while its table is made, odd widths, indexes asked for later, vectors that
are made anew meanwhile, and folders of exports that hold what is not ours."""

import json
from pathlib import Path

import pytest

from embedctl.artifacts.folder import lock
from embedctl.embedding.export import export
from embedctl.errors import LockedError, RefusedError
from embedctl.store.upsert import upsert
from tests.conftest import Run, options, prepare, tiny, train
from tests.rows import random_batch, write_vectors


@pytest.mark.parametrize("dim", [4, 12, 100])
def test_an_index_is_made_for_vectors_of_any_width(dim: int):
    loaded = tiny("store.index_from_rows=1")
    write_vectors(loaded.layout, random_batch(300, dim=dim))

    assert upsert(loaded.settings.store, loaded.layout).written == 300
    assert upsert(loaded.settings.store, loaded.layout).sent == 0


def test_a_table_that_was_killed_while_it_was_made_is_made_again(run: Run):
    loaded = tiny()
    write_vectors(loaded.layout, random_batch(30))
    torn = loaded.layout.store / "main.lance"
    (torn / "_versions").mkdir(parents=True)
    (torn / "data").mkdir()

    assert upsert(loaded.settings.store, loaded.layout).written == 30
    assert upsert(loaded.settings.store, loaded.layout).unchanged == 30


def test_words_that_are_to_be_indexed_later_are(run: Run):
    train(prepare())
    assert run(*options("store.full_text=false"), "embed", "generate").code == 0
    assert run(*options("store.full_text=false"), "embed", "upsert").code == 0
    assert run(*options(), "embed", "search", "river", "--mode", "keyword").code == 2

    later = json.loads(run(*options(), "--json", "embed", "upsert").out)

    assert later["sent"] == 0
    assert run(*options(), "embed", "search", "river", "--mode", "keyword").code == 0


def test_vectors_do_not_change_while_they_are_read():
    loaded = tiny()
    write_vectors(loaded.layout, random_batch(30))
    guard = loaded.layout.lock(loaded.layout.vectors)

    with lock(guard):  # as `embed generate` does
        for read in (lambda: upsert(loaded.settings.store, loaded.layout), lambda: export("npy", loaded.layout)):
            with pytest.raises(LockedError):
                read()
    with lock(guard, shared=True):  # as they do themselves
        assert upsert(loaded.settings.store, loaded.layout).written == 30
        assert export("npy", loaded.layout).made
        with pytest.raises(LockedError), lock(guard):
            raise AssertionError
    with lock(guard):
        pass


def test_what_lies_beside_an_older_export_is_not_deleted():
    loaded = tiny()
    write_vectors(loaded.layout, random_batch(30))
    export("npy", loaded.layout, to=Path("out"))
    Path("out/notes.txt").write_text("mine")
    write_vectors(loaded.layout, random_batch(31))

    with pytest.raises(RefusedError, match=r"notes\.txt"):
        export("npy", loaded.layout, to=Path("out"))

    assert Path("out/notes.txt").read_text() == "mine"
    Path("out/notes.txt").unlink()
    assert export("npy", loaded.layout, to=Path("out")).made
