"""The tokens artifact: records that passed validation, cut into chunks of token ids."""

import itertools
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import JsonValue
from tokenizers import Tokenizer

from embedctl.artifacts import manifest
from embedctl.artifacts.folder import lock, new_folder, write_file
from embedctl.artifacts.layout import Layout
from embedctl.artifacts.outcome import Outcome, up_to_date
from embedctl.data.corpus import read_records
from embedctl.data.records import Record, split_of
from embedctl.data.validation import describe, dropped_ids
from embedctl.errors import DataError
from embedctl.progress import Tick, Watch, unwatched
from embedctl.settings import TokensSettings
from embedctl.tokens import chunks, shards, tokenizer
from embedctl.tokens.tokenizer import Frame

_log = logging.getLogger(__name__)

_BATCH_RECORDS = 256
_PART_TOKENS = 16 * 2**20


@dataclass(slots=True)
class _Counts:
    """What the manifest will say."""

    records: int = 0
    held_records: int = 0
    queries: int = 0
    cut_queries: int = 0
    split_records: int = 0
    characters: int = 0
    lengths: list[int] = field(default_factory=list)


def tokenize(settings: TokensSettings, layout: Layout, *, held_percent: float, watch: Watch = unwatched) -> Outcome:
    """Turn ``corpus/NAME`` into token shards, leaving out the records that validation dropped.

    held_percent: share of the records marked ``held``, by a hash of the id
    """
    corpus = manifest.read_verified(layout.corpus, "corpus")
    validation = manifest.read_verified(layout.validation, "validation")
    parents = {"corpus": corpus.content_id, "validation": validation.content_id}
    _refuse_foreign(validation.parents, corpus.content_id)
    recipe = recipe_of(settings, held_percent)
    with lock(layout.lock(layout.tokens)):
        found = up_to_date(layout.tokens, "tokens", manifest.fingerprint("tokens", parents, recipe))
        if found:
            return found
        dropped = dropped_ids(layout.validation)
        total = corpus.number("records") - len(dropped)

        def records() -> Iterator[Record]:
            return (record for record in read_records(layout.corpus) if record.id not in dropped)

        with new_folder(layout.tokens) as folder:
            used = _tokenizer(settings, records, held_percent, watch=watch, total=total)
            write_file(folder / shards.TOKENIZER, (used.to_str(pretty=True) + "\n").encode())
            counts = _write(folder, used, records(), settings, held_percent=held_percent, total=total, watch=watch)
            facts = _facts(counts, used)
            made = manifest.write(folder, "tokens", parents=parents, settings=recipe, facts=facts)
    if counts.cut_queries:
        _log.warning(
            "%d of %d queries were longer than tokens.query_max_tokens and were cut", counts.cut_queries, counts.queries
        )
    return Outcome(layout.tokens, made, made=True)


def recipe_of(settings: TokensSettings, held_percent: float) -> dict[str, JsonValue]:
    recipe: dict[str, JsonValue] = settings.model_dump(mode="json", exclude={"tokenizer"})
    recipe["held_percent"] = held_percent
    if settings.tokenizer is not None:
        tokenizer.load(settings.tokenizer)
        (recipe["tokenizer_sha256"],) = manifest.hash_files([settings.tokenizer]).values()
        for unused in ("algorithm", "vocabulary_size", "lowercase"):
            del recipe[unused]
    return recipe


def _refuse_foreign(parents: dict[str, str], corpus_id: str) -> None:
    if parents.get("corpus") != corpus_id:
        raise DataError(
            "the validation is of another corpus than the one at hand", hint="run `embedctl data validate` first"
        )


def _tokenizer(
    settings: TokensSettings, records: Callable[[], Iterable[Record]], held_percent: float, *, watch: Watch, total: int
) -> Tokenizer:
    if settings.tokenizer is not None:
        return tokenizer.load(settings.tokenizer)

    def training_texts() -> Iterator[str]:
        # The vocabulary is learnt from the training split alone, so that held text stays unseen.
        for number, record in enumerate(records()):
            watch(Tick(number, total, "records", {"reading for": "vocabulary"}))
            if split_of(record.id, held_percent) == "train":
                yield record.text
                if record.query:
                    yield record.query

    return tokenizer.train(training_texts, settings)


def _write(
    folder: Path,
    used: Tokenizer,
    records: Iterator[Record],
    settings: TokensSettings,
    *,
    held_percent: float,
    total: int,
    watch: Watch,
) -> _Counts:
    layout = shards.schema(used.get_vocab_size())
    frame = tokenizer.frame_of(used)
    counts = _Counts()

    def batches() -> Iterator[pa.RecordBatch]:
        while group := list(itertools.islice(records, _BATCH_RECORDS)):
            rows = _chunk_rows(group, used, frame, settings, held_percent=held_percent, counts=counts)
            yield pa.RecordBatch.from_pylist(rows, schema=layout)
            watch(Tick(counts.records, total, "records", {"chunks": f"{len(counts.lengths):,}"}))

    stream = batches()
    for number in itertools.count():
        first = next(stream, None)
        if first is None:
            break
        shards.write_part(folder / f"part-{number:05d}.arrow", _bounded(first, stream), layout)
    if not counts.lengths:
        raise DataError(
            "validation left no record to tokenize",
            hint="see the report of `embedctl data validate`, or relax [validation]",
        )
    return counts


def _bounded(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Batches until a part holds enough tokens."""
    tokens = 0
    batch: pa.RecordBatch | None = first
    while batch is not None:
        yield batch
        tokens += len(batch.column("input_ids").values)
        batch = next(rest, None) if tokens < _PART_TOKENS else None


def _chunk_rows(
    group: list[Record],
    used: Tokenizer,
    frame: Frame,
    settings: TokensSettings,
    *,
    held_percent: float,
    counts: _Counts,
) -> list[dict[str, Any]]:
    encoded = used.encode_batch([record.text for record in group], add_special_tokens=False)
    rows = []
    for record, encoding in zip(group, encoded, strict=True):
        ids, offsets = encoding.ids, encoding.offsets
        cut = chunks.windows(
            chunks.starts_of_words(record.text, offsets), settings.max_tokens - frame.count, settings.overlap_tokens
        )
        counts.records += bool(cut)
        counts.split_records += len(cut) > 1
        counts.characters += len(record.text)
        split = split_of(record.id, held_percent)
        counts.held_records += bool(cut) and split == "held"
        for number, window in enumerate(cut):
            start = offsets[window.first][0] if number else 0
            end = offsets[window.last - 1][1] if window.last < len(ids) else len(record.text)
            rows.append(
                {
                    "id": f"{record.id}#{number}",
                    "record": record.id,
                    "chunk": number,
                    "start": start,
                    "end": end,
                    "text": record.text[start:end],
                    "input_ids": [*frame.prefix, *ids[window.first : window.last], *frame.suffix],
                    "query": record.query if number == 0 else None,
                    "query_ids": _query_ids(record, used, frame, settings, counts) if number == 0 else None,
                    "split": split,
                    "source": record.source,
                    "metadata": json.dumps(dict(record.metadata), ensure_ascii=False),
                }
            )
            counts.lengths.append(window.last - window.first + frame.count)
    return rows


def _query_ids(
    record: Record, used: Tokenizer, frame: Frame, settings: TokensSettings, counts: _Counts
) -> list[int] | None:
    if not record.query:
        return None
    ids = tokenizer.encode_query(used, record.query, frame, settings.query_max_tokens)
    counts.queries += 1
    counts.cut_queries += len(ids) == settings.query_max_tokens
    return ids


def _facts(counts: _Counts, used: Tokenizer) -> dict[str, JsonValue]:
    return {
        "records": counts.records,
        "held_records": counts.held_records,
        "chunks": len(counts.lengths),
        "split_records": counts.split_records,
        "queries": counts.queries,
        "cut_queries": counts.cut_queries,
        "tokens": sum(counts.lengths),
        "characters": counts.characters,
        "vocabulary": used.get_vocab_size(),
        "length_tokens": describe(counts.lengths),
    }
