"""Records from files on this machine: .txt, .md, .jsonl, .csv, .tsv, .parquet, and PubMedQA's own JSON."""

import csv
import gzip
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from embedctl.data.records import Record
from embedctl.errors import DataError, NotFoundError, RefusedError

_log = logging.getLogger(__name__)

TEXT_SUFFIXES = (".txt", ".md")
SUFFIXES = (*TEXT_SUFFIXES, ".jsonl", ".csv", ".tsv", ".parquet")
PUBMEDQA_NAMES = ("ori_pqal.json", "ori_pqau.json", "ori_pqaa.json")

_MAX_TEXT_FILE_BYTES = 256 * 2**20
_MAX_FIELD_CHARACTERS = 64 * 2**20
_FIELDS = {"id", "text", "query"}
_SURROGATE = re.compile("[\ud800-\udfff]")


def find_files(path: Path) -> list[Path]:
    """The readable files at or below ``path``, in the order of their names; hidden ones are left out.

    A link that leads out of ``path`` is refused: what it points at was not offered.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise NotFoundError(f"no file or folder at {path}", hint="set data.path to your text")
    root = path.resolve()
    files = []
    for file in sorted(path.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
        if hidden or file.suffix.lower() not in SUFFIXES or not file.is_file():
            continue
        if not file.resolve().is_relative_to(root):
            raise RefusedError(f"{file} is a link out of {path}", hint="copy what it points at into the folder")
        files.append(file)
    if not files:
        wanted = ", ".join(SUFFIXES)
        raise DataError(f"no file in {path} ends with one of {wanted}", hint="set data.path to a folder of text")
    return files


def read_files(files: list[Path], root: Path) -> Iterator[Record]:
    """Every record of ``files``, streaming. Binary files are passed over with a word of warning."""
    skipped = Counter[str]()
    found = 0
    for file in files:
        name = file.relative_to(root).as_posix() if root.is_dir() else file.name
        suffix = file.suffix.lower()
        if suffix != ".parquet" and _is_binary(file):
            skipped["binary"] += 1
            _log.info("%s is a binary file; passed over", file)
            continue
        for record in _READERS[suffix](file, name):
            found += 1
            yield record
    if skipped["binary"]:
        _log.warning("%d of %d files are binary and were passed over", skipped["binary"], len(files))
    if not found:
        raise DataError(
            f"no text in the {len(files)} files of {root}" + (": all are binary" if skipped["binary"] else ""),
            hint="set data.path to a folder of text",
        )


def read_pubmedqa(path: Path) -> Iterator[Record]:
    """PubMedQA's ``ori_pqa*.json`` (plain or gzip): each question with the abstract that answers it."""
    for file in find_pubmedqa(path):
        opened = gzip.open if file.suffix == ".gz" else open
        try:
            with opened(file, "rt", encoding="utf-8") as stream:
                articles = json.load(stream)
        except (ValueError, RecursionError, EOFError, gzip.BadGzipFile) as fault:
            raise DataError(f"{file} is not PubMedQA's JSON: {fault}") from None
        if not isinstance(articles, dict):
            raise DataError(f"{file} is not PubMedQA's JSON: want an object of articles by PubMed id")
        for pubmed_id, article in articles.items():
            yield _pubmedqa_record(file, pubmed_id, article)


def find_pubmedqa(path: Path) -> list[Path]:
    """The PubMedQA files at ``path``: itself, or those of a folder."""
    if path.is_file():
        return [path]
    files = [path / (name + end) for name in PUBMEDQA_NAMES for end in ("", ".gz") if (path / (name + end)).is_file()]
    if not files:
        raise NotFoundError(f"no PubMedQA file at {path}", hint=f"want one of {', '.join(PUBMEDQA_NAMES)} (or .gz)")
    return files


def _pubmedqa_record(file: Path, pubmed_id: str, article: Any) -> Record:
    match article:
        case {"QUESTION": str(question), "CONTEXTS": list(contexts)}:
            metadata = {
                name: article[key]
                for name, key in (("answer", "final_decision"), ("conclusion", "LONG_ANSWER"), ("year", "YEAR"))
                if article.get(key)
            }
            text = "\n".join(str(part) for part in contexts)
            return Record(pubmed_id, _without_surrogates(text), _without_surrogates(question), "pubmedqa", metadata)
    raise DataError(f'{file}: article {pubmed_id}: want {{"QUESTION": str, "CONTEXTS": [str]}}')


def _read_text(file: Path, name: str) -> Iterator[Record]:
    size = file.stat().st_size
    if size > _MAX_TEXT_FILE_BYTES:
        raise DataError(
            f"{file} has {size:,} bytes; one text may have {_MAX_TEXT_FILE_BYTES:,}",
            hint='split it, or write one {"text": …} per line into a .jsonl file',
        )
    raw = file.read_bytes()
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        yield Record(name, raw.decode("utf-16", errors="replace"), source=name)
        return
    try:
        yield Record(name, raw.decode("utf-8-sig"), source=name)
    except UnicodeDecodeError:
        # Kept, with U+FFFD where a byte made no sense: `data validate` finds and counts those.
        _log.info("%s is not valid UTF-8", file)
        yield Record(name, raw.decode("utf-8", errors="replace"), source=name)


def _read_jsonl(file: Path, name: str) -> Iterator[Record]:
    with file.open(encoding="utf-8-sig", errors="replace", newline="\n") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as fault:
                reason = (
                    fault.msg if isinstance(fault, json.JSONDecodeError) else "nested too deep or too long a number"
                )
                raise DataError(
                    f"{file}:{number}: not JSON: {reason}: {line.strip()[:60]}", hint="mend or remove this line"
                ) from None
            yield _record(row, where=f"{file}:{number}", fallback_id=f"{name}:{number}", source=name)


def _read_csv(file: Path, name: str) -> Iterator[Record]:
    csv.field_size_limit(_MAX_FIELD_CHARACTERS)
    delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        reader = csv.DictReader(stream, delimiter=delimiter, restkey="_rest")
        try:
            _require_text(reader.fieldnames or [], file)
            for row in reader:
                where = f"{file}:{reader.line_num}"
                if "_rest" in row:
                    raise DataError(f"{where}: more fields than the header has", hint="quote fields that hold commas")
                yield _record(row, where=where, fallback_id=f"{name}:{reader.line_num}", source=name)
        except csv.Error as fault:
            raise DataError(f"{file}:{reader.line_num}: not CSV: {fault}") from None


def _read_parquet(file: Path, name: str) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
        _require_text(table.schema_arrow.names, file)
        number = 0
        for batch in table.iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield _record(row, where=f"{file}: row {number}", fallback_id=f"{name}:{number}", source=name)
    except (pa.ArrowInvalid, OSError) as fault:
        raise DataError(f"{file} is not a Parquet file that can be read: {str(fault).splitlines()[0]}") from None


_READERS: dict[str, Callable[[Path, str], Iterator[Record]]] = {
    ".txt": _read_text,
    ".md": _read_text,
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
}


def _require_text(names: Any, file: Path) -> None:
    if "text" not in names:
        raise DataError(f"{file} has no column 'text'; it has {', '.join(map(str, names)) or 'none'}")


def _record(row: Any, *, where: str, fallback_id: str, source: str) -> Record:
    match row:
        case {"text": str(text)}:
            query = row.get("query") or None
            if query is not None and not isinstance(query, str):
                raise DataError(f"{where}: query must be a string, got {query!r:.60}")
            own_id = row.get("id")
            return Record(
                _without_surrogates(str(own_id)) if own_id not in (None, "") else fallback_id,
                _without_surrogates(text),
                query and _without_surrogates(query),
                source,
                _metadata(row),
            )
    raise DataError(f'{where}: want {{"text": str, …}}, got {_short(row)}', hint="each row needs a text")


def _metadata(row: Mapping[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in row.items() if name not in _FIELDS and value is not None}
    clean: dict[str, Any] = json.loads(_without_surrogates(json.dumps(rest, default=str, ensure_ascii=False)))
    return clean


def _short(row: object) -> str:
    text = json.dumps(row, default=str)
    return text if len(text) <= 60 else text[:59] + "…"


def _without_surrogates(text: str) -> str:
    """A lone surrogate passes ``json.loads`` and then breaks Arrow, SQLite and tokenizers: make it U+FFFD."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _is_binary(file: Path) -> bool:
    with file.open("rb") as stream:
        head = stream.read(8192)
    return b"\0" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff"))
