"""The chunks of a tokens artifact, some thousand at a time, without the others in memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from embedctl.artifacts.manifest import Manifest
from embedctl.tokens import originals
from embedctl.tokens.shards import Ids

# So many chunks are sorted by length, embedded, and written in their old order as one shard.
CHUNKS = 8192


@dataclass(frozen=True, slots=True)
class Window:
    """Chunks ``first`` to ``last`` (exclusive) of one token shard; they become one shard of vectors.

    start:  the number of the first among all chunks
    sha256: of the whole token shard
    """

    name: str
    part: Path
    sha256: str
    first: int
    last: int
    start: int

    def __len__(self) -> int:
        return self.last - self.first

    def read(self, columns: Sequence[str]) -> pa.Table:
        """The rows, with these columns. The file is mapped only as long as the table lives."""
        opened = pa.ipc.open_file(pa.memory_map(str(self.part)), options=pa.ipc.IpcReadOptions(use_threads=False))
        rows = opened.read_all().slice(self.first, len(self))
        return (originals.with_texts(rows, self.part) if "text" in columns else rows).select(list(columns))


def windows_of(tokens: Path, manifest: Manifest) -> list[Window]:
    """All chunks, in order. What a window holds depends on its own token shard alone."""
    found: list[Window] = []
    start = 0
    for part in sorted(tokens.glob("part-*.arrow")):
        rows = int(pa.ipc.open_file(pa.memory_map(str(part))).read_all().num_rows)
        for number, first in enumerate(range(0, rows, CHUNKS)):
            last = min(first + CHUNKS, rows)
            name = f"{part.stem}-{number:04d}"
            found.append(Window(name, part, manifest.files[part.name].sha256, first, last, start))
            start += last - first
    return found


def lists(column: pa.ChunkedArray) -> list[Ids]:
    """The lists of a column as views on the mapped file."""
    return [piece for chunk in column.chunks for piece in _lists(chunk)]


def texts(column: pa.ChunkedArray) -> list[bytes]:
    """The texts of a column in UTF-8."""
    return [text for chunk in column.chunks for text in _buffers(chunk)]


def _lists(chunk: pa.ListArray) -> Iterator[Ids]:
    values, offsets = chunk.values.to_numpy(), chunk.offsets.to_numpy()
    return (values[one:other] for one, other in pairwise(offsets.tolist()))


def _buffers(chunk: Any) -> Iterator[bytes]:
    as_bytes = chunk.cast(pa.binary())
    offsets = np.frombuffer(as_bytes.buffers()[1], dtype=np.int32)[as_bytes.offset :][: len(as_bytes) + 1]
    data = memoryview(as_bytes.buffers()[2] or b"")
    return (bytes(data[one:other]) for one, other in pairwise(offsets.tolist()))
