"""Token shards on disk: written as a stream of Arrow batches, read through a memory map."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tokenizers import Tokenizer

from embedctl.artifacts import manifest as manifests
from embedctl.artifacts.manifest import Manifest
from embedctl.tokens import originals, published
from embedctl.tokens import tokenizer as tokenizers
from embedctl.tokens.tokenizer import Frame

TOKENIZER = "tokenizer.json"

Ids = npt.NDArray[np.unsignedinteger[Any]]


def schema(vocabulary: int) -> pa.Schema:
    """One row per chunk. The query of a record stands on its first chunk alone."""
    ids = pa.list_(pa.uint16() if vocabulary <= 2**16 else pa.uint32())
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("record", pa.string(), nullable=False),
            pa.field("chunk", pa.int32(), nullable=False),
            pa.field("start", pa.int64(), nullable=False),
            pa.field("end", pa.int64(), nullable=False),
            # Which record of the part of the corpus this is a span of; null where validation has mended it.
            pa.field("row", pa.int32()),
            # What stands there then; else null, and originals.py finds it.
            pa.field("text", pa.string()),
            pa.field("input_ids", ids, nullable=False),
            # Why the text of the chunk alone would not encode to these ids; null where it does.
            pa.field("inexact", pa.string()),
            pa.field("query", pa.string()),
            pa.field("query_ids", ids),
            pa.field("split", pa.string(), nullable=False),
            pa.field("source", pa.string(), nullable=False),
            pa.field("metadata", pa.string(), nullable=False),
        ]
    )


@dataclass(frozen=True, slots=True)
class _Lists:
    """A list column over all batches: ``offsets`` index into each batch's ``values``."""

    starts: npt.NDArray[np.int64]  # first row of each batch, and the number of rows
    offsets: list[npt.NDArray[np.int32]]
    values: list[Ids]

    def __getitem__(self, row: int) -> Ids:
        batch = int(np.searchsorted(self.starts, row, side="right")) - 1
        offsets = self.offsets[batch]
        at = row - int(self.starts[batch])
        return self.values[batch][offsets[at] : offsets[at + 1]]

    @property
    def lengths(self) -> npt.NDArray[np.int32]:
        return np.concatenate([np.diff(offsets) for offsets in self.offsets]) if self.offsets else np.zeros(0, np.int32)


class TokenTable:
    """The token shards of a corpus, memory-mapped.

    N chunks (rows), R records. In memory are only a few bytes per chunk.
    """

    def __init__(self, folder: Path) -> None:
        """Open and verify; raises ``NotFoundError`` or ``ArtifactError``."""
        self.folder = folder
        self.manifest: Manifest = manifests.read_verified(folder, "tokens")
        self._parts = sorted(folder.glob("part-*.arrow"))
        tables = [pa.ipc.open_file(pa.memory_map(str(part))).read_all() for part in self._parts]
        self._firsts = np.cumsum([0, *map(len, tables)])[:-1]
        self._table: pa.Table = pa.concat_tables(tables)
        self._passages = _lists(self._table.column("input_ids"))
        self._queries = _lists(self._table.column("query_ids"))
        chunk = self._table.column("chunk").to_numpy()
        # Rows of record r: record_starts[r] to record_starts[r + 1].
        self.record_starts = np.append(np.flatnonzero(chunk == 0), len(chunk)).astype(np.int64)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @property
    def records(self) -> int:
        return len(self.record_starts) - 1

    @cached_property
    def lengths(self) -> npt.NDArray[np.int32]:
        """(N,) tokens of each chunk, special ones included."""
        return self._passages.lengths

    @cached_property
    def query_lengths(self) -> npt.NDArray[np.int32]:
        """(R,) tokens of each record's query; 0 where it has none."""
        return self._queries.lengths[self.record_starts[:-1]]

    @cached_property
    def held(self) -> npt.NDArray[np.bool_]:
        """(R,) whether the record is held out for evaluation."""
        import pyarrow.compute as pc

        return np.asarray(pc.equal(self._table.column("split"), "held").to_numpy()[self.record_starts[:-1]])

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return published.load(self.folder / TOKENIZER)

    @cached_property
    def frame(self) -> Frame:
        """What stands before and after a passage: special ids, and the prompt if there is one."""
        return tokenizers.frame_of(self.tokenizer, self.prompt("passage"))

    @cached_property
    def query_frame(self) -> Frame:
        return tokenizers.frame_of(self.tokenizer, self.prompt("query"))

    @property
    def query_max_tokens(self) -> int:
        return int(self.manifest.settings["query_max_tokens"])  # type: ignore[arg-type]

    def prompt(self, kind: Literal["query", "passage"]) -> str:
        """What is put before each text of that kind."""
        return str(self.manifest.settings.get(f"{kind}_prompt") or "")

    def passage(self, row: int) -> Ids:
        """Token ids of chunk ``row``, a view on the mapped file."""
        return self._passages[row]

    def query(self, record: int) -> Ids:
        """Token ids of record ``record``'s query; empty where it has none."""
        return self._queries[int(self.record_starts[record])]

    def strings(self, column: str, rows: Sequence[int] | npt.NDArray[np.int64]) -> list[str | None]:
        """Values at ``rows`` of a column of texts. For "text" a part that holds some of them is read, once a call."""
        if column == "text":
            return [*self._texts(np.asarray(rows, np.int64))]
        found: list[str | None] = self._table.column(column).take(pa.array(rows, type=pa.int64())).to_pylist()
        return found

    def rows(self, first: int, last: int, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Chunks ``first`` to ``last`` (exclusive) as dictionaries of ``columns``; for "text" see :meth:`strings`."""
        found: list[dict[str, Any]] = self._table.select(list(columns)).slice(first, last - first).to_pylist()
        if "text" in columns:
            for row, text in zip(found, self._texts(np.arange(first, last)), strict=True):
                row["text"] = text
        return found

    def _texts(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.object_]:
        found = np.empty(len(rows), object)
        owners = np.searchsorted(self._firsts, rows, side="right") - 1
        table = self._table.select([name for name in originals.COLUMNS if name in self._table.column_names])
        for owner in np.unique(owners):
            here = np.flatnonzero(owners == owner)
            chunks = originals.with_texts(table.take(pa.array(rows[here])), self._parts[owner])
            found[here] = chunks.column("text").to_pylist()
        return found

    def record_of(self) -> npt.NDArray[np.int64]:
        """(N,) the record to which each chunk belongs."""
        return np.repeat(np.arange(self.records), np.diff(self.record_starts))


def _lists(column: pa.ChunkedArray) -> _Lists:
    starts = np.cumsum([0, *(len(chunk) for chunk in column.chunks)]).astype(np.int64)
    # `values` and `offsets` together take account of slices; a null is an empty list in our files.
    return _Lists(
        starts,
        [chunk.offsets.to_numpy() for chunk in column.chunks],
        [chunk.values.to_numpy() for chunk in column.chunks],
    )


def write_part(path: Path, rows: pa.Table) -> None:
    """Write one shard as an Arrow IPC file."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
        # As one batch, so that the bytes do not depend on how the rows came together.
        writer.write_table(rows.combine_chunks())
