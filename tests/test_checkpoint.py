"""Checkpoints: verified before use, gone back to without loss, pruned without regret."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedctl.artifacts import manifest
from embedctl.checkpoint import files, retention
from embedctl.errors import ArtifactError, NotFoundError
from embedctl.loading import Loaded
from tests.conftest import Run, options, prepare, state, tiny, train

EVERY = ("checkpoint.every_steps=2", "checkpoint.keep_last=20")


def trained(*more: str, max_steps: int | None = 8, workspace: str = "ws") -> Loaded:
    loaded = prepare(*EVERY, *more, workspace=workspace)
    train(loaded, max_steps=max_steps)
    return loaded


def steps(loaded: Loaded) -> list[int]:
    return [checkpoint.step for checkpoint in files.scan(loaded.layout.checkpoints)]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def test_the_list_shows_step_loss_metric_size_verified_best_and_head(run: Run):
    loaded = trained("training.evaluate_every_steps=4")
    flip(files.folder_of(loaded.layout.checkpoints, 6) / files.WEIGHTS)

    table = run(*options(*EVERY), "checkpoint", "list")
    listed = run(*options(*EVERY), "--json", "checkpoint", "list")
    rows = json.loads(listed.out)

    assert (table.code, listed.code) == (4, 4)
    assert "damaged: step 6" in table.err
    assert [row["step"] for row in rows] == [0, 2, 4, 6, 8]
    assert [bool(row["damaged"]) for row in rows] == [False, False, False, True, False]
    assert [row["head"] for row in rows] == [False, False, False, False, True]
    assert sum(row["best"] for row in rows) == 1
    assert all(row["size_bytes"] > 10_000 for row in rows)
    assert "BAD: model.safetensors" in table.out
    assert "head" in table.out


def test_without_checkpoints_it_says_what_to_type(run: Run):
    prepare()

    ran = run(*options(), "checkpoint", "list")

    assert ran.code == 12
    assert "run `embedctl train` first" in ran.err


def test_restoring_deletes_nothing_and_resume_goes_on_from_there(run: Run):
    whole, back = trained(max_steps=None, workspace="whole"), trained(max_steps=None, workspace="back")
    before = steps(back)

    ran = run(*options(*EVERY, workspace="back"), "checkpoint", "restore", "4")

    assert ran.code == 0
    assert steps(back) == before
    assert files.head(back.layout.checkpoints).step == 4
    train(back, resume=True)
    assert state(back) == state(whole)


def test_restoring_elsewhere_leaves_the_run_alone(run: Run):
    loaded = trained()

    ran = run(*options(*EVERY), "checkpoint", "restore", "2", "--to", "copy")
    again = run(*options(*EVERY), "checkpoint", "restore", "2", "--to", "copy")

    source = files.folder_of(loaded.layout.checkpoints, 2)
    assert ran.code == 0
    assert {p.name: p.read_bytes() for p in Path("copy").iterdir()} == {
        p.name: p.read_bytes() for p in source.iterdir()
    }
    assert files.head(loaded.layout.checkpoints).step == 8
    assert again.code == 11


def test_a_step_that_is_not_there_is_answered_with_those_that_are(run: Run):
    trained()

    ran = run(*options(*EVERY), "checkpoint", "restore", "3")

    assert ran.code == 12
    assert "steps here: 0, 2, 4, 6, 8" in ran.err


def test_a_damaged_checkpoint_is_not_restored_nor_embedded_with(run: Run):
    loaded = trained()
    flip(files.folder_of(loaded.layout.checkpoints, 4) / files.OPTIMIZER)
    flip(files.folder_of(loaded.layout.checkpoints, 8) / files.WEIGHTS)

    restored = run(*options(*EVERY), "checkpoint", "restore", "4")
    embedded = run(*options(*EVERY), "embed", "generate")

    assert (restored.code, embedded.code) == (4, 4)
    assert "optimizer.safetensors is damaged" in restored.err
    assert "embedctl checkpoint restore STEP" in embedded.err
    assert files.head(loaded.layout.checkpoints).step == 8


@pytest.mark.parametrize("name", [files.WEIGHTS, files.OPTIMIZER, files.STATE, files.TOKENIZER])
def test_resume_passes_over_a_damaged_checkpoint_and_ends_in_the_same_weights(
    name: str, caplog: pytest.LogCaptureFixture
):
    whole, hurt = trained(max_steps=None, workspace="whole"), trained(workspace="hurt")
    flip(files.folder_of(hurt.layout.checkpoints, 8) / name)

    train(hurt, resume=True)

    assert state(hurt) == state(whole)
    assert (hurt.layout.checkpoints / ".bad-step-00000008").is_dir()


@pytest.mark.parametrize("command", [["train"], ["train", "--resume"], ["run"]])
def test_a_finished_run_whose_head_is_damaged_is_mended_by_training_its_end_again(run: Run, command: list[str]):
    loaded = trained(max_steps=None)
    whole, end = state(loaded), steps(loaded)[-1]
    flip(files.folder_of(loaded.layout.checkpoints, end) / files.WEIGHTS)

    ran = run(*options(*EVERY), *command)

    assert ran.code == 0
    assert f".bad-step-{end:08d}" in ran.err
    assert state(loaded) == whole
    assert run(*options(*EVERY), "checkpoint", "list").code == 0


@pytest.mark.parametrize("step", [2, 8])
def test_a_torn_manifest_of_a_checkpoint_is_shown_and_passed_over(run: Run, step: int):
    whole, hurt = trained(max_steps=None, workspace="whole"), trained(workspace="hurt")
    (files.folder_of(hurt.layout.checkpoints, step) / "manifest.json").write_bytes(bytes(10))
    words = options(*EVERY, workspace="hurt")

    rows = json.loads(run(*words, "--json", "checkpoint", "list").out)
    listed, embedded = run(*words, "checkpoint", "list"), run(*words, "embed", "generate")
    restored = run(*words, "checkpoint", "restore", str(step))

    assert [(row["step"], bool(row["damaged"])) for row in rows] == [(n, n == step) for n in (0, 2, 4, 6, 8)]
    assert (listed.code, restored.code) == (4, 4)
    assert embedded.code == (4 if step == 8 else 0)
    assert run(*words, "status").code == 0
    train(hurt, resume=True)
    assert state(hurt) == state(whole)
    assert (hurt.layout.checkpoints / f".bad-step-{step:08d}").is_dir()


def test_a_checkpoint_of_a_newer_format_is_not_taken_for_a_torn_one(run: Run):
    loaded = trained()
    path = files.folder_of(loaded.layout.checkpoints, 8) / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))

    for words in (["checkpoint", "list"], ["train", "--resume"], ["run"], ["embed", "generate"]):
        ran = run(*options(*EVERY), *words)
        assert (ran.code, "upgrade" in ran.err) == (4, True)
    assert path.is_file()


def test_what_was_set_aside_before_stays_and_with_nothing_whole_it_is_said(run: Run):
    loaded = trained(max_steps=2)
    old = loaded.layout.checkpoints / ".bad-step-00000002"
    old.mkdir()
    (old / "mine").write_text("")
    for step in (0, 2):
        (files.folder_of(loaded.layout.checkpoints, step) / "manifest.json").write_bytes(b"")
    (loaded.layout.checkpoints / "head.json").unlink()

    train, resume = run(*options(*EVERY), "train"), run(*options(*EVERY), "train", "--resume")

    assert (train.code, "--resume" in train.err) == (4, True)
    assert (resume.code, (old / "mine").is_file()) == (4, True)
    assert old.with_name(f"{old.name}-1").is_dir()
    assert run(*options(*EVERY), "train").code == 0


def test_when_no_checkpoint_is_whole_nothing_is_guessed():
    loaded = trained(max_steps=2)
    for step in (0, 2):
        flip(files.folder_of(loaded.layout.checkpoints, step) / files.WEIGHTS)

    with pytest.raises(ArtifactError, match="is whole"):
        train(loaded, resume=True)


def test_a_checkpoint_of_another_model_is_refused():
    small = trained("model.dim=16", max_steps=1, workspace="small")
    large = trained(max_steps=1, workspace="large")
    foreign = files.head(small.layout.checkpoints)

    with pytest.raises(ArtifactError, match=r"model\.dim: 16 → 32"):
        train(tiny(*EVERY, workspace="small"), resume=True)
    with pytest.raises(ArtifactError, match="holds another model"):
        files.load_weights(foreign, files.load_model(files.head(large.layout.checkpoints), "cpu").encoder)


@given(
    found=st.sets(st.integers(0, 50), min_size=1),
    keep_last=st.integers(1, 5),
    best=st.none() | st.integers(0, 50),
    head=st.none() | st.integers(0, 50),
)
def test_pruning_keeps_the_newest_the_best_the_head_and_those_before_it(
    found: set[int], keep_last: int, best: int | None, head: int | None
):
    doomed = retention.doomed(sorted(found), keep_last=keep_last, best_step=best, head_step=head)

    kept = found - set(doomed)
    assert set(sorted(found)[-keep_last:]) <= kept
    assert {best, head} & found <= kept
    if head is not None:
        assert set(sorted(step for step in found if step <= head)[-keep_last:]) <= kept
    assert len(kept) <= 2 * keep_last + 1


def test_prune_says_what_would_go_and_then_removes_it(run: Run):
    loaded = trained()
    run(*options(*EVERY), "checkpoint", "restore", "2")
    narrow = ("checkpoint.keep_last=1",)

    dry = json.loads(run(*options(*narrow), "--json", "checkpoint", "prune", "--dry-run").out)
    assert steps(loaded) == [0, 2, 4, 6, 8]
    done = json.loads(run(*options(*narrow), "--json", "checkpoint", "prune").out)

    assert dry["steps"] == done["steps"] == [0, 4, 6]
    assert dry["bytes"] == done["bytes"] > 0
    assert steps(loaded) == [2, 8]
    assert "nothing to prune" in run(*options(*narrow), "checkpoint", "prune").out


def test_training_keeps_no_more_than_it_is_told():
    loaded = trained("checkpoint.keep_last=2", max_steps=8)

    assert steps(loaded)[-2:] == [6, 8]
    assert len(steps(loaded)) <= 3


def test_what_was_restored_stays_until_training_has_passed_it():
    back = trained(max_steps=10)
    files.set_head(back.layout.checkpoints, 2)
    narrow = tiny(*EVERY, "checkpoint.keep_last=2", "checkpoint.metric=loss_nats")

    train(narrow, resume=True, max_steps=4)
    after_four = steps(back)
    flip(files.folder_of(back.layout.checkpoints, 4) / files.WEIGHTS)
    train(narrow, resume=True, max_steps=6)

    assert {2, 4, 8, 10} <= set(after_four)
    assert not manifest.damaged(
        files.folder_of(back.layout.checkpoints, 4), files.find(back.layout.checkpoints, 4).manifest
    )
    assert files.head(back.layout.checkpoints).step == 6


def test_a_damaged_head_file_means_the_newest():
    loaded = trained()
    (loaded.layout.checkpoints / files.HEAD).write_text("{")

    assert files.head(loaded.layout.checkpoints).step == 8


def test_no_run_is_a_missing_artifact():
    with pytest.raises(NotFoundError, match="no checkpoint in"):
        files.head(Path("ws/runs/main/checkpoints"))
