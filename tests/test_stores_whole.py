"""A store beside what happens to it: killed while its table is made, odd widths, indexes asked for later, vectors that
are made anew meanwhile, and folders of exports that hold what is not ours."""

import errno
import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from embedctl.artifacts.folder import lock
from embedctl.embedding.export import export
from embedctl.embedding.vectors import matrix
from embedctl.errors import LockedError, RefusedError
from embedctl.settings import Secrets
from embedctl.store.opening import open_store
from embedctl.store.upsert import Wish, upsert
from tests.conftest import Run, options, prepare, tiny, train, write_corpus
from tests.rows import random_batch, write_vectors


@pytest.mark.parametrize("dim", [4, 12, 100])
def test_an_index_is_made_for_vectors_of_any_width(dim: int):
    loaded = tiny("store.index_from_rows=1")
    write_vectors(loaded.layout, random_batch(300, dim=dim))

    assert upsert(loaded.settings.store, loaded.layout).written == 300
    assert upsert(loaded.settings.store, loaded.layout).sent == 0
    store = open_store(loaded.settings.store, loaded.layout, Secrets())
    assert {"vector", "id"} <= store._indexed()
    for row, vector in enumerate(matrix(random_batch(300, dim=dim))[:20]):
        assert store.search(vector, 3, model="m", where={})[0].id == f"r{row}"


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
    Path("out/notes.txt").rename("out/.DS_Store")
    assert export("npy", loaded.layout, to=Path("out")).made


def test_two_projects_in_one_collection_are_told_and_nothing_of_the_other_is_pruned(
    run: Run, caplog: pytest.LogCaptureFixture
):
    for name, count in (("a", 30), ("b", 20)):
        loaded = tiny(f"project.name={name}", f"project.run={name}")
        write_vectors(loaded.layout, random_batch(count))
        tally = upsert(loaded.settings.store, loaded.layout)

    assert (tally.unchanged, "filled by project a" in caplog.text) == (20, True)
    with pytest.raises(RefusedError, match="project a"):
        upsert(loaded.settings.store, loaded.layout, Wish(prune_stale=True))
    other = tiny("project.name=c", "project.run=c")
    write_vectors(other.layout, random_batch(10))
    upsert(other.settings.store, other.layout, Wish(dry_run=True))
    with pytest.raises(RefusedError, match="project a, b"):
        upsert(other.settings.store, other.layout, Wish(prune_stale=True))
    with sqlite3.connect(loaded.layout.ledger) as ledger:  # as of an embedctl that did not note them
        ledger.execute("DELETE FROM senders")
    first = tiny("project.name=a", "project.run=a")
    upsert(loaded.settings.store, loaded.layout)
    with pytest.raises(RefusedError, match="project b"):
        upsert(first.settings.store, first.layout, Wish(prune_stale=True))
    shutil.rmtree(loaded.layout.store)  # made anew, it is that of who fills it
    upsert(loaded.settings.store, loaded.layout)
    assert upsert(loaded.settings.store, loaded.layout, Wish(prune_stale=True)).deleted == 0


def test_hybrid_search_with_a_model_that_has_no_vectors_says_so(run: Run):
    loaded = prepare()
    train(loaded)
    assert run(*options(), "embed", "generate").code == 0
    assert run(*options(), "embed", "upsert").code == 0
    assert run(*options(), "embed", "search", "river", "--mode", "hybrid").code == 0
    assert run(*options(), "checkpoint", "restore", "0").code == 0

    for mode in ("vector", "hybrid"):
        assert run(*options(), "embed", "search", "river", "--mode", mode).code == 12


def test_numbers_are_found_where_they_are_text_too(run: Run):
    file = write_corpus(Path("text")) / "records.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    years = {0: 2020, 1: "2020", 2: [2019, 2020], 3: "2021"}
    told = [{**row, **({"year": years[n]} if n in years else {})} for n, row in enumerate(rows)]
    file.write_text("".join(json.dumps(row) + "\n" for row in told))
    assert run(*options("data.held_percent=0"), "run").code == 0

    def found(condition: str) -> set[str]:
        words = ["--json", "embed", "search", "river", "--where", condition]
        hits = json.loads(run(*options("data.held_percent=0"), *words).out)["hits"]
        return {hit["metadata"]["record"] for hit in hits}

    names = [row["id"] for row in rows]
    assert found("year=2020") == {*names[:3]}
    assert found('year="2020"') == {names[1]}


def test_what_cannot_be_asked_is_refused(run: Run):
    train(prepare())
    assert run(*options(), "embed", "generate").code == 0
    assert run(*options(), "embed", "upsert").code == 0
    Path("folder.txt").mkdir()
    Path("afile").write_text("")
    Path("asked.txt").write_bytes("\ufeffriver\n".encode())

    def code(*words: str) -> int:
        return run(*options(), "embed", "search", *words).code

    assert code("caf\udce9") == 2
    assert code("--queries", "folder.txt") == 2
    assert code("--queries", "asked.txt", "--to", "afile/x.jsonl") == 9
    assert code("--queries", "asked.txt", "--to", "x.jsonl") == 0
    assert json.loads(Path("x.jsonl").read_text())["text"] == "river"


def test_where_nothing_can_be_locked_a_shared_lock_is_owned_like_any(monkeypatch: pytest.MonkeyPatch):
    def none(*_: object) -> None:
        raise OSError(errno.ENOSYS, "no flock here")

    monkeypatch.setattr("fcntl.flock", none)
    for shared in (False, True, True, False):
        with lock(Path("locks/a.lock"), shared=shared):
            for other in (False, True):
                with pytest.raises(LockedError), lock(Path("locks/a.lock"), shared=other):
                    raise AssertionError
