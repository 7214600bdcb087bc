"""The report of a validation, in numbers; ``page`` draws it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import JsonValue

from embedctl.artifacts.layout import Layout
from embedctl.artifacts.manifest import Manifest
from embedctl.data import columns
from embedctl.data.checks.kinds import CHECKS, TIERS, Check
from embedctl.data.duplicates import CHECKS as COPIES
from embedctl.data.duplicates import Copies
from embedctl.data.judging import SAMPLES, Tally
from embedctl.data.sample import Sample
from embedctl.data.verdicts import VERDICTS
from embedctl.settings import TokensSettings, ValidationSettings

FORMAT = 2

_PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
# Without a tokenizer: what byte-level vocabularies of some ten thousand tokens need for a token of English.
_CHARACTERS_PER_TOKEN = 4.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How the texts will be tokenized. ``count``: the tokens of each text, where the tokenizer is known already."""

    tokens: TokensSettings = field(default_factory=TokensSettings)
    count: Callable[[list[str]], list[int]] | None = None


def build(
    settings: ValidationSettings,
    layout: Layout,
    tallies: list[Tally],
    ids: pa.Array,
    table: pa.Table,
    copies: Copies,
    corpus: Manifest,
    sample: Sample,
    plan: Plan,
) -> dict[str, Any]:
    """Everything that ``report.json`` says; what each part has counted is added up.

    ids, table: of all records, see :func:`embedctl.data.verdicts.write`
    """
    given = columns.codes_of(table.column("verdict"), VERDICTS)
    counts = dict(zip(VERDICTS, np.bincount(given, minlength=len(VERDICTS)).tolist(), strict=True))
    gravest = int(columns.codes_of(table.column("severity"), TIERS).max(initial=0))
    characters = columns.values_of(table.column("characters"))
    shares = {name: round(share, 4) for name, share in sample.languages.items()}
    return {
        "format": FORMAT,
        "corpus": layout.name,
        "embedctl": version("embedctl"),
        "records": len(table),
        "kept": counts["keep"],
        "flagged": counts["flag"],
        "fixed": counts["fix"],
        "dropped": counts["drop"],
        "characters": int(characters.sum()),
        "bytes": sum(tally.bytes for tally in tallies),
        "worst_severity": TIERS[gravest] if gravest > 0 else None,
        "sources": _sources(given, table.column("source"), corpus),
        "length_characters": _lengths(characters),
        "query_length_characters": _lengths(columns.values_of(table.column("query_characters").drop_null())),
        "languages": {"sampled_records": len(sample.texts), "shares": shares},
        "truncation": _truncation(sample, plan),
        "duplicates": _duplicates(ids, copies),
        "findings": _findings(settings, tallies, ids, copies),
        "changes": _changes(tallies, counts["fix"]),
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


def _lengths(lengths: npt.NDArray[np.int64]) -> dict[str, JsonValue]:
    return {**describe(lengths), "histogram": histogram(lengths)} if len(lengths) else {"count": 0}


def _sources(given: npt.NDArray[np.int32], sources: pa.ChunkedArray, corpus: Manifest) -> dict[str, JsonValue]:
    """Verdicts by source: by the names of the settings where there are several, else all together.

    given: (N,) the verdicts, places in ``VERDICTS``
    """
    known = corpus.facts.get("sources")
    named = list(known) if isinstance(known, dict) else ["data"]
    place = np.zeros(len(given), np.int64)
    if len(named) > 1:
        distinct = sources.combine_chunks().dictionary_encode()
        firsts = [source.split("/", 1)[0] for source in distinct.dictionary.to_pylist()]
        places = np.array([named.index(first) if first in named else 0 for first in firsts], np.int64)
        place = places[columns.values_of(distinct.indices, np.int32)]
    counts = np.bincount(place * len(VERDICTS) + given, minlength=len(named) * len(VERDICTS))
    words = (("kept", "keep"), ("flagged", "flag"), ("fixed", "fix"), ("dropped", "drop"))
    return {
        name: {"records": int(row.sum()), **{word: int(row[VERDICTS.index(verdict)]) for word, verdict in words}}
        for name, row in zip(named, counts.reshape(len(named), -1), strict=True)
    }


def _truncation(sample: Sample, plan: Plan) -> dict[str, JsonValue]:
    """How much of the texts lies beyond the first chunk, and how many queries will be cut; of a sample."""
    texts, queries = sample.texts, [query for query in sample.queries if query]
    settings, count = plan.tokens, plan.count or _estimated
    lengths, asked = count(texts), count(queries)
    room = settings.max_tokens - 2
    beyond = sum(max(length - room, 0) for length in lengths)
    cut = sum(length > settings.query_max_tokens - 2 for length in asked)
    return {
        "max_tokens": settings.max_tokens,
        "query_max_tokens": settings.query_max_tokens,
        "sampled_records": len(texts),
        "basis": "tokenizer" if plan.count else "estimate",
        "texts_split_percent": _percent(sum(length > room for length in lengths), len(texts)),
        "tokens_beyond_first_chunk_percent": _percent(beyond, sum(lengths)),
        "queries_cut_percent": _percent(cut, len(queries)),
    }


def _estimated(texts: list[str]) -> list[int]:
    return [round(len(text) / _CHARACTERS_PER_TOKEN) for text in texts]


def _duplicates(ids: pa.Array, copies: Copies) -> dict[str, JsonValue]:
    samples: list[JsonValue] = [
        {"check": c.check, "id": ids[c.row].as_py(), "of": ids[c.of].as_py(), "similarity": round(c.similarity, 3)}
        for check in COPIES
        for c in copies.first(check, SAMPLES)
    ]
    return {**{name: copies.count(name) for name in COPIES}, "samples": samples}


def _findings(
    settings: ValidationSettings, tallies: list[Tally], ids: pa.Array, copies: Copies
) -> list[dict[str, Any]]:
    """What each check found, in the order of the settings."""
    found = [
        _copied(check, settings, ids, copies) if check.name in COPIES else _finding(check, settings, tallies)
        for check in CHECKS
    ]
    return [finding for finding in found if finding["occurrences"]]


def _copied(check: Check, settings: ValidationSettings, ids: pa.Array, copies: Copies) -> dict[str, Any]:
    count = copies.count(check.name)
    samples: list[JsonValue] = [
        {"id": ids[c.row].as_py(), "at_character": 0, "severity": check.severity, "shown": f"as {ids[c.of].as_py()}"}
        for c in copies.first(check.name, SAMPLES)
    ]
    return _shown(check, settings, check.severity, count, count, 0, samples)


def _finding(check: Check, settings: ValidationSettings, tallies: list[Tally]) -> dict[str, Any]:
    name = check.name
    records, places, excused = (
        (
            sum(counter[name] for counter in counters)
            for counters in zip(*((t.records, t.places, t.excused) for t in tallies), strict=True)
        )
        if tallies
        else (0, 0, 0)
    )
    severity = max((t.worst[name] for t in tallies if name in t.worst), key=TIERS.index, default=check.severity)
    samples = [sample for tally in tallies for sample in tally.samples.get(name, [])]
    return _shown(check, settings, severity, records, places, excused, samples[:SAMPLES])


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


def _changes(tallies: list[Tally], records: int) -> dict[str, JsonValue]:
    counts = sum((tally.mended for tally in tallies), Counter[str]())
    return {"records": records, "by_check": dict(sorted(counts.items()))}


def _percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 2) if whole else 0.0
