"""Ids beside an array: JSON with an entry per line, so that it is written and read without holding it all."""

import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from embedctl.errors import ArtifactError

_BRACKETS = {"list": ("[", "]"), "rows": ("{", "}")}


class IdWriter:
    """Writes ``["id", …]``, or ``{"id": row, …}`` if ``rows``."""

    def __init__(self, path: Path, *, rows: bool = False) -> None:
        self._rows = rows
        self._open, self._close = _BRACKETS["rows" if rows else "list"]
        self._stream = path.open("w", encoding="utf-8", newline="\n")
        self._stream.write(self._open)
        self._count = 0

    def __enter__(self) -> "IdWriter":
        return self

    def __exit__(self, *fault: object) -> None:
        try:
            self._stream.write(f"\n{self._close}\n")
        finally:
            self._stream.close()

    def write(self, ids: list[str]) -> None:
        for id_ in ids:
            text = json.dumps(id_, ensure_ascii=False)
            entry = f"{text}: {self._count}" if self._rows else text
            self._stream.write(f"{',' if self._count else ''}\n{entry}")
            self._count += 1


def read_ids(path: Path, *, rows: bool = False) -> Iterator[str]:
    """The ids of a file by ``IdWriter``, in order; each line is JSON by itself.

    Raises ``ArtifactError`` if the file is cut or the rows do not count up.
    """
    first, last = (f"{bracket}\n" for bracket in _BRACKETS["rows" if rows else "list"])
    with path.open(encoding="utf-8", newline="\n") as stream:
        whole = next(stream, "") == first
        line = ""
        for row, line in enumerate(stream):
            if line == last:
                break
            text = line.rstrip("\n").removesuffix(",")
            found = json.loads(f"{{{text}}}") if rows else json.loads(text)
            if rows and list(found.values()) != [row]:
                raise ArtifactError(f"{path}: want row {row}, got {line.strip()[:60]}")
            yield next(iter(found)) if rows else found
        if not whole or line != last or next(stream, None) is not None:
            raise ArtifactError(f"{path} is not whole")


def unbroken(id_: str) -> str:
    """The id without spaces and control characters: those, and ``%``, as ``%20``; ``unquote`` gives it back."""
    if id_.isprintable() and " " not in id_ and "%" not in id_:
        return id_
    return "".join(urllib.parse.quote(c, safe="") if c == "%" or c.isspace() or not c.isprintable() else c for c in id_)


def original(text: str) -> str:
    """The id that ``unbroken`` made ``text`` of."""
    return urllib.parse.unquote(text, errors="strict")
