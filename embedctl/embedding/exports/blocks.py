"""What every format is written from and read back into: blocks of vectors."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from embedctl.artifacts.manifest import Manifest
from embedctl.embedding.vectors import matrix, read_vectors
from embedctl.errors import ArtifactError
from embedctl.model.encoding import Vectors
from embedctl.progress import Tick, Watch

BATCH_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Block:
    """Some vectors in their order.

    values:   (N, D) float32; every float16 is one
    metadata:  of each vector, as its format gives it back; ``None`` where a format carries none
    """

    ids: list[str]
    values: Vectors
    metadata: list[Any] | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """The vectors artifact that is exported.

    stored:    the type of the kept values; all formats but Parquet turn int8 into float32
    namespace: of Pinecone, for its own format
    """

    folder: Path
    count: int
    dim: int
    stored: str
    namespace: str
    watch: Watch

    @classmethod
    def of(cls, folder: Path, manifest: Manifest, namespace: str, watch: Watch) -> "Source":
        count, dim = manifest.number("vectors"), manifest.number("dim")
        return cls(folder, count, dim, str(manifest.settings["dtype"]), namespace, watch)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of an array file, little-endian."""
        return np.dtype("<f2" if self.stored == "float16" else "<f4")

    def batches(self, doing: str = "vectors") -> Iterator[pa.RecordBatch]:
        """The rows as they are kept, telling how far it is."""
        done = 0
        for batch in read_vectors(self.folder, BATCH_ROWS):
            yield batch
            done += len(batch)
            self.watch(Tick(done, self.count, doing))

    def blocks(self, doing: str = "vectors") -> Iterator[Block]:
        for batch in self.batches(doing):
            yield Block(batch.column("id").to_pylist(), matrix(batch), batch.column("metadata").to_pylist())


@dataclass(frozen=True, slots=True)
class Format:
    """How vectors are written into a folder, and read back from it by code that shares nothing with the writer.

    expected: what the reader should give for a vector's metadata (JSON text); ``None``: nothing to compare
    """

    write: Callable[[Path, Source], None]
    read: Callable[[Path, Source], Iterator[Block]]
    expected: Callable[[str], Any] | None = None


def refuse_other(name: str, format_: Format, folder: Path, source: Source) -> None:
    """Read ``folder`` back: ids, order, every bit of every value and the metadata have to be the vectors'.

    Raises ``ArtifactError`` at the first difference.
    """
    written = _Written(format_.read(folder, source), source.dim)
    done = 0
    for block in source.blocks("vectors read back"):
        found = written.take(len(block.ids))
        row = _first_difference(block, found, format_.expected)
        if row is not None:
            what = f"vector {done + row} ({block.ids[row]!r}) is another"
            if row >= len(found.ids):
                what = f"it ends after {done + row} of {source.count} vectors"
            raise _other(name, what)
        done += len(block.ids)
    if written.take(1).ids:
        raise _other(name, f"it holds more than {source.count} vectors")


def _other(name: str, what: str) -> ArtifactError:
    return ArtifactError(
        f"the {name} export does not read back to its vectors: {what}",
        hint="run the same command again; if it happens again, suspect the disk or the memory",
    )


class _Written:
    """What was written, taken in pieces of any size."""

    def __init__(self, blocks: Iterator[Block], dim: int) -> None:
        self._blocks = blocks
        self._held = Block([], np.zeros((0, dim), np.float32), [])

    def take(self, count: int) -> Block:
        """The next ``count`` vectors; fewer only at the end."""
        parts = [self._held]
        while sum(len(part.ids) for part in parts) < count:
            more = next(self._blocks, None)
            if more is None:
                break
            parts.append(more)
        held = _joined(parts)
        self._held = Block(held.ids[count:], held.values[count:], (held.metadata or [])[count:])
        return Block(held.ids[:count], held.values[:count], (held.metadata or [])[:count])


def _joined(parts: Sequence[Block]) -> Block:
    ids = [id_ for part in parts for id_ in part.ids]
    metadata = [one for part in parts for one in part.metadata or []]
    return Block(ids, np.concatenate([part.values for part in parts]), metadata)


def _first_difference(block: Block, found: Block, expected: Callable[[str], Any] | None) -> int | None:
    """The first row of ``block`` that is not the same in ``found``."""
    rows = len(found.ids)
    # As integers: -0.0 is not 0.0 here.
    mine, theirs = block.values[:rows].view(np.uint32), found.values.view(np.uint32)
    bad = set(np.flatnonzero((mine != theirs).any(axis=1)).tolist())
    bad |= {row for row, (one, other) in enumerate(zip(block.ids, found.ids, strict=False)) if one != other}
    if expected is not None:
        wanted = [expected(raw) for raw in block.metadata or []]
        got = found.metadata or []
        bad |= {row for row, want in enumerate(wanted) if row >= len(got) or want != got[row]}
    if rows < len(block.ids):
        bad.add(rows)
    return min(bad) if bad else None
