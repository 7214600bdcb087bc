"""Searching in PostgreSQL with pgvector, a real server: what is found is nearest, with an index and without."""

import numpy as np
import pytest

from tests.postgres import Postgres
from tests.test_pgvector import Values, batch, clustered, opened, url


def nearest(values: Values, asked: Values, k: int) -> list[str]:
    return [f"r{n}" for n in np.argsort(-(values @ asked), kind="stable")[:k]]


@pytest.mark.parametrize("column", ["vector", "halfvec"])
@pytest.mark.parametrize("index_from_rows", [0, 1], ids=["flat", "indexed"])
def test_what_is_found_is_nearest(database: Postgres, column: str, index_from_rows: int):
    values, asked = clustered(2000), clustered(30, seed=1)
    store = opened(url(database), 16, column=column, index_from_rows=index_from_rows)
    store.write(batch(values), model="m")
    store.finish(written=True)

    found = [[hit.id for hit in store.search(one, 10, model="m", where={})] for one in asked]

    expected = [nearest(values, one, 10) for one in asked]
    shared = np.mean([len({*a} & {*b}) / 10 for a, b in zip(found, expected, strict=True)])
    assert shared == 1 if (column, index_from_rows) == ("vector", 0) else shared >= 0.98
    for one, hit in ((one, store.search(one, 1, model="m", where={})[0]) for one in asked):
        assert hit.score == pytest.approx(float(values[int(hit.id[1:])] @ one), abs=1e-3)


def test_hundreds_of_copies_hide_nothing(database: Postgres):
    """HNSW links copies of one vector to nothing but each other; a search that meets them has to get out again."""
    copies, others = np.repeat(clustered(1, seed=1), 20_000, axis=0), clustered(100)
    store = opened(url(database), 16, index_from_rows=1)
    store.write(batch(copies, first=len(others)), model="m")
    store.write(batch(others), model="m")
    store.finish(written=True)

    asked = clustered(100, seed=2)
    found = [{hit.id for hit in store.search(one, 10, model="m", where={})} for one in asked]
    expected = [
        {id_ for id_ in nearest(others, one, 10) if others[int(id_[1:])] @ one > copies[0] @ one + 1e-6}
        for one in asked
    ]
    assert sum(map(bool, expected)) > 50
    # The levels of the graph are drawn by chance: without a way out a tenth to a half is found.
    assert sum(len(a & b) for a, b in zip(found, expected, strict=True)) > 0.7 * sum(map(len, expected))


def test_a_filter_goes_first_so_that_k_are_found_where_there_are_k(database: Postgres):
    values, asked = clustered(2000), clustered(1, seed=1)[0]
    store = opened(url(database), 16, index_from_rows=1)
    store.write(batch(values), model="m")
    store.finish(written=True)

    odd = store.search(asked, 10, model="m", where={"parity": [1]})
    three = store.search(asked, 10, model="m", where={"n": [5, 7.0, 1999, 4000], "parity": [1]})

    ranked = [id_ for id_ in nearest(values, asked, 2000) if int(id_[1:]) % 2]
    assert [hit.id for hit in odd] == ranked[:10]
    assert [hit.id for hit in three] == [id_ for id_ in ranked if id_ in ("r5", "r7", "r1999")]
    assert store.search(asked, 10, model="other", where={}) == []


def test_indexes_are_made_once_and_used(database: Postgres):
    store = opened(url(database), 16, index_from_rows=100)
    store.write(batch(clustered(99)), model="m")
    store.finish(written=True)
    before = database.run("SELECT count(*) FROM pg_indexes WHERE tablename = 'main'", database="tests")
    store.write(batch(clustered(2000)), model="m")
    store.finish(written=True)
    store.finish(written=True)

    assert before == [(1,)]
    kinds = database.run("SELECT indexdef FROM pg_indexes WHERE tablename = 'main'", database="tests")
    assert len(kinds) == 4
    assert sum("hnsw" in text for (text,) in kinds) == 1
