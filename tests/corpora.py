"""Small corpora for tests: sources, fetching, and what is to be seen of the result."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from embedctl.artifacts import manifest
from embedctl.artifacts.layout import Layout
from embedctl.artifacts.outcome import Outcome
from embedctl.data import corpus
from embedctl.data.records import Record
from embedctl.settings import DataSettings, NamedSourceSettings

LAYOUT = Layout(Path("ws"), "main", "main")
Rows = Mapping[str, Mapping[str, Any]]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "PART_BYTES", 2000)


def write(path: str | Path, rows: Rows) -> None:
    """A .jsonl file of ``rows``: id -> fields."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"id": name, **row}) + "\n" for name, row in rows.items())
    file.write_text("".join(lines), encoding="utf-8")


def numbered(first: int, end: int, word: str = "text") -> dict[str, dict[str, str]]:
    return {f"r{n}": {"text": f"{word} {n} " * 20} for n in range(first, end)}


def fetch(layout: Layout = LAYOUT, *, fresh: bool = False, seed: int = 0, **values: Any) -> Outcome:
    chosen = values if "sources" in values or "path" in values else {"path": Path("text"), **values}
    return corpus.fetch(DataSettings(**chosen), layout, seed=seed, fresh=fresh)


def records(layout: Layout = LAYOUT) -> list[Record]:
    return list(corpus.read_records(layout.corpus))


def files(folder: Path) -> dict[str, bytes]:
    """Every file of an artifact, hidden ones included."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def alone(layout: Layout) -> None:
    """Nothing lies beside the corpus, and nothing in it that its manifest does not know."""
    assert [path.name for path in layout.corpus.parent.iterdir()] == [layout.corpus.name]
    found = manifest.read_verified(layout.corpus, "corpus")
    assert {*found.files, manifest.FILE} == set(files(layout.corpus))


def two(**limits: Any) -> dict[str, Any]:
    one = NamedSourceSettings(name="one", path=Path("one"), weight=3)
    return {"sources": (one, NamedSourceSettings(name="two", path=Path("two"))), **limits}
