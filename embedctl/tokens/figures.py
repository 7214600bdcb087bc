"""What a run says of itself: counts over all shards, and how fast it was."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from pydantic import JsonValue

from embedctl.artifacts.growing import Shard
from embedctl.data.report import describe
from embedctl.workers import Crew


def facts(shards: Sequence[Shard], *, vocabulary: str) -> dict[str, JsonValue]:
    """What all shards hold together; the one named ``vocabulary`` holds the tokenizer."""
    parts = [shard for shard in shards if shard.name != vocabulary]
    totals: dict[str, JsonValue] = {
        name: sum(number(shard, name) for shard in parts)
        for name in (
            "records",
            "held_records",
            "split_records",
            "queries",
            "cut_queries",
            "inexact_chunks",
            "characters",
            "bytes",
        )
    }
    lengths = Counter[int]()
    for shard in parts:
        lengths.update(_lengths(shard))
    every = np.repeat(np.array(list(lengths), np.int64), list(lengths.values()))
    tokens = int(every.sum())
    return {
        **totals,
        "chunks": len(every),
        "tokens": tokens,
        "tokens_per_character": round(tokens / max(int(str(totals["characters"])), 1), 4),
        "vocabulary": sum(number(shard, "size") for shard in shards if shard.name == vocabulary),
        "length_tokens": {**describe(every), "histogram": _histogram(lengths)},
        "engines": [*sorted({str(shard.facts["engine"]) for shard in parts})],
    }


def measured(made: list[Shard], seconds: float, crew: Crew) -> dict[str, JsonValue]:
    """How fast it went; not in the manifest, which says the same whenever it is made."""
    if not made:
        return {}
    size = sum(number(shard, "bytes") for shard in made)
    tokens = sum(length * count for shard in made for length, count in _lengths(shard).items())
    return {
        "megabytes_per_second": round(size / 1e6 / seconds, 1),
        "tokens_per_second": round(tokens / seconds),
        "processes": min(crew.size, len(made)),
        "seconds": round(seconds, 2),
    }


def number(shard: Shard, fact: str) -> int:
    """A count that a shard has; 0 where it has none."""
    value = shard.facts.get(fact, 0)
    return value if isinstance(value, int) else 0


def _lengths(shard: Shard) -> Counter[int]:
    """The chunks of a shard by their number of tokens."""
    pairs = shard.facts["lengths"]
    assert isinstance(pairs, list)
    return Counter({int(str(pair[0])): int(str(pair[1])) for pair in pairs if isinstance(pair, list)})


def _histogram(lengths: Counter[int]) -> list[JsonValue]:
    """Chunks by length, in sixteen equal bins up to the longest."""
    longest = max(lengths, default=0)
    width = max(-(-longest // 16), 1)
    counts = Counter[int]()
    for length, count in lengths.items():
        counts[(length - 1) // width] += count
    return [
        {"from": n * width + 1, "to": (n + 1) * width + 1, "chunks": counts[n]}
        for n in range(max(counts, default=-1) + 1)
    ]
