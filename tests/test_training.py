"""Training: resumed equals uninterrupted bit for bit, chunked equals plain, and nothing stops half way."""

import itertools
import json
import math

import numpy as np
import pytest
import torch

from embedctl.checkpoint import files
from embedctl.errors import ArtifactError, ConfigError, DataError, DivergedError, NotFoundError
from embedctl.loading import Loaded
from embedctl.settings import TrainingSettings
from embedctl.training import gradients, loop
from embedctl.training.schedule import rate_share
from tests.conftest import Run, options, prepare, state, tiny, train


def losses(loaded: Loaded) -> list[float]:
    lines = [json.loads(line) for line in (loaded.layout.run_folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss_nats"] for line in lines if "loss_nats" in line]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_resumed_equals_uninterrupted_bit_for_bit(precision: str):
    settings = (f"compute.precision={precision}", "training.crop_share=0.5", "training.gradient_accumulation_steps=2")
    whole = prepare(*settings, "training.batch_pairs=4", workspace="whole")
    parts = prepare(*settings, "training.batch_pairs=4", workspace="parts")
    train(whole)

    # Twice within the first epoch, at its end, and within a later one.
    train(parts, max_steps=1)
    for stop in (2, 5, 6, 12, None):
        train(parts, resume=True, max_steps=stop)

    assert state(parts) == state(whole)
    assert losses(parts) == losses(whole)
    assert len(losses(whole)) == files.head(whole.layout.checkpoints).manifest.facts["total_steps"] > 12


def test_the_same_settings_give_the_same_weights():
    one, other, seeded = (prepare(workspace=name) for name in ("one", "other", "seeded"))
    seeded = tiny("project.seed=1", workspace="seeded")

    for loaded in (one, other, seeded):
        train(loaded, max_steps=4)

    assert state(one) == state(other)
    assert state(one) != state(seeded)


def test_training_learns():
    loaded = prepare("training.epochs=20", "training.learning_rate=0.003")

    train(loaded)

    found = losses(loaded)
    assert found[0] == pytest.approx(math.log(8), rel=0.5)
    assert np.mean(found[-5:]) < 0.5 * np.mean(found[:5])


@pytest.mark.parametrize("schedule", ["linear", "cosine", "wsd", "constant"])
def test_the_rate_rises_then_falls(schedule: str):
    settings = TrainingSettings(schedule=schedule, warmup_share=0.1)

    shares = [rate_share(n, 100, settings) for n in range(1, 101)]

    assert shares[:10] == pytest.approx([n / 10 for n in range(1, 11)])
    assert all(a >= b for a, b in itertools.pairwise(shares[9:]))
    assert shares[-1] == 1.0 if schedule == "constant" else 0 < shares[-1] < 0.05
    assert 0 < rate_share(1, 1, settings) <= 1


def test_a_full_memory_halves_the_chunk_and_changes_no_weight(monkeypatch: pytest.MonkeyPatch):
    plain, squeezed = (prepare("compute.precision=fp32", workspace=name) for name in ("plain", "squeezed"))
    train(plain, max_steps=3)
    real = gradients.accumulate_pairs

    def limited(trainee, laid, settings, **named):
        if laid.chunk > 3:
            torch.autograd.backward(real(trainee, laid, settings, **named).requires_grad_())
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: 9 bytes"
            )
        return real(trainee, laid, settings, **named)

    monkeypatch.setattr(loop, "accumulate_pairs", limited)
    train(squeezed, max_steps=3)

    one, other = (files.read_tensors(files.head(x.layout.checkpoints), files.WEIGHTS) for x in (plain, squeezed))
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, atol=1e-4, rtol=1e-3, msg=name)
    assert files.read_json(files.head(squeezed.layout.checkpoints), files.STATE)["chunk"] <= 3


def test_no_room_for_one_pair_is_said(run: Run, monkeypatch: pytest.MonkeyPatch):
    prepare()

    def never(*arguments, **named):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loop, "accumulate_pairs", never)
    ran = run(*options(), "train")

    assert ran.code == 8
    assert "not enough memory for a single text" in ran.err


def test_a_loss_that_is_not_finite_stops_and_names_the_last_good_step(monkeypatch: pytest.MonkeyPatch):
    loaded = prepare("checkpoint.every_steps=2")
    real, calls = gradients.accumulate_pairs, []

    def poisoned(*arguments, **named):
        calls.append(1)
        return real(*arguments, **named) * (math.nan if len(calls) >= 4 else 1.0)

    monkeypatch.setattr(loop, "accumulate_pairs", poisoned)

    with pytest.raises(DivergedError, match="at step 6, the third such in a row; the weights of step 4 are saved"):
        train(loaded)

    weights = files.read_tensors(files.head(loaded.layout.checkpoints), files.WEIGHTS)
    assert all(value.isfinite().all() for value in weights.values())


def test_resuming_with_other_settings_is_refused_and_a_fresh_start_keeps_the_old_run():
    loaded = prepare()
    train(loaded, max_steps=2)
    changed = tiny("training.learning_rate=0.1")

    with pytest.raises(ArtifactError, match=r"training\.learning_rate: None → 0\.1"):
        train(changed, resume=True)
    train(changed, max_steps=1)

    assert files.head(changed.layout.checkpoints).step == 1
    assert (loaded.layout.run_folder.with_name("main.old-1") / "checkpoints/step-00000002").is_dir()


def test_starting_twice_asks_for_resume_and_a_finished_run_is_left_alone():
    loaded = prepare()
    with pytest.raises(NotFoundError, match="no run to resume"):
        train(loaded, resume=True)
    train(loaded, max_steps=2)

    with pytest.raises(ConfigError, match="stands at step 2"):
        train(loaded)
    train(loaded, resume=True)

    assert (train(loaded).made, train(loaded, resume=True).made) == (False, False)


def test_too_little_text_is_said():
    loaded = prepare("data.held_percent=99", count=3)

    with pytest.raises(DataError, match="can be trained on; want at least 2"):
        train(loaded)


def test_the_run_keeps_the_configuration_it_was_made_with():
    from embedctl.loading import load

    loaded = prepare("training.epochs=1")
    train(loaded)

    again = load(loaded.layout.run_folder / "config.toml")

    assert again.settings.training == loaded.settings.training
    assert again.settings.data.path == loaded.settings.data.path.absolute()
    assert again.layout.root == loaded.layout.root.absolute()
