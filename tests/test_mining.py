"""Mining hard negatives: exact, of training records alone, without sure answers, whole or not at all."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from embedctl.artifacts import manifest
from embedctl.checkpoint import files
from embedctl.cli.faults import translate
from embedctl.errors import ArtifactError, NotFoundError
from embedctl.loading import Loaded
from embedctl.mining import negatives, search
from embedctl.mining.answers import Answers, _Sorted
from embedctl.mining.negatives import Negatives, mine
from embedctl.model.encoding import encode
from embedctl.model.nearest import unit
from embedctl.tokens.shards import TokenTable
from tests.conftest import REPOSITORY, Run, options, sentences, tiny, train

KEEP = 5
FP32 = "compute.precision=fp32"


def project(*more: str, rows: list[dict[str, str]] | None = None, steps: int = 4) -> Loaded:
    """A trained tiny project of these records, else of the usual ones with some equal queries and texts."""
    from embedctl.data import corpus, validation
    from embedctl.tokens import tokenization

    if rows is None:
        rows = [{"id": f"r{n}", "text": text, "query": query} for n, (query, text) in enumerate(sentences(60))]
        for n in range(0, 60, 10):
            rows[n + 1]["query"] = rows[n]["query"]
            rows[n + 3]["text"] = rows[n + 2]["text"]
        del rows[7]["query"]
    Path("text").mkdir(exist_ok=True)
    Path("text/records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    quiet = ("validation.actions.duplicate=keep", "validation.actions.near_duplicate=keep")
    held = "validation.actions.held_text_in_training=keep"
    loaded = tiny("tokens.max_tokens=20", "tokens.overlap_tokens=4", FP32, held, *quiet, *more)
    settings, layout = loaded.settings, loaded.layout
    corpus.fetch(settings.data, layout)
    validation.validate(settings.validation, layout, held_percent=settings.data.held_percent)
    tokenization.tokenize(settings.tokens, layout, held_percent=settings.data.held_percent)
    train(loaded, max_steps=steps)
    return loaded


def mined(loaded: Loaded, keep: int = KEEP) -> tuple[TokenTable, Negatives]:
    mine(loaded.settings.compute, loaded.layout, per_query=keep)
    table = TokenTable(loaded.layout.tokens)
    return table, Negatives(loaded.layout.negatives, tokens=table.manifest.content_id)


def by_hand(loaded: Loaded, keep: int, *, share: float = 0.95) -> dict[int, tuple[list[int], list[float]]]:
    """Rows and scores for each record, by looking at every pair, in float64 of what is stored in halves."""
    table = TokenTable(loaded.layout.tokens)
    encoder = files.load_model(files.head(loaded.layout.checkpoints), torch.device("cpu")).encoder
    texts = [table.passage(row) for row in range(len(table))]
    vectors = unit(encode(encoder, texts, dtype=torch.float32)).astype(np.float16).astype(np.float64)
    mine_for = np.flatnonzero(~table.held & (table.query_lengths > 0)).tolist()
    queries = unit(encode(encoder, [table.query(record) for record in mine_for], dtype=torch.float32))
    strings = table.strings("text", np.arange(len(table)))
    asked = table.strings("query", table.record_starts[:-1])
    owner = table.record_of()
    found = {}
    for record, query in zip(mine_for, queries, strict=True):
        scores = vectors @ query.astype(np.float64)
        own = scores[owner == record].max()
        own_texts = {text for text, o in zip(strings, owner, strict=True) if o == record}
        good = [
            row
            for row in range(len(table))
            if not table.held[owner[row]]
            and asked[owner[row]] != asked[record]
            and strings[row] not in own_texts
            and scores[row] <= own - (1 - share) * abs(own)
        ]
        best = sorted(good, key=lambda row: -scores[row])[:keep]
        found[record] = (best, [float(scores[row]) for row in best])
    return found


def test_what_is_mined_is_what_looking_at_every_pair_finds(monkeypatch: pytest.MonkeyPatch):
    for module, name, size in ((search, "PASSAGES", 13), (negatives, "PASSAGES", 17), (negatives, "_QUERIES", 11)):
        monkeypatch.setattr(module, name, size)
    monkeypatch.setattr(search, "_BLOCK", 4)
    loaded = project()

    table, found = mined(loaded)
    expected = by_hand(loaded, KEEP)

    written = pq.read_table(loaded.layout.negatives / "part-00000.parquet").to_pylist()
    assert len(written) == len(expected) > 30
    for row in written:
        rows, scores = expected[row["record"]]
        # The same passages, or others of the same score.
        assert row["scores"] == pytest.approx(scores, abs=1e-5)
        assert found.of(row["record"]).tolist() == row["rows"]
        assert sum(a != b for a, b in zip(row["rows"], rows, strict=True)) <= 2
    assert len(table.lengths) > table.records
    assert by_hand(loaded, KEEP, share=1.0) != expected


def test_no_negative_is_held_or_a_sure_answer():
    loaded = project()

    table, found = mined(loaded, 40)

    owner, strings = table.record_of(), table.strings("text", np.arange(len(table)))
    asked = table.strings("query", table.record_starts[:-1])
    records = [r for r in range(table.records) if len(found.of(r))]
    assert len(records) == found.manifest.facts["pairs"]
    for record in records:
        rows = found.of(record)
        assert not table.held[record]
        assert not table.held[owner[rows]].any()
        assert all(asked[owner[row]] != asked[record] for row in rows)
        own = {strings[row] for row in range(table.record_starts[record], table.record_starts[record + 1])}
        assert not own & {strings[row] for row in rows}
        assert len(set(rows.tolist())) == len(rows)


def test_windows_do_not_change_a_byte(monkeypatch: pytest.MonkeyPatch):
    loaded = project()
    whole = mine(loaded.settings.compute, loaded.layout, per_query=KEEP).manifest
    shown = pq.read_table(loaded.layout.negatives / "part-00000.parquet").to_pylist()
    monkeypatch.setattr(search, "_BLOCK", 3)
    monkeypatch.setattr(search, "PASSAGES", 10)

    mine(loaded.settings.compute, loaded.layout, per_query=KEEP + 1)
    more = pq.read_table(loaded.layout.negatives / "part-00000.parquet").to_pylist()

    assert whole.facts["pairs"] == len(shown) == len(more)
    assert [row["rows"] for row in shown] == [row["rows"][:KEEP] for row in more]


@given(keys=st.lists(st.integers(0, 5), max_size=12), asked=st.lists(st.integers(0, 7), max_size=12))
def test_equal_keys_are_found_as_by_comparing_all(keys: list[int], asked: list[int]):
    found = _Sorted(np.array(keys, dtype=np.uint64)).find(np.array(asked, dtype=np.uint64))

    every = [(i, j) for i, a in enumerate(asked) for j, k in enumerate(keys) if a == k]
    assert sorted(zip(found.left.tolist(), found.right.tolist(), strict=True)) == every


def test_what_stands_in_memory_is_a_few_bytes_for_each_chunk():
    table = TokenTable(project().layout.tokens)

    answers = Answers(table, np.arange(len(table)))

    held = sum(getattr(answers, name).nbytes for name in ("_owners", "_asked", "_texts"))
    assert held <= 24 * len(table)


def test_the_command_makes_it_once_and_again_when_something_changes(run: Run):
    more = ("tokens.max_tokens=20", "tokens.overlap_tokens=4", FP32, "validation.actions.duplicate=keep",
            "validation.actions.near_duplicate=keep", "validation.actions.held_text_in_training=keep")  # fmt: skip
    loaded = project()

    first = json.loads(run(*options(*more), "--json", "mine", "--per-query", "3").out)
    second = run(*options(*more), "mine", "--per-query", "3")
    third = json.loads(run(*options(*more), "--json", "mine").out)
    train(loaded, resume=True)
    fourth = json.loads(run(*options(*more), "--json", "mine").out)

    assert first["made"]
    assert first["measured"]["pairs_per_second"] > 0
    assert first["facts"]["negatives"] <= 3 * first["facts"]["pairs"]
    assert "negatives up to date: ws/negatives/main" in second.out
    shown = {row["kind"]: row["state"] for row in json.loads(run(*options(*more), "--json", "status").out)}
    assert shown["negatives"] == "up to date"
    assert "train --set training.hard_negatives=3" in second.err
    assert (third["made"], fourth["made"]) == (True, True)
    assert sorted(path.name for path in Path("ws/negatives/main").iterdir()) == ["manifest.json", "part-00000.parquet"]


def test_a_published_model_mines_in_tokens_made_for_it(run: Run):
    loaded = project()
    assert run(*options(), "model", "export", "--to", "published").code == 0
    here = mine(loaded.settings.compute, loaded.layout, per_query=KEEP).manifest

    there = mine(loaded.settings.compute, loaded.layout, per_query=KEEP, model=Path("published")).manifest

    assert here.fingerprint != there.fingerprint
    assert here.files["part-00000.parquet"].sha256 == there.files["part-00000.parquet"].sha256


def test_tokens_of_another_vocabulary_are_refused(run: Run):
    project()
    assert run(*options(), "model", "export", "--to", "published").code == 0
    project("project.name=other", "project.run=other", "tokens.vocabulary_size=400")

    for command in ("mine", "eval"):
        ran = run(*options("project.name=other"), command, "--model", "published")

        assert ran.code == 3
        assert "run `embedctl --set model.init_from=published data tokenize` first" in ran.err


def test_status_knows_negatives_of_other_tokens(run: Run):
    mined(project())
    project("tokens.max_tokens=24")

    shown = {row["kind"]: row for row in json.loads(run(*options("tokens.max_tokens=24"), "--json", "status").out)}

    assert (shown["negatives"]["state"], shown["negatives"]["why"]) == ("stale", "made before the tokens changed")


def test_without_queries_there_is_nothing_to_mine(run: Run):
    project("tokens.max_tokens=48", rows=[{"id": f"r{n}", "text": text} for n, (_, text) in enumerate(sentences(60))])

    ran = run(*options("tokens.max_tokens=48"), "mine")

    assert ran.code == 3
    assert "no training record has a query" in ran.err


def test_negatives_of_other_tokens_and_none_at_all_are_refused():
    loaded = project()
    with pytest.raises(NotFoundError, match="no negatives at"):
        Negatives(loaded.layout.negatives, tokens="x")
    mined(loaded)

    with pytest.raises(ArtifactError, match="mined in other tokens"):
        Negatives(loaded.layout.negatives, tokens="x")


def test_a_record_without_negatives_has_none():
    loaded = project()
    table, found = mined(loaded)

    held = np.flatnonzero(table.held)

    assert all(len(found.of(int(record))) == 0 for record in [*held, table.records, 10**9])


def test_killed_while_mining_leaves_what_was_there_and_then_the_same_bytes():
    loaded = project()
    before = mine(loaded.settings.compute, loaded.layout, per_query=2).manifest
    slow = (
        "import time, embedctl.mining.search as s; real = s.Search.hardest\n"
        "def hardest(*a, **k):\n    print('mining', flush=True); time.sleep(60)\n"
        "s.Search.hardest = hardest\n"
        "from embedctl.mining.negatives import mine\nfrom pathlib import Path\n"
        "from embedctl.artifacts.layout import Layout\nfrom embedctl.settings import ComputeSettings\n"
        "mine(ComputeSettings(precision='fp32'), Layout(Path('ws'), 'main', 'main'), per_query=4)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", slow], stdout=subprocess.PIPE, env={"PYTHONPATH": str(REPOSITORY)})
    assert child.stdout is not None
    assert child.stdout.readline() == b"mining\n"

    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    time.sleep(0.1)

    assert manifest.read_verified(loaded.layout.negatives, "negatives") == before
    assert (loaded.layout.negatives.parent / ".main.partial" / "passages.f16").is_file()
    again = mine(loaded.settings.compute, loaded.layout, per_query=4).manifest
    assert [path.name for path in loaded.layout.negatives.parent.iterdir()] == ["main"]
    mine(loaded.settings.compute, loaded.layout, per_query=2)
    assert mine(loaded.settings.compute, loaded.layout, per_query=4).manifest.files == again.files


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="mounting needs root")
def test_a_disk_that_is_full_is_said_before_it_can_kill():
    small = Path("small")
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("this machine does not mount")
    try:
        with pytest.raises(OSError) as full:
            negatives._mapped(small / "passages.f16", 1000, 64)
    finally:
        subprocess.run(["umount", small], check=True)

    said = translate(full.value)
    assert (said.exit_code, said.message) == (9, "the disk is full") if said else False


def test_the_space_of_vectors_is_taken_at_once_and_holds_what_is_written():
    mapped = negatives._mapped(Path("passages.f16"), 300, 64)
    mapped[:] = 1.5

    assert Path("passages.f16").stat().st_blocks * 512 >= 300 * 64 * 2
    assert (np.memmap(Path("passages.f16"), dtype=np.float16, mode="r") == 1.5).sum() == 300 * 64
