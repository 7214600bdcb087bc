"""One window of chunks becomes one shard of vectors.

Shape suffixes: N chunks of the window, R bytes of a vector as it is kept.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import JsonValue

from embedctl.artifacts.growing import Shard, entry_of
from embedctl.embedding import vectors
from embedctl.embedding.cache import VectorCache
from embedctl.embedding.earlier import Earlier
from embedctl.embedding.embedder import Embedder
from embedctl.embedding.passages import Passages
from embedctl.embedding.repeats import Content, Repeats, key_of
from embedctl.embedding.vectors import Packed
from embedctl.embedding.windows import Window
from embedctl.errors import DataError
from embedctl.progress import Watch, unwatched

_COLUMNS = ["id", "record", "chunk", "start", "end", "source", "text", "metadata"]
_OWN = ("record", "chunk", "start", "end", "source")
_ROW_GROUP = 1024


@dataclass(slots=True)
class ShardMaker:
    """All that is needed to make any shard of one vectors artifact.

    cached, repeated: vectors that were found in the cache, or in this artifact, so far
    """

    to: Path
    embedder: Embedder
    passages: Passages
    repeats: Repeats
    earlier: Earlier
    cache: VectorCache | None
    with_text: bool
    cached: int = 0
    repeated: int = 0

    def make(self, window: Window, key: str, watch: Watch = unwatched) -> Shard:
        """Write ``to/NAME.parquet`` and make it durable. The bytes depend on ``key`` alone."""
        table = window.read(sorted({*_COLUMNS, self.passages.column}))
        contents = self.passages.contents(table)
        rows_NR, keys = self._vectors(window, contents, watch)
        bad = self.embedder.keeping.bad_rows(rows_NR)
        if len(bad):
            raise DataError(
                f"the vector of {table.column('id')[int(bad[0])]} is not finite",
                hint="embedctl checkpoint list; restore another step, or set embedding.dtype to float32",
            )
        path = self.to / f"{window.name}.parquet"
        partial = path.with_name(f".{path.name}.partial")
        _write(partial, self._rows(table, rows_NR, keys), self.embedder.keeping.dtype)
        entry = entry_of(partial)
        partial.replace(path)
        facts: dict[str, JsonValue] = {
            "vectors": len(window),
            "worst_cosine": self.embedder.keeping.worst_cosine(rows_NR),
        }
        return Shard(name=window.name, key=key, files={path.name: entry}, facts=facts)

    def _vectors(self, window: Window, contents: Sequence[Content], watch: Watch) -> tuple[Packed, list[bytes]]:
        """The vector of each chunk as it is kept, and the key of its ids under this model."""
        first = self.repeats.first[window.start : window.start + len(window)]
        own = np.arange(window.start, window.start + len(window))
        rows_NR = np.zeros((len(window), self.embedder.keeping.row_bytes), dtype=np.uint8)
        known = self.earlier.fill(rows_NR, np.where(first < window.start, first, -1))
        # Of equal chunks in the window the first one is looked up or embedded, for all of them.
        _, leaders, leader_of = np.unique(first, return_index=True, return_inverse=True)
        wanted = leaders[~known[leaders]]
        ids = self.passages.ids([contents[row] for row in leaders])
        leading_keys = [key_of(text.astype("<u4"), self.embedder.identity) for text in ids]
        place = {int(row): number for number, row in enumerate(leaders)}
        self.repeated += int((first != own).sum())
        self._embed(
            rows_NR,
            wanted,
            [ids[place[r]] for r in wanted.tolist()],
            [leading_keys[place[r]] for r in wanted.tolist()],
            watch,
        )
        return rows_NR[leaders][leader_of], [leading_keys[number] for number in leader_of]

    def _embed(
        self, rows_NR: Packed, wanted: npt.NDArray[np.int64], ids: Sequence[Any], keys: Sequence[bytes], watch: Watch
    ) -> None:
        """Fill the rows ``wanted`` from the cache, and what is not there by embedding it."""
        have = self.cache.get(keys) if self.cache else {}
        hit = [n for n, key in enumerate(keys) if len(have.get(key, b"")) == rows_NR.shape[1]]
        if hit:
            rows_NR[wanted[hit]] = np.frombuffer(b"".join(have[keys[n]] for n in hit), np.uint8).reshape(len(hit), -1)
        self.cached += len(hit)
        miss = sorted({*range(len(keys))} - {*hit})
        if miss:
            made = self.embedder.embed([ids[n] for n in miss], watch)
            rows_NR[wanted[miss]] = made
            if self.cache:
                self.cache.put([(keys[n], made[at].tobytes()) for at, n in enumerate(miss)])

    def _rows(self, table: pa.Table, rows_NR: Packed, keys: Sequence[bytes]) -> pa.Table:
        metadata = [self._metadata(row) for row in table.select(_COLUMNS).to_pylist()]
        digests = [
            hashlib.blake2b(said.encode(), key=key, digest_size=16).hexdigest()
            for said, key in zip(metadata, keys, strict=True)
        ]
        columns = {"id": table.column("id"), "digest": digests, "metadata": metadata}
        columns |= self.embedder.keeping.columns(rows_NR)
        layout = vectors.schema(self.embedder.keeping.dtype)
        return pa.table([columns[name] for name in layout.names], schema=layout)

    def _metadata(self, row: dict[str, Any]) -> str:
        own = {name: row[name] for name in (*_OWN, "text") if name != "text" or self.with_text}
        given = json.loads(row["metadata"]) if row["metadata"] != "{}" else {}
        return json.dumps({**given, **own}, ensure_ascii=False)


def _write(path: Path, rows: pa.Table, dtype: vectors.Dtype) -> None:
    """Metadata compressed, values as they are: they would not become smaller."""
    plain = {"values.list.element": "NONE", "scale": "NONE"}
    names = [name for name in rows.schema.names if name not in ("values", "scale")]
    compression = {
        **dict.fromkeys(names, "ZSTD"),
        **{n: c for n, c in plain.items() if n.split(".")[0] in rows.schema.names},
    }
    with pq.ParquetWriter(path, rows.schema, compression=compression, use_dictionary=False) as writer:
        writer.write_table(rows, row_group_size=_ROW_GROUP)
