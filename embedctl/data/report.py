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
from embedctl.data.checks.kinds import CHECKS, TIERS, VERDICTS, Check
from embedctl.data.duplicates import CHECKS as COPIES
from embedctl.data.duplicates import Copies
from embedctl.data.judging import SAMPLES, Tally
from embedctl.data.lengths import Lengths
from embedctl.data.sample import Sample
from embedctl.data.totals import Totals
from embedctl.settings import TokensSettings, ValidationSettings

FORMAT = 2

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
    totals: Totals,
    copies: Copies,
    sample: Sample,
    plan: Plan,
) -> dict[str, Any]:
    """Everything that ``report.json`` says; what each part has counted is added up.

    ids: of all records, see :func:`embedctl.data.verdicts.write`
    """
    counts = totals.counts()
    shares = {name: round(share, 4) for name, share in sample.languages.items()}
    return {
        "format": FORMAT,
        "corpus": layout.name,
        "embedctl": version("embedctl"),
        "records": totals.records,
        **counts,
        "characters": totals.characters.total,
        "bytes": sum(tally.bytes for tally in tallies),
        "worst_severity": totals.worst,
        "sources": totals.by_source(),
        "length_characters": _lengths(totals.characters),
        "query_length_characters": _lengths(totals.query_characters),
        "languages": {"sampled_records": len(sample.texts), "shares": shares},
        "truncation": _truncation(sample, plan),
        "duplicates": _duplicates(ids, copies),
        "findings": _findings(settings, tallies, ids, copies),
        "changes": _changes(tallies, counts[VERDICTS["fix"]]),
    }


def describe(lengths: "list[int] | npt.NDArray[np.int64]") -> dict[str, JsonValue]:
    """Count, mean, standard deviation, extremes and percentiles of some lengths."""
    return Lengths(lengths).describe()


def _lengths(lengths: Lengths) -> dict[str, JsonValue]:
    said = lengths.describe()
    return {**said, "histogram": lengths.histogram()} if said["count"] else said


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
