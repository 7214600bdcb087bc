"""Ends of the ranges that training and evaluation work in: the coldest temperature, texts of no tokens, limits that are
told in another file, scores without an order."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from embedctl.model import native, published
from embedctl.model.encoder import initialise
from embedctl.model.encoding import encode, unit_vectors
from embedctl.model.packed import arithmetic_of, packed, way_of
from embedctl.model.shape import Shape
from embedctl.settings import TrainingSettings
from embedctl.training.trainee import Trainee
from tests.conftest import Run, options, prepare, train
from tests.test_published import MINILM, TINY


def test_a_temperature_that_fell_too_low_rises_again():
    trainee = Trainee(initialise(Shape(**TINY), 0), TrainingSettings(learn_temperature=True, temperature=0.02), seed=0)
    cold = trainee.log_temperature
    assert cold is not None
    with torch.no_grad():
        cold.fill_(math.log(0.001))

    trainee.settle()
    heat = trainee.temperature
    assert isinstance(heat, torch.Tensor)
    assert float(heat.detach()) == pytest.approx(0.01)
    heat.backward()
    assert cold.grad is not None
    assert float(cold.grad) > 0.009


@pytest.mark.parametrize("layout", ["bert", "modernbert"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_text_of_no_tokens_has_zeros_and_changes_no_other(layout: str, dtype: torch.dtype):
    encoder = initialise(Shape(**TINY, layout=layout), 0).eval()
    texts = [np.array(ids, dtype=np.uint32) for ids in ([], [1, 2, 3], [], [4, 5])]

    found = encode(encoder, texts, dtype=dtype)

    assert not found[[0, 2]].any()
    assert np.array_equal(found[[1, 3]], encode(encoder, [texts[1], texts[3]], dtype=dtype))
    assert not encode(encoder, texts[:1], dtype=dtype).any()
    assert np.isfinite(unit_vectors(encoder, texts, dtype=dtype)).all()


@pytest.mark.parametrize(
    ("own", "of_tokenizer", "limit"),
    [(256, 128, 256), (None, 256, 256), (None, int(1e30), 512), (None, None, 512), (9999, None, 512)],
)
def test_the_limit_is_read_where_sentence_transformers_has_it(own: int | None, of_tokenizer: int | None, limit: int):
    folder = Path(shutil.copytree(MINILM, "model"))
    for name, key, value in (
        ("sentence_bert_config.json", "max_seq_length", own),
        ("tokenizer_config.json", "model_max_length", of_tokenizer),
    ):
        (folder / name).write_text(json.dumps({} if value is None else {key: value}))

    assert published.open_folder(folder).limit == limit


def test_scores_without_an_order_are_refused_and_a_model_without_one_has_a_figure(run: Run):
    Path("same.csv").write_text("sentence1,sentence2,score\na,b,1\nc,d,1\n")
    Path("endless.csv").write_text("sentence1,sentence2,score\na,b,nan\nc,d,1\n")
    Path("twins.csv").write_text("sentence1,sentence2,score\na,a,1\nc,c,2\n")
    train(prepare(), max_steps=1)

    told = [run(*options(f"evaluation.similarity_file={name}.csv"), "eval") for name in ("same", "endless", "twins")]

    assert [ran.code for ran in told] == [3, 3, 0]
    assert "all scores are 1" in told[0].err
    assert "endless.csv:2" in told[1].err
    report = json.loads(Path("ws/evaluation/main/report.json").read_text(), parse_constant=pytest.fail)
    assert math.isfinite(report["similarity"]["spearman"])


@pytest.mark.skipif(not native.available(), reason="no bfloat16 in C here")
@pytest.mark.parametrize("layout", ["bert", "modernbert"])
def test_vectors_made_by_c_and_by_torch_are_not_taken_for_each_other(layout: str, monkeypatch: pytest.MonkeyPatch):
    encoder = initialise(Shape(**{**TINY, "intermediate_dim": 50}, layout=layout), 0).eval()  # of no whole tiles
    bits = torch.bfloat16

    by_c, found = arithmetic_of(packed(encoder, bits), bits), way_of(torch.device("cpu"), bits)
    monkeypatch.setattr(native, "available", lambda: False)

    assert arithmetic_of(packed(encoder, bits), bits) != by_c
    assert way_of(torch.device("cpu"), bits) == "torch" != found
