"""Text with a vector per line: jsonl, csv, word2vec and GloVe.

Numbers are the shortest decimals that are the same float32.
"""

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np

from embedctl.embedding.exports.blocks import BATCH_ROWS, Block, Source
from embedctl.embedding.exports.ids import original, unbroken
from embedctl.errors import ArtifactError
from embedctl.model.encoding import Vectors

# What makes a cell a formula in Excel, LibreOffice or Google Sheets (OWASP's list, with the wide forms), and the mark
# itself, so that the first ' of a cell is always ours.
_STARTS_FORMULA = tuple("=+-@\t\r\n＝＋－＠'")
_MARK = "'"


def decimals(matrix_ND: Vectors, separator: bytes) -> list[bytes]:
    """Each row's numbers; 25 times as fast as numpy, one by one."""
    import orjson

    rows = np.ascontiguousarray(matrix_ND)
    return [orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].replace(b",", separator) for row in rows]


def numbers(lines: Iterable[str], separator: str, dim: int) -> Vectors:
    """What ``decimals`` wrote, (N, D), by numpy's reader.

    Raises ``ValueError`` for anything that is not ``dim`` numbers.
    """
    texts = list(lines)
    if not texts:
        return np.zeros((0, dim), np.float32)
    found: Vectors = np.loadtxt(texts, dtype=np.float32, delimiter=separator, comments=None, ndmin=2)
    if found.shape != (len(texts), dim):
        raise ValueError(f"want {len(texts)} rows of {dim} numbers, got {found.shape}")
    return found


def write_jsonl(folder: Path, source: Source) -> None:
    """``vectors.jsonl``: an object with id, values and metadata per line."""
    with (folder / "vectors.jsonl").open("wb") as stream:
        for block in source.blocks():
            rows = zip(block.ids, decimals(block.values, b","), block.metadata or [], strict=True)
            for id_, values, metadata in rows:
                name = json.dumps(id_, ensure_ascii=False).encode()
                stream.write(b'{"id": %b, "values": [%b], "metadata": %b}\n' % (name, values, metadata.encode()))


def read_jsonl(folder: Path, source: Source) -> Iterator[Block]:
    with (folder / "vectors.jsonl").open(encoding="utf-8", newline="\n") as stream:
        while rows := [json.loads(line) for line in islice(stream, BATCH_ROWS)]:
            values = np.array([row["values"] for row in rows], dtype=np.float32)
            yield Block([row["id"] for row in rows], values, [row["metadata"] for row in rows])


def write_csv(folder: Path, source: Source) -> None:
    """``vectors.csv`` by RFC 4180: id, metadata (JSON), v0, v1, …; a cell that would be a formula begins with ``'``."""
    with (folder / "vectors.csv").open("wb") as stream:
        stream.write(",".join(_columns(source.dim)).encode() + b"\r\n")
        for block in source.blocks():
            rows = zip(block.ids, decimals(block.values, b","), block.metadata or [], strict=True)
            for id_, values, metadata in rows:
                stream.write(b"%b,%b,%b\r\n" % (_cell(id_), _cell(metadata), values))


def read_csv(folder: Path, source: Source) -> Iterator[Block]:
    before = csv.field_size_limit(sys.maxsize)
    try:
        with (folder / "vectors.csv").open(encoding="utf-8", newline="") as stream:
            lines = csv.reader(stream, strict=True)
            if next(lines, None) != _columns(source.dim):
                raise ArtifactError(f"{folder / 'vectors.csv'} has another header")
            while rows := list(islice(lines, BATCH_ROWS)):
                values = np.array([list(map(float, row[2:])) for row in rows], dtype=np.float32)
                yield Block([_unmarked(row[0]) for row in rows], values, [_unmarked(row[1]) for row in rows])
    except csv.Error as fault:
        raise ArtifactError(f"{folder / 'vectors.csv'}: {fault}") from None
    finally:
        csv.field_size_limit(before)


def write_word2vec(folder: Path, source: Source) -> None:
    """``vectors.txt``: a line ``N D``, then id and numbers with spaces between, as gensim reads."""
    with (folder / "vectors.txt").open("wb") as stream:
        stream.write(f"{source.count} {source.dim}\n".encode())
        _write_words(stream, source)


def read_word2vec(folder: Path, source: Source) -> Iterator[Block]:
    return _read_words(folder / "vectors.txt", source, header=f"{source.count} {source.dim}\n")


def write_glove(folder: Path, source: Source) -> None:
    """``vectors.txt``: the same without the first line."""
    with (folder / "vectors.txt").open("wb") as stream:
        _write_words(stream, source)


def read_glove(folder: Path, source: Source) -> Iterator[Block]:
    return _read_words(folder / "vectors.txt", source, header="")


def _write_words(stream: IO[bytes], source: Source) -> None:
    for block in source.blocks():
        for id_, values in zip(block.ids, decimals(block.values, b" "), strict=True):
            stream.write(b"%b %b\n" % (unbroken(id_).encode(), values))


def _read_words(path: Path, source: Source, *, header: str) -> Iterator[Block]:
    with path.open(encoding="utf-8", newline="\n") as stream:
        if header and next(stream, "") != header:
            raise ArtifactError(f"{path} has another first line than {header.strip()!r}")
        while rows := [line.rstrip("\n").partition(" ") for line in islice(stream, BATCH_ROWS)]:
            values = numbers((numbers_ for _, _, numbers_ in rows), " ", source.dim)
            yield Block([original(name) for name, _, _ in rows], values)


def _columns(dim: int) -> list[str]:
    return ["id", "metadata", *(f"v{number}" for number in range(dim))]


def _cell(text: str) -> bytes:
    marked = _MARK + text if text.startswith(_STARTS_FORMULA) else text
    return b'"' + marked.replace('"', '""').encode() + b'"'


def _unmarked(cell: str) -> str:
    return cell.removeprefix(_MARK)
