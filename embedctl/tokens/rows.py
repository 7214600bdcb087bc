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

from embedctl.data.records import are_held
from embedctl.settings import TokensSettings
from embedctl.tokens import chunks, native
from embedctl.tokens.beginnings import Beginnings, beginnings
from embedctl.tokens.chunks import Cuts
from embedctl.tokens.encoding import Encoded, TextEncoder
from embedctl.tokens.engines import Offsets
from embedctl.tokens.texts import Column
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
        """The chunks of some rows of a corpus, in order.

        records: with a column more, ``row``: their place in their part of it; null if they are not as they are there
        """
        texts = _one(records.column("text"))
        encoded = self.encoder.encode(Column(texts))
        cuts = self._cuts(encoded)
        begins, ends = self._spans(cuts, encoded)
        starts, stops = _in_characters(encoded, cuts, begins, ends)
        heads = self._heads(cuts, encoded, begins, ends)
        input_ids, lengths = self._framed(encoded, cuts, self.frame, heads)
        inexact = self._inexact(cuts, encoded, begins, ends, heads)
        splits = self._splits(records.column("id"))
        self._count(int(encoded.sizes.sum()), len(encoded.inner), cuts, lengths, splits, inexact)
        row = pa.array(cuts.text)
        number = pa.array(cuts.number.astype(np.int32))
        names = ("id", "row", "source", "metadata")
        record, place, source, metadata = (_one(records.column(name)).take(row) for name in names)
        queries, query_ids = self._queries(_one(records.column("query")))
        asked = pa.array(cuts.text, mask=cuts.number > 0)
        columns = {
            "id": pc.binary_join_element_wise(record, pc.cast(number, pa.string()), "#"),
            "record": record,
            "chunk": number,
            "start": starts,
            "end": stops,
            "row": place,
            "text": _texts_of_others(place, encoded, begins, ends),
            "input_ids": input_ids,
            "inexact": inexact,
            "query": queries.take(asked),
            "query_ids": query_ids.take(asked),
            "split": splits.take(row),
            "source": source,
            "metadata": metadata,
        }
        return pa.table([columns[name] for name in self.layout.names], schema=self.layout)

    def _cuts(self, encoded: Encoded) -> Cuts:
        overlap = self.settings.overlap_tokens
        # As settings_of_text.py wants it of max_tokens: a chunk is more than what its neighbours share with it.
        size = self.frame.room(self.settings.max_tokens, least=max(2 * overlap, 1), setting="tokens.max_tokens")
        return chunks.cut(encoded.data, encoded.starts, encoded.offsets, size=size, overlap=overlap)

    def _spans(self, cuts: Cuts, encoded: Encoded) -> tuple[Offsets, Offsets]:
        """The bytes of ``encoded.data`` that each chunk holds, (K,) and (K,).

        Together they hold all of each record, but for white space at a cut that belongs to no token.
        """
        bases, sizes = encoded.bases[cuts.text], encoded.sizes[cuts.text]
        begins = np.where(cuts.number == 0, bases, encoded.starts[cuts.first])
        inner = cuts.last < encoded.offsets[cuts.text + 1]
        ends = bases + sizes
        ends[inner] = encoded.starts[cuts.last[inner]]
        if not self.encoder.spans_hold_white_space:
            rows = np.flatnonzero(inner)
            spans = zip(begins[rows].tolist(), ends[rows].tolist(), strict=True)
            ends[rows] = [a + len(encoded.blob[a:b].rstrip()) for a, b in spans]
        return begins, ends

    def _heads(self, cuts: Cuts, encoded: Encoded, begins: Offsets, ends: Offsets) -> Beginnings | None:
        """The beginnings of chunks that depend on the prompt; ``None`` where none does."""
        if not self.frame.lead:
            return None
        room = self.settings.max_tokens - self.frame.count
        return beginnings(self.encoder, encoded, cuts, begins, ends, frame=self.frame, room=room)

    def _framed(
        self, encoded: Encoded, cuts: Cuts, frame: Frame, heads: Beginnings | None = None
    ) -> tuple[pa.ListArray, npt.NDArray[np.int64]]:
        """The ids of each chunk between the special ones, and their number, (K,)."""
        kind = self.layout.field("input_ids").type.value_type.to_pandas_dtype()
        library = native.library()
        if library is not None and heads is None:
            before, after = np.array(frame.prefix, np.uint32), np.array(frame.suffix, np.uint32)
            values, offsets = native.framed(library, encoded.ids, cuts.first, cuts.last, before, after, kind)
            return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values)), np.diff(offsets).astype(np.int64)
        prefix, suffix = (np.array(ids, kind).tobytes() for ids in (frame.prefix, frame.suffix))
        ids = encoded.ids.astype(kind, copy=False).data
        pieces: list[bytes | memoryview] = []
        if heads is None:
            lengths = cuts.last - cuts.first + frame.count
            for first, last in zip(cuts.first.tolist(), cuts.last.tolist(), strict=True):
                pieces += prefix, ids[first:last], suffix
        else:
            lengths = cuts.last - heads.first + heads.lengths + frame.count
            for head, first, last in zip(heads.ids, heads.first.tolist(), cuts.last.tolist(), strict=True):
                pieces += prefix, head.astype(kind).tobytes(), ids[first:last], suffix
        values = pa.array(np.frombuffer(b"".join(pieces), kind))
        return pa.ListArray.from_arrays(pa.array(native.offsets_of(lengths)), values), lengths

    def _splits(self, ids: pa.ChunkedArray) -> pa.Array:
        """(N,) on which side each record is."""
        if not self.held_percent:
            return pa.repeat("train", len(ids))
        held = pa.array(are_held(ids.to_pylist(), self.held_percent))
        return pc.if_else(held, "held", "train")

    def _queries(self, queries: pa.Array) -> tuple[pa.Array, pa.ListArray]:
        """The queries of N records and their framed ids, cut to the limit; null where there is none."""
        if queries.null_count == len(queries):
            return queries, pa.nulls(len(queries), self.layout.field("query_ids").type)
        queries = pc.if_else(pc.equal(pc.binary_length(queries), 0), None, queries)
        texts: list[str] = queries.drop_null().to_pylist()
        self.query_frame.room(self.settings.query_max_tokens, least=1, setting="tokens.query_max_tokens")
        encoded = self.encoder.encode([self.query_frame.prompt + text for text in texts])
        frame = self.query_frame.bare
        room = self.settings.query_max_tokens - frame.count
        lengths = np.diff(encoded.offsets)
        self.counts.queries += len(texts)
        self.counts.cut_queries += int((lengths > room).sum())
        firsts = encoded.offsets[:-1]
        whole = np.zeros(len(texts), dtype=np.int64)
        cuts = Cuts(whole, whole, firsts, firsts + np.minimum(lengths, room), whole > 0, whole > 0)
        framed, _ = self._framed(encoded, cuts, frame)
        there = queries.is_valid().to_numpy(zero_copy_only=False)
        places = pa.array(np.cumsum(there) - 1, mask=~there)
        return queries, framed.take(places)

    def _inexact(
        self, cuts: Cuts, encoded: Encoded, begins: Offsets, ends: Offsets, heads: Beginnings | None
    ) -> pa.Array:
        """For each chunk why its text, after the prompt, would not encode to its ids; ``None`` where it does."""
        inside = ~(cuts.begins & cuts.ends)
        doubtful = inside
        if not self.encoder.cuts_between_words_are_exact:
            doubtful = (cuts.first > encoded.offsets[cuts.text]) | (cuts.last < encoded.offsets[cuts.text + 1])
        if heads is not None:
            doubtful = doubtful | heads.apart
        rows = np.flatnonzero(doubtful)
        if not len(rows):
            return pa.nulls(len(begins), pa.string())
        reasons: list[str | None] = [None] * len(begins)
        spans = zip(begins[rows].tolist(), ends[rows].tolist(), strict=True)
        alone = self.encoder.encode([self.frame.lead + encoded.blob[a:b].decode() for a, b in spans])
        for n, row in enumerate(rows.tolist()):
            ids = alone.ids[alone.offsets[n] : alone.offsets[n + 1]]
            own = encoded.ids[(cuts if heads is None else heads).first[row] : cuts.last[row]]
            if heads is not None:
                own = np.concatenate([heads.ids[row], own])
            if not np.array_equal(ids, own):
                reasons[row] = _INSIDE if inside[row] else _OTHERWISE
        return pa.array(reasons, pa.string())

    def _count(
        self,
        size: int,
        inner: int,
        cuts: Cuts,
        lengths: npt.NDArray[np.int64],
        splits: pa.Array,
        inexact: pa.Array,
    ) -> None:
        counts = self.counts
        firsts = cuts.text[cuts.number == 0]
        counts.records += len(firsts)
        counts.held_records += pc.sum(pc.equal(splits.take(pa.array(firsts)), "held")).as_py() or 0
        counts.split_records += int((cuts.number == 1).sum())
        counts.inexact_chunks += len(inexact) - inexact.null_count
        counts.characters += size - inner
        counts.bytes += size
        found, times = np.unique(lengths, return_counts=True)
        counts.lengths.update(dict(zip(found.tolist(), times.tolist(), strict=True)))


def _texts_of_others(rows: pa.Array, encoded: Encoded, begins: Offsets, ends: Offsets) -> pa.Array:
    """The texts of chunks of records that are not in the corpus as they are here; null for all others."""
    if not rows.null_count:
        return pa.nulls(len(rows), pa.string())
    texts: list[str | None] = [None] * len(rows)
    for number in np.flatnonzero(rows.is_null()).tolist():
        texts[number] = encoded.blob[begins[number] : ends[number]].decode()
    return pa.array(texts, pa.string())


def _in_characters(encoded: Encoded, cuts: Cuts, *places: Offsets) -> tuple[Offsets, ...]:
    """From bytes of all records to characters of each."""
    bases, inner = encoded.bases[cuts.text], encoded.inner
    if not len(inner):
        return tuple(place - bases for place in places)
    before = np.searchsorted(inner, bases)
    return tuple(place - bases - (np.searchsorted(inner, place) - before) for place in places)


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
