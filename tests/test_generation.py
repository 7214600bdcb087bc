"""Generating vectors: each content once, the same bytes whatever happened on the way."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from embedctl.artifacts import manifest
from embedctl.artifacts.outcome import Outcome
from embedctl.checkpoint import files
from embedctl.data import corpus, validation
from embedctl.embedding import embedder, windows
from embedctl.embedding.generation import generate
from embedctl.embedding.vectors import Keeping, matrix, read_vectors
from embedctl.errors import ConfigError, DataError, OutOfMemory
from embedctl.loading import Loaded
from embedctl.model import encoding
from embedctl.model.encoding import encode
from embedctl.tokens import tokenization
from embedctl.tokens.shards import TokenTable
from tests.conftest import Run, options, prepare, tiny, train, write_corpus

SMALL = ("tokens.max_tokens=16", "tokens.overlap_tokens=4", "compute.precision=fp32")
FILES = ("data.held_percent=0", "validation.actions.duplicate=keep", "validation.actions.near_duplicate=keep")


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "CHUNKS", 32)


def trained(*more: str, count: int = 60) -> Loaded:
    loaded = prepare(*SMALL, *more, count=count)
    train(loaded, max_steps=2)
    return loaded


def made(loaded: Loaded, **changed: object) -> Outcome:
    settings = loaded.settings.embedding.model_copy(update=changed)
    return generate(settings, loaded.settings.compute, loaded.layout)


def bytes_of(loaded: Loaded) -> dict[str, str]:
    return {
        name: entry.sha256 for name, entry in manifest.read_verified(loaded.layout.vectors, "vectors").files.items()
    }


def values(loaded: Loaded) -> np.ndarray:
    return np.concatenate([matrix(batch) for batch in read_vectors(loaded.layout.vectors, 50)])


def repeated_corpus(times: int) -> Loaded:
    folder = write_corpus(Path("text"), 20)
    lines = (folder / "records.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    more = [{**row, "id": f"{row['id']}-{n}"} for n in range(times) for row in rows]
    (folder / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in more))
    loaded = tiny(*SMALL, *FILES)
    tokenize(loaded)
    train(loaded, max_steps=2)
    return loaded


def tokenize(loaded: Loaded) -> None:
    settings, layout = loaded.settings, loaded.layout
    corpus.fetch(settings.data, layout)
    validation.validate(settings.validation, layout, held_percent=settings.data.held_percent)
    tokenization.tokenize(settings.tokens, layout, held_percent=settings.data.held_percent)


@pytest.mark.parametrize("megabytes", [0, 100])
def test_equal_content_is_embedded_once_and_fanned_out(megabytes: int):
    loaded = repeated_corpus(4)
    table = TokenTable(loaded.layout.tokens)
    contents = {table.passage(row).tobytes() for row in range(len(table))}
    assert len(table) > 3 * len(contents) > 32

    done = made(loaded, cache_megabytes=megabytes)

    assert done.measured["embedded"] == len(contents)
    assert done.measured["repeated"] == len(table) - len(contents)
    model = files.load_model(files.head(loaded.layout.checkpoints), torch.device("cpu"))
    ids = [table.passage(row) for row in range(len(table))]
    assert np.array_equal(values(loaded), encode(model.encoder, ids, dtype=torch.float32))


def test_with_or_without_the_cache_the_bytes_are_the_same():
    loaded = repeated_corpus(3)
    made(loaded, cache_megabytes=0)
    without = bytes_of(loaded)
    made(loaded, dtype="float16")
    made(loaded)
    filled = bytes_of(loaded)
    made(loaded, dtype="float16", with_text=False)
    again = made(loaded)

    assert without == filled == bytes_of(loaded)
    assert (again.measured["embedded"], again.measured["cached"]) == (0, len({*map(bytes, values(loaded))}))


def test_after_growth_only_what_is_new_is_embedded():
    loaded = trained()
    made(loaded)
    before = {
        row["id"]: row["digest"] for batch in read_vectors(loaded.layout.vectors, 99) for row in batch.to_pylist()
    }
    path = Path("text/records.jsonl")
    path.write_text(path.read_text() + json.dumps({"id": "new", "text": "A word that nobody had said before."}) + "\n")

    tokenize(loaded)
    grown = made(loaded)

    after = {row["id"]: row["digest"] for batch in read_vectors(loaded.layout.vectors, 99) for row in batch.to_pylist()}
    new = [id_ for id_ in after if id_ not in before]
    assert grown.measured["embedded"] == len(new) > 0
    assert all(after[id_] == before[id_] for id_ in before)


@pytest.mark.parametrize("change", ["model", "dim", "dtype", "precision"])
def test_what_changes_a_vector_misses_the_cache(change: str):
    loaded = trained()
    first = made(loaded)
    if change == "model":
        train(loaded, resume=True, max_steps=3)
        done = made(loaded)
    elif change == "precision":
        compute = loaded.settings.compute.model_copy(update={"precision": "bf16"})
        done = generate(loaded.settings.embedding, compute, loaded.layout)
    else:
        done = made(loaded, **{"dim": {"dim": 16}, "dtype": {"dtype": "int8"}}[change])

    assert (done.measured["cached"], done.measured["embedded"]) == (0, first.measured["embedded"])


def test_a_smaller_dimension_is_the_first_values_at_length_one():
    loaded = trained()
    made(loaded)
    whole = values(loaded)[:, :16]
    made(loaded, dim=16)

    np.testing.assert_allclose(values(loaded), whole / np.linalg.norm(whole, axis=1, keepdims=True), atol=1e-6)
    with pytest.raises(ConfigError, match="have 32 values"):
        made(loaded, dim=33)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_the_error_of_a_narrower_type_is_the_one_that_is_stated(dtype: str):
    loaded = trained()
    made(loaded)
    exact = values(loaded)
    stated = made(loaded, dtype=dtype).manifest.facts["worst_cosine"]

    kept = values(loaded)
    cosines = (exact * kept).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(kept, axis=1)
    assert cosines.min() == pytest.approx(stated, abs=1e-6)
    assert 0.999 < cosines.min() < 1


def test_packing_keeps_zeros_and_extremes():
    vectors = np.array([[0, 0, 0], [1e-30, -1e-30, 0], [3e4, -1, 2]], dtype=np.float32)
    for dtype in ("float32", "float16", "int8"):
        keeping = Keeping(3, dtype)
        packed = keeping.pack(vectors)
        assert packed.shape == (3, keeping.row_bytes)
        assert not len(keeping.bad_rows(packed))
    assert Keeping(3, "float16").bad_rows(Keeping(3, "float16").pack(vectors * 10)).tolist() == [2]
    assert Keeping(3, "int8").bad_rows(Keeping(3, "int8").pack(vectors * np.float32(np.nan))).tolist() == [0, 1, 2]


def test_out_of_memory_halves_the_batch_and_changes_no_bit(monkeypatch: pytest.MonkeyPatch):
    loaded = trained()
    made(loaded, cache_megabytes=0)
    whole = bytes_of(loaded)
    embed, tried = encoding.embed, []

    def little_room(encoder: object, texts: Sequence[np.ndarray], dtype: object, **named: object) -> torch.Tensor:
        tried.append(sum(map(len, texts)))
        if tried[-1] > 200:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return embed(encoder, texts, dtype, **named)

    monkeypatch.setattr(encoding, "embed", little_room)
    made(loaded, dtype="float16", cache_megabytes=0)
    made(loaded, cache_megabytes=0)

    assert bytes_of(loaded) == whole
    assert max(tried) > 200
    monkeypatch.setattr(encoding, "embed", lambda *_, **__: little_room(None, [np.zeros(999)], None))
    with pytest.raises(OutOfMemory):
        made(loaded, dtype="float16", cache_megabytes=0)


def test_a_vector_that_is_not_finite_is_named_and_nothing_is_written(monkeypatch: pytest.MonkeyPatch):
    loaded = trained()

    def broken(*arguments: object, **named: object) -> np.ndarray:
        vectors = encode(*arguments, **named)
        vectors[7] = np.nan
        return vectors

    monkeypatch.setattr(embedder, "encode", broken)
    with pytest.raises(DataError, match=r"the vector of r\d+#\d+ is not finite"):
        made(loaded)
    assert not loaded.layout.vectors.exists()


def test_parity_tells_the_truth(run: Run):
    trained()

    exact = json.loads(run(*options(*SMALL), "--json", "embed", "parity", "--texts", "20").out)
    half = json.loads(run(*options(*SMALL, "compute.precision=bf16"), "--json", "embed", "parity", "--texts", "20").out)

    assert exact["alone, and in a batch"]["equal_share"] == half["alone, and in a batch"]["equal_share"] == 1
    assert exact["float32, and float32 as used"]["worst_cosine"] > 1 - 1e-6
    assert 0.99 < half["float32, and bfloat16 as used"]["worst_cosine"] < 1
    assert half["ONNX, and float32"]["worst_cosine"] > 1 - 1e-5
    shown = run(*options(*SMALL), "embed", "parity", "--texts", "5")
    assert "100.0%" in shown.out


def test_no_cache_leaves_none_and_the_hits_are_said(run: Run):
    trained()
    words = options(*SMALL)
    first = json.loads(run(*words, "--json", "embed", "generate", "--no-cache").out)
    assert not Path("ws/cache").exists()
    run(*words, "--set", "embedding.dtype=float16", "embed", "generate")
    run(*words, "embed", "generate")
    run(*words, "--set", "embedding.dtype=int8", "embed", "generate")
    last = run(*words, "embed", "generate")

    assert first["measured"]["embedded"] + first["measured"]["repeated"] == first["facts"]["vectors"]
    assert f"{first['measured']['embedded']:,} from the cache" in last.err
