"""What tests share: a clean environment, the command run as a user would, tiny real artifacts."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from filelock import FileLock

from embedctl.__main__ import ENVIRONMENT
from embedctl.artifacts.outcome import Outcome
from embedctl.cli.app import main
from embedctl.loading import Loaded, load

# What is to take long is measured where that is the point; a busy machine is no failure.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")

if TYPE_CHECKING:
    from tests.loopback_pinecone import LoopbackPinecone
    from tests.postgres import Postgres

# As the command does, before torch is loaded.
for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)
if "PYTEST_XDIST_WORKER" in os.environ:
    # As many processes as cores run tests; threads of each would only wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).parent.parent

TINY = (
    "tokens.vocabulary_size=600",
    "tokens.max_tokens=48",
    "tokens.overlap_tokens=8",
    "tokens.query_max_tokens=24",
    "model.layers=1",
    "model.dim=32",
    "model.heads=2",
    "model.intermediate_dim=64",
    "training.epochs=3",
    "training.batch_pairs=8",
    "training.tensorboard=false",
    "data.held_percent=20",
)


@pytest.fixture(params=["lanes", "tiles"])
def products(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test with the processor's vector registers alone, and again with its tiles if it has some."""
    from embedctl.model import native

    if request.param == "tiles" and not native.has_tiles():
        pytest.skip("the processor has no tiles (AMX)")
    if request.param == "lanes":
        monkeypatch.setattr(native, "has_tiles", lambda: False)


@dataclass(frozen=True)
class Ran:
    """What a command left: its exit code and what it wrote."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings or keys of the machine; the working folder is the test's own."""
    for name in list(os.environ):
        if name.startswith("EMBEDCTL_") or name in ("PINECONE_API_KEY", "DATABASE_URL", "WANDB_API_KEY", "HF_TOKEN"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Call ``main`` as the shell would, so that errors and exit codes go the user's way."""

    def call(*words: str) -> Ran:
        capsys.readouterr()
        code = 0
        try:
            main(list(words))
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    yield call


@pytest.fixture(scope="session")
def postgres() -> Iterator["Postgres"]:
    """A server for all tests, started by the first that wants one."""
    from tests.postgres import serve

    with serve() as server:
        yield server


@pytest.fixture
def database(postgres: "Postgres", monkeypatch: pytest.MonkeyPatch) -> "Postgres":
    """The same with an empty database ``tests``, of which the environment tells."""
    postgres.run("DROP DATABASE IF EXISTS tests WITH (FORCE)", "CREATE DATABASE tests")
    monkeypatch.setenv("DATABASE_URL", postgres.url(database="tests"))
    return postgres


def sentences(count: int) -> list[tuple[str, str]]:
    """(query, text) pairs with words of their own, so that there is something to learn."""
    things = ["apple", "river", "engine", "violin", "desert", "comet", "harbour", "candle", "falcon", "marble"]
    acts = ["shines", "breaks", "travels", "sings", "melts", "grows", "turns", "sleeps"]
    pairs = []
    for n in range(count):
        thing, act = things[n % 10], acts[(n // 10) % 8]
        text = f"The {thing} number {n} {act} slowly near the old {things[(n * 7 + 3) % 10]}. "
        pairs.append((f"what {act} near {thing} {n}?", text * (1 + n % 4)))
    return pairs


def write_corpus(folder: Path, count: int = 60, *, queries: bool = True) -> Path:
    """A .jsonl file of ``count`` records."""
    import json

    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"id": f"r{n}", "text": text, **({"query": query} if queries else {})}
        for n, (query, text) in enumerate(sentences(count))
    ]
    path = folder / "records.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def options(*more: str, workspace: str = "ws", path: str = "text") -> list[str]:
    """Global options for a tiny project."""
    words = ["--workspace", workspace]
    for setting in (*TINY, f"data.path={path}", *more):
        words += ["--set", setting]
    return words


def tiny(*more: str, workspace: str = "ws", path: str = "text") -> Loaded:
    """The settings of a tiny project, loaded."""
    return load(None, overrides=(*TINY, f"data.path={path}", *more), workspace=Path(workspace))


def prepare(*more: str, workspace: str = "ws", count: int = 60, queries: bool = True) -> Loaded:
    """Fetch, validate and tokenize a tiny corpus."""
    from embedctl.data import corpus, validation
    from embedctl.tokens import tokenization

    write_corpus(Path("text"), count, queries=queries)
    loaded = tiny(*more, workspace=workspace)
    settings, layout = loaded.settings, loaded.layout
    corpus.fetch(settings.data, layout)
    validation.validate(settings.validation, layout, held_percent=settings.data.held_percent)
    tokenization.tokenize(settings.tokens, layout, held_percent=settings.data.held_percent)
    return loaded


def train(loaded: Loaded, *, resume: bool = False, max_steps: int | None = None) -> Outcome:
    from embedctl.training import run

    return run.train(loaded.settings, loaded.layout, run.Plan(resume=resume, max_steps=max_steps))


def state(loaded: Loaded) -> dict[str, str]:
    """The SHA-256 of weights and optimizer state of the run's head."""
    from embedctl.checkpoint import files

    manifest = files.head(loaded.layout.checkpoints).manifest
    return {name: manifest.files[name].sha256 for name in (files.WEIGHTS, files.OPTIMIZER)}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> "Iterator[LoopbackPinecone]":
    """A Pinecone on this machine, and the SDK pointed at it."""
    from tests.loopback_pinecone import KEY, serve

    with serve() as pinecone:
        monkeypatch.setenv("PINECONE_CONTROLLER_HOST", pinecone.url)
        monkeypatch.setenv("PINECONE_API_KEY", KEY)
        yield pinecone


@pytest.fixture
def finished(tmp_path_factory: pytest.TempPathFactory, run: Run) -> Path:
    """The workspace of a finished tiny project in the working folder; made once for all tests of all processes."""
    base = tmp_path_factory.getbasetemp()
    made = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"
    with FileLock(f"{made}.lock"):
        if not made.exists():
            write_corpus(Path("text"))
            assert run(*options(), "run").code == 0
            shutil.copytree(Path(), made)
    shutil.copytree(made, Path(), dirs_exist_ok=True)
    return Path("ws")
