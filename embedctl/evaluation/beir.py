"""Folders in BEIR's layout: documents, queries, and which document answers which query how well."""

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from embedctl.artifacts import manifest
from embedctl.errors import ConfigError, DataError

# Where the judgements lie: BEIR, its single-split copies, and LIMIT.
_JUDGEMENTS = ("qrels/test.tsv", "qrels.tsv", "qrels.jsonl")
# Documents are read so many at a time, or so many characters, whichever comes first.
_WINDOW = (4096, 2**23)


@dataclass(frozen=True, slots=True)
class Document:
    """``text`` begins with the title, if there is one."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Judged:
    """Q queries that somebody judged documents for.

    names: (Q) of the queries;  texts: (Q) what is asked;  grades: (Q) document -> how well it answers, 0: not at all
    """

    names: list[str]
    texts: list[str]
    grades: list[dict[str, int]]


@dataclass(frozen=True, slots=True)
class BeirFolder:
    """The three files; documents are read as a stream, queries and judgements as a whole."""

    folder: Path
    corpus: Path
    queries: Path
    judgements: Path

    @classmethod
    def find(cls, folder: Path) -> "BeirFolder":
        """Raises :class:`ConfigError` if a file is missing."""
        return cls(
            folder,
            _present(folder, ["corpus.jsonl"]),
            _present(folder, ["queries.jsonl"]),
            _present(folder, _JUDGEMENTS),
        )

    @property
    def digest(self) -> str:
        """What the three files hold, in one word."""
        return manifest.digest(
            [manifest.entry_of(file).sha256 for file in (self.corpus, self.queries, self.judgements)]
        )

    def judged(self) -> Judged:
        """The judged queries, in the order of the file of queries."""
        grades: dict[str, dict[str, int]] = {}
        for query, document, grade in _read_judgements(self.judgements):
            grades.setdefault(query, {})[document] = grade
        asked = {row["_id"]: row["text"] for row in _read_rows(self.queries) if row["_id"] in grades}
        unknown = sorted(grades.keys() - asked.keys())
        if unknown:
            raise DataError(f"{self.judgements} judges query {unknown[0]!r}, which {self.queries.name} does not hold")
        if not asked:
            raise DataError(f"{self.judgements} judges nothing")
        return Judged(list(asked), list(asked.values()), [grades[name] for name in asked])

    def documents(self) -> Iterator[Document]:
        """All documents, in the order of the file."""
        for row in _read_rows(self.corpus):
            yield Document(row["_id"], f"{row['title']} {row['text']}".strip())

    def windows(self) -> Iterator[list[Document]]:
        """All documents, a few thousand at a time."""
        window: list[Document] = []
        characters = 0
        for document in self.documents():
            if window and (len(window) >= _WINDOW[0] or characters + len(document.text) > _WINDOW[1]):
                yield window
                window, characters = [], 0
            window.append(document)
            characters += len(document.text)
        if window:
            yield window


def _present(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise ConfigError(
        f"evaluation.beir_folders: no {' or '.join(names)} in {folder}, plain or .gz",
        hint="BEIR's layout is corpus.jsonl, queries.jsonl and qrels/test.tsv",
    )


@contextmanager
def _opened(file: Path) -> Iterator[TextIO]:
    """The file as text; what is no text, or no gzip, is a :class:`DataError`."""
    opener = gzip.open if file.suffix == ".gz" else open
    try:
        with opener(file, "rt", encoding="utf-8-sig") as stream:
            yield stream
    except (UnicodeDecodeError, gzip.BadGzipFile, zlib.error, EOFError) as fault:
        raise DataError(f"{file} cannot be read: {fault}") from None


def _read_rows(file: Path) -> Iterator[dict[str, str]]:
    with _opened(file) as lines:
        for number, line in enumerate(lines, 1):
            match _parsed(line):
                case None:
                    continue
                case {"_id": str(name), "text": str(text), "title": str(title)}:
                    yield {"_id": name, "text": text, "title": title}
                case {"_id": str(name), "text": str(text)}:
                    yield {"_id": name, "text": text, "title": ""}
                case _:
                    raise DataError(
                        f'{file}:{number}: want {{"_id": str, "text": str, "title": str}}, got {line.strip()[:80]}'
                    )


def _parsed(line: str) -> object:
    """A line of JSON; ``None`` for an empty one, and the line itself if it is no JSON."""
    if not line.strip():
        return None
    try:
        return json.loads(line)
    except ValueError:
        return line


def _read_judgements(file: Path) -> Iterator[tuple[str, str, int]]:
    rows_of_json = file.name.removesuffix(".gz").endswith(".jsonl")
    with _opened(file) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            cells = _of_json(line) if rows_of_json else line.rstrip("\n").split("\t")
            if number == 1 and cells == ["query-id", "corpus-id", "score"]:
                continue
            try:
                query, document, score = cells
                yield query, document, _whole(score)
            except (ValueError, OverflowError):
                raise DataError(
                    f"{file}:{number}: want query-id, corpus-id and a whole score, got {line.strip()[:80]}"
                ) from None


def _of_json(line: str) -> list[str]:
    row = _parsed(line)
    return [str(row.get(name, "")) for name in ("query-id", "corpus-id", "score")] if isinstance(row, dict) else []


def _whole(score: str) -> int:
    if float(score) != int(float(score)):
        raise ValueError(score)
    return int(float(score))
