"""What the README says is so: its figures, its commands, its tree."""

import re

import pytest
import typer

from benchmarks.readme import filled
from embedctl.cli.app import app
from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_the_figures_are_those_of_the_result_files() -> None:
    assert filled(README) == README
    # That of the demo, and that of the model from scratch.
    assert README.count("nDCG@10 | MRR |") == 2


def test_every_command_that_is_named_exists() -> None:
    root = typer.main.get_command(app)
    named = set(re.findall(r"`embedctl ((?:[a-z]+ ?)+)", README))
    assert len(named) > 15
    for words in named:
        command: object = root
        for word in words.split():
            command = getattr(command, "commands", {}).get(word)
            assert command is not None, words


def test_every_file_that_is_named_is_there() -> None:
    named = re.findall(r"\]\(((?!http)[^)]+)\)", README)
    assert "docs/demo.svg" in named
    tree = README.partition("## What lies where")[2].partition("And what a workspace")[0]
    inside = re.findall(r"^ {6}(\S+)", tree, flags=re.MULTILINE)
    named += [f"embedctl/{name}" for name in inside]
    named += re.findall(r"^ {4}(\w\S+)", tree, flags=re.MULTILINE)
    assert len(named) > 15
    for name in named:
        assert (REPOSITORY / name).exists(), name


@pytest.mark.parametrize("name", ["LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/decisions.md"])
def test_the_papers_of_the_project_are_there(name: str) -> None:
    assert len((REPOSITORY / name).read_text(encoding="utf-8")) > 500


def test_constraints_are_bare_lines_with_torch_first() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("torch==")
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+(\.post\d+)?", line) for line in lines)
