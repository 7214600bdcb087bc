"""Objectives: what is a negative, what a hidden word costs, and that pieces and processes change neither."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from embedctl.checkpoint import beginning, files
from embedctl.loading import Loaded
from embedctl.mining.negatives import Negatives
from embedctl.model import objective
from embedctl.model.objective import info_nce
from embedctl.ranks import Ranks
from embedctl.settings import TrainingSettings
from embedctl.tokens.shards import TokenTable
from embedctl.training import gradients
from embedctl.training.laying import Layer
from embedctl.training.masks import MaskStream, held_batch
from embedctl.training.pairs import Mined, PairBatch, PairStream
from embedctl.training.trainee import Trainee
from tests.conftest import options, prepare, tiny, train

Gradients = dict[str, torch.Tensor]
ALONE = Ranks()
CPU = torch.device("cpu")


def ids(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.uint16)


def trainee_of(loaded: Loaded) -> Trainee:
    table = TokenTable(loaded.layout.tokens)
    return Trainee(beginning.begin(loaded.settings.model, table, seed=0), loaded.settings.training, seed=0)


def gradients_of(trainee: Trainee) -> Gradients:
    return {name: weight.grad for name, weight in trainee.named_parameters() if weight.grad is not None}


def test_passages_that_answer_as_well_are_no_negatives():
    batch = PairBatch(
        queries=[ids(1), ids(2), ids(1), ids(4)],
        passages=[ids(5), ids(6), ids(7), ids(6)],
        negatives=[ids(8), ids(5), ids(7), ids(9), ids(10)],
        records=[0, 1, 2, 3],
        mined=[Mined(9, ids(90)), Mined(8, ids(80)), Mined(7, ids(70)), Mined(3, ids(30)), Mined(6, ids(2))],
    )

    rows, columns = batch.same()
    same = np.zeros((4, 9), dtype=bool)
    same[rows, columns] = True

    # Queries 0 and 2 are equal, passages 1 and 3; the second negative is passage 0 and so answers query 2 too, the
    # fourth is of record 3, and the record of the fifth was asked query 1.
    expected = [
        [0, 0, 1, 0, 0, 1, 1, 0, 0],
        [0, 0, 0, 1, 0, 0, 0, 0, 1],
        [1, 0, 0, 0, 0, 1, 1, 0, 0],
        [0, 1, 0, 0, 0, 0, 0, 1, 0],
    ]
    np.testing.assert_array_equal(same.astype(int), expected)


def test_a_masked_passage_neither_draws_nor_repels():
    generator = torch.Generator().manual_seed(0)
    queries, passages = (torch.randn(3, 8, generator=generator) for _ in range(2))
    doubled = torch.cat([passages, passages[:1]])

    masked = info_nce(queries, doubled, 0.1, same_2S=torch.tensor([[0], [3]]))

    rows = [
        F.cross_entropy(F.normalize(q, dim=-1) @ F.normalize(p, dim=-1).T / 0.1, torch.tensor(n))
        for n, (q, p) in enumerate(zip(queries, [passages, doubled, doubled], strict=True))
    ]
    assert masked.item() == pytest.approx(torch.stack(rows).mean().item(), rel=1e-5)


def test_the_losses_of_shorter_vectors_and_of_the_other_direction_are_part_of_the_mean():
    generator = torch.Generator().manual_seed(0)
    queries, passages = (torch.randn(5, 16, generator=generator) for _ in range(2))

    both = info_nce(queries, passages, 0.1, symmetric=True)
    nested = info_nce(queries, passages, 0.1, dims=(4, 8))

    turned = info_nce(passages, queries, 0.1)
    assert both.item() == pytest.approx((info_nce(queries, passages, 0.1) + turned).item() / 2, rel=1e-5)
    cut = [info_nce(queries[:, :d], passages[:, :d], 0.1).item() for d in (4, 8, 16)]
    assert nested.item() == pytest.approx(np.mean(cut), rel=1e-5)


@given(
    seed=st.integers(0, 99), pairs=st.integers(2, 9), more=st.integers(0, 4), many=st.integers(1, 9),
    symmetric=st.booleans(), dims=st.sampled_from([(), (3,), (2, 5)]),
)  # fmt: skip
def test_the_loss_is_the_mean_over_the_table_of_scores_however_its_rows_are_cut(
    seed: int, pairs: int, more: int, many: int, symmetric: bool, dims: tuple[int, ...]
):
    generator = torch.Generator().manual_seed(seed)
    queries, passages = (torch.randn(n, 8, generator=generator, dtype=torch.float64) for n in (pairs, pairs + more))
    same = torch.rand(pairs, pairs + more, generator=generator) < 0.2
    same.fill_diagonal_(False)
    where = same.nonzero().T

    leaves = queries, passages, heat = [*map(nn.Parameter, (queries, passages, torch.tensor(0.1, dtype=torch.float64)))]
    how = {"same_2S": where, "symmetric": symmetric, "dims": dims}
    with mock.patch.object(objective, "_SCORES", many * (pairs + more)):
        cut = info_nce(queries, passages, heat, **how)

    losses = []
    for dim in (*dims, 8):
        query, passage = (F.normalize(part[:, :dim], dim=-1) for part in (queries, passages))
        scores = (query @ passage.T / heat).masked_fill(same, -math.inf)
        losses.append(F.cross_entropy(scores, torch.arange(pairs)))
        if symmetric:
            losses.append(F.cross_entropy(scores[:, :pairs].T, torch.arange(pairs)))
    whole = torch.stack(losses).mean()
    torch.testing.assert_close(cut, whole)
    torch.testing.assert_close(torch.autograd.grad(cut, leaves), torch.autograd.grad(whole, leaves))


def test_a_learned_temperature_has_its_gradient_however_the_batch_is_cut():
    loaded = prepare("training.learn_temperature=true", "training.symmetric=true", "training.matryoshka_dims=[8, 16]")
    batch = PairStream(TokenTable(loaded.layout.tokens), loaded.settings.training, seed=0).batch(0)
    found = []

    for chunk in (8, 3):
        trainee = trainee_of(loaded)
        laid = Layer(CPU, ALONE).lay(batch, chunk)
        gradients.accumulate_pairs(trainee, laid, loaded.settings.training, share=1.0, dtype=torch.float32, ranks=ALONE)
        found.append(gradients_of(trainee))

    assert found[0]["log_temperature"].abs() > 1e-4
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("layout", ["bert", "modernbert"])
def test_hidden_words_cost_the_same_however_the_batch_is_cut(layout: str):
    loaded = prepare("training.objective=mlm", "training.batch_tokens=900", f"model.layout={layout}")
    batch = MaskStream(TokenTable(loaded.layout.tokens), loaded.settings.training, seed=0).batch(0)
    found, losses = [], []

    for tokens in (900, 100, 1):
        trainee = trainee_of(loaded)
        laid = Layer(CPU, ALONE).lay(batch, tokens)
        losses.append(gradients.accumulate_masks(trainee, laid, share=1.0, dtype=torch.float32, ranks=ALONE).item())
        found.append(gradients_of(trainee))

    vocabulary = TokenTable(loaded.layout.tokens).tokenizer.get_vocab_size()
    assert losses[0] == pytest.approx(math.log(vocabulary), rel=0.05)
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-5)
    for other in found[1:]:
        for name, value in found[0].items():
            torch.testing.assert_close(other[name], value, atol=1e-5, rtol=1e-4, msg=name)


def test_words_are_hidden_as_told_and_the_frame_never():
    table = TokenTable(prepare().layout.tokens)
    stream = MaskStream(table, TrainingSettings(batch_tokens=10_000, mask_share=0.3), seed=0)
    mask = table.tokenizer.token_to_id("[MASK]")

    batches = [stream.batch(number) for number in range(20)]

    asked = np.concatenate([part for batch in batches for part in batch.asked])
    texts = np.concatenate([text for batch in batches for text in batch.texts])
    answers = np.concatenate([text for batch in batches for text in batch.answers])
    special = np.isin(texts, [*table.frame.prefix, *table.frame.suffix])
    assert asked[~special].mean() == pytest.approx(0.3, abs=0.02)
    assert all(not part[0] and not part[-1] for batch in batches for part in batch.asked)
    assert (texts[asked] == mask).mean() == pytest.approx(0.8, abs=0.02)
    assert (texts[asked] == answers).mean() == pytest.approx(0.1, abs=0.02)
    assert not (texts[~asked] == mask).any()


def test_an_epoch_of_hidden_words_takes_each_chunk_once_and_no_held_one():
    table = TokenTable(prepare().layout.tokens)
    stream = MaskStream(table, TrainingSettings(batch_tokens=200), seed=0)
    trained = [row for row, record in enumerate(table.record_of()) if not table.held[record]]

    for epoch in (0, 1):
        numbers = range(epoch * stream.batches_per_epoch, (epoch + 1) * stream.batches_per_epoch)
        seen = [restored(batch, n) for batch in map(stream.batch, numbers) for n in range(len(batch.texts))]
        left = [tuple(table.passage(row).tolist()) for row in trained]
        for text in seen:
            left.remove(text)
        # The tail that fills no batch is dropped.
        assert sum(map(len, left)) < 200 + 48
    held = held_batch(table, TrainingSettings(), seed=0)
    assert held is not None
    assert len(held.texts) == sum(table.held[record] for record in table.record_of())


def restored(batch, number: int) -> tuple[int, ...]:
    text = batch.texts[number].copy()
    text[batch.asked[number]] = batch.answers[number]
    return tuple(text.tolist())


def test_mined_passages_are_part_of_every_batch():
    from embedctl.mining.negatives import mine

    first = prepare("project.run=first")
    train(first, max_steps=2)
    mine(first.settings.compute, first.layout, per_query=3)
    hard = tiny("training.hard_negatives=2", "training.chunk_pairs=3")
    table = TokenTable(hard.layout.tokens)
    mined = Negatives(hard.layout.negatives, tokens=table.manifest.content_id)

    batch = PairStream(table, hard.settings.training, seed=0, mined=mined).batch(0)
    train(hard, max_steps=2)

    wanted = sum(min(2, len(mined.of(record))) for record in range(table.records) if not table.held[record])
    assert 0 < len(batch.negatives) <= 2 * len(batch.queries)
    assert wanted > len(batch.negatives)
    assert files.head(hard.layout.checkpoints).manifest.settings["negatives"] == mined.manifest.content_id


_OVER_PROCESSES = """
import json, sys
from safetensors.torch import save_file
from embedctl.ranks import joined
from tests.test_objectives import first_gradients
from tests.conftest import tiny

with joined("auto") as ranks:
    for number, settings in enumerate(json.loads(sys.argv[1])):
        found = first_gradients(tiny(*settings), ranks)
        if ranks.is_first:
            save_file(found, f"gradients-{number}.safetensors")
"""

WAYS_OF_ACCUMULATING = (
    ("training.chunk_pairs=8", "training.learn_temperature=true"),
    ("training.chunk_pairs=2",),
    ("training.objective=mlm", "training.batch_tokens=700"),
)


def first_gradients(loaded: Loaded, ranks: Ranks) -> Gradients:
    """The gradients of the first batch, summed over the processes, and its loss."""
    training, table, trainee = loaded.settings.training, TokenTable(loaded.layout.tokens), trainee_of(loaded)
    layer = Layer(CPU, ranks)
    if training.objective == "mlm":
        laid = layer.lay(MaskStream(table, training, seed=0).batch(0), 300)
        loss = gradients.accumulate_masks(trainee, laid, share=1.0, dtype=torch.float32, ranks=ranks)
    else:
        laid = layer.lay(PairStream(table, training, seed=0).batch(0), training.chunk_pairs)
        loss = gradients.accumulate_pairs(trainee, laid, training, share=1.0, dtype=torch.float32, ranks=ranks)
    ranks.sum_gradients(trainee)
    return {**gradients_of(trainee), "loss": loss.view(1)}


def test_two_processes_have_the_gradients_of_one():
    prepare()
    Path("over.py").write_text(_OVER_PROCESSES)
    here = {"PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

    run_script([*torchrun, "over.py", json.dumps(WAYS_OF_ACCUMULATING)], here)

    for number, way in enumerate(WAYS_OF_ACCUMULATING):
        one, two = first_gradients(tiny(*way), ALONE), load_file(f"gradients-{number}.safetensors")
        assert one.keys() == two.keys()
        for name, value in one.items():
            torch.testing.assert_close(two[name], value, atol=1e-5, rtol=1e-4, msg=f"{name} {way}")


def test_torchrun_trains_and_resumes_and_one_process_writes():
    loaded = prepare("compute.precision=fp32")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "embedctl", *options("compute.precision=fp32"), "train"]
    for more in (["--max-steps", "3"], ["--resume", "--max-steps", "6"]):
        made = subprocess.run([*command, *more], env=environment, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr[:3000]

    lines = [json.loads(line) for line in (loaded.layout.run_folder / "metrics.jsonl").read_text().splitlines()]
    two = [line["loss_nats"] for line in lines if "loss_nats" in line]
    alone = prepare("compute.precision=fp32", workspace="alone")
    train(alone, max_steps=6)
    lines = [json.loads(line) for line in (alone.layout.run_folder / "metrics.jsonl").read_text().splitlines()]
    assert two == pytest.approx([line["loss_nats"] for line in lines if "loss_nats" in line], rel=1e-3)
    assert [line["step"] for line in lines if "evaluation" in line] == [0]


def run_script(command: list[str], environment: dict[str, str]) -> None:
    made = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-2000:]
