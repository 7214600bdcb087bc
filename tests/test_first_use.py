"""What a newcomer may run into: small folders, other models, names that clash, and hints that have to work."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch

from embedctl.cli.faults import translate
from embedctl.errors import StorageError
from embedctl.model import precision
from embedctl.store.ledger import Whole, last_whole, open_ledger
from tests.conftest import Run, options, prepare, train, write_corpus


def test_with_nothing_held_out_run_still_fills_the_store(run: Run):
    write_corpus(Path("text"), 20)
    none_held = options("data.held_percent=0")

    first = run(*none_held, "run")
    again = json.loads(run("--json", *none_held, "run").out)

    assert (first.code, "nothing to evaluate on" in first.err) == (0, True)
    assert "20 vectors" in first.out
    assert len(json.loads(run(*none_held, "embed", "search", "river", "--json").out)["hits"]) == 5
    assert [step["made"] for step in again["steps"]] == [False] * 6
    assert "everything is up to date" in run(*none_held, "status").out
    assert run(*none_held, "eval").code == 3


def test_fields_of_a_record_that_are_called_like_ours_are_kept_and_found(run: Run):
    file = write_corpus(Path("text")) / "records.jsonl"
    own = {"source": "GARD", "record": "patient-42", "start": 7, "source_": "theirs"}
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps({**row, **(own if row["id"] == "r3" else {})}) + "\n" for row in rows))
    assert run(*options(), "run").code == 0

    hit = json.loads(run(*options(), "--json", "embed", "search", "river", "--where", "source__=GARD").out)["hits"][0]

    found = hit["metadata"]
    assert (found["record_"], found["start_"], found["source_"]) == ("patient-42", 7, "theirs")
    assert found["source"] == "records.jsonl"
    assert found["record"].startswith("r3")


def test_a_model_of_another_width_is_told_to_be_another(run: Run, finished: Path):
    ran = run(*options("embedding.dim=8"), "embed", "search", "river")

    assert (ran.code, "holds no vectors of the model" in ran.err) == (12, True)


def test_what_another_model_made_is_searched_with_it(run: Run, finished: Path):
    model = "ws/runs/main"
    made = run(*options(), "embed", "generate", "--model", model)
    sent = run(*options("store.collection=second"), "embed", "upsert")

    assert (made.code, sent.code, "--model DIR" in sent.err) == (0, 0, True)
    words = ["embed", "search", "river", "--model", model]
    assert run(*options("store.collection=second"), *words).code == 0


def test_who_wants_negatives_before_there_is_a_model_is_not_sent_in_circles(run: Run):
    prepare()
    wanted = options("training.hard_negatives=2")

    for command in ("train", "mine"):
        ran = run(*wanted, command)
        assert ran.code == 12
    assert "training.hard_negatives=0 train" in ran.err
    assert run(*wanted, "--set", "training.hard_negatives=0", "train").code == 0
    assert run(*wanted, "mine").code == 0


def test_damaged_vectors_are_not_taken_for_a_damaged_store(run: Run, finished: Path):
    part = next(Path("ws/vectors/main").glob("*.parquet"))
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)

    ran = run(*options(), "embed", "upsert", "--verify", "all")

    assert (ran.code, "is damaged" in ran.err, "as they were sent" in ran.err) == (4, True, False)


def test_a_file_of_secrets_in_another_encoding_is_named(run: Run):
    Path(".env").write_bytes("PINECONE_API_KEY=a\n".encode("utf-16"))

    assert (run("config", "check").code, run("status").code) == (2, 2)
    told = run("doctor")
    assert (told.code, ".env is not UTF-8" in told.out) == (0, True)


def test_a_broken_line_among_the_secrets_is_told_once_with_its_place(run: Run):
    Path(".env").write_text("PINECONE_API_KEY=a\nthis is no assignment\nEMBEDCTL_PROJECT__RUN=other\n")

    ran = run("config", "show", "project.run")

    assert (ran.code, "other" in ran.out) == (0, True)
    assert ran.err.count("this is no assignment") == 0
    assert (ran.err.count(".env:2"), ran.err.count("line 2")) == (1, 0)


def test_a_file_in_the_way_of_a_folder_is_said(run: Run):
    write_corpus(Path("text"), 4)
    Path("afile").write_text("")

    ran = run("--workspace", "afile", "--set", "data.path=text", "data", "fetch")

    assert (ran.code, "a file is where a folder should be" in ran.err) == (9, True)
    assert translate(FileNotFoundError(2, "gone")) is None
    assert isinstance(translate(NotADirectoryError(20, "so")), StorageError)


def test_answers_do_not_go_into_a_folder(run: Run, finished: Path):
    Path("q.txt").write_text("river\n")

    ran = run(*options(), "embed", "search", "--queries", "q.txt", "--to", "text")

    assert (ran.code, "is a folder" in ran.err) == (2, True)


def test_a_similarity_file_that_is_not_there_is_never_up_to_date(run: Run, finished: Path):
    wrong = options("evaluation.similarity_file=none.csv")

    assert [run(*wrong, *words).code for words in (["eval"], ["data", "validate"], ["run"])] == [2, 2, 2]
    assert "no file at none.csv" in run(*wrong, "status").out


def test_negatives_are_not_what_run_brings_up_to_date(run: Run, finished: Path):
    assert run(*options(), "mine").code == 0
    write_corpus(Path("text"), 61)
    assert run(*options(), "run").code == 0

    told = run(*options(), "status").out

    assert "embedctl mine brings negatives up to date" in told
    assert "embedctl run brings" not in told


def test_train_speaks_of_the_step_that_all_others_use(run: Run, finished: Path):
    assert run(*options(), "checkpoint", "restore", "0").code == 0

    ran = run(*options(), "train")

    assert (ran.code, "step-00000000" in ran.out, "train --resume" in ran.err) == (0, True, True)


def test_what_trains_no_step_makes_nothing():
    loaded = prepare()
    assert train(loaded, max_steps=3).made

    assert not train(loaded, resume=True, max_steps=2).made


def test_arithmetic_that_the_processor_lacks_is_warned_of(run: Run, monkeypatch: pytest.MonkeyPatch):
    prepare()
    monkeypatch.setattr(precision, "_is_native", lambda dtype: dtype == torch.float32)
    precision._warn.cache_clear()

    slow = run(*options("compute.precision=bf16"), "train", "--max-steps", "1")
    auto = run(*options(), "train", "--max-steps", "1")

    assert (slow.code, slow.err.count("auto is many times faster")) == (0, 1)
    assert (auto.code, "many times" in auto.err) == (0, False)


def test_what_is_mistyped_is_not_told_what_was_meant_at_random(run: Run, monkeypatch: pytest.MonkeyPatch):
    assert "did you mean training?" not in run("--set", "training.foo=1", "status").err
    assert "greater than 0" in run("--set", "evaluation.recall_at=[0]", "status").err
    assert "training.epochs?" in run("--set", "training.epoch=1", "status").err
    monkeypatch.setenv("EMBEDCTL_FOO", "3")
    assert "did you mean" not in run("status").err


def test_a_run_that_is_not_there_has_nothing_to_prune(run: Run, finished: Path):
    assert run(*options("project.run=nope"), "checkpoint", "prune").code == 12


def test_answers_to_several_queries_do_not_share_an_id(run: Run, finished: Path):
    Path("q.jsonl").write_text('{"id": "a", "text": "river"}\n{"id": "a", "text": "comet"}\n')

    ran = run(*options(), "embed", "search", "--queries", "q.jsonl")

    assert (ran.code, "ids stand for several queries, such as 'a'" in ran.err) == (3, True)


def test_a_hint_after_a_dry_run_does_what_was_tried(run: Run, finished: Path):
    ran = run(*options(), "embed", "upsert", "--dry-run", "--prune-stale")

    assert "next: embedctl embed upsert --prune-stale" in ran.err


def test_a_ledger_is_read_where_nothing_can_be_written(tmp_path: Path):
    whole = Whole("target", "content", 3, 4)
    with open_ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.finish("name", whole)
    assert last_whole(tmp_path / "ledger.sqlite", "name") == whole
    assert last_whole(tmp_path / "ledger.sqlite", "other") is None
    if os.geteuid() or subprocess.run(["mount", "--bind", tmp_path, tmp_path], capture_output=True).returncode:
        pytest.skip("this machine does not mount")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", tmp_path, tmp_path], check=True)
        assert last_whole(tmp_path / "ledger.sqlite", "name") == whole
    finally:
        subprocess.run(["umount", tmp_path], check=True)
