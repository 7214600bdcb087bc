"""Vectors: in order, the same twice, and every export reads back to the same numbers."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from embedctl.artifacts import manifest
from embedctl.checkpoint import files
from embedctl.embedding import shards, windows
from embedctl.embedding.generation import generate
from embedctl.embedding.vectors import matrix, read_vectors
from embedctl.errors import DataError
from embedctl.loading import Loaded
from embedctl.model.encoding import encode
from embedctl.tokens.shards import TokenTable
from tests.conftest import Run, options, prepare, tiny, train


def vectors(loaded: Loaded) -> tuple[list[str], np.ndarray]:
    batches = list(read_vectors(loaded.layout.vectors, 7))
    return [id_ for batch in batches for id_ in batch.column("id").to_pylist()], np.concatenate(
        list(map(matrix, batches))
    )


def embedded(*more: str, workspace: str = "ws") -> Loaded:
    loaded = prepare("compute.precision=fp32", *more, workspace=workspace)
    train(loaded, max_steps=2)
    generate(loaded.settings.embedding, loaded.settings.compute, loaded.layout)
    return loaded


def test_each_chunk_has_its_own_vector_in_the_order_of_the_tokens(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(windows, "CHUNKS", 10)
    loaded = embedded("tokens.max_tokens=16", "tokens.overlap_tokens=4")
    table = TokenTable(loaded.layout.tokens)
    model = files.load_model(files.head(loaded.layout.checkpoints), torch.device("cpu"))

    ids, found = vectors(loaded)

    assert ids == table.strings("id", list(range(len(table))))
    alone = np.concatenate(
        [encode(model.encoder, [table.passage(row)], dtype=torch.float32) for row in range(len(table))]
    )
    np.testing.assert_allclose(found, alone, atol=2e-6)
    assert len(list(loaded.layout.vectors.glob("part-*.parquet"))) > 2


def test_the_same_twice_gives_the_same_bytes():
    one, other = embedded(workspace="one"), embedded(workspace="other")

    assert manifest.read(one.layout.vectors, "vectors") == manifest.read(other.layout.vectors, "vectors")


def test_equal_texts_have_equal_digests_and_another_model_others():
    loaded = embedded()
    rows = {row["id"]: row for batch in read_vectors(loaded.layout.vectors, 99) for row in batch.to_pylist()}
    digests = [row["digest"] for row in rows.values()]
    train(loaded, resume=True, max_steps=3)
    generate(loaded.settings.embedding, loaded.settings.compute, loaded.layout)
    after = {row["id"]: row for batch in read_vectors(loaded.layout.vectors, 99) for row in batch.to_pylist()}

    assert len(set(digests)) == len(digests)
    assert rows.keys() == after.keys()
    assert not set(digests) & {row["digest"] for row in after.values()}
    assert json.loads(rows["r3#0"]["metadata"])["record"] == "r3"
    assert "text" in json.loads(rows["r3#0"]["metadata"])


def test_the_restored_checkpoint_is_the_one_that_embeds(run: Run):
    loaded = embedded()
    first = vectors(loaded)[1]
    train(loaded, resume=True, max_steps=4)
    generate(loaded.settings.embedding, loaded.settings.compute, loaded.layout)
    assert not np.array_equal(vectors(loaded)[1], first)

    run(*options("compute.precision=fp32"), "checkpoint", "restore", "2")
    generate(loaded.settings.embedding, loaded.settings.compute, loaded.layout)

    assert np.array_equal(vectors(loaded)[1], first)


def test_half_precision_is_stored_as_such():
    loaded = embedded("embedding.dtype=float16", "embedding.with_text=false")

    (batch, *_) = read_vectors(loaded.layout.vectors, 99)

    assert str(batch.schema.field("values").type.value_type) == "halffloat"
    np.testing.assert_allclose(np.linalg.norm(matrix(batch), axis=1), 1, atol=2e-3)
    assert "text" not in json.loads(batch.column("metadata")[0].as_py())


def test_tokens_of_another_tokenizer_are_refused():
    loaded = embedded()
    other = tiny("tokens.algorithm=wordpiece")
    from embedctl.tokens import tokenization

    tokenization.tokenize(other.settings.tokens, loaded.layout, held_percent=20)

    with pytest.raises(DataError, match="another tokenizer"):
        generate(loaded.settings.embedding, loaded.settings.compute, loaded.layout)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_export_reads_back_to_the_same_numbers(run: Run, dtype: str):
    more = ("compute.precision=fp32", f"embedding.dtype={dtype}")
    ids, found = vectors(embedded(f"embedding.dtype={dtype}"))

    ran = [
        run(*options(*more), "embed", "export", "--format", f) for f in ("npy", "parquet", "jsonl", "embedding-layer")
    ]
    again = run(*options(*more), "--json", "embed", "export", "--format", "npy")

    assert [r.code for r in ran] == [0, 0, 0, 0]
    assert json.loads(again.out)["made"] is False
    exports = Path("ws/exports")
    npy = np.load(exports / "main-npy/vectors.npy", allow_pickle=False)
    assert npy.dtype == dtype
    assert np.array_equal(npy, found)
    assert json.loads((exports / "main-npy/ids.json").read_text()) == ids

    table = pq.read_table(exports / "main-parquet/vectors.parquet")
    assert table.column("id").to_pylist() == ids
    assert np.array_equal(np.array(table.column("values").to_pylist(), dtype=np.float32), found)

    lines = [json.loads(line) for line in (exports / "main-jsonl/vectors.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ids
    assert np.array_equal(np.array([line["values"] for line in lines], dtype=np.float32), found)
    assert lines[0]["metadata"]["record"] == "r0"

    weight = load_file(exports / "main-embedding-layer/embedding.safetensors")["weight"]
    rows = json.loads((exports / "main-embedding-layer/rows.json").read_text())
    layer = nn.Embedding.from_pretrained(torch.from_numpy(weight))
    assert [rows[id_] for id_ in ids] == list(range(len(ids)))
    assert np.array_equal(layer(torch.tensor([rows[ids[5]]])).float().numpy()[0], found[5])


def test_exporting_over_a_foreign_folder_is_refused(run: Run):
    embedded()
    Path("mine").mkdir()
    Path("mine/file").write_text("precious")

    ran = run(*options(), "embed", "export", "--format", "npy", "--to", "mine")
    wrong = run(*options(), "embed", "export", "--format", "tflite")

    assert (ran.code, wrong.code) == (11, 2)
    assert Path("mine/file").read_text() == "precious"


def test_a_stopped_generate_leaves_the_old_vectors(monkeypatch: pytest.MonkeyPatch):
    loaded = embedded()
    before = manifest.read(loaded.layout.vectors, "vectors")
    train(loaded, resume=True, max_steps=3)

    def broken(*arguments: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards.vectors, "write_part", broken)
    with pytest.raises(OSError, match="No space"):
        generate(loaded.settings.embedding, loaded.settings.compute, loaded.layout)

    assert manifest.read_verified(loaded.layout.vectors, "vectors") == before
