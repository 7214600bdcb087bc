"""Asking: filters agree with a filter in Python, fusion with the two lists, and what is hostile does no harm."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from embedctl.errors import ConfigError
from embedctl.settings import StoreSettings
from embedctl.store import filters
from embedctl.store.fusion import fused
from embedctl.store.lance import LanceStore
from embedctl.store.pinecone_rows import conditions
from embedctl.store.protocol import Hit, Store
from tests.conftest import Run, options
from tests.postgres import Postgres
from tests.test_pgvector import Values, batch, clustered, opened
from tests.test_pgvector_search import nearest
from tests.test_store import bring, stored

HOSTILE = [
    "it's", "' OR '1'='1", "'; DROP TABLE main; --", '"quoted"', "back\\slash", "\\'", "''", "a\nb", "tab\t", "%s", "%",
    "{}", "{table}", "$ne", "ünïcode", "\u2028", "a=b", "==", "=", " ", "1", "true", "null", "[1]", '{"$gt": 0}', "n1",
    "labels", "model", "/*", "--", "a') OR array_has(labels, 'b", "\U0001f600", "x" * 3000,
]  # fmt: skip
SCALARS = [*HOSTILE, 0, 1, -1, 2.0, 2.5, 2.5e10, 2**60, True, False]

Make = Callable[..., Store]


@pytest.fixture(params=["lancedb", "pgvector"])
def make(request: pytest.FixtureRequest) -> Make:
    """The store of ``dim``, opened with such settings; without an index, unless it is told."""

    def lance(dim: int, **settings: object) -> Store:
        store = LanceStore(Path("store"), StoreSettings(**{"index_from_rows": 0, **settings}), "t")
        store.create(dim)
        return store

    def postgres(dim: int, **settings: object) -> Store:
        database: Postgres = request.getfixturevalue("database")
        return opened(database.url(database="tests"), dim, **{"index_from_rows": 0, **settings})

    return lance if request.param == "lancedb" else postgres


def with_metadata(values: Values, metadata: list[dict[str, Any]]) -> pa.RecordBatch:
    rows = batch(values)
    return rows.set_column(3, "metadata", pa.array([json.dumps(own, ensure_ascii=False) for own in metadata]))


def test_where_is_a_filter_in_python_over_all_rows(make: Make):
    chance = random.Random(7)
    values, asked = clustered(300, dim=8), clustered(1, dim=8, seed=1)[0]
    keys = chance.sample(HOSTILE, 12)

    def value() -> Any:
        return chance.choice(
            [
                chance.choice(SCALARS),
                chance.choice(SCALARS),
                chance.choices(HOSTILE, k=3),
                None,
                {"a": chance.choice(SCALARS)},
            ]
        )

    metadata = [{key: value() for key in chance.sample(keys, 8)} for _ in values]
    store = make(8)
    store.write(with_metadata(values, metadata), model="m")
    order = nearest(values, asked, len(values))

    found = 0
    for _ in range(60):
        where = {
            key: chance.choices(SCALARS, k=chance.choice([1, 2, 20]))
            for key in chance.sample(keys, chance.choice([1, 1, 2]))
        }
        hits = store.search(asked, 300, model="m", where=where)
        assert [hit.id for hit in hits] == [id_ for id_ in order if filters.matches(metadata[int(id_[1:])], where)]
        assert all(hit.metadata == metadata[int(hit.id[1:])] for hit in hits)
        found += len(hits)
    assert found > 300
    assert store.count() == 300


def test_a_filter_of_many_rows_still_leaves_k_with_an_index(make: Make):
    values, asked = clustered(3000), clustered(20, seed=1)
    store = make(16, index_from_rows=1)
    store.write(with_metadata(values, [{"rare": n % 500 == 3, "half": n % 2} for n in range(3000)]), model="m")
    store.finish(written=True)

    for one in asked:
        order = nearest(values, one, 3000)
        rare = [id_ for id_ in order if int(id_[1:]) % 500 == 3]
        assert [hit.id for hit in store.search(one, 10, model="m", where={"rare": [True]})] == rare
        assert len(store.search(one, 10, model="m", where={"half": [1]})) == 10


def test_what_an_index_finds_is_nearest_and_later_rows_are_found_too(make: Make):
    values, asked = clustered(3000, dim=96), clustered(30, dim=96, seed=1)
    store = make(96, index_from_rows=1)
    store.write(batch(values[:2500]), model="m")
    store.finish(written=True)
    store.write(batch(values[2500:], first=2500), model="m")

    shared = [
        len({hit.id for hit in store.search(one, 10, model="m", where={})} & {*nearest(values, one, 10)})
        for one in asked
    ]

    assert np.mean(shared) >= 9.8


def test_words_find_what_holds_them_the_rarest_first(make: Make):
    texts = [f"common river number{n} {'zebra' if n == 7 else 'horse'} runs" for n in range(40)]
    store = make(8)
    store.write(
        with_metadata(clustered(40, dim=8), [{"text": text, "n": n} for n, text in enumerate(texts)]), model="m"
    )
    store.finish(written=True)

    first = store.keyword("Which zebra is at the river?", 5, model="m", where={})
    filtered = store.keyword("zebra river", 5, model="m", where={"n": [3, 4]})

    assert first[0].id == "r7"
    assert len(first) == 5
    assert first[0].metadata == {"text": texts[7], "n": 7}
    assert {hit.id for hit in filtered} == {"r3", "r4"}
    assert store.keyword("running", 50, model="m", where={}) != []
    assert store.keyword("zebra", 5, model="other", where={}) == []
    for text in [*HOSTILE, "", "the", "a & b | !c <-> d:*", "(((", "+-&|!(){}[]^~*?:/"]:
        store.keyword(text, 5, model="m", where={})
    assert store.count() == 40


def test_words_are_looked_through_only_where_that_was_asked_for(make: Make):
    rows = with_metadata(clustered(20, dim=8), [{"text": f"river {n}"} for n in range(20)])
    store = make(8, full_text=False)
    store.write(rows, model="m")
    store.finish(written=True)

    with pytest.raises(ConfigError, match="words"):
        store.keyword("river", 5, model="m", where={})
    assert len(store.search(clustered(1, dim=8)[0], 5, model="m", where={})) == 5
    later = make(8, full_text=True)
    later.finish(written=True)

    assert len(later.keyword("river", 5, model="m", where={})) == 5


def evaluated(condition: dict[str, Any], metadata: dict[str, Any]) -> bool:
    """What Pinecone's documentation says of the operators that are sent."""
    ((name, inside),) = condition.items()
    if name == "$and":
        return all(evaluated(one, metadata) for one in inside)
    if name == "$or":
        return any(evaluated(one, metadata) for one in inside)
    have = metadata.get(name)
    wanted = inside["$eq"]
    return any(
        one == wanted and isinstance(one, bool) == isinstance(wanted, bool)
        for one in (have if isinstance(have, list) else [have])
    )


def test_pinecone_is_asked_for_the_same_filter():
    chance = random.Random(3)
    keys = [key for key in HOSTILE if not key.startswith("$")]
    for _ in range(300):
        metadata = {key: chance.choice(SCALARS) for key in chance.sample(keys, 10)} | {"list": ["a", "b"]}
        where = {
            key: [*chance.choices(SCALARS, k=2), metadata.get(key, 0)]
            if chance.random() < 0.7
            else [chance.choice(SCALARS)]
            for key in chance.sample([*metadata], 2)
        } | chance.choice([{}, {"list": ["b"]}, {"list": ["c"]}])
        where = {key: [one for one in allowed if not isinstance(one, list)] for key, allowed in where.items()}
        sent = conditions("m", where)
        assert evaluated(sent, {**metadata, "embedctl_model": "m"}) == filters.matches(metadata, where)
        assert not evaluated(sent, {**metadata, "embedctl_model": "other"})
    with pytest.raises(ConfigError, match="operator"):
        conditions("m", {"$or": ["x"]})


def test_conditions_are_read_as_json_or_as_they_stand():
    texts = ["a=1", "a=x", "b=true", 'c="1"', "d=x=y", "e=", "f=null", "g=[1]", "h=NaN", "i=1e999", "j=2.50"]

    read = filters.parsed([*texts, "k=" + "9" * 5000])
    assert filters.parsed(["l=" + "9" * 400]) == {"l": [int("9" * 400), "9" * 400]}

    assert read == {
        "a": [1, "1", "x"], "b": [True, "true"], "c": ["1"], "d": ["x=y"], "e": [""], "f": ["null"], "g": ["[1]"],
        "h": ["NaN"], "i": ["1e999"], "j": [2.5, "2.50", "2.5"], "k": ["9" * 5000],
    }  # fmt: skip
    for bad in ("a", "=1", "", "text=river"):
        with pytest.raises(ConfigError):
            filters.parsed([bad])


def test_one_is_one_point_zero_and_never_true():
    assert filters.matches({"a": 1}, {"a": [1.0]})
    assert filters.matches({"a": 1.0}, {"a": [2, 1]})
    assert not filters.matches({"a": 1}, {"a": [True]})
    assert not filters.matches({"a": "1"}, {"a": [1]})
    assert not filters.matches({"a": None}, {"a": ["null"]})
    assert filters.matches({"a": ["x", 3]}, {"a": [3]})
    assert not filters.matches({"a": 1}, {"a": [1], "b": [1]})
    assert filters.labels("a=", ["b"]).isdisjoint(filters.labels("a", ["=b"]))


def test_fusion_is_the_sum_of_reciprocal_ranks():
    one = [Hit(id_, 9.0 - n, {"from": "one"}) for n, id_ in enumerate("abcd")]
    two = [Hit(id_, 0.5, {"from": "two"}) for id_ in "dxa"]

    found = fused([one, two], 3)

    assert [hit.id for hit in found] == ["a", "d", "b"]
    assert [hit.score for hit in found] == pytest.approx([1 / 61 + 1 / 63, 1 / 64 + 1 / 61, 1 / 62])
    assert [hit.id for hit in fused([one], 4)] == list("abcd")
    assert fused([[], []], 4) == []


@pytest.mark.parametrize("kind", ["lancedb", "pgvector"])
def test_hybrid_is_the_fusion_of_both_lists(kind: str, run: Run, request: pytest.FixtureRequest):
    if kind == "pgvector":
        request.getfixturevalue("database")
    stored(max_steps=20)
    words = options(f"store.kind={kind}")
    assert run(*words, "embed", "upsert").code == 0
    asked = "what sings near river 31?"

    def hits(mode: str, k: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(
            run(*words, "--json", "embed", "search", asked, "--mode", mode, "-k", str(k)).out
        )["hits"]
        return found

    lists = [
        [Hit(hit["id"], hit["score"], hit["metadata"]) for hit in hits(mode, 100)] for mode in ("vector", "keyword")
    ]
    both = hits("hybrid", 7)

    expected = fused(lists, 7)
    assert [hit["id"] for hit in both] == [hit.id for hit in expected]
    assert [hit["score"] for hit in both] == pytest.approx([hit.score for hit in expected])
    assert lists[0] != lists[1]


def test_many_queries_are_answered_as_one_by_one(run: Run):
    bring(stored(max_steps=5))
    asked = ["what sings near river?", "where is the falcon", "candle"]
    Path("q.txt").write_text("\n\n".join(asked) + "\n", encoding="utf-8")
    Path("q.jsonl").write_text("".join(json.dumps({"id": f"q{n}", "text": t}) + "\n" for n, t in enumerate(asked)))

    plain = run(*options(), "embed", "search", "--queries", "q.txt", "-k", "4")
    into = run(*options(), "embed", "search", "--queries", "q.jsonl", "-k", "4", "--to", "out/answers.jsonl")
    lines = [json.loads(line) for line in plain.out.splitlines()]
    written = [json.loads(line) for line in Path("out/answers.jsonl").read_text(encoding="utf-8").splitlines()]

    assert (plain.code, into.code) == (0, 0)
    assert "3 queries answered: out/answers.jsonl" in into.out
    assert [line["id"] for line in lines] == ["1", "3", "5"]
    assert [line["id"] for line in written] == ["q0", "q1", "q2"]
    for text, line, other in zip(asked, lines, written, strict=True):
        alone = json.loads(run(*options(), "--json", "embed", "search", text, "-k", "4").out)["hits"]
        assert (
            [hit["id"] for hit in alone] == [hit["id"] for hit in line["hits"]] == [hit["id"] for hit in other["hits"]]
        )
        assert [hit["score"] for hit in alone] == pytest.approx([hit["score"] for hit in line["hits"]], abs=1e-4)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("q.jsonl", '{"text": "a"}\n{"text": 5}\n', "q.jsonl:2: want"),
        ("q.jsonl", "not json\n", "q.jsonl:1: want"),
        ("q.txt", "\n \n", "holds no queries"),
        ("q.csv", "a\n", "want a .txt or .jsonl"),
    ],
)
def test_a_wrong_file_of_queries_is_named_with_its_line(run: Run, name: str, content: str, told: str):
    Path(name).write_text(content, encoding="utf-8")

    ran = run(*options(), "embed", "search", "--queries", name)

    assert ran.code in (2, 3)
    assert told in ran.err


def test_a_search_is_asked_one_way_at_a_time(run: Run):
    Path("q.txt").write_text("a\n", encoding="utf-8")

    for words in (
        [],
        ["a", "--queries", "q.txt"],
        ["a", "--to", "x.jsonl"],
        ["a", "--mode", "magic"],
        ["a", "--where", "b"],
    ):
        assert run(*options(), "embed", "search", *words).code == 2
    assert run(*options(), "embed", "search", "--queries", "none.txt").code == 12


def test_a_filter_that_nothing_fits_is_an_answer(run: Run):
    bring(stored())

    some = run(*options(), "--json", "embed", "search", "river", "--where", "chunk=0", "-k", "3")
    none = run(*options(), "embed", "search", "river", "--where", "chunk=0", "--where", "record=nowhere")

    assert [hit["metadata"]["chunk"] for hit in json.loads(some.out)["hits"]] == [0, 0, 0]
    assert none.code == 0
    assert "nothing fits" in none.err


@pytest.mark.parametrize(
    "own",
    [
        {}, {"text": "a"}, {"a": 1, "text": "b"}, {"text": "a", "b": 1}, {"a": 1, "text": 5}, {"a": 1, "text": None},
        {"a": {"b": 1, "text": "c"}}, {"a": {"b": 1, "text": "c"}, "text": "d"},
        {"text": "x", "a": {"b": 1, "text": "c"}}, {"a": ', "text": "b"}', "text": 'c", "text": "d'},
        {"a": 1, "text": 'q"uote\\ \n \u2028 }'}, {"a": [1]},
        {"a": ', "text": '}, {"a": 1, "b": ', "text": "x"'}, {"a": 1, "text": '"'}, {"a": 1, "text": "}"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("separators", [None, (",", ":")])
def test_metadata_comes_back_as_it_was(own: dict[str, Any], separators: tuple[str, str] | None):
    store = LanceStore(Path("store"), StoreSettings(), "t")
    store.create(4)
    rows = batch(np.ones((1, 4), np.float32))
    line = json.dumps(own, ensure_ascii=False, separators=separators)
    store.write(rows.set_column(3, "metadata", pa.array([line])), model="m")

    (hit,) = store.search(np.ones(4, np.float32), 1, model="m", where={})

    assert hit.metadata == own
