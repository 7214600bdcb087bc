"""Rows of Parquet and Arrow files. What a footer says of its sizes is not believed: decoded bytes are counted."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from embedctl.data.fields import Fields, excerpt, has, record_of
from embedctl.data.opening import TextFile, most_bytes, open_regular
from embedctl.data.parquet_footer import read_groups
from embedctl.data.records import Record
from embedctl.data.unpacking import open_bytes
from embedctl.errors import DataError, EmbedctlError

TABLES = (".parquet", ".arrow", ".feather")

_BATCH_ROWS = 1024
_BATCH_BYTES = 8 * 2**20
_IN_MEMORY_BYTES = 64 * 2**20


def read_table(file: TextFile, fields: Fields) -> Iterator[Record]:
    """Every row, numbered from 1; only the columns that are needed are decoded."""
    import pyarrow as pa

    place, name, number = file.place, file.name, 0
    kind = "Parquet" if file.format == ".parquet" else "Arrow"
    try:
        with _seekable(file) as stream:
            most = most_bytes(stream.seek(0, os.SEEK_END))
            stream.seek(0)
            batches = _parquet(stream, fields) if kind == "Parquet" else _arrow(stream, fields)
            for number, row in enumerate(_rows(batches, most, place), start=1):
                where, own_id = f"{place}: row {number}", f"{name}:{number}"
                yield record_of(row, fields, where=where, fallback_id=own_id, source=name)
    except EmbedctlError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError, NotImplementedError, MemoryError) as fault:
        reason = excerpt(str(fault).splitlines()[0] if str(fault) else type(fault).__name__)
        raise DataError(f"{place}: after row {number}: not {kind} that can be read: {reason}") from None


@contextmanager
def _seekable(file: TextFile) -> Iterator[BinaryIO]:
    """These formats are read from their end: a packed one is unpacked, within the limit, into a file without a name."""
    if not file.compression and file.entry is None:
        with open_regular(file.path, file.root) as raw:
            yield raw
        return
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as spool, open_bytes(file) as stream:
        shutil.copyfileobj(stream, spool, 2**20)
        spool.seek(0)
        yield cast(BinaryIO, spool)


def _parquet(stream: BinaryIO, fields: Fields) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(stream, pre_buffer=False, buffer_size=2**20) as table:
        names = table.schema_arrow.names
        columns = fields.columns(names) if _has_text(names, fields) else names
        rows = _BATCH_ROWS
        # So few that a batch is small even if each row is the longest string of every dictionary.
        for group in read_groups(stream, set(columns)):
            few = _IN_MEMORY_BYTES // max(1, group.dictionary_bytes)
            rows = max(1, min(rows, few, _BATCH_BYTES // max(1, group.row_bytes)))
        stream.seek(0)
        yield from table.iter_batches(batch_size=rows, columns=columns, use_threads=False)


def _arrow(stream: BinaryIO, fields: Fields) -> Iterator[Any]:
    import pyarrow as pa

    magic = stream.read(6)
    stream.seek(0)
    if magic.startswith(b"FEA1"):
        raise pa.ArrowInvalid("Feather version 1; write it again as version 2")
    reader = pa.ipc.open_file(stream) if magic == b"ARROW1" else pa.ipc.open_stream(stream)
    names = reader.schema.names
    columns = fields.columns(names) if _has_text(names, fields) else names
    batches: Iterable[Any] = reader
    if magic == b"ARROW1":
        batches = (reader.get_batch(n) for n in range(reader.num_record_batches))
    for batch in batches:
        batch.validate(full=True)  # offsets in a hostile file point anywhere
        needed = batch.select(columns)
        for start in range(0, needed.num_rows, _BATCH_ROWS):
            yield needed.slice(start, _BATCH_ROWS)


def _has_text(names: list[str], fields: Fields) -> bool:
    """Without the text the error shows all columns."""
    return fields.text.split(".")[0] in names or has(dict.fromkeys(names), fields.text)


def _rows(batches: Iterator[Any], most: int, place: str) -> Iterator[dict[str, Any]]:
    decoded = 0
    for batch in batches:
        names = batch.schema.names
        columns = []
        for column in batch.columns:
            values, size = _values(column)
            columns.append(values)
            decoded += size
        if decoded > most:
            raise DataError(
                f"{place} unpacks to more than {most:,} bytes", hint="write it again, if it is to be trusted"
            )
        for cells in zip(*columns, strict=True):
            yield dict(zip(names, cells, strict=True))


def _values(column: Any) -> tuple[Iterable[Any], int]:
    """The values of a column, and how many bytes they decode to. Equal strings of a dictionary are one object."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type) and _is_string(column.type.value_type):
        indices = column.indices
        used = indices.unique().drop_null()
        texts = dict(zip(used.to_pylist(), column.dictionary.take(used).to_pylist(), strict=True))
        values = [None if index is None else texts[index] for index in indices.to_pylist()]
        return values, sum(len(value) for value in values if value is not None)
    if _is_string(column.type) or pa.types.is_primitive(column.type):
        return column.to_pylist(), column.nbytes
    # Nested, or views of which many may show the same bytes: one at a time.
    return (scalar.as_py() for scalar in column), column.nbytes


def _is_string(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    return bool(
        types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind)
    )
