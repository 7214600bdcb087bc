"""The texts of chunks: spans of the part of the corpus that lies beside their shard, whatever becomes of the corpus."""

import errno
import json
import os
import random
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from embedctl.artifacts import manifest
from embedctl.data import corpus, validation
from embedctl.embedding import windows
from embedctl.errors import ArtifactError
from embedctl.evaluation import retrieval
from embedctl.loading import Loaded
from embedctl.tokens import originals, tokenization
from embedctl.tokens.shards import TokenTable
from tests.conftest import tiny

TEXTS = [
    "Kurz. Dann ein zweiter Satz, naïve café – 東京, mit 😀 darin, und noch viele Wörter mehr, bis er lang ist. " * 3,
    "  white space before, and behind \n\n\n A paragraph of its own stands here. And it has two sentences.  ",
    "dropped: x' OR '1'='1",
    "mended \0 inside, and it goes on for so long that it has to be cut, and on, and on, and once more on. Here too.",
    "",
    *(f"Record {n} says {n * n} things, 重複 {'again and ' * (n % 7)}again." for n in range(40)),
]


def made(monkeypatch: pytest.MonkeyPatch, *more: str) -> Loaded:
    monkeypatch.setattr(corpus, "PART_BYTES", 900)
    Path("text").mkdir(exist_ok=True)
    rows = (json.dumps({"id": f"r{n}", "text": text}) + "\n" for n, text in enumerate(TEXTS))
    Path("text/a.jsonl").write_text("".join(rows), encoding="utf-8")
    keep = [f"validation.actions.{name}=keep" for name in ("duplicate", "near_duplicate", "repetition", "empty")]
    chosen = ("tokens.max_tokens=24", "tokens.overlap_tokens=4", "validation.actions.sql_injection=drop", *keep, *more)
    loaded = tiny(*chosen)
    corpus.fetch(loaded.settings.data, loaded.layout)
    validation.validate(loaded.settings.validation, loaded.layout, held_percent=0)
    tokenization.tokenize(loaded.settings.tokens, loaded.layout, held_percent=0, processes=1)
    return loaded


def spans(table: TokenTable) -> list[str]:
    """What the texts have to be."""
    whole = {f"r{n}": text.replace("mended \0", "mended ") for n, text in enumerate(TEXTS)}
    found = table.rows(0, len(table), ["record", "start", "end"])
    return [whole[row["record"]][row["start"] : row["end"]] for row in found]


def test_every_text_is_found_in_any_order_and_only_what_was_mended_is_written_again(monkeypatch: pytest.MonkeyPatch):
    loaded = made(monkeypatch)
    table = TokenTable(loaded.layout.tokens)
    expected = spans(table)

    rows = random.Random(1).choices(range(len(table)), k=300)

    assert len(list(loaded.layout.tokens.glob("part-*.arrow"))) > 3
    assert table.strings("text", rows) == [expected[row] for row in rows]
    assert table.strings("text", []) == []
    assert [row["text"] for row in table.rows(3, 30, ["text"])] == expected[3:30]
    found = windows.windows_of(loaded.layout.tokens, manifest.read(loaded.layout.tokens, "tokens"))
    assert [text for part in found for text in part.read(["text"]).column("text").to_pylist()] == expected
    written = [row["record"] for row in table.rows(0, len(table), ["record", "row"]) if row["row"] is None]
    assert len(written) > 1 and {*written} == {"r3"}
    assert "r2" not in table.strings("record", range(len(table)))


def test_the_words_of_all_records_are_read_once_a_part(monkeypatch: pytest.MonkeyPatch):
    table = TokenTable(made(monkeypatch).layout.tokens)
    task = SimpleNamespace(records=np.arange(table.records), rows=np.arange(len(table)))
    opened: list[Path] = []
    once = originals.pq.ParquetFile
    monkeypatch.setattr(originals.pq, "ParquetFile", lambda path: opened.append(path) or once(path))

    words = [text.split() for text in retrieval._whole_texts(table, task)]

    there = [text.replace("mended \0", "mended ").split() for text in TEXTS if text and "OR '1'" not in text]
    assert words == there
    assert len(opened) == len({*opened}) > 3


def test_they_stay_when_the_corpus_goes_and_no_copy_is_made(monkeypatch: pytest.MonkeyPatch):
    loaded = made(monkeypatch)
    parts = {path.name: path.stat().st_ino for path in loaded.layout.corpus.glob("*.parquet")}
    assert {path.name: path.stat().st_ino for path in loaded.layout.tokens.glob("*.parquet")} == parts

    shutil.rmtree(loaded.layout.corpus)

    table = TokenTable(loaded.layout.tokens)
    assert table.strings("text", range(len(table))) == spans(table)


def test_without_second_names_they_are_copied(monkeypatch: pytest.MonkeyPatch):
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    loaded = made(monkeypatch)

    table = TokenTable(loaded.layout.tokens)
    assert table.strings("text", range(len(table))) == spans(table)
    assert all(path.stat().st_nlink == 1 for path in loaded.layout.tokens.iterdir())


def test_one_that_is_damaged_is_not_read(monkeypatch: pytest.MonkeyPatch):
    loaded = made(monkeypatch)
    path = loaded.layout.tokens / "part-00001.parquet"
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])

    with pytest.raises(ArtifactError, match=r"part-00001\.parquet is damaged"):
        TokenTable(loaded.layout.tokens)


def test_a_shard_of_before_that_holds_all_texts_is_read_as_it_is(tmp_path: Path):
    chunks = pa.table({"start": [0, 4], "end": [4, 8], "text": ["one ", "two."]})

    assert originals.with_texts(chunks, tmp_path / "part-00000.arrow") is chunks
