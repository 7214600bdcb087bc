"""Runs: every way to train resumes to the same bits, begins where it is told, and ends when it is told."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from embedctl.checkpoint import files
from embedctl.errors import ConfigError, DataError
from embedctl.loading import Loaded
from embedctl.settings import TrainingSettings
from embedctl.training import loop
from embedctl.training.scale import LossScale
from tests.conftest import Run, options, prepare, state, tiny, train


def lines_of(loaded: Loaded) -> list[dict]:
    return [json.loads(line) for line in (loaded.layout.run_folder / "metrics.jsonl").read_text().splitlines()]


def steps_of(loaded: Loaded) -> list[dict]:
    return [line for line in lines_of(loaded) if "loss_nats" in line]


WAYS = {
    "mlm": ("training.objective=mlm", "training.batch_tokens=600", "training.epochs=2"),
    "modernbert": ("model.layout=modernbert", "model.layers=4", "model.pooling=last"),
    "muon, average": ("training.optimizer=muon", "training.ema_decay=0.9", "training.schedule=wsd"),
    "learned": ("training.learn_temperature=true", "training.symmetric=true", "training.matryoshka_dims=[8]"),
    "half": ("compute.precision=fp16", "training.steps=8"),
    "patience": ("training.patience=1", "training.evaluate_every_steps=3", "training.learning_rate=1.0"),
}


@pytest.mark.parametrize("way", WAYS)
def test_resumed_equals_uninterrupted(way: str):
    whole, parts = (prepare(*WAYS[way], workspace=name) for name in ("whole", "parts"))
    train(whole)

    train(parts, max_steps=2)
    for stop in (3, 5, None):
        train(parts, resume=True, max_steps=stop)

    assert state(parts) == state(whole)
    assert [line["loss_nats"] for line in steps_of(parts)] == [line["loss_nats"] for line in steps_of(whole)]
    assert all(math.isfinite(line["loss_nats"]) for line in steps_of(whole))


def test_masked_training_learns_and_is_judged_by_held_words():
    loaded = prepare(
        "training.objective=mlm", "training.batch_tokens=800", "training.epochs=30", "training.learning_rate=0.003",
        "training.optimizer=muon",
    )  # fmt: skip

    train(loaded)

    held = [line["evaluation"]["held_loss_nats"] for line in lines_of(loaded) if "evaluation" in line]
    assert held[-1] < 0.8 * held[0]
    assert files.head(loaded.layout.checkpoints).metric("held_loss_nats") == held[-1]


def test_a_run_begins_with_the_weights_of_another():
    first = prepare("training.objective=mlm", "training.batch_tokens=600", "project.run=words")
    train(first, max_steps=4)

    chained = tiny(f"model.init_from={first.layout.run_folder}", "project.run=pairs", "model.pooling=cls")
    train(chained, max_steps=1)

    words = files.load_model(files.head(first.layout.checkpoints), torch.device("cpu")).encoder.state_dict()
    start = files.find(chained.layout.checkpoints, 0)
    begun = files.load_model(start, torch.device("cpu"))
    assert all(torch.equal(value, words[name]) for name, value in begun.encoder.state_dict().items())
    assert begun.encoder.shape.pooling == "cls"
    assert start.manifest.settings["model"]["origin"] == files.head(first.layout.checkpoints).model_id


def test_a_run_on_other_tokens_is_no_beginning():
    first = prepare("project.run=words")
    train(first, max_steps=1)
    prepare("tokens.vocabulary_size=320", workspace="other")

    chained = tiny(f"model.init_from={first.layout.run_folder}", "tokens.vocabulary_size=320", workspace="other")
    with pytest.raises(DataError, match="another vocabulary"):
        train(chained)


def test_a_beginning_that_is_not_there_is_said(run: Run):
    prepare()

    ran = run(*options("model.init_from=./nowhere"), "train")

    assert ran.code == 2
    assert "no folder at ./nowhere" in ran.err


def test_the_average_is_what_is_kept_and_judged():
    plain, averaged = prepare(workspace="plain"), prepare("training.ema_decay=0.5", workspace="averaged")
    for loaded in (plain, averaged):
        train(loaded, max_steps=6)

    one, other = (files.head(loaded.layout.checkpoints) for loaded in (plain, averaged))
    raw = files.read_tensors(other, files.OPTIMIZER)
    for name, value in files.read_tensors(one, files.WEIGHTS).items():
        assert torch.equal(raw[f"raw:{name}"], value)
    kept = files.read_tensors(other, files.WEIGHTS)
    assert any(not torch.equal(kept[name], raw[f"raw:{name}"]) for name in kept)


def test_one_bad_gradient_is_passed_over(monkeypatch: pytest.MonkeyPatch):
    loaded = prepare()
    real, calls = loop.accumulate_pairs, []

    def poisoned(trainee, *arguments, **named):
        loss = real(trainee, *arguments, **named)
        calls.append({name: value.clone() for name, value in trainee.state_dict().items()})
        if len(calls) == 3:
            next(trainee.parameters()).grad[0, 0] = math.nan
        return loss

    monkeypatch.setattr(loop, "accumulate_pairs", poisoned)
    train(loaded, max_steps=5)

    assert [bool(line.get("skipped")) for line in steps_of(loaded)] == [False, False, True, False, False]
    assert all(torch.equal(calls[2][name], calls[3][name]) for name in calls[2])
    assert not all(torch.equal(calls[3][name], calls[4][name]) for name in calls[3])


def test_the_scale_of_half_precision_finds_itself():
    scale = LossScale.of(torch.float16)

    for _ in range(3):
        scale.learn(finite=False)
    for _ in range(2000):
        scale.learn(finite=True)

    assert scale.value == 2.0**16 / 8 * 2
    assert LossScale.of(torch.bfloat16).value == 1.0


def test_a_run_ends_after_its_steps_or_its_minutes():
    counted, timed = (
        prepare("training.steps=4", workspace="counted"),
        prepare("training.minutes=0.02", workspace="timed"),
    )
    for loaded in (counted, timed):
        train(loaded)

    assert len(steps_of(counted)) == 4
    total = files.head(timed.layout.checkpoints).manifest.facts["total_steps"]
    assert len(steps_of(timed)) == total
    took = [
        (line["tokens"] - before["tokens"]) / line["tokens_per_second"]
        for before, line in zip([{"tokens": 0}, *steps_of(timed)], steps_of(timed), strict=False)
    ]
    assert 0.2 < sum(took) < 6


def test_patience_ends_a_run_that_gets_no_better():
    loaded = prepare(*WAYS["patience"], "training.epochs=100")

    train(loaded)

    head = files.head(loaded.layout.checkpoints)
    assert head.step == head.manifest.facts["total_steps"] < 300
    assert train(loaded).made is False


def test_a_metric_that_is_not_measured_is_refused_at_the_start():
    loaded = prepare("checkpoint.metric=spearman")

    with pytest.raises(ConfigError, match=r"checkpoint\.metric is spearman, which this run does not measure"):
        train(loaded)

    assert not loaded.layout.checkpoints.exists()


def test_similarity_is_measured_during_training():
    rows = ["sentence1,sentence2,score", *(f"the river {n} breaks,the engine {n} sings,{n}" for n in range(6))]
    Path("sts.csv").write_text("\n".join(rows))
    loaded = prepare("evaluation.similarity_file=sts.csv", "checkpoint.metric=spearman")

    train(loaded, max_steps=1)

    assert -1 <= lines_of(loaded)[0]["evaluation"]["spearman"] <= 1


def test_budgets_exclude_each_other():
    with pytest.raises(ValueError, match="both limit the run"):
        TrainingSettings(steps=3, minutes=1)
    with pytest.raises(ValueError, match="patience counts evaluations"):
        TrainingSettings(patience=2)


def test_figures_of_each_step_and_their_pictures_are_kept():
    loaded = prepare()

    train(loaded)

    for line in steps_of(loaded):
        assert 0 < line["padding_avoided"] < 1
        assert 0 < line["mfu"] < 1
        assert 0 <= line["data_wait_share"] < 0.5
    assert (loaded.layout.run_folder / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_prompts_stand_before_every_text_and_go_with_the_model():
    from embedctl.checkpoint.export import export_model
    from embedctl.tokens.shards import TokenTable

    prompts = ("tokens.query_prompt=query:", "tokens.passage_prompt=passage:")
    loaded = prepare(*prompts)
    train(loaded, max_steps=1)
    plain = TokenTable(prepare(workspace="plain").layout.tokens)

    table = TokenTable(loaded.layout.tokens)
    made = export_model(loaded.layout)

    said = table.tokenizer.encode("passage:", add_special_tokens=False).ids
    for row in range(len(table)):
        np.testing.assert_array_equal(table.passage(row)[1 : 1 + len(said)], said)
    assert table.query(0).tolist()[1:] == [
        *table.tokenizer.encode("query:", add_special_tokens=False).ids, *plain.query(0).tolist()[1:],
    ]  # fmt: skip
    kept = json.loads((made.folder / "config_sentence_transformers.json").read_text())["prompts"]
    assert kept == {"query": "query:", "document": "passage:", "passage": "passage:"}
    assert files.load_model(files.head(loaded.layout.checkpoints), torch.device("cpu")).query_prompt == "query:"


def test_a_run_that_is_not_possible_leaves_the_old_one_where_it_is():
    loaded = prepare()
    train(loaded, max_steps=2)

    refused = ["checkpoint.metric=spearman", "training.matryoshka_dims=[32]"]
    for impossible in refused if torch.cuda.is_available() else [*refused, "training.compile=true"]:
        with pytest.raises(ConfigError):
            train(tiny(impossible, "training.learning_rate=0.1"))

    assert files.head(loaded.layout.checkpoints).step == 2
    assert [folder.name for folder in loaded.layout.run_folder.parent.iterdir()] == ["main"]


def test_a_picture_never_stops_a_run(monkeypatch: pytest.MonkeyPatch):
    loaded = prepare()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    train(loaded)

    assert not (loaded.layout.run_folder / "curves.png").exists()


def test_batches_of_hidden_words_are_never_smaller_than_a_text():
    loaded = prepare("training.objective=mlm", "training.batch_tokens=64", "tokens.max_tokens=256")
    train(loaded, max_steps=5)

    assert all(math.isfinite(line["loss_nats"]) for line in steps_of(loaded))
