"""Copies and leaks: of equal and nearly equal texts one stays, and nothing that is evaluated is trained on."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedctl.data import duplicates, judging, sketches
from embedctl.data.records import split_of
from embedctl.data.sketches import sketch
from tests.conftest import Run, options, sentences
from tests.test_validation import STORY, report, validate, verdicts


def test_copies_can_fail(run: Run):
    rows = [{"id": "a", "text": STORY}, {"id": "b", "text": STORY}]

    ran = validate(run, "validation.actions.duplicate=fail", "data.held_percent=0", rows=rows)

    assert (ran.code, verdicts()["b"]["verdict"]) == (3, "flag")


def copies_of(texts: list[str], queries: list[int], held: list[bool], **more: object) -> dict[int, tuple[str, int]]:
    """For each copy what it is, and of which."""
    found = duplicates.copies(
        sketch(texts),
        np.array(queries, np.uint64),
        np.array(held),
        similarity=0.8,
        **more,  # type: ignore[arg-type]
    )
    return {copy.row: (copy.check, copy.of) for check in duplicates.CHECKS for copy in found.first(check, 99)}


NEAR = STORY[:600] + " another" + STORY[600:]


def test_a_near_copy_is_found_though_an_earlier_record_is_like_both():
    found = copies_of([STORY, NEAR, STORY + " end"], [1, 2, 2], [False] * 3)

    assert found == {2: ("near_duplicate", 1)}


def test_of_a_held_record_and_its_copies_in_training_the_held_one_stays():
    assert copies_of([STORY, STORY], [0, 0], [False, True]) == {0: ("held_text_in_training", 1)}
    assert copies_of([NEAR, STORY], [0, 0], [False, True]) == {0: ("held_text_in_training", 1)}


def test_without_the_check_of_held_texts_copies_are_still_found():
    wanted = ("duplicate", "near_duplicate")

    assert copies_of([STORY, STORY, NEAR], [0] * 3, [False, False, True], wanted=wanted) == {
        1: ("duplicate", 0),
        2: ("near_duplicate", 0),
    }
    assert copies_of([STORY, STORY], [0, 0], [False, False], wanted=()) == {}


def test_copies_are_dropped_and_the_first_stays(run: Run):
    rows = [
        {"id": "a", "text": STORY},
        {"id": "b", "text": STORY.upper().replace(" ", "  ")},
        {"id": "c", "text": STORY[:600] + " another" + STORY[600:]},
        {"id": "d", "text": STORY, "query": "a question?"},
        {"id": "e", "text": " ".join(reversed(STORY.split()))},
    ]
    validate(run, "data.held_percent=0", rows=rows)

    found = verdicts()
    assert {name: row["verdict"] for name, row in found.items()} == {
        "a": "keep", "b": "drop", "c": "drop", "d": "keep", "e": "keep",
    }  # fmt: skip
    assert (found["b"]["checks"], found["c"]["checks"]) == (["duplicate"], ["near_duplicate"])
    assert (found["b"]["copy_of"], found["c"]["copy_of"]) == ("a", "a")


def test_no_held_text_or_query_is_trained_on(run: Run):
    pairs = sentences(40)
    rows = [{"id": f"r{n}", "text": text, "query": query} for n, (query, text) in enumerate(pairs)]
    # The same texts under other ids with other queries, and the same queries with other texts.
    rows += [{"id": f"s{n}", "text": text, "query": f"other {n}"} for n, (_, text) in enumerate(pairs)]
    rows += [{"id": f"t{n}", "text": f"another text {n}", "query": query} for n, (query, _) in enumerate(pairs)]
    validate(run, rows=rows)

    used = [row for row in rows if verdicts()[row["id"]]["verdict"] != "drop"]
    held = [row for row in used if split_of(row["id"], 20) == "held"]
    trained = [row for row in used if split_of(row["id"], 20) == "train"]
    assert len(held) > 5 and len(trained) > 20
    assert not {row["text"] for row in held} & {row["text"] for row in trained}
    assert not {row["query"] for row in held} & {row["query"] for row in trained}
    assert report()["duplicates"]["held_text_in_training"] > 0


@given(st.lists(st.sampled_from(["alpha beta", "Alpha  BETA!", "gamma", "", "ünder", "\0", "a\0b"]), max_size=12))
def test_a_sketch_depends_on_the_words_of_its_text_alone(texts: list[str]):
    together = sketch(texts)

    alone = [sketch([text]) for text in texts]
    assert together.words.tolist() == [int(one.words[0]) for one in alone]
    assert all((together.signatures[n] == one.signatures[0]).all() for n, one in enumerate(alone))
    assert sketch(["alpha beta"]).words[0] == sketch(["Alpha  BETA!"]).words[0] != sketch(["gamma"]).words[0]
    assert sketch(["it's “so” – ok…"]).words[0] == sketch(['It’s "so" - ok']).words[0]


@given(
    st.lists(
        st.text("aB 9.\n\u2019\u2014\u00c9\u4e2d\u0130\u20ac\u2040\0") | st.sampled_from([STORY, STORY[:200]]),
        max_size=5,
    )
)
def test_a_sketch_is_the_same_by_c_and_by_numpy(texts: list[str]):
    if sketches.native() is None:
        pytest.skip("sketches.c was not built")
    by_c = sketch(texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sketches, "native", lambda: None)
        by_numpy = sketch(texts)

    assert by_c.words.tolist() == by_numpy.words.tolist()
    assert by_c.signatures.tolist() == by_numpy.signatures.tolist()


@given(keys=st.lists(st.integers(0, 9)), known=st.sets(st.integers(0, 9)))
def test_keys_are_told_apart_though_they_share_a_slot(keys: list[int], known: set[int]):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_SLOT_BITS", 2)
        first = duplicates._first_of_each(np.array(keys, np.uint64))
        rows, places = duplicates._found(np.array(keys, np.uint64), np.array(sorted(known), np.uint64))

    assert first.tolist() == [keys.index(key) for key in keys]
    assert rows.tolist() == [row for row, key in enumerate(keys) if key in known]
    assert places.tolist() == [sorted(known).index(keys[row]) for row in rows]


def test_the_estimated_similarity_is_near_the_true_one():
    words = [f"word{n}" for n in range(3000)]
    texts = [" ".join(words), " ".join(words[:2700] + [f"new{n}" for n in range(300)])]
    both = sketch(texts)

    estimate = float((both.signatures[0] == both.signatures[1]).mean())
    # 2,697 of 3,303 runs are in common.
    assert abs(estimate - 0.82) < 0.15
    found = duplicates.copies(both, np.zeros(2, np.uint64), np.zeros(2, bool), similarity=0.6)
    assert [(copy.row, copy.of) for copy in found.first("near_duplicate", 9)] == [(1, 0)]


def test_a_text_that_nearly_repeats_a_held_one_leaks_though_the_same_words_are_in_training_too():
    words = [f"word{n}" for n in range(300)]
    texts = [" ".join([*words[:-3], "other"]), " ".join(words), " ".join(words)]

    found = duplicates.copies(sketch(texts), np.zeros(3, np.uint64), np.array([False, False, True]), similarity=0.8)

    assert [(copy.row, copy.of) for copy in found.first("held_text_in_training", 9)] == [(0, 2), (1, 2)]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40), st.booleans()), min_size=2, max_size=14))
def test_of_all_held_texts_a_leak_names_the_one_most_alike(made: list[tuple[int, int, bool]]):
    # Six stories, of each any number of versions that are shorter at the end.
    stories = [[f"word{n * 7 + story}" for n in range(120)] for story in range(6)]
    texts = [" ".join(stories[story][: 120 - cut]) for story, cut, _ in made]
    held = np.array([side for _, _, side in made])
    together = sketch(texts)

    found = duplicates.copies(together, np.arange(1, len(made) + 1, dtype=np.uint64), held, similarity=0.9)

    alike = (together.signatures[:, None] == together.signatures[None]).mean(axis=2)
    best = {row: alike[row][held].max(initial=0) for row in np.flatnonzero(~held).tolist()}
    leaks = {leak.row: leak.similarity for leak in found.first("held_text_in_training", 99)}
    assert leaks == {row: most for row, most in best.items() if most >= 0.9}


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_no_order_of_records_hides_a_near_copy_of_held_text(order: tuple[int, ...]):
    words = [f"word{n}" for n in range(300)]
    # Two training records of equal words, one a little further off, and the held one.
    texts = [" ".join(words), " ".join(words), " ".join([*words, "more"]), " ".join([*words[:150], "x", *words[150:]])]
    held = np.array([place == 3 for place in order])

    together = sketch([texts[place] for place in order])
    found = duplicates.copies(together, np.arange(1, 5).astype(np.uint64), held, similarity=0.8)

    leaks = {copy.row: copy.of for copy in found.first("held_text_in_training", 9)}
    assert leaks == {row: order.index(3) for row in range(4) if order[row] != 3}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pairs.tsv", f"sentence1\tsentence2\tscore\nthe river flows\tA Question?\t3\n{STORY}\tother\t1\n"),
        (
            "pairs.jsonl",
            '{"sentence1": "the river flows", "sentence2": "A Question?", "score": 3}\n'
            f'{{"sentence1": "other", "sentence2": "{STORY}", "score": 1}}\n',
        ),
    ],
)
def test_no_sentence_of_the_similarity_file_is_trained_on(run: Run, name: str, content: str):
    Path(name).write_text(content, encoding="utf-8")
    rows = [
        {"id": "same", "text": "The river  FLOWS."},
        {"id": "near", "text": NEAR},
        {"id": "asked", "text": "some words", "query": "a question"},
        {"id": "apart", "text": "some words on the river that flows"},
    ]

    ran = validate(run, "data.held_percent=0", f"evaluation.similarity_file={name}", rows=rows)

    first, second = (2, 3) if name.endswith("tsv") else (1, 2)
    found = {id_: (row["verdict"], row["copy_of"]) for id_, row in verdicts().items()}
    of = {"same": f"{name}:{first}", "near": f"{name}:{second}", "asked": f"{name}:{first}"}
    assert ran.code == 0
    assert found == {"apart": ("keep", None), **{id_: ("drop", where) for id_, where in of.items()}}
    assert report()["duplicates"]["held_text_in_training"] == report()["dropped"] == 3


def test_a_held_record_may_say_what_the_similarity_file_says(run: Run):
    Path("pairs.csv").write_text(f"sentence1,sentence2,score\n{STORY},other,1\n", encoding="utf-8")
    held = next(f"r{n}" for n in range(99) if split_of(f"r{n}", 20) == "held")

    validate(run, "evaluation.similarity_file=pairs.csv", rows=[{"id": held, "text": STORY}])

    assert verdicts()[held]["verdict"] == "keep"


def test_another_similarity_file_makes_verdicts_stale_and_judges_no_part_anew(
    run: Run, monkeypatch: pytest.MonkeyPatch
):
    more = ("data.held_percent=0", "evaluation.similarity_file=pairs.csv")
    Path("pairs.csv").write_text("sentence1,sentence2,score\nnothing,other,1\n", encoding="utf-8")
    rows = [{"id": "a", "text": STORY}]
    validate(run, *more, rows=rows)
    before = verdicts()["a"]["verdict"]
    Path("pairs.csv").write_text(f"sentence1,sentence2,score\n{STORY},other,1\n", encoding="utf-8")
    monkeypatch.setattr(judging, "judge", None)

    standing = json.loads(run(*options(*more), "--json", "status").out)
    ran = validate(run, *more, rows=rows)

    (stands,) = [one for one in standing if one["step"] == "validate"]
    assert (stands["state"], "similarity_sha256" in stands["why"]) == ("stale", True)
    assert (ran.code, before, verdicts()["a"]["verdict"]) == (0, "keep", "drop")


def test_a_similarity_file_that_is_not_there_or_cannot_be_read_is_named(run: Run):
    Path("bad.csv").write_bytes(b"sentence1,sentence2,score\ncaf\xe9,x,1\n")

    missing = validate(run, "evaluation.similarity_file=none.csv")
    bad = validate(run, "evaluation.similarity_file=bad.csv")

    assert (missing.code, "no file at none.csv" in missing.err) == (2, True)
    assert (bad.code, "bad.csv cannot be read" in bad.err) == (3, True)
