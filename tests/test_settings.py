"""Settings: one order of sources, every fault explained, no secret shown."""

import json
import tomllib
from pathlib import Path

import pytest

from embedctl.errors import ConfigError
from embedctl.loading import load, value_at
from embedctl.settings import Settings
from embedctl.template import config_text, env_text
from tests.conftest import REPOSITORY, Run


def test_the_example_file_holds_the_defaults():
    text = (REPOSITORY / "config.example.toml").read_text(encoding="utf-8")

    assert text == config_text()
    assert Settings(**tomllib.loads(text)) == Settings()


def test_the_example_env_names_every_secret_and_no_value():
    text = (REPOSITORY / ".env.example").read_text(encoding="utf-8")

    assert text == env_text()
    assert all(line.startswith("#") or not line for line in text.splitlines())


def test_the_later_source_wins_and_is_named(monkeypatch: pytest.MonkeyPatch):
    Path("config.toml").write_text("[training]\nepochs = 2\nbatch_pairs = 4\nclip_norm = 2.0\n", encoding="utf-8")
    Path(".env").write_text(
        "EMBEDCTL_TRAINING__BATCH_PAIRS=6\nEMBEDCTL_TRAINING__CLIP_NORM=3\nOTHER_TOOL=1\n", encoding="utf-8"
    )
    monkeypatch.setenv("EMBEDCTL_TRAINING__CLIP_NORM", "4")

    loaded = load(overrides=["model.layers=2"])

    training = loaded.settings.training
    assert (training.epochs, training.batch_pairs, training.clip_norm, loaded.settings.model.layers) == (2, 6, 4, 2)
    named = [loaded.origins[f"training.{key}"] for key in ("epochs", "batch_pairs", "clip_norm", "temperature")]
    assert named == ["config.toml", ".env", "environment", "default"]
    assert loaded.origins["model.layers"] == "option"


def test_yaml_is_read_too():
    Path("config.yaml").write_text("training:\n  epochs: 7\n", encoding="utf-8")

    assert load().settings.training.epochs == 7


@pytest.mark.parametrize(
    ("toml", "message", "hint"),
    [
        ("[trainig]\nepochs = 1\n", "c.toml: no setting 'trainig.epochs'", "did you mean training.epochs?"),
        ("[training]\nepochs = 'many'\n", "c.toml: training.epochs: input should be a valid number", None),
        ("[training]\nepochs = -1\n", "got -1", None),
        ("training = 3\n", "c.toml: training is a table, got 3", None),
        ("[training]\nepochs = \n", "c.toml:2: not valid TOML: invalid value", None),
        ("[model]\ndim = 30\nheads = 4\n", "dim (30) must be a multiple of heads (4)", None),
    ],
)
def test_a_wrong_file_says_where_and_what(toml: str, message: str, hint: str | None):
    Path("c.toml").write_text(toml, encoding="utf-8")

    with pytest.raises(ConfigError) as caught:
        load(Path("c.toml"))

    assert message in caught.value.message
    assert hint is None or caught.value.hint == hint


def test_a_mistyped_variable_is_refused_with_the_nearest(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EMBEDCTL_TRIANING__EPOCHS", "3")

    with pytest.raises(ConfigError) as caught:
        load()

    assert caught.value.hint == "did you mean EMBEDCTL_TRAINING__EPOCHS?"


def test_a_missing_config_says_what_to_type(run: Run):
    ran = run("--config", "nope.toml", "status")

    assert ran.code == 2
    assert ran.err == "error: no config file at nope.toml\n hint: embedctl init writes one to start from\n"


def test_a_secret_in_the_file_is_refused_and_never_shown(run: Run):
    Path("config.toml").write_text('pinecone_api_key = "pc-canary-4711"\n', encoding="utf-8")

    ran = run("config", "check")

    assert ran.code == 2
    assert "canary" not in ran.out + ran.err
    assert "put it into .env" in ran.err


def test_no_command_shows_a_key(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PINECONE_API_KEY", "pc-canary-4711")
    Path(".env").write_text("HF_TOKEN=hf-canary-4712\n", encoding="utf-8")

    shown = [run(*words) for words in (["doctor"], ["config", "show"], ["config", "show", "--json"], ["status"])]

    assert all(ran.code == 0 for ran in shown)
    assert "canary" not in "".join(ran.out + ran.err for ran in shown)
    assert "set (environment)" in shown[0].out
    assert "set (.env)" in shown[0].out


def test_a_dotted_key_is_looked_up(run: Run):
    assert run("config", "show", "training.epochs").out == "3.0\n"
    assert run("config", "show", "training.epoch").code == 2
    assert value_at(Settings(), "training.batch_pairs") == 64


def test_the_schema_describes_every_section(run: Run):
    schema = json.loads(run("config", "schema").out)

    assert set(schema["properties"]) == set(Settings.model_fields)


def test_paths_in_a_file_start_where_it_lies():
    Path("sub").mkdir()
    Path("sub/config.toml").write_text('[data]\npath = "texts"\n', encoding="utf-8")

    loaded = load(Path("sub/config.toml"))

    assert loaded.settings.data.path == Path("sub/texts")
    assert loaded.layout.root == Path("sub/artifacts")


def test_init_writes_what_loads_and_never_overwrites(run: Run):
    assert run("init").code == 0
    assert load().settings.training == Settings().training
    assert Path(".env").stat().st_mode & 0o077 == 0
    Path("config.toml").write_text("[training]\nepochs = 9\n", encoding="utf-8")

    assert run("init").code == 2
    assert load().settings.training.epochs == 9
    assert run("init", "--force").code == 0
    assert load().settings.training.epochs == 3


def test_a_wrong_key_in_a_source_is_named_with_the_nearest_and_its_value_is_not_shown():
    Path("c.toml").write_text(
        '[[data.sources]]\nname = "a"\npath = "x"\n[[data.sources]]\nname = "b"\npath = "y"\nweigth = "canary"\n',
        encoding="utf-8",
    )

    with pytest.raises(ConfigError) as caught:
        load(Path("c.toml"))

    assert caught.value.message == "c.toml: no setting 'data.sources.1.weigth'"
    assert caught.value.hint == "did you mean weight?"


def test_sources_are_shown_as_they_were_written(run: Run):
    Path("config.toml").write_text('[[data.sources]]\nname = "a"\npath = "x"\nweight = 2\n', encoding="utf-8")

    shown = run("config", "show", "data.sources")

    assert shown.out == "path = x, name = a, weight = 2.0\n"
    (table,) = json.loads(run("--json", "config", "show", "data.sources").out)["value"]
    assert (table["name"], table["path"], table["weight"], table["split"]) == ("a", "x", 2.0, "train")


def test_a_value_and_a_table_of_one_name_do_not_mix(run: Run):
    ran = run("--set", "data.path=x", "--set", "data.path.y=1", "config", "check")

    assert (ran.code, "path was given a value of its own before" in ran.err) == (2, True)


def test_sources_and_keys_of_one_source_do_not_mix():
    Path("c.toml").write_text('[data]\npath = "x"\n[[data.sources]]\nname = "a"\npath = "y"\n', encoding="utf-8")

    with pytest.raises(ConfigError, match="each of them says where its text is"):
        load(Path("c.toml"))
