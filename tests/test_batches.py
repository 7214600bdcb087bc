"""Batches: a function of their number, made ahead, and of the same gradient however they are cut."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from embedctl.ranks import Ranks
from embedctl.settings import TrainingSettings
from embedctl.tokens.shards import TokenTable
from embedctl.training import gradients
from embedctl.training.laying import Layer
from embedctl.training.pairs import PairBatch, PairStream
from embedctl.training.prefetch import prefetch
from tests.conftest import prepare
from tests.test_objectives import trainee_of


@pytest.mark.parametrize("chunk_pairs", [1, 3, 8, 100])
def test_a_chunked_batch_has_the_loss_and_gradients_of_the_plain_one(chunk_pairs: int):
    loaded = prepare()
    table = TokenTable(loaded.layout.tokens)
    batch = PairStream(table, loaded.settings.training, seed=0).batch(0)

    def computed(chunk: int) -> tuple[float, dict[str, torch.Tensor]]:
        trainee = trainee_of(loaded)
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


def test_chunks_take_their_share_of_short_and_long_texts():
    texts = [np.arange(length) for length in (*range(4, 44), *range(50, 250, 5))]
    batch = PairBatch(texts[:40], texts[40:], records=list(range(40)))

    laid = Layer(torch.device("cpu"), Ranks()).lay(batch, 4)

    sizes = [sum(len(piece.batch.ids_T) for piece in chunk) for chunk in laid.chunks]
    assert len(sizes) == 10
    assert sorted(laid.places) == list(range(80))
    assert max(sizes) < 1.25 * np.mean(sizes)  # what a chunk holds sets the memory


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
