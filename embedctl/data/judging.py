"""One part of the corpus is judged; what a worker process does."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, JsonValue

from embedctl.artifacts import growing
from embedctl.artifacts.growing import Shard
from embedctl.artifacts.manifest import FileEntry
from embedctl.data import columns
from embedctl.data.checks.kinds import REPETITION, TIERS, TOO_LONG, TOO_SHORT, Match, Tier, Verdict
from embedctl.data.sketches import PERMUTATIONS, Sketches, sketch, words_of
from embedctl.settings import Action, ValidationSettings

if TYPE_CHECKING:
    from embedctl.data.checks.examiner import Examiner

FINDINGS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("checks", pa.list_(pa.string()), nullable=False),
        pa.field("severity", pa.string()),
        pa.field("characters", pa.int64(), nullable=False),
        pa.field("query_characters", pa.int64()),
        pa.field("source", pa.string(), nullable=False),
    ]
)
MENDED = pa.schema([pa.field("row", pa.int64(), nullable=False), ("text", pa.string()), ("query", pa.string())])

SAMPLES = 5
# So many that an automaton, once its states are in the cache, has something to do there.
_BATCH_ROWS = 4096
# To be raised when the checks find otherwise, or what a part leaves is laid out otherwise: old parts are judged anew.
FORMAT = 3
_OF_SIZE = (REPETITION, TOO_LONG, TOO_SHORT)
# Of the actions that the findings of a record ask for, the first of these is its verdict; what fails is flagged.
_GRAVEST: tuple[Verdict, ...] = ("drop", "fix", "flag")


@dataclass(frozen=True, slots=True)
class Work:
    """One part of the corpus to judge."""

    name: str
    key: str
    part: Path
    to: Path
    settings: ValidationSettings


class Tally(BaseModel):
    """Counts by check, and a few samples of each; ``worst`` is the gravest severity that each was found with.

    failed: records with a finding whose action is fail
    """

    model_config = ConfigDict(extra="forbid")

    records: Counter[str] = Counter()
    places: Counter[str] = Counter()
    excused: Counter[str] = Counter()
    mended: Counter[str] = Counter()
    worst: dict[str, Tier] = {}
    samples: dict[str, list[JsonValue]] = {}
    bytes: int = 0
    failed: int = 0

    def facts(self) -> dict[str, JsonValue]:
        """As JSON, the same whatever the order of counting."""
        plain: dict[str, JsonValue] = json.loads(json.dumps(self.model_dump(mode="json"), sort_keys=True))
        return plain

    def add(self, record: str, found: list[tuple[str, Match]], *, sampled: bool = True) -> None:
        """Count the findings of one record, each with the text in which it was made, of which samples may be shown."""
        from embedctl.data.checks.show import excerpt

        grave = {match.check.name for _, match in found if match.severity != "info"}
        self.records.update(grave)
        self.excused.update({match.check.name for _, match in found} - grave)
        for text, match in found:
            name = match.check.name
            self.places[name] += 1
            self.worst[name] = max(self.worst.get(name, "info"), match.severity, key=TIERS.index)
            samples = self.samples.setdefault(name, [])
            if (
                sampled
                and len(samples) < SAMPLES
                and not any(isinstance(s, dict) and s["id"] == record for s in samples)
            ):
                shown = excerpt(text, match)
                samples.append({"id": record, "at_character": match.start, "severity": match.severity, "shown": shown})


@dataclass(frozen=True, slots=True)
class _Judged:
    """What is said of one record in which something was found."""

    verdict: Verdict
    checks: list[str]
    severity: Tier


@dataclass(slots=True)
class _Part:
    """What is known of the records of one part, in order; ``judged`` and ``mended`` by row, most have neither."""

    judged: dict[int, _Judged] = field(default_factory=dict)
    mended: dict[int, tuple[str, str | None]] = field(default_factory=dict)
    characters: list[int] = field(default_factory=list)
    query_characters: list[int | None] = field(default_factory=list)
    sketches: list[Sketches] = field(default_factory=list)
    queries: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)


@lru_cache(maxsize=1)
def _examiner(settings: ValidationSettings) -> "Examiner":
    """One for all parts that a process judges: its automata are built while they run."""
    # The patterns take a while to compile, and the process that hands out the work does without them.
    from embedctl.data.checks.examiner import Examiner

    return Examiner(settings)


def judge(work: Work) -> Shard:
    """Write the findings, the mended texts and the sketches of one part, and make them durable."""
    table = columns.read(work.part, ["id", "text", "query", "source"])
    part = _Part()
    for at in range(0, len(table), _BATCH_ROWS):
        _judge_batch(part, table.slice(at, _BATCH_ROWS), work.settings)
    return _commit(work, table, part)


def _judge_batch(part: _Part, batch: pa.Table, settings: ValidationSettings) -> None:
    """Add the next records to ``part``."""
    from embedctl.data.checks.repair import repair

    at = len(part.characters)
    texts: list[str] = batch.column("text").to_pylist()
    encoded: list[bytes] = batch.column("text").cast(pa.binary()).to_pylist()
    asked: dict[int, str] = {n: query for n, query in enumerate(batch.column("query").to_pylist()) if query}
    for n, found in _findings(_examiner(settings), texts, encoded, asked):
        verdict, fixed = _verdict(found, settings)
        mended, uncovered = (texts[n], asked.get(n, "")), list[tuple[str, Match]]()
        while fixed:
            mended = (repair(texts[n], fixed), repair(asked.get(n, ""), fixed))
            # What is taken out may have hidden something else.
            uncovered += _uncovered(_examiner(settings), mended, [*found, *uncovered])
            before, (verdict, fixed) = fixed, _verdict([*found, *uncovered], settings)
            if fixed == before:
                break
        # Before it was mended the text may show in pieces what no report shows.
        part.tally.add(batch.column("id")[n].as_py(), found, sampled=not uncovered)
        part.tally.add(batch.column("id")[n].as_py(), uncovered)
        found += uncovered
        part.tally.failed += "fail" in _asked(found, settings).values()
        if fixed:
            texts[n], asked[n] = mended
            encoded[n] = texts[n].encode()
            part.mended[at + n] = (texts[n], asked[n] or None)
            part.tally.mended.update(fixed)
        names = sorted({match.check.name for _, match in found if match.severity != "info"})
        worst = max((match.severity for _, match in found), key=TIERS.index)
        part.judged[at + n] = _Judged(verdict, names, worst)
    asked = {n: query for n, query in asked.items() if query}
    queries = np.zeros(len(texts), np.uint64)
    queries[list(asked)] = words_of(list(asked.values()))
    part.queries.append(queries)
    part.sketches.append(sketch(texts, encoded))
    part.characters += map(len, texts)
    part.query_characters += [len(asked[n]) if n in asked else None for n in range(len(texts))]
    part.tally.bytes += sum(map(len, encoded)) + sum(len(query.encode()) for query in asked.values())


def _findings(
    examiner: "Examiner", texts: Sequence[str], encoded: Sequence[bytes], asked: dict[int, str]
) -> Iterator[tuple[int, list[tuple[str, Match]]]]:
    """The number of each record with findings, and these, each with the text or the query in which it was made."""
    in_texts = examiner.findings(texts, encoded)
    queries = list(asked.values())
    in_queries = examiner.findings(queries, [query.encode() for query in queries])
    numbers = list(asked)
    of_query = {numbers[place]: matches for place, matches in in_queries.items()}
    for n in sorted(in_texts.keys() | of_query.keys()):
        found = [(texts[n], match) for match in in_texts.get(n, ())]
        # A bad query spoils the pair as a bad text does; but it may be as short as it likes.
        found += [(asked[n], match) for match in of_query.get(n, ()) if match.check is not TOO_SHORT]
        if found:
            yield n, found


def _uncovered(
    examiner: "Examiner", mended: tuple[str, str], known: list[tuple[str, Match]]
) -> list[tuple[str, Match]]:
    """What is worse than is ``known`` of its check in a text and a query that were mended, each with its text.

    What was put in for secrets and addresses makes a text longer, and alike; that is no fault of the record.
    """
    worst: dict[str, int] = {}
    for _, match in known:
        worst[match.check.name] = max(worst.get(match.check.name, -1), TIERS.index(match.severity))
    told = zip(mended, examiner.examine(mended), strict=True)
    return [
        (text, match)
        for text, matches in told
        for match in matches
        if text and match.check not in _OF_SIZE and TIERS.index(match.severity) > worst.get(match.check.name, -1)
    ]


def _asked(found: list[tuple[str, Match]], settings: ValidationSettings) -> dict[str, Action]:
    """What the settings ask to be done about each check that struck."""
    names = {match.check.name for _, match in found if match.severity != "info"}
    return {name: getattr(settings.actions, name) for name in names}


def _verdict(found: list[tuple[str, Match]], settings: ValidationSettings) -> tuple[Verdict, frozenset[str]]:
    """What becomes of a record, and the checks whose findings are to be mended."""
    asked = _asked(found, settings)
    actions = {"flag" if action == "fail" else action for action in asked.values()}
    verdict: Verdict = next((gravest for gravest in _GRAVEST if gravest in actions), "keep")
    fixed = frozenset(name for name, wanted in asked.items() if wanted == "fix") if verdict != "drop" else frozenset()
    return verdict, fixed


def _commit(work: Work, table: pa.Table, part: _Part) -> Shard:
    paths = [work.to / f"findings-{work.name}.parquet", work.to / f"sketches-{work.name}.npy"]
    pq.write_table(_table(table, part), paths[0], compression="zstd")
    np.save(paths[1], _together(part), allow_pickle=False)
    if part.mended:
        paths.append(work.to / f"mended-{work.name}.parquet")
        rows = [{"row": row, "text": text, "query": query} for row, (text, query) in part.mended.items()]
        pq.write_table(pa.Table.from_pylist(rows, schema=MENDED), paths[2], compression="zstd")
    files: dict[str, FileEntry] = {path.name: growing.entry_of(path) for path in paths}
    return Shard(name=work.name, key=work.key, files=files, facts=part.tally.facts())


def _table(table: pa.Table, part: _Part) -> pa.Table:
    """The findings, a row for each record of ``table``."""
    verdicts: list[Verdict] = ["keep"] * len(table)
    checks: list[list[str]] = [[]] * len(table)
    severities: list[str | None] = [None] * len(table)
    for row, judged in part.judged.items():
        verdicts[row], checks[row], severities[row] = judged.verdict, judged.checks, judged.severity
    found = {
        "id": table.column("id"),
        "verdict": verdicts,
        "checks": checks,
        "severity": severities,
        "characters": part.characters,
        "query_characters": part.query_characters,
        "source": table.column("source"),
    }
    return pa.table(found, schema=FINDINGS)


def _together(part: _Part) -> np.ndarray:
    """(N,) one structured row for each record."""
    kind = np.dtype([("words", "<u8"), ("query", "<u8"), ("signature", "<u4", PERMUTATIONS)])
    rows = np.zeros(len(part.characters), dtype=kind)
    if part.sketches:
        rows["words"] = np.concatenate([sketches.words for sketches in part.sketches])
        rows["query"] = np.concatenate(part.queries)
        rows["signature"] = np.concatenate([sketches.signatures for sketches in part.sketches])
    return rows
