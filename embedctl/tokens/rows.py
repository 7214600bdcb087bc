"""Records become rows of a token shard: one for each chunk.

N records (texts), K chunks, T tokens.
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import JsonValue

from embedctl.data.records import split_of
from embedctl.settings import TokensSettings
from embedctl.tokens import chunks
from embedctl.tokens.chunks import Cuts
from embedctl.tokens.encoding import Encoded, TextEncoder
from embedctl.tokens.engines import Offsets
from embedctl.tokens.tokenizer import Frame

_INSIDE = "cut inside a word"
_OTHERWISE = "encodes otherwise alone"


@dataclass(slots=True)
class Counts:
    """What the manifest adds up over the shards. ``lengths``: chunks by their number of tokens."""

    records: int = 0
    held_records: int = 0
    split_records: int = 0
    queries: int = 0
    cut_queries: int = 0
    inexact_chunks: int = 0
    characters: int = 0
    bytes: int = 0
    lengths: Counter[int] = field(default_factory=Counter)

    def facts(self) -> dict[str, JsonValue]:
        """As JSON."""
        numbers: dict[str, JsonValue] = {name: getattr(self, name) for name in self.__slots__ if name != "lengths"}
        return {**numbers, "lengths": [[length, count] for length, count in sorted(self.lengths.items())]}


@dataclass(frozen=True, slots=True)
class ChunkRows:
    """Makes rows of ``layout`` from records, and counts them."""

    encoder: TextEncoder
    frame: Frame
    query_frame: Frame
    settings: TokensSettings
    held_percent: float
    layout: pa.Schema
    counts: Counts

    def of(self, records: pa.Table) -> pa.Table:
        """The chunks of some rows of a corpus, in order."""
        records = records.combine_chunks()
        texts: list[str] = records.column("text").to_pylist()
        encoded = self.encoder.encode(texts)
        cuts = self._cuts(encoded)
        begins, ends = _spans(cuts, encoded)
        documents = encoded.documents
        spans = zip(cuts.text.tolist(), begins.tolist(), ends.tolist(), strict=True)
        pieces = [documents[n][a:b] for n, a, b in spans]
        if not self.encoder.spans_hold_white_space:
            inner = cuts.last < encoded.offsets[cuts.text + 1]
            pieces = [piece.rstrip() if cut else piece for piece, cut in zip(pieces, inner.tolist(), strict=True)]
            ends = begins + np.array([len(piece) for piece in pieces], dtype=np.int64)
        starts, stops = _in_characters(encoded, cuts, begins, ends)
        inexact = self._inexact(cuts, encoded, pieces)
        input_ids, lengths = self._framed(encoded, cuts, self.frame)
        row = pa.array(cuts.text)
        splits = np.array([split_of(record, self.held_percent) for record in records.column("id").to_pylist()])
        first = cuts.number == 0
        self._count(records, cuts, lengths, int((first & (splits == "held")[cuts.text]).sum()), inexact)
        number = pa.array(cuts.number.astype(np.int32))
        record, source, metadata = (_one(records.column(name)).take(row) for name in ("id", "source", "metadata"))
        queries, query_ids = self._queries(_one(records.column("query")))
        asked = pc.if_else(pa.array(first), row, None)
        columns = {
            "id": pc.binary_join_element_wise(record, pc.cast(number, pa.string()), "#"),
            "record": record,
            "chunk": number,
            "start": starts,
            "end": stops,
            "text": pieces,
            "input_ids": input_ids,
            "inexact": inexact,
            "query": queries.take(asked),
            "query_ids": query_ids.take(asked),
            "split": pa.array(splits).take(row),
            "source": source,
            "metadata": metadata,
        }
        return pa.table([columns[name] for name in self.layout.names], schema=self.layout)

    def _cuts(self, encoded: Encoded) -> Cuts:
        size = self.settings.max_tokens - self.frame.count
        boundaries = np.zeros(len(encoded.ids), dtype=np.uint8)
        whole = np.ones(len(encoded.ids), dtype=bool)
        if (np.diff(encoded.offsets) > size).any():
            boundaries = chunks.token_boundaries(encoded.data, encoded.starts)
            whole = chunks.cuttable(encoded.data, encoded.starts)
        return chunks.cut(boundaries, encoded.offsets, size=size, overlap=self.settings.overlap_tokens, cuttable=whole)

    def _framed(self, encoded: Encoded, cuts: Cuts, frame: Frame) -> tuple[pa.ListArray, npt.NDArray[np.int64]]:
        """The ids of each chunk between the special ones, and their number, (K,)."""
        prefix, suffix = frame.prefix, frame.suffix
        lengths = cuts.last - cuts.first + frame.count
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        taken = np.arange(offsets[-1]) + np.repeat(cuts.first - len(prefix) - offsets[:-1], lengths)
        ids = encoded.ids.take(taken, mode="clip") if len(encoded.ids) else np.zeros(offsets[-1], np.uint32)
        for place, number in enumerate(prefix):
            ids[offsets[:-1] + place] = number
        for place, number in enumerate(reversed(suffix)):
            ids[offsets[1:] - 1 - place] = number
        return self._lists(ids, offsets), lengths

    def _queries(self, queries: pa.Array) -> tuple[pa.Array, pa.ListArray]:
        """The queries of N records and their framed ids, cut to the limit; null where there is none."""
        asked: list[str | None] = [query or None for query in queries.to_pylist()]
        texts = [query for query in asked if query]
        encoded = self.encoder.encode(texts)
        room = self.settings.query_max_tokens - self.query_frame.count
        lengths = np.diff(encoded.offsets)
        self.counts.queries += len(texts)
        self.counts.cut_queries += int((lengths > room).sum())
        firsts = encoded.offsets[:-1]
        whole = np.zeros(len(texts), dtype=np.int64)
        cuts = Cuts(whole, whole, firsts, firsts + np.minimum(lengths, room), whole > 0, whole > 0)
        framed, _ = self._framed(encoded, cuts, self.query_frame)
        there = np.array([query is not None for query in asked], dtype=bool)
        places = pa.array(np.cumsum(there) - 1, mask=~there)
        return pa.array(asked, pa.string()), framed.take(places)

    def _lists(self, ids: npt.NDArray[np.uint32], offsets: Offsets) -> pa.ListArray:
        kind = self.layout.field("input_ids").type.value_type
        values = pa.array(ids.astype(kind.to_pandas_dtype(), copy=False))
        return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), values)

    def _inexact(self, cuts: Cuts, encoded: Encoded, pieces: list[bytes]) -> list[str | None]:
        """For each chunk why its text alone would not encode to its ids; ``None`` where it does."""
        inside = ~(cuts.begins & cuts.ends)
        doubtful = inside
        if not self.encoder.cuts_between_words_are_exact:
            doubtful = (cuts.first > encoded.offsets[cuts.text]) | (cuts.last < encoded.offsets[cuts.text + 1])
        reasons: list[str | None] = [None] * len(pieces)
        rows = np.flatnonzero(doubtful).tolist()
        alone = self.encoder.encode([pieces[row].decode() for row in rows])
        for n, row in enumerate(rows):
            ids = alone.ids[alone.offsets[n] : alone.offsets[n + 1]]
            if not np.array_equal(ids, encoded.ids[cuts.first[row] : cuts.last[row]]):
                reasons[row] = _INSIDE if inside[row] else _OTHERWISE
        return reasons

    def _count(
        self, records: pa.Table, cuts: Cuts, lengths: npt.NDArray[np.int64], held: int, inexact: list[str | None]
    ) -> None:
        counts = self.counts
        counts.records += int((cuts.number == 0).sum())
        counts.held_records += held
        counts.split_records += int((cuts.number == 1).sum())
        counts.inexact_chunks += len(inexact) - inexact.count(None)
        counts.characters += int(pc.sum(pc.utf8_length(records.column("text"))).as_py() or 0)
        counts.bytes += int(pc.sum(pc.binary_length(records.column("text"))).as_py() or 0)
        counts.lengths.update(
            dict(zip(*(part.tolist() for part in np.unique(lengths, return_counts=True)), strict=True))
        )


def _spans(cuts: Cuts, encoded: Encoded) -> tuple[Offsets, Offsets]:
    """The bytes of its record that each chunk holds, (K,) and (K,); together they hold all of them."""
    sizes = np.array([len(document) for document in encoded.documents], dtype=np.int64)
    starts = np.append(encoded.starts, 0)
    bases = encoded.bases[cuts.text]
    begins = np.where(cuts.number == 0, 0, starts[cuts.first] - bases)
    final = cuts.last == encoded.offsets[cuts.text + 1]
    return begins, np.where(final, sizes[cuts.text], starts[cuts.last] - bases)


def _in_characters(encoded: Encoded, cuts: Cuts, *places: Offsets) -> tuple[Offsets, ...]:
    """From bytes of the records to characters of them."""
    first = (encoded.data & 0xC0) != 0x80
    if first.all():
        return places
    before = np.zeros(len(first) + 1, dtype=np.int32)
    np.cumsum(first, out=before[1:])
    bases = encoded.bases[cuts.text]
    return tuple((before[bases + place] - before[bases]).astype(np.int64) for place in places)


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
