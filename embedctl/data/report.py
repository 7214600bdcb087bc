"""The report of a validation, in numbers; ``page`` draws it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import JsonValue

from embedctl.artifacts.growing import Shard
from embedctl.artifacts.layout import Layout
from embedctl.artifacts.manifest import Manifest
from embedctl.data.checks import languages
from embedctl.data.checks.kinds import CHECKS, TIERS, Check
from embedctl.data.corpus import parts_of
from embedctl.data.duplicates import Copy
from embedctl.data.judging import SAMPLES
from embedctl.settings import TokensSettings, ValidationSettings

FORMAT = 2

_PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
_SAMPLED_RECORDS = 2000
_SAMPLED_PARTS = 16
# Without a tokenizer: what byte-level vocabularies of some ten thousand tokens need for a token of English.
_CHARACTERS_PER_TOKEN = 4.0
_COPIES = ("duplicate", "near_duplicate", "held_text_in_training")


@dataclass(frozen=True, slots=True)
class Plan:
    """How the texts will be tokenized. ``count``: the tokens of each text, where the tokenizer is known already."""

    tokens: TokensSettings = field(default_factory=TokensSettings)
    count: Callable[[list[str]], list[int]] | None = None


def build(
    settings: ValidationSettings,
    layout: Layout,
    shards: list[Shard],
    folder: Path,
    verdicts: pa.Table,
    copies: list[Copy],
    corpus: Manifest,
    plan: Plan,
) -> dict[str, Any]:
    """Everything that ``report.json`` says; what each part has counted is added up."""
    counts = Counter(verdicts.column("verdict").to_pylist())
    severities = [
        severity for severity in set(verdicts.column("severity").to_pylist()) if severity not in (None, "info")
    ]
    findings = pa.concat_tables(
        [
            pq.read_table(folder / f"findings-{shard.name}.parquet", columns=["query_characters", "source"])
            for shard in shards
        ]
    )
    sample = _sample(layout.corpus)
    return {
        "format": FORMAT,
        "corpus": layout.name,
        "embedctl": version("embedctl"),
        "records": len(verdicts),
        "kept": counts["keep"],
        "flagged": counts["flag"],
        "fixed": counts["fix"],
        "dropped": counts["drop"],
        "characters": int(pc.sum(verdicts.column("characters")).as_py() or 0),
        "bytes": sum(_number(shard.facts["bytes"]) for shard in shards),
        "worst_severity": max(severities, key=TIERS.index, default=None),
        "sources": _sources(verdicts, findings, corpus),
        "length_characters": _lengths(verdicts.column("characters")),
        "query_length_characters": _lengths(findings.column("query_characters").drop_null()),
        "languages": {"sampled_records": len(sample), "shares": _rounded(languages.mix([text for text, _ in sample]))},
        "truncation": _truncation(sample, plan),
        "duplicates": _duplicates(verdicts, copies),
        "findings": _findings(settings, shards, verdicts, copies),
        "changes": _changes(shards, counts["fix"]),
    }


def describe(lengths: "list[int] | npt.NDArray[np.int64]") -> dict[str, JsonValue]:
    """Count, mean, standard deviation, extremes and percentiles of some lengths."""
    array = np.asarray(lengths, dtype=np.int64)
    if not len(array):
        return {"count": 0}
    points = np.percentile(array, _PERCENTILES)
    return {
        "count": len(array),
        "mean": round(float(array.mean()), 2),
        "std": round(float(array.std()), 2),
        "min": int(array.min()),
        "max": int(array.max()),
        **{f"p{percent}": round(float(point), 1) for percent, point in zip(_PERCENTILES, points, strict=True)},
    }


def histogram(lengths: npt.NDArray[np.int64]) -> list[JsonValue]:
    """How many lengths lie between two powers of two: ``from`` (inclusive), ``to`` (exclusive), ``records``."""
    bins = np.bincount(np.ceil(np.log2(lengths + 1)).astype(np.int64)) if len(lengths) else np.zeros(0, np.int64)
    bounds = [0, *(2**n for n in range(len(bins)))]
    filled = np.flatnonzero(bins)
    if not len(filled):
        return []
    return [{"from": bounds[n], "to": bounds[n + 1], "records": int(bins[n])} for n in range(filled[0], filled[-1] + 1)]


def _lengths(column: pa.ChunkedArray) -> dict[str, JsonValue]:
    lengths = column.to_numpy().astype(np.int64)
    return {**describe(lengths), "histogram": histogram(lengths)} if len(lengths) else {"count": 0}


def _sources(verdicts: pa.Table, findings: pa.Table, corpus: Manifest) -> dict[str, JsonValue]:
    """Verdicts by source: by the names of the settings where there are several, else all together."""
    known = corpus.facts.get("sources")
    named = list(known) if isinstance(known, dict) else ["data"]
    sources = findings.column("source").to_pylist()
    counts: dict[str, Counter[str]] = {name: Counter() for name in named}
    for source, verdict in zip(sources, verdicts.column("verdict").to_pylist(), strict=True):
        first = source.split("/", 1)[0]
        counts[first if len(named) > 1 and first in counts else named[0]][verdict] += 1
    words = (("kept", "keep"), ("flagged", "flag"), ("fixed", "fix"), ("dropped", "drop"))
    return {
        name: {"records": sum(count.values()), **{word: count[verdict] for word, verdict in words}}
        for name, count in counts.items()
    }


def _sample(corpus: Path) -> list[tuple[str, str | None]]:
    """(text, query) of records from all over the corpus."""
    parts = parts_of(corpus)
    chosen = [parts[n] for n in sorted({int(n) for n in np.linspace(0, len(parts) - 1, _SAMPLED_PARTS)})]
    found: list[tuple[str, str | None]] = []
    for part in chosen:
        table = pq.read_table(part, columns=["text", "query"])
        rows = np.unique(np.linspace(0, len(table) - 1, _SAMPLED_RECORDS // len(chosen), dtype=np.int64))
        taken = table.take(pa.array(rows))
        found += zip(taken.column("text").to_pylist(), taken.column("query").to_pylist(), strict=True)
    return found


def _truncation(sample: list[tuple[str, str | None]], plan: Plan) -> dict[str, JsonValue]:
    """How much of the texts lies beyond the first chunk, and how many queries will be cut; of a sample."""
    texts = [text for text, _ in sample]
    queries = [query for _, query in sample if query]
    settings, count = plan.tokens, plan.count or _estimated
    lengths, asked = count(texts), count(queries)
    room = settings.max_tokens - 2
    beyond = sum(max(length - room, 0) for length in lengths)
    cut = sum(length > settings.query_max_tokens - 2 for length in asked)
    return {
        "max_tokens": settings.max_tokens,
        "query_max_tokens": settings.query_max_tokens,
        "sampled_records": len(sample),
        "basis": "tokenizer" if plan.count else "estimate",
        "texts_split_percent": _percent(sum(length > room for length in lengths), len(texts)),
        "tokens_beyond_first_chunk_percent": _percent(beyond, sum(lengths)),
        "queries_cut_percent": _percent(cut, len(queries)),
    }


def _estimated(texts: list[str]) -> list[int]:
    return [round(len(text) / _CHARACTERS_PER_TOKEN) for text in texts]


def _duplicates(verdicts: pa.Table, copies: list[Copy]) -> dict[str, JsonValue]:
    counts = Counter(copy.check for copy in copies)
    ids = verdicts.column("id")
    samples: list[JsonValue] = [
        {"check": c.check, "id": ids[c.row].as_py(), "of": ids[c.of].as_py(), "similarity": round(c.similarity, 3)}
        for check in _COPIES
        for c in [copy for copy in copies if copy.check == check][:SAMPLES]
    ]
    return {**{name: counts[name] for name in _COPIES}, "samples": samples}


def _findings(
    settings: ValidationSettings, shards: list[Shard], verdicts: pa.Table, copies: list[Copy]
) -> list[dict[str, Any]]:
    found = [_finding(check, settings, shards) for check in CHECKS if check.name not in _COPIES]
    ids = verdicts.column("id")
    for check in CHECKS:
        rows = [copy for copy in copies if copy.check == check.name]
        if rows:
            samples = [
                {
                    "id": ids[copy.row].as_py(),
                    "at_character": 0,
                    "severity": check.severity,
                    "shown": f"as {ids[copy.of].as_py()}",
                }
                for copy in rows[:SAMPLES]
            ]
            found.append(_shown(check, settings, check.severity, len(rows), len(rows), 0, samples))
    return [finding for finding in found if finding["occurrences"]]


def _finding(check: Check, settings: ValidationSettings, shards: list[Shard]) -> dict[str, Any]:
    def added(name: str) -> int:
        return sum(_number(_table(shard.facts[name]).get(check.name, 0)) for shard in shards)

    worst = [str(severity) for shard in shards if (severity := _table(shard.facts["worst"]).get(check.name))]
    samples = [sample for shard in shards for sample in _list(_table(shard.facts["samples"]).get(check.name))]
    severity = max(worst, key=lambda name: [str(tier) for tier in TIERS].index(name), default=check.severity)
    return _shown(check, settings, severity, added("records"), added("places"), added("excused"), samples[:SAMPLES])


def _shown(
    check: Check,
    settings: ValidationSettings,
    severity: str,
    records: int,
    places: int,
    excused: int,
    samples: list[Any],
) -> dict[str, Any]:
    return {
        "check": check.name,
        "severity": severity,
        "action": getattr(settings.actions, check.name),
        "meaning": check.meaning,
        "records": records,
        "occurrences": places,
        "excused_records": excused,
        "samples": samples,
    }


def _changes(shards: list[Shard], records: int) -> dict[str, JsonValue]:
    counts = Counter[str]()
    for shard in shards:
        counts.update({name: _number(count) for name, count in _table(shard.facts["mended"]).items()})
    return {"records": records, "by_check": dict(counts)}


def _percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 2) if whole else 0.0


def _rounded(shares: dict[str, float]) -> dict[str, float]:
    return {name: round(share, 4) for name, share in shares.items()}


def _number(value: JsonValue) -> int:
    return value if isinstance(value, int) else 0


def _table(value: JsonValue) -> dict[str, JsonValue]:
    return value if isinstance(value, dict) else {}


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []
