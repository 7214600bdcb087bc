"""One reader per format of text. Each takes a file, its encoding and the fields, and yields records as it reads."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from itertools import chain, zip_longest

from embedctl.data.encodings import open_text
from embedctl.data.fields import MOST_CHARACTERS, Fields, excerpt, record_of
from embedctl.data.markup import read_html, read_xml
from embedctl.data.objects import DECODER, read_json
from embedctl.data.opening import TextFile
from embedctl.data.records import Record
from embedctl.errors import DataError

Reader = Callable[[TextFile, str, Fields], Iterator[Record]]

_SPLIT = 'split it, or write one {"text": …} per line into a .jsonl file'


def read_whole(file: TextFile, encoding: str, fields: Fields) -> Iterator[Record]:
    """A file that is one text."""
    with open_text(file, encoding) as stream:
        text = stream.read(MOST_CHARACTERS + 1)
    if len(text) > MOST_CHARACTERS:
        raise DataError(
            f"{file.place} has more than {MOST_CHARACTERS:,} characters, the limit of one text", hint=_SPLIT
        )
    yield Record(file.name, text, source=file.name)


def read_jsonl(file: TextFile, encoding: str, fields: Fields) -> Iterator[Record]:
    """One object per line; of keys that come twice the last counts."""
    place, name = file.place, file.name
    decode = DECODER.decode
    with open_text(file, encoding, newline="\n") as stream:
        for number, line in enumerate(_lines(stream, file), start=1):
            try:
                row = decode(line)
            except json.JSONDecodeError as fault:
                if not line.strip():
                    continue
                raise _not_json(file, number, fault.msg, line) from None
            except RecursionError:
                raise _not_json(file, number, "nested too deep", line) from None
            except ValueError:
                raise _not_json(file, number, "a number with too many digits", line) from None
            yield record_of(row, fields, where=f"{place}:{number}", fallback_id=f"{name}:{number}", source=name)


def _not_json(file: TextFile, number: int, reason: str, line: str) -> DataError:
    return DataError(f"{file.place}:{number}: not JSON: {reason}: {excerpt(line)}", hint="mend or remove this line")


def _lines(stream: io.TextIOWrapper, file: TextFile) -> Iterator[str]:
    number = 0
    while line := stream.readline(MOST_CHARACTERS + 1):
        number += 1
        if len(line) > MOST_CHARACTERS:
            raise DataError(f"{file.place}:{number}: a line of more than {MOST_CHARACTERS:,} characters", hint=_SPLIT)
        yield line


class _RowLines:
    """Lines for ``csv.reader`` that know what the row being read has taken of them."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.taken = 0  # characters; whoever gets a row sets it back to 0
        self.ended = False  # asked for more than there was

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.taken += len(line)
            if self.taken > MOST_CHARACTERS:
                raise csv.Error(f"a row of more than {MOST_CHARACTERS:,} characters")
            yield line
        self.ended = True


def read_csv(file: TextFile, encoding: str, fields: Fields) -> Iterator[Record]:
    """Rows under a header, numbered by the line that they begin in."""
    csv.field_size_limit(MOST_CHARACTERS)
    place, name = file.place, file.name
    with open_text(file, encoding) as stream:
        lines = _RowLines(_lines(stream, file))
        source = iter(lines)
        first = next(source, "")
        reader = csv.reader(chain([first], source), delimiter=_delimiter(first, file.format))
        header: list[str] | None = None
        number = 1
        try:
            for cells in reader:
                if lines.ended:  # a row was handed over although it asked for one more line
                    raise csv.Error("a quote that opens in this row is never closed")
                if header is None:
                    header = _header(cells)
                elif cells:
                    row, where = _named(header, cells), f"{place}:{number}"
                    yield record_of(row, fields, where=where, fallback_id=f"{name}:{number}", source=name)
                number, lines.taken = reader.line_num + 1, 0
        except csv.Error as fault:
            raise DataError(f"{place}:{number}: not CSV: {fault}", hint="mend this row") from None


def _delimiter(first: str, form: str) -> str:
    """A comma, unless the header has none but the semicolons that spreadsheets write in much of Europe."""
    if form == ".tsv":
        return "\t"
    return ";" if ";" in first and "," not in first else ","


def _header(cells: list[str]) -> list[str]:
    for name in cells:
        if name and cells.count(name) > 1:
            raise csv.Error(f"two columns are named {excerpt(name)!r}")
    return cells


def _named(header: list[str], cells: list[str]) -> dict[str, str | None]:
    if len(cells) > len(header):
        raise csv.Error(f"{len(cells)} fields, but the header has {len(header)}; quote fields that hold the delimiter")
    row = dict(zip_longest(header, cells))
    row.pop("", None)
    return row


READERS: dict[str, Reader] = {
    ".txt": read_whole,
    ".md": read_whole,
    ".html": read_html,
    ".htm": read_html,
    ".xml": read_xml,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_csv,
}
