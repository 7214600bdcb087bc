"""Many questions from a file, and their answers to one."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedctl.artifacts.folder import new_file
from embedctl.errors import ConfigError, DataError, NotFoundError
from embedctl.progress import Tick, Watch, unwatched
from embedctl.store.search import Searcher

# As many go through the model together.
_BATCH = 256


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for. ``id`` is its own, or the number of its line."""

    id: str
    text: str


def read_queries(file: Path) -> list[Query]:
    """Lines of a .txt, or objects with ``text`` and perhaps ``id`` of a .jsonl; empty lines are none.

    Raises ``DataError`` that names the line, ``NotFoundError`` without the file.
    """
    if file.suffix not in (".txt", ".jsonl"):
        raise ConfigError(f"want a .txt or .jsonl file of queries, got {file}")
    try:
        text = file.read_text(encoding="utf-8-sig")  # as Windows writes it
    except FileNotFoundError:
        raise NotFoundError(f"no file {file}") from None
    except IsADirectoryError:
        raise ConfigError(f"{file} is a folder, want a file of queries") from None
    except UnicodeDecodeError as fault:
        raise DataError(f"{file} is not UTF-8 ({fault.reason} at byte {fault.start})") from None
    # Not splitlines for both: a JSON string may hold U+2028.
    lines, read = (text.splitlines(), _plain) if file.suffix == ".txt" else (text.split("\n"), _object)
    found = [read(line, number, file) for number, line in enumerate(lines, start=1) if line.strip()]
    if not found:
        raise DataError(f"{file} holds no queries")
    twice = [id_ for id_, times in Counter(query.id for query in found).items() if times > 1]
    if twice:
        raise DataError(
            f"{file}: {len(twice)} ids stand for several queries, such as {twice[0]!r}", hint="make them unique"
        )
    return found


def answer_lines(searcher: Searcher, queries: Sequence[Query], *, watch: Watch = unwatched) -> Iterator[str]:
    """A line of JSON per query, in their order: the query and its hits, best first."""
    for first in range(0, len(queries), _BATCH):
        some = queries[first : first + _BATCH]
        for query, hits in zip(some, searcher.answers([query.text for query in some]), strict=True):
            shown = [{"id": hit.id, "score": hit.score, "metadata": dict(hit.metadata)} for hit in hits]
            yield json.dumps({"id": query.id, "text": query.text, "hits": shown}, ensure_ascii=False) + "\n"
        watch(Tick(first + len(some), len(queries), "queries"))


def write_lines(file: Path, lines: Iterable[str]) -> None:
    """Write ``file`` line by line; it gets its name when all are in it."""
    with new_file(file) as stream:
        stream.writelines(line.encode() for line in lines)


def _plain(line: str, number: int, file: Path) -> Query:
    return Query(str(number), line.strip())


def _object(line: str, number: int, file: Path) -> Query:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError):
        row = None
    match row:
        case {"text": str(text), **rest} if text.strip() and isinstance(rest.get("id", ""), str | int):
            return Query(str(rest.get("id", number)), text)
    raise DataError(f'{file}:{number}: want {{"id": str, "text": non-empty str}}, got {line.strip()[:60]}')
