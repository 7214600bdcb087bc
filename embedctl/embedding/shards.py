"""One window of chunks becomes one shard of vectors.

Shape suffixes: N chunks of the window, R bytes of a vector as it is kept.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
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
from embedctl.tokens.shards import Ids

_COLUMNS = ["id", "record", "chunk", "start", "end", "source", "text", "metadata"]
_OWN = ("record", "chunk", "start", "end", "source")


@dataclass(frozen=True, slots=True)
class Tally:
    """Where vectors came from: embedded here (tokens, seconds), out of the cache, or equal to another chunk's."""

    embedded: float = 0
    tokens: float = 0
    seconds: float = 0
    cached: float = 0
    repeated: float = 0
    cut: float = 0

    @property
    def numbers(self) -> tuple[float, ...]:
        return astuple(self)

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(one + more for one, more in zip(self.numbers, other.numbers, strict=True)))


@dataclass(slots=True)
class ShardMaker:
    """All that is needed to make any shard of one vectors artifact."""

    to: Path
    embedder: Embedder
    passages: Passages
    repeats: Repeats
    earlier: Earlier
    cache: VectorCache | None
    with_text: bool

    def make(self, window: Window, key: str, watch: Watch = unwatched) -> tuple[Shard, Tally]:
        """Write ``to/NAME.parquet`` and make it durable. The bytes depend on ``key`` alone."""
        table = window.read(sorted({*_COLUMNS, self.passages.column}))
        rows_NR, keys, tally = self._vectors(window, self.passages.contents(table), watch)
        bad = self.embedder.keeping.bad_rows(rows_NR)
        if len(bad):
            raise DataError(
                f"the vector of {table.column('id')[int(bad[0])]} is not finite",
                hint="embedctl checkpoint list; restore another step, or set embedding.dtype to float32",
            )
        path = self.to / f"{window.name}.parquet"
        partial = path.with_name(f".{path.name}.partial")
        vectors.write_part(partial, self._rows(table, rows_NR, keys))
        entry = entry_of(partial)
        partial.replace(path)
        worst = self.embedder.keeping.worst_cosine(rows_NR)
        facts: dict[str, JsonValue] = {
            "vectors": len(window),
            "dim": self.embedder.keeping.dim,
            "model": self.embedder.model.model_id,
            "step": self.embedder.model.step,
            "worst_cosine": worst,
        }
        return Shard(name=window.name, key=key, files={path.name: entry}, facts=facts), tally

    def _vectors(self, window: Window, contents: Sequence[Content], watch: Watch) -> tuple[Packed, list[bytes], Tally]:
        """The vector of each chunk as it is kept, and the key of its ids under this model."""
        first = self.repeats.first[window.start : window.start + len(window)]
        # Of equal chunks in the window the first one is looked up or embedded, for all of them.
        firsts, leaders, leader_of = np.unique(first, return_index=True, return_inverse=True)
        rows_NR = np.zeros((len(leaders), self.embedder.keeping.row_bytes), dtype=np.uint8)
        known = self.earlier.fill(rows_NR, np.where(firsts < window.start, firsts, -1))
        ids, cut = self.passages.ids([contents[row] for row in leaders])
        keys = [key_of(text.astype("<u4"), self.embedder.identity) for text in ids]
        tally = self._embed(rows_NR, np.flatnonzero(~known).tolist(), ids, keys, watch)
        tally += Tally(repeated=len(window) - int((~known).sum()), cut=cut)
        return rows_NR[leader_of], [keys[number] for number in leader_of], tally

    def _embed(
        self, rows_NR: Packed, wanted: list[int], ids: Sequence[Ids], keys: Sequence[bytes], watch: Watch
    ) -> Tally:
        """Fill the rows ``wanted`` from the cache, and what is not there by embedding it."""
        have = self.cache.get([keys[n] for n in wanted]) if self.cache else {}
        hit = [n for n in wanted if len(have.get(keys[n], b"")) == rows_NR.shape[1]]
        if hit:
            rows_NR[hit] = np.frombuffer(b"".join(have[keys[n]] for n in hit), np.uint8).reshape(len(hit), -1)
        miss = sorted({*wanted} - {*hit})
        if not miss:
            return Tally(cached=len(hit))
        began = time.monotonic()
        rows_NR[miss] = self.embedder.embed([ids[n] for n in miss], watch)
        seconds = time.monotonic() - began
        if self.cache:
            self.cache.put([(keys[n], rows_NR[n].tobytes()) for n in miss])
        return Tally(len(miss), sum(len(ids[n]) for n in miss), seconds, cached=len(hit))

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
        return json.dumps({**_beside(own, given), **own}, ensure_ascii=False)


def _beside(own: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """A record's own fields; one that is called as one of ours gets an underscore at its end."""
    found = {}
    for name, value in given.items():
        free = name
        while free in own or (free != name and free in given):
            free += "_"
        found[free] = value
    return found
