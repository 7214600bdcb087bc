"""Tokens: every character covered, the same ids twice, spans that hold what they say."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedctl.artifacts import manifest
from embedctl.cli.data import show_tokens
from embedctl.errors import ArtifactError, ConfigError, DataError
from embedctl.settings import TokensSettings
from embedctl.tokens import tokenization, tokenizer
from embedctl.tokens.shards import TokenTable
from tests.conftest import Run, options, prepare, sentences, tiny


@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece"])
def test_training_twice_gives_the_same_ids(algorithm: str):
    texts = [text for _, text in sentences(200)]
    settings = TokensSettings(algorithm=algorithm, vocabulary_size=500)

    one, *others = (tokenizer.train(lambda: iter(texts), settings) for _ in range(5))

    assert {other.to_str() for other in others} == {one.to_str()}
    assert one.get_vocab_size() <= 500
    frame = tokenizer.frame_of(one)
    assert one.encode("the river").ids == [
        *frame.prefix,
        *one.encode("the river", add_special_tokens=False).ids,
        *frame.suffix,
    ]


@given(text=st.text())
def test_byte_level_tokens_give_the_text_back(text: str):
    trained = tokenizer.train(lambda: (text for _, text in sentences(30)), TokensSettings(vocabulary_size=400))

    assert trained.decode(trained.encode(text, add_special_tokens=False).ids, skip_special_tokens=False) == text


def test_the_same_corpus_gives_the_same_bytes():
    one, other = (prepare(workspace=name) for name in ("one", "other"))

    assert manifest.read(one.layout.tokens, "tokens") == manifest.read(other.layout.tokens, "tokens")


def test_a_span_holds_the_text_and_a_chunk_its_tokens():
    loaded = prepare("tokens.max_tokens=16", "tokens.overlap_tokens=4", "tokens.query_max_tokens=24")
    table = TokenTable(loaded.layout.tokens)
    texts = {f"r{n}": text for n, (_, text) in enumerate(sentences(60))}
    rows = table.rows(0, len(table), ["record", "start", "end", "text", "inexact"])

    reached: dict[str, int] = {}
    for number, row in enumerate(rows):
        ids = table.passage(number)
        inner = ids[len(table.frame.prefix) : len(ids) - len(table.frame.suffix)].tolist()
        assert row["text"] == texts[row["record"]][row["start"] : row["end"]]
        assert (table.tokenizer.encode(row["text"], add_special_tokens=False).ids == inner) == (row["inexact"] is None)
        assert len(ids) <= 16
        assert row["start"] <= reached.get(row["record"], 0)
        reached[row["record"]] = row["end"]
    assert reached == {name: len(text) for name, text in texts.items()}
    assert len(rows) > len(texts)


def test_queries_and_splits_stand_with_their_records():
    table = TokenTable(prepare().layout.tokens)

    assert table.records == 60
    assert 0 < table.held.sum() < 30
    assert (table.query_lengths > 0).all()
    first = int(table.record_starts[7])
    assert table.tokenizer.decode(table.query(7).tolist()) == table.strings("query", [first])[0]


def test_the_vocabulary_is_learnt_without_the_held_records():
    loaded = prepare("tokens.vocabulary_size=2000")
    table = TokenTable(loaded.layout.tokens)
    held = [text for (_, text), held in zip(sentences(60), table.held, strict=True) if held]
    trained = [text for (_, text), held in zip(sentences(60), table.held, strict=True) if not held]
    words = {word for text in held for word in text.split()} - {word for text in trained for word in text.split()}

    # min_frequency is 2 and each text repeats its sentence, so a vocabulary that saw them would hold some whole.
    assert words
    assert not any(len(table.tokenizer.encode(" " + word, add_special_tokens=False).ids) == 1 for word in words)


def test_a_long_query_is_cut_and_counted(caplog: pytest.LogCaptureFixture):
    loaded = prepare("tokens.query_max_tokens=8")
    made = manifest.read(loaded.layout.tokens, "tokens")

    table = TokenTable(loaded.layout.tokens)
    longer = sum(len(table.tokenizer.encode(query).ids) > 8 for query, _ in sentences(60))
    assert table.query_lengths.max() == 8
    assert made.facts["queries"] == 60
    assert made.facts["cut_queries"] == longer > 0


def test_a_given_tokenizer_is_used_as_it_is():
    first = prepare(workspace="one")
    path = first.layout.tokens / "tokenizer.json"

    second = prepare(f"tokens.tokenizer={path}", workspace="two")

    one, two = TokenTable(first.layout.tokens), TokenTable(second.layout.tokens)
    assert all(np.array_equal(one.passage(row), two.passage(row)) for row in range(len(one)))
    assert (second.layout.tokens / "tokenizer.json").read_bytes() == path.read_bytes()


def test_faults_say_what_is_wrong():
    Path("not.json").write_text("[]")

    with pytest.raises(ArtifactError, match=r"not\.json is not a tokenizer"):
        prepare("tokens.tokenizer=not.json")
    with pytest.raises(ConfigError, match="no tokenizer at missing"):
        prepare("tokens.tokenizer=missing.json")
    with pytest.raises(DataError, match="left no record"):
        prepare("validation.min_characters=10000", workspace="other")


def test_another_corpus_asks_for_validation_first(run: Run):
    loaded = prepare()
    Path("text/records.jsonl").write_text('{"text": "something else altogether"}\n')
    assert run(*options(), "data", "fetch").code == 0

    ran = run(*options(), "data", "tokenize")

    assert ran.code == 3
    assert "run `embedctl data validate` first" in ran.err
    assert manifest.find(loaded.layout.tokens, "tokens") is not None


def test_tokenizing_again_does_nothing_until_a_setting_changes():
    loaded = prepare()

    def again(*more: str) -> bool:
        settings = tiny(*more).settings
        return tokenization.tokenize(settings.tokens, loaded.layout, held_percent=settings.data.held_percent).made

    assert [again(), again("tokens.max_tokens=40"), again("tokens.max_tokens=40")] == [False, True, False]


def test_tokenize_says_how_much_is_cut_and_how_fast_if_it_took_a_second(run: Run, capsys: pytest.CaptureFixture[str]):
    made = prepare()
    shutil.rmtree("ws/tokens")

    ran = run(*options(), "data", "tokenize")

    assert ran.code == 0
    for words in ("tokens per character", "of the queries were cut", "█"):
        assert words in ran.out
    assert "MB/s" not in ran.out
    measured = json.loads(run("--json", *options("tokens.max_tokens=40"), "data", "tokenize").out)["measured"]
    assert set(measured) == {"megabytes_per_second", "tokens_per_second", "processes", "seconds"}
    facts = manifest.read(made.layout.tokens, "tokens").facts
    capsys.readouterr()
    show_tokens(facts, {**measured, "megabytes_per_second": 51.5, "tokens_per_second": 9_000_000, "seconds": 1.0})
    assert "51.5 MB/s, 9,000,000 tokens/s, 1 process, by gigatoken" in capsys.readouterr().out
