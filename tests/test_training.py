"""Training: resumed equals uninterrupted bit for bit, chunked equals plain, and nothing stops half way."""

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from embedctl.checkpoint import beginning, files
from embedctl.errors import ArtifactError, ConfigError, DataError, DivergedError, NotFoundError
from embedctl.loading import Loaded
from embedctl.settings import TrainingSettings
from embedctl.tokens.shards import TokenTable
from embedctl.training import gradients, loop
from embedctl.training.laying import Layer
from embedctl.training.pairs import PairStream
from embedctl.training.prefetch import prefetch
from embedctl.training.ranks import Ranks
from embedctl.training.schedule import rate_share
from embedctl.training.trainee import Trainee
from tests.conftest import Run, options, prepare, state, tiny, train


def trainee_of(loaded: Loaded, table: TokenTable) -> Trainee:
    """What a run of these settings begins with."""
    return Trainee(beginning.begin(loaded.settings.model, table, seed=0), loaded.settings.training, seed=0)


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


@pytest.mark.parametrize("chunk_pairs", [1, 3, 8, 100])
def test_a_chunked_batch_has_the_loss_and_gradients_of_the_plain_one(chunk_pairs: int):
    loaded = prepare()
    table = TokenTable(loaded.layout.tokens)
    batch = PairStream(table, loaded.settings.training, seed=0).batch(0)

    def computed(chunk: int) -> tuple[float, dict[str, torch.Tensor]]:
        trainee = trainee_of(loaded, table)
        settings = loaded.settings.training
        laid = Layer(torch.device("cpu"), Ranks()).lay(batch, chunk)
        loss = gradients.accumulate_pairs(trainee, laid, settings, share=1.0, dtype=torch.float32, ranks=Ranks())
        return loss.item(), {name: value.grad for name, value in trainee.named_parameters() if value.grad is not None}

    loss, plain = computed(len(batch.queries))
    chunked_loss, chunked = computed(chunk_pairs)

    assert chunked_loss == pytest.approx(loss, abs=1e-5)
    assert plain.keys() == chunked.keys()
    for name, value in plain.items():
        torch.testing.assert_close(chunked[name], value, atol=1e-5, rtol=1e-4, msg=name)


def test_the_order_of_batches_is_a_function_of_their_number():
    table = TokenTable(prepare().layout.tokens)
    settings = TrainingSettings(batch_pairs=8, crop_share=0.5)
    forward, backward = (PairStream(table, settings, seed=3) for _ in range(2))

    numbers = range(3 * forward.batches_per_epoch)
    ahead = [forward.batch(n) for n in numbers]
    behind = [backward.batch(n) for n in reversed(numbers)][::-1]

    for one, other in zip(ahead, behind, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one.passages, other.passages, strict=True))
        assert all(np.array_equal(a, b) for a, b in zip(one.queries, other.queries, strict=True))


def test_an_epoch_takes_every_pair_once_and_no_held_one():
    table = TokenTable(prepare().layout.tokens)
    stream = PairStream(table, TrainingSettings(batch_pairs=1000), seed=0)

    queries = {tuple(query.tolist()) for query in stream.batch(0).queries}

    assert queries == {tuple(table.query(r).tolist()) for r in range(table.records) if not table.held[r]}


def test_a_crop_comes_out_of_its_passage():
    table = TokenTable(prepare(queries=False).layout.tokens)
    stream = PairStream(table, TrainingSettings(batch_pairs=1000), seed=0)
    prefix, suffix = len(table.frame.prefix), len(table.frame.suffix)
    whole = {tuple(table.passage(row)[prefix:-suffix].tolist()) for row in range(len(table))}
    stayed = 0

    batches = [stream.batch(epoch) for epoch in range(5)]

    assert stream.batches_per_epoch == 1
    for query, passage in ((q, p) for b in batches for q, p in zip(b.queries, b.passages, strict=True)):
        crop, rest = tuple(query[prefix:-suffix].tolist()), tuple(passage[prefix:-suffix].tolist())
        places = range(len(rest) + 1)
        inside = rest in whole and any(rest[at : at + len(crop)] == crop for at in places)
        assert 8 <= len(crop) <= 32
        assert inside or any((*rest[:at], *crop, *rest[at:]) in whole for at in places)
        stayed += inside
    assert 0 < stayed < 0.3 * sum(len(batch.queries) for batch in batches)


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_a_checkpoint_and_resume_ends_in_the_same_weights(number: int):
    settings = ("training.epochs=40",)
    whole = prepare(*settings, workspace="whole")
    prepare(*settings, workspace="stopped")
    child = subprocess.Popen(
        [sys.executable, "-m", "embedctl", *options(*settings, workspace="stopped"), "train"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    metrics = Path("stopped/runs/main/metrics.jsonl")
    wait_for(lambda: metrics.is_file() and metrics.read_text().count("loss_nats") >= 3, child)
    child.send_signal(number)
    _, error = child.communicate(timeout=60)

    stopped = tiny(*settings, workspace="stopped")
    step = files.head(stopped.layout.checkpoints).step
    assert child.returncode == 128 + number
    assert f"stopped after step {step} of" in error
    assert "embedctl train --resume goes on" in error
    assert step >= 3
    train(stopped, resume=True)
    train(whole)
    assert state(stopped) == state(whole)


def test_killed_without_warning_it_goes_on_from_the_last_checkpoint():
    settings = ("training.epochs=40", "checkpoint.every_steps=3")
    whole = prepare(*settings, workspace="whole")
    killed = prepare(*settings, workspace="killed")
    words = [*options(*settings, workspace="killed"), "train"]
    for _ in range(2):
        child = subprocess.Popen([sys.executable, "-m", "embedctl", *words], stderr=subprocess.PIPE)
        before = _newest(killed)
        wait_for(lambda before=before: _newest(killed) > before + 5, child)
        child.kill()
        child.communicate()
        words = [*words[:-1], "train", "--resume"] if words[-1] == "train" else words

    train(killed, resume=True)
    train(whole)

    assert state(killed) == state(whole)
    assert losses(killed) == losses(whole)


def _newest(loaded: Loaded) -> int:
    return max((int(path.name[5:]) for path in loaded.layout.checkpoints.glob("step-*")), default=0)


def wait_for(ready, child: "subprocess.Popen", seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_prefetch_keeps_order_and_raises_in_its_place():
    def make(number: int) -> int:
        if number == 5:
            raise ValueError("five")
        return number * 2

    stream = prefetch(make, range(10))
    assert [next(stream) for _ in range(5)] == [0, 2, 4, 6, 8]
    with pytest.raises(ValueError, match="five"):
        next(stream)

    def lazily() -> Iterator[int]:
        yield from prefetch(lambda n: n, range(3))

    assert list(lazily()) == [0, 1, 2]


def scalars(folder: Path, name: str) -> list:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return found.Scalars(name)


def test_wandb_offline_tracks_without_a_key_and_holds_no_secret(monkeypatch: pytest.MonkeyPatch):
    loaded = prepare("training.wandb_project=demo", "training.tensorboard=true", "training.epochs=1")
    monkeypatch.setenv("PINECONE_API_KEY", "pc-canary-4711")
    environment = {**os.environ, "PINECONE_API_KEY": "pc-canary-4711"}
    words = [*options("training.wandb_project=demo", "training.tensorboard=true", "training.epochs=1"), "train"]

    for more in (("--max-steps", "3"), ("--resume",)):
        ran = subprocess.run(
            [sys.executable, "-m", "embedctl", *words, *more], env=environment, capture_output=True, timeout=100
        )
        assert ran.returncode == 0, ran.stderr

    folder = loaded.layout.run_folder
    # Both parts are of one run.
    kept = [path.stem for path in folder.glob("wandb/offline-run-*/run-*.wandb")]
    assert len(kept) == 2
    assert len(set(kept)) == 1
    steps = [event.step for event in scalars(folder / "tensorboard", "loss_nats")]
    assert steps == list(range(1, len(losses(loaded)) + 1))
    kept = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"canary" not in kept
    assert not list(Path().glob("wandb"))
