"""Token shards: killed, damaged or grown, they end as if made at once; what is the same is taken over."""

import shutil
from pathlib import Path

import pytest

from embedctl.artifacts.growing import Shard
from embedctl.artifacts.outcome import Outcome
from embedctl.errors import ArtifactError
from embedctl.loading import Loaded
from embedctl.progress import Tick
from embedctl.tokens import shard, tokenization
from embedctl.tokens.shards import TokenTable
from tests.conftest import tiny, write_corpus


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


def test_of_a_validation_what_is_read_is_checked(monkeypatch: pytest.MonkeyPatch):
    loaded = parts(monkeypatch)
    for name, fails in (("sketches-part-00000.npy", False), ("verdicts.parquet", True)):
        path = loaded.layout.validation / name
        path.write_bytes(path.read_bytes()[:-9] + b"\0" * 9)
        if fails:
            with pytest.raises(ArtifactError, match=r"verdicts\.parquet is damaged"):
                again(loaded, processes=1)
        else:
            again(loaded, processes=1)


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
    monkeypatch.setattr("tests.test_token_shards.write_corpus", lambda *_, **__: None)
    loaded = parts(monkeypatch)
    before = artifact(loaded.layout.tokens)
    once = shard.make_shard

    def dying(work: shard.Work) -> Shard:
        if work.name == dies_at:
            raise KeyboardInterrupt
        return once(work)

    monkeypatch.setattr(tokenization.sharding, "make_shard", dying)
    newest = f"part-{sum(name.endswith('.arrow') for name in before):05}"
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
    monkeypatch.setattr("tests.test_token_shards.write_corpus", lambda *_, **__: None)

    loaded = parts(monkeypatch)
    grown = again(loaded, processes=1)

    after = {path.name: path.stat().st_ino for path in Path("ws/tokens/main").glob("*")}
    kept = [name for name in before if name.startswith("part-")]
    assert all(after[name] == before[name] for name in kept)
    assert len([name for name in after if name.startswith("part-")]) == len(kept) + 2
    assert grown.manifest.facts["records"] == 81
    old = TokenTable(loaded.layout.tokens).tokenizer.to_str()
    # How texts are cut has nothing to do with it.
    again(tiny("tokens.max_tokens=40"), processes=1)
    assert TokenTable(loaded.layout.tokens).tokenizer.to_str() == old
    assert again(loaded, processes=1, new_vocabulary=True).made
    assert TokenTable(loaded.layout.tokens).tokenizer.to_str() != old
