"""What a run began with: found from where the settings lie, and not needed any more once the run has weights."""

import json
import shutil
from pathlib import Path

import pytest

from embedctl.loading import load
from tests.conftest import Run, options, prepare, state, train


def begun(workspace: str, *more: str):
    """A run of hidden words, whose folder another run begins with; of that two steps."""
    loaded = prepare(workspace=workspace)
    own = ("training.objective=mlm", "project.run=words")
    train(prepare(*own, workspace=workspace), max_steps=2)
    folder = str((loaded.layout.root / "runs/words").absolute())
    settings = (f"model.init_from={folder}", "training.steps=4", *more)
    return prepare(*settings, workspace=workspace), settings, Path(folder)


def test_a_run_goes_on_without_what_it_began_with(run: Run):
    whole, _, _ = begun("whole")
    train(whole)
    loaded, settings, origin = begun("hurt")
    train(loaded, max_steps=2)
    shutil.move(origin, "elsewhere")

    words = options(*settings, workspace="hurt")
    resumed, evaluated = run(*words, "train", "--resume"), run(*words, "eval")

    assert (resumed.code, evaluated.code) == (0, 0)
    assert state(loaded) == state(whole)
    report = json.loads((loaded.layout.evaluation / "report.json").read_text())
    assert "untrained" in report["retrieval"]  # step 0 is there


def test_figures_from_before_training_are_of_what_the_run_began_with_or_of_nothing(run: Run):
    loaded, settings, _ = begun("ws")
    train(loaded)
    shutil.rmtree(loaded.layout.checkpoints / "step-00000000")
    words = options(*settings)
    assert run(*words, "eval").code == 0
    assert "untrained" in json.loads((loaded.layout.evaluation / "report.json").read_text())["retrieval"]

    train(prepare("training.objective=mlm", "project.run=words"), resume=True)  # to its end: other weights
    shutil.rmtree(loaded.layout.evaluation)
    ran = run(*words, "eval")

    assert (ran.code, "is not what the run began with" in ran.err) == (0, True)
    assert "untrained" not in json.loads((loaded.layout.evaluation / "report.json").read_text())["retrieval"]


def test_folders_of_models_in_a_file_are_meant_from_where_it_lies(monkeypatch: pytest.MonkeyPatch):
    Path("p/models/mini").mkdir(parents=True)
    Path("p/config.toml").write_text('[model]\ninit_from = "models/mini"\n[embedding]\nmodel = "models/mini"\n')

    found = load(Path("p/config.toml")).settings
    Path("p/config.toml").write_text('[model]\ninit_from = "./models/mini"\n')
    for folder in (Path("p/models/mini"), None):  # is there, and is gone
        with monkeypatch.context() as patch:
            patch.chdir("p")
            assert load().settings.model.init_from == "./models/mini"
        assert load(Path("p/config.toml")).settings.model.init_from == "p/models/mini"
        if folder:
            folder.rmdir()
    Path("p/config.toml").write_text('[model]\ninit_from = "owner/name"\n')

    assert (Path(found.model.init_from), found.embedding.model) == (Path("p/models/mini"), Path("p/models/mini"))
    assert load(Path("p/config.toml")).settings.model.init_from == "owner/name"
