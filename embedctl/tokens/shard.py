"""One part of the corpus becomes one token shard; what a worker process does."""

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import JsonValue
from tokenizers import Tokenizer

from embedctl.artifacts import growing, manifest
from embedctl.artifacts.growing import Shard
from embedctl.artifacts.manifest import FileEntry
from embedctl.settings import TokensSettings
from embedctl.tokens import engines, originals, published, shards, tokenizer
from embedctl.tokens.encoding import TextEncoder
from embedctl.tokens.rows import ChunkRows, Counts

_log = logging.getLogger(__name__)

# Texts are encoded so many characters at a time: enough to be worth the calls, little enough for the cache.
_BATCH_CHARACTERS = 2**20
# Of each part so many characters are also encoded by `tokenizers`, to prove the engine.
_PROVEN_CHARACTERS = 2**14


@dataclass(frozen=True, slots=True)
class Work:
    """One part of the corpus to tokenize.

    vocabulary: SHA-256 of the tokenizer
    source: what is in the part
    dropped: rows of the part that validation dropped
    mended:  a Parquet file of the rows whose text or query validation mended (``row``, ``text``, ``query``), if any
    """

    name: str
    key: str
    part: Path
    to: Path
    tokenizer: Path
    vocabulary: str
    settings: TokensSettings
    held_percent: float
    source: FileEntry
    dropped: tuple[int, ...] = ()
    mended: Path | None = None


def make_shard(work: Work) -> Shard:
    """Write ``work.to/NAME.arrow``, for the caller to make durable, and put the part beside it.

    The bytes depend on ``work.key`` alone.
    """
    engines.quiet_threads()
    table = _read(work)
    loaded, encoder = _tools(work.vocabulary, lambda: published.parse(work.tokenizer.read_bytes(), str(work.tokenizer)))
    encoder = _proven(loaded, encoder, _sample(table, _PROVEN_CHARACTERS))
    counts = Counts()
    layout = shards.schema(loaded.get_vocab_size())
    frame = tokenizer.frame_of(loaded, work.settings.passage_prompt or "")
    query_frame = tokenizer.frame_of(loaded, work.settings.query_prompt or "")
    maker = ChunkRows(encoder, frame, query_frame, work.settings, work.held_percent, layout, counts)
    batches = [maker.of(batch) for batch in _batches(table)]
    path = work.to / f"{work.name}.arrow"
    shards.write_part(path, pa.concat_tables([maker.layout.empty_table(), *batches]))
    texts = originals.beside(path)
    growing.link(work.part, texts)
    files = {path.name: manifest.entry_of(path), texts.name: work.source}
    facts: dict[str, JsonValue] = {**counts.facts(), "engine": encoder.engine.name, "part": work.source.sha256}
    return Shard(name=work.name, key=work.key, files=files, facts=facts)


def _read(work: Work) -> pa.Table:
    """The rows of the part that are to be used, as they are to be used, and their places, see :meth:`ChunkRows.of`."""
    table = pq.ParquetFile(work.part).read(use_threads=False)
    places = np.arange(len(table), dtype=np.int32)
    changed = np.zeros(len(table), dtype=bool)
    if work.mended is not None:
        changes = pq.ParquetFile(work.mended).read()
        table = _mended(table, changes)
        changed[changes.column("row").to_numpy()] = True
    table = table.append_column("row", pa.array(places, mask=changed))
    if work.dropped:
        keep = np.ones(len(table), dtype=bool)
        keep[list(work.dropped)] = False
        table = table.filter(pa.array(keep))
    return table.combine_chunks()


def _mended(table: pa.Table, changes: pa.Table) -> pa.Table:
    for name in ("text", "query"):
        values = table.column(name).to_pylist()
        for row, value in zip(changes.column("row").to_pylist(), changes.column(name).to_pylist(), strict=True):
            values[row] = value
        table = table.set_column(
            table.schema.get_field_index(name), table.schema.field(name), pa.array(values, pa.string())
        )
    return table


# The tools of the tokenizer that was used last, by the SHA-256 of its tokenizer.json.
_ready: dict[str, tuple[Tokenizer, TextEncoder]] = {}


def warm(path: Path) -> tuple[bytes, int]:
    """Make ready what :func:`make_shard` needs for the published tokenizer at ``path``.

    Its ``tokenizer.json`` for the artifact, and how many tokens it has.
    """
    engines.quiet_threads()
    loaded = published.load(path)
    written, size = published.file_of(loaded)
    encoder = _tools(hashlib.sha256(written).hexdigest(), lambda: loaded)[1]
    encoder.encode(["Whatever is made when it is needed first."])
    return written, size


def _tools(sha256: str, load: Callable[[], Tokenizer]) -> tuple[Tokenizer, TextEncoder]:
    """The tokenizer, and an encoder with the fastest engine that can be had for it."""
    if sha256 not in _ready:
        loaded = load()
        _ready.clear()
        _ready[sha256] = loaded, TextEncoder(loaded, engines.fastest(loaded, ()))
    return _ready[sha256]


def _proven(loaded: Tokenizer, encoder: TextEncoder, sample: list[str]) -> TextEncoder:
    """The encoder, if its engine gives for ``sample`` the ids of ``tokenizers``; else one that uses that alone."""
    differs = engines.first_difference(encoder.engine, engines.Reference(loaded), sample)
    if differs is None:
        return encoder
    _log.warning("%s and tokenizers differ on %r; going on with tokenizers", encoder.engine.name, differs[:60])
    return TextEncoder(loaded, engines.Reference(loaded))


def _sample(table: pa.Table, characters: int) -> list[str]:
    """Texts from all over the table, each cut, of about so many characters together."""
    rows = np.linspace(0, max(len(table) - 1, 0), num=min(64, len(table)), dtype=np.int64)
    texts = table.column("text").take(pa.array(rows)).to_pylist()
    return [text[: max(characters // max(len(texts), 1), 64)] for text in texts]


def _batches(table: pa.Table) -> Iterator[pa.Table]:
    sizes = np.cumsum(pc.binary_length(table.column("text")).to_numpy(zero_copy_only=False))
    first = 0
    while first < len(table):
        done = int(sizes[first - 1]) if first else 0
        last = max(int(np.searchsorted(sizes, done + _BATCH_CHARACTERS, side="right")), first + 1)
        yield table.slice(first, last - first)
        first = last
