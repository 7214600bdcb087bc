"""The door: help that is fast and whole, options that work wherever they are typed, failures told in two ways."""

import json
import logging
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from embedctl.cli import render
from embedctl.cli.app import app, hoist
from embedctl.errors import DataError
from tests.conftest import REPOSITORY, Run, write_corpus

HEAVY = (
    "torch", "numpy", "pyarrow", "datasets", "tokenizers", "lancedb", "pinecone", "wandb", "tensorboard", "pydantic",
    "huggingface_hub", "psutil", "pynvml", "yaml",
)  # fmt: skip
HELP_OF_LIBRARIES = 1.7  # 1.2 measured; numpy alone, imported by mistake, makes it 2.4


def commands() -> list[tuple[str, ...]]:
    """Every command and group, as its words."""
    found: list[tuple[str, ...]] = [()]
    root = typer.main.get_command(app)

    def walk(command: object, words: tuple[str, ...]) -> None:
        for name, below in getattr(command, "commands", {}).items():
            found.append((*words, name))
            walk(below, (*words, name))

    walk(root, ())
    return found


def test_every_command_that_is_promised_is_there() -> None:
    promised = """init; config show; config check; config schema; data fetch; data validate; data tokenize; train; mine;
    checkpoint list; checkpoint restore; checkpoint prune; eval; embed generate; embed upsert; embed export;
    embed search; model export; mem watch; run; status; doctor"""
    assert {tuple(words.split()) for words in promised.split(";")} <= set(commands())


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_has_help_that_says_what_it_does(run: Run, words: tuple[str, ...]) -> None:
    done = run(*words, "--help")
    assert (done.code, done.err) == (0, "")
    usage, _, rest = done.out.partition("Usage: ")[2].partition("\n")
    assert usage.startswith(" ".join(("embedctl", *words)))
    sentence = rest.strip().splitlines()[0].strip()
    assert sentence[0].isupper() and sentence.endswith("."), sentence


def test_help_imports_nothing_heavy() -> None:
    # One process for all commands: the modules that help loads are the same or more with each further one.
    program = f"""
import sys
from embedctl.cli.app import main
for words in {commands()!r}:
    try:
        main([*words, "--help"])
    except SystemExit as end:
        assert not end.code, words
heavy = [name for name in {HEAVY!r} if name in sys.modules]
sys.exit(f"imported for help: {{heavy}}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_help_imports_no_package_but_those_that_print_it() -> None:
    """Where time is not: no machine is so busy that this comes out otherwise."""

    def packages(work: str) -> set[str]:
        program = f"""
import sys
{work}
print(*(name for name in sys.modules if "." not in name and name not in sys.stdlib_module_names))
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
        return set(done.stdout.splitlines()[-1].split())

    help_of_all = f"""
from embedctl.cli.app import main
for words in {commands()!r}:
    try:
        main([*words, "--help"])
    except SystemExit:
        pass"""

    assert packages(help_of_all) - packages("import typer, typer.rich_utils") == {"embedctl"}


@pytest.mark.parametrize("words", [(), ("train",), ("embed", "search")], ids=" ".join)
def test_help_takes_little_more_than_the_libraries_that_print_it(words: tuple[str, ...]) -> None:
    """The best of each side, taken in turn, in processor time: neither the machine nor its other work counts."""

    def took(*command: str) -> float:
        began = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], check=True, capture_output=True)
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime

    libraries, ours = zip(
        *((took("-c", "import typer, typer.rich_utils"), took("-m", "embedctl", *words, "--help")) for _ in range(12)),
        strict=True,
    )
    assert min(ours) < HELP_OF_LIBRARIES * min(libraries)


def test_the_version_is_the_packages(run: Run) -> None:
    from importlib.metadata import version

    by_itself = subprocess.run([sys.executable, "-m", "embedctl", "--version"], capture_output=True, text=True)
    assert run("--version").out == by_itself.stdout == f"embedctl {version('embedctl')}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(shell: str) -> None:
    typed = {"bash": {"COMP_WORDS": "embedctl checkpoint re", "COMP_CWORD": "2"}}.get(
        shell, {"_TYPER_COMPLETE_ARGS": "embedctl checkpoint re", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    )
    done = subprocess.run(
        [Path(sys.executable).parent / "embedctl"],
        env={**os.environ, "_EMBEDCTL_COMPLETE": f"complete_{shell}", **typed},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert "restore" in done.stdout
    assert "prune" not in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_completion_script(shell: str) -> None:
    # What --show-completion prints; that option first looks for the shell that it was typed into.
    done = subprocess.run(
        [Path(sys.executable).parent / "embedctl"],
        env={**os.environ, "_EMBEDCTL_COMPLETE": f"source_{shell}"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, f"complete_{shell}" in done.stdout) == (0, True)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("status --json", "--json status"),
        ("train --set a.b=1 --resume --config x.toml", "--set a.b=1 --config x.toml train --resume"),
        ("embed search word -k 3 --workspace=w -q", "--workspace=w -q embed search word -k 3"),
        ("embed search -- --json", "embed search -- --json"),
        ("train --set", "train --set"),
    ],
)
def test_global_options_work_wherever_they_are_typed(typed: str, meant: str) -> None:
    assert hoist(typed.split()) == meant.split()


def test_both_places_of_a_global_option_do_the_same(run: Run) -> None:
    setting = "training.batch_pairs=7"
    assert run("--set", setting, "config", "show", "training.batch_pairs").out == "7\n"
    assert run("config", "show", "training.batch_pairs", "--set", setting).out == "7\n"


@pytest.mark.parametrize(
    ("words", "code", "name"),
    [
        (("config", "show", "nothing.here"), 2, "usage"),
        (("--config", "missing.toml", "status"), 2, "usage"),
        (("data", "validate"), 12, "not-found"),
        (("train", "--resume"), 12, "not-found"),
        (("checkpoint", "restore", "3"), 12, "not-found"),
        (("embed", "search", "word"), 12, "not-found"),
    ],
)
def test_a_failure_is_two_lines_for_people_and_one_object_for_programs(
    run: Run, words: tuple[str, ...], code: int, name: str
) -> None:
    told = run(*words)
    assert (told.code, told.out) == (code, "")
    assert told.err.startswith("error: ") and "\n hint: " in told.err
    asked = run("--json", *words)
    answer = json.loads(asked.out)
    assert (asked.code, asked.err) == (code, "")
    assert (answer["ok"], answer["code"], answer["error"]) == (False, code, name)
    assert answer["message"] in told.err.replace("\n", " ") or answer["message"] in told.err


def test_a_bug_is_called_one_and_shown_when_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("canary")

    monkeypatch.setattr("embedctl.pipeline.standings", broken)
    told = run("status")
    assert (told.code, "bug of embedctl: ZeroDivisionError: canary" in told.err) == (1, True)
    assert json.loads(run("--json", "status").out)["error"] == "internal"
    with pytest.raises(ZeroDivisionError):
        run("-v", "status")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("trian",), "No such command 'trian'"),
        (("train", "--max-steps", "many"), "not a valid int"),
        (("train", "--max-steps", "0"), "x>=1"),
        (("checkpoint", "restore"), "Missing argument"),
        (("embed", "export", "--format", "tflite"), "tflite"),
    ],
)
def test_what_is_mistyped_is_said_and_ends_with_2(run: Run, words: tuple[str, ...], says: str) -> None:
    done = run(*words)
    assert (done.code, says in done.err, "Traceback" in done.err) == (2, True, False), done.err


def test_each_command_of_the_job_names_the_one_that_has_to_go_before(run: Run) -> None:
    before = {
        ("data", "validate"): "data fetch",
        ("data", "tokenize"): "data",
        ("train",): "data tokenize",
        ("checkpoint", "list"): "train",
        ("eval",): "data tokenize",
        ("embed", "generate"): "data tokenize",
        ("embed", "upsert"): "embed generate",
        ("embed", "export", "--format", "npy"): "embed generate",
        ("model", "export"): "train",
    }
    for words, first in before.items():
        done = run(*words)
        assert (done.code, f"embedctl {first}" in done.err) == (12, True), (words, done)


def test_the_reader_of_the_output_may_go_away(run: Run) -> None:
    done = subprocess.run(
        f"set -o pipefail; '{sys.executable}' -m embedctl config schema | head -c 10",
        shell=True, executable="/bin/bash", capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 141)


def test_nobody_may_read_what_is_wrong(run: Run) -> None:
    done = subprocess.run(
        f"set -o pipefail; '{sys.executable}' -m embedctl --json --set x=1 status | true",
        shell=True, executable="/bin/bash", capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert ("Traceback" in done.stderr, "BrokenPipe" in done.stderr, done.returncode) == (False, False, 2)


def test_doctor_runs_without_anything_and_shows_no_key(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINECONE_API_KEY", "pc-canary-4711")
    checks = {check["name"]: check for check in json.loads(run("--json", "doctor").out)}
    assert checks["PINECONE_API_KEY"]["value"] == "set (environment)"
    assert checks["WANDB_API_KEY"]["value"] == "not set"
    for name in ("processor", "memory", "GPU", "python", "torch", "lancedb", "workspace", "disk"):
        assert checks[name]["value"], name
    told = run("doctor")
    assert (told.code, "pc-canary" in told.out + told.err) == (0, False)


def test_doctor_works_when_the_settings_do_not_load(run: Run) -> None:
    Path("config.toml").write_text("[training]\nepoch = 3\n", encoding="utf-8")
    Path(".env").write_text("WANDB_API_KEY=wb-canary\n", encoding="utf-8")
    Path(".env").chmod(0o644)
    done = run("doctor")
    assert done.code == 0
    assert "did you mean training.epochs?" in done.out
    assert "chmod 600" in done.out
    assert "wb-canary" not in done.out + done.err


def test_quiet_says_nothing_on_stderr(run: Run) -> None:
    write_corpus(Path("text"), 20)
    done = run("-q", "data", "fetch", "--set", "data.path=text")
    assert (done.code, done.err) == (0, "")
    assert "corpus made" in done.out


def test_a_new_project_needs_one_path(run: Run) -> None:
    """``init``, one path, and the pieces load."""
    assert run("init", "project").code == 0
    write_corpus(Path("project", "text"), 20)
    config = Path("project", "config.toml")
    text = config.read_text(encoding="utf-8")
    assert '#path = ""' in text
    config.write_text(text.replace('#path = ""', 'path = "text"', 1), encoding="utf-8")
    assert run("--config", str(config), "config", "check").code == 0
    done = run("--config", str(config), "data", "fetch")
    assert done.code == 0, done.err
    assert Path("project", "artifacts", "corpus").is_dir()


def test_every_file_of_the_package_is_a_room_that_fits_in_the_head() -> None:
    long = [
        f"{path.relative_to(REPOSITORY)}: {lines}"
        for path in (REPOSITORY / "embedctl").rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 300
    ]
    assert long == []


def test_nothing_from_outside_is_obeyed_by_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    render.error(DataError("\x1b]0;owned\x07 and \u202e", hint="\x1b[2J"))
    render.configure_logging(verbose=0, quiet=False)
    logging.getLogger("embedctl.x").warning("a file called \x1b[31m")

    said = capsys.readouterr().err
    assert "\x1b" not in said and "\u202e" not in said
    assert said.count("\\u{1b}") == 3
