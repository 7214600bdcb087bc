"""The ledger: what a store has acknowledged, across kills, never of another store."""

from pathlib import Path

from embedctl.store.ledger import Payload, Whole, open_ledger

LOAD = Payload("a", "b", "0" * 64, 2)


def test_what_was_acknowledged_is_remembered_of_each_target_apart():
    with open_ledger(Path("l.sqlite")) as ledger:
        ledger.acknowledge("a", [("x", "1"), ("y", "2")])
        ledger.acknowledge("b", [("x", "9")])
        ledger.acknowledge("a", [("y", "3")])

    with open_ledger(Path("l.sqlite")) as ledger:
        assert ledger.known("a", ["x", "y", "z"]) == {"x": "1", "y": "3"}
        ledger.forget("a")
        assert (ledger.count("a"), ledger.count("b")) == (0, 1)


def test_a_batch_is_planned_then_sent_then_acknowledged():
    with open_ledger(Path("l.sqlite")) as ledger:
        first, second = ledger.plan("t", [LOAD, LOAD])
        planned = ledger.batches("t")
        ledger.note("t", sent=[first, second])
        ledger.note("t", sent=[first])
        ledger.note("t", acknowledged=[first], stored=[("a", "1"), ("b", "2")])

    with open_ledger(Path("l.sqlite")) as ledger:
        assert planned == [("planned", 0, 2), ("planned", 0, 2)]
        assert ledger.batches("t") == [("acknowledged", 2, 2), ("sent", 1, 2)]
        assert ledger.known("t", ["a", "b"]) == {"a": "1", "b": "2"}


def test_an_id_in_doubt_is_not_known_until_it_is_acknowledged_again():
    with open_ledger(Path("l.sqlite")) as ledger:
        ledger.acknowledge("t", [("x", "1"), ("y", "2")])
        ledger.doubt("t", ["x"])

        assert (ledger.known("t", ["x", "y"]), ledger.doubted("t"), ledger.count("t")) == ({"y": "2"}, {"x"}, 1)
        ledger.acknowledge("t", [("x", "1")])
        assert (ledger.doubted("t"), ledger.count("t")) == (set(), 2)


def test_ids_come_in_pages_and_none_twice():
    with open_ledger(Path("l.sqlite")) as ledger:
        ledger.acknowledge("t", ((f"r{n}", "d") for n in range(2500)))
        ledger.acknowledge("other", [("z", "d")])

        pages = list(ledger.ids("t"))

    assert [len(page) for page in pages] == [1000, 1000, 500]
    assert {id_ for page in pages for id_ in page} == {f"r{n}" for n in range(2500)}


def test_what_is_whole_is_noted_by_name_and_taken_back():
    whole = Whole("pinecone:host/", "content", 2, 3)
    with open_ledger(Path("l.sqlite")) as ledger:
        ledger.finish("pinecone:main/", whole)
        assert (ledger.finished("pinecone:main/"), ledger.finished("pinecone:other/")) == (whole, None)
        ledger.unfinish("pinecone:main/")
        assert ledger.finished("pinecone:main/") is None
