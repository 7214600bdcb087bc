"""Tokens: every character covered, the same ids twice, spans that hold what they say."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedctl.artifacts import manifest
from embedctl.artifacts.growing import Shard
from embedctl.artifacts.outcome import Outcome
from embedctl.cli.data import show_tokens
from embedctl.errors import ArtifactError, ConfigError, DataError
from embedctl.loading import Loaded
from embedctl.progress import Tick
from embedctl.settings import TokensSettings
from embedctl.tokens import shard, tokenization, tokenizer
from embedctl.tokens.shards import TokenTable
from tests.conftest import Run, options, prepare, sentences, tiny, write_corpus


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


def artifact(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def parts(monkeypatch: pytest.MonkeyPatch, *more: str, workspace: str = "ws", count: int = 80) -> Loaded:
    """A corpus of many small parts, validated; and the settings."""
    from embedctl.data import corpus, validation

    monkeypatch.setattr(corpus, "PART_BYTES", 2000)
    write_corpus(Path("text"), count)
    loaded = tiny(*more, workspace=workspace)
    corpus.fetch(loaded.settings.data, loaded.layout)
    validation.validate(loaded.settings.validation, loaded.layout, held_percent=20)
    return loaded


def again(loaded: Loaded, **more: object) -> Outcome:
    return tokenization.tokenize(loaded.settings.tokens, loaded.layout, held_percent=20, **more)  # type: ignore[arg-type]


def test_the_bytes_do_not_depend_on_processes_or_batches(monkeypatch: pytest.MonkeyPatch):
    one = parts(monkeypatch, workspace="one")
    again(one, processes=1)
    small = parts(monkeypatch, workspace="small")
    with monkeypatch.context() as patched:
        patched.setattr(shard, "_BATCH_CHARACTERS", 700)
        again(small, processes=1)
    shutil.copytree("one/corpus", "many/corpus")
    shutil.copytree("one/validation", "many/validation")
    many = tiny(workspace="many")
    again(many, processes=2)

    whole = artifact(one.layout.tokens)
    assert len(whole) > 6
    assert artifact(small.layout.tokens) == whole
    assert artifact(many.layout.tokens) == whole


def test_a_killed_run_goes_on_with_the_next_shard(monkeypatch: pytest.MonkeyPatch):
    alone = parts(monkeypatch, workspace="alone")
    again(alone, processes=1)
    loaded = parts(monkeypatch)
    made: list[str] = []
    once = shard.make_shard

    def dying(work: shard.Work) -> Shard:
        if len(made) in (2, 5):
            made.append("killed")
            raise KeyboardInterrupt
        made.append(work.name)
        return once(work)

    monkeypatch.setattr(tokenization.sharding, "make_shard", dying)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            again(loaded, processes=1)
        assert not loaded.layout.tokens.exists()
    again(loaded, processes=1)

    names = [name for name in made if name != "killed"]
    assert len(names) == len(set(names)) > 4
    assert artifact(loaded.layout.tokens) == artifact(alone.layout.tokens)
    assert [path.name for path in loaded.layout.tokens.parent.iterdir()] == ["main"]


def test_a_damaged_shard_of_a_killed_run_is_made_again(monkeypatch: pytest.MonkeyPatch):
    loaded = parts(monkeypatch)
    again(loaded, processes=1)
    right = artifact(loaded.layout.tokens)
    path = loaded.layout.tokens / "part-00001.arrow"
    path.write_bytes(path.read_bytes()[:-9] + b"\0" * 9)

    assert again(loaded, processes=1).made
    assert artifact(loaded.layout.tokens) == right


def test_progress_counts_all_records_whatever_was_dropped_or_made_before(monkeypatch: pytest.MonkeyPatch):
    loaded = parts(monkeypatch, "validation.max_characters=150", "validation.actions.too_long=drop")
    ticks: list[Tick] = []
    assert again(loaded, processes=1, watch=ticks.append).manifest.number("records") < 80

    counted = [tick for tick in ticks if not tick.detail or "rate" in tick.detail]
    assert (counted[0].done, counted[-1].done) == (0, 80)
    assert {(tick.total, tick.unit) for tick in counted} == {(80, "records")}
    assert counted[-1].detail["rate"].endswith(" MB/s")
    (loaded.layout.tokens / "manifest.json").unlink()
    ticks.clear()
    again(loaded, processes=1, watch=ticks.append)
    assert ticks[-1] == Tick(80, 80, "records")


def test_a_run_that_dies_leaves_the_shards_at_hand_as_they_are(monkeypatch: pytest.MonkeyPatch):
    again(parts(monkeypatch), processes=1)
    with Path("text/records.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"id": "new", "text": "Zebras quickly jumped over the fence; zebras zebras zebras."}\n')
    monkeypatch.setattr("tests.test_tokens.write_corpus", lambda *_, **__: None)
    loaded = parts(monkeypatch)
    before = artifact(loaded.layout.tokens)
    once = shard.make_shard

    def dying(work: shard.Work) -> Shard:
        if work.name == dies_at:
            raise KeyboardInterrupt
        return once(work)

    monkeypatch.setattr(tokenization.sharding, "make_shard", dying)
    newest = f"part-{sum(name.startswith('part-') for name in before):05}"
    for new_vocabulary, name in ((False, newest), (True, "part-00002")):
        dies_at = name
        with pytest.raises(KeyboardInterrupt):
            again(loaded, processes=1, new_vocabulary=new_vocabulary)

        assert artifact(loaded.layout.tokens) == before


def test_what_a_kill_at_the_last_moment_leaves_is_removed(monkeypatch: pytest.MonkeyPatch):
    loaded = parts(monkeypatch)
    made = again(loaded, processes=1)
    assert made.measured["processes"] == 1
    for end in ("partial", "stale", "deleted"):
        shutil.copytree(loaded.layout.tokens, loaded.layout.tokens.with_name(f".main.{end}"))

    assert not again(loaded, processes=1).made

    assert [path.name for path in loaded.layout.tokens.parent.iterdir()] == ["main"]


def test_a_grown_corpus_keeps_its_vocabulary_and_its_shards(monkeypatch: pytest.MonkeyPatch):
    again(parts(monkeypatch), processes=1)
    before = {path.name: path.stat().st_ino for path in Path("ws/tokens/main").glob("*")}
    with Path("text/records.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"id": "new", "text": "Zebras quickly jumped over the fence; zebras zebras zebras."}\n')
    monkeypatch.setattr("tests.test_tokens.write_corpus", lambda *_, **__: None)

    loaded = parts(monkeypatch)
    grown = again(loaded, processes=1)

    after = {path.name: path.stat().st_ino for path in Path("ws/tokens/main").glob("*")}
    kept = [name for name in before if name.startswith("part-")]
    assert all(after[name] == before[name] for name in kept)
    assert len([name for name in after if name.startswith("part-")]) == len(kept) + 1
    assert grown.manifest.facts["records"] == 81
    old = TokenTable(loaded.layout.tokens).tokenizer.to_str()
    # How texts are cut has nothing to do with it.
    again(tiny("tokens.max_tokens=40"), processes=1)
    assert TokenTable(loaded.layout.tokens).tokenizer.to_str() == old
    assert again(loaded, processes=1, new_vocabulary=True).made
    assert TokenTable(loaded.layout.tokens).tokenizer.to_str() != old


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
