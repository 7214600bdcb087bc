"""One part of the corpus is judged; what a worker process does."""

from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import JsonValue

from embedctl.artifacts import growing
from embedctl.artifacts.growing import Shard
from embedctl.artifacts.manifest import FileEntry
from embedctl.data.checks.examiner import Examiner
from embedctl.data.checks.kinds import TIERS, TOO_SHORT, Match, Tier
from embedctl.data.checks.repair import repair
from embedctl.data.checks.show import excerpt
from embedctl.data.sketches import Sketches, sketch, words_of
from embedctl.settings import Action, ValidationSettings

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
_BATCH_ROWS = 1024
# Of the actions that the findings of a record ask for, the first of these is done.
_GRAVEST: tuple[Action, ...] = ("drop", "fix", "fail", "flag")
VERDICTS: dict[Action, str] = {"drop": "drop", "fix": "fix", "fail": "flag", "flag": "flag"}


@dataclass(frozen=True, slots=True)
class Work:
    """One part of the corpus to judge."""

    name: str
    key: str
    part: Path
    to: Path
    settings: ValidationSettings


@dataclass(slots=True)
class Tally:
    """Counts by check, and a few samples of each; ``worst`` is the gravest severity that each was found with."""

    records: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    excused: Counter[str] = field(default_factory=Counter)
    mended: Counter[str] = field(default_factory=Counter)
    worst: dict[str, Tier] = field(default_factory=dict)
    samples: dict[str, list[JsonValue]] = field(default_factory=dict)
    bytes: int = 0
    failed: int = 0

    def facts(self) -> dict[str, JsonValue]:
        """As JSON."""
        counters: dict[str, JsonValue] = {
            name: dict(getattr(self, name)) for name in ("records", "places", "excused", "mended")
        }
        worst: dict[str, JsonValue] = {name: str(severity) for name, severity in self.worst.items()}
        samples: dict[str, JsonValue] = {name: list(found) for name, found in self.samples.items()}
        return {**counters, "worst": worst, "samples": samples, "bytes": self.bytes, "failed": self.failed}

    def add(self, record: str, found: list[tuple[str, Match]]) -> None:
        """Count the findings of one record, each with the text in which it was made."""
        grave = {match.check.name for _, match in found if match.severity != "info"}
        self.records.update(grave)
        self.excused.update({match.check.name for _, match in found} - grave)
        for text, match in found:
            name = match.check.name
            self.places[name] += 1
            self.worst[name] = max(self.worst.get(name, "info"), match.severity, key=TIERS.index)
            samples = self.samples.setdefault(name, [])
            if len(samples) < SAMPLES and not any(isinstance(s, dict) and s["id"] == record for s in samples):
                shown = excerpt(text, match)
                samples.append({"id": record, "at_character": match.start, "severity": match.severity, "shown": shown})


@lru_cache(maxsize=1)
def _examiner(settings: ValidationSettings) -> Examiner:
    """One for all parts that a process judges: its automata are built while they run."""
    return Examiner(settings)


def judge(work: Work) -> Shard:
    """Write the findings, the mended texts and the sketches of one part, and make them durable."""
    table = pq.ParquetFile(work.part).read(columns=["id", "text", "query", "source"], use_threads=False)
    examiner = _examiner(work.settings)
    tally = Tally()
    rows: list[dict[str, object]] = []
    mended: list[dict[str, object]] = []
    sketches: list[Sketches] = []
    queries: list[np.ndarray] = []
    for at in range(0, len(table), _BATCH_ROWS):
        batch = {name: table.slice(at, _BATCH_ROWS).column(name).to_pylist() for name in table.column_names}
        texts = list(batch["text"])
        asked = [query or "" for query in batch["query"]]
        in_texts = examiner.examine(texts)
        there = [n for n, query in enumerate(asked) if query]
        in_queries = dict(zip(there, examiner.examine([asked[n] for n in there]), strict=True))
        for n, record in enumerate(batch["id"]):
            found = [(texts[n], match) for match in in_texts[n]]
            # A bad query spoils the pair as a bad text does; but it may be as short as it likes.
            found += [(asked[n], match) for match in in_queries.get(n, ()) if match.check is not TOO_SHORT]
            verdict, fixed = _verdict(found, work.settings)
            if found:
                tally.add(record, found)
                tally.failed += verdict == "fail"
            if fixed:
                texts[n], asked[n] = repair(texts[n], fixed), repair(asked[n], fixed)
                mended.append({"row": at + n, "text": texts[n], "query": asked[n] or None})
                tally.mended.update(fixed)
            names = sorted({match.check.name for _, match in found if match.severity != "info"})
            worst = max((match.severity for _, match in found), key=TIERS.index, default=None)
            rows.append(
                {
                    "id": record,
                    "verdict": VERDICTS.get(verdict, "keep"),
                    "checks": names,
                    "severity": worst,
                    "characters": len(texts[n]),
                    "query_characters": len(asked[n]) if asked[n] else None,
                    "source": batch["source"][n],
                }
            )
        tally.bytes += sum(len(text) if text.isascii() else len(text.encode()) for text in (*texts, *asked))
        sketches.append(sketch(texts))
        digests = np.zeros(len(asked), dtype=np.uint64)
        digests[there] = words_of([asked[n] for n in there])
        queries.append(digests)
    return _commit(work, rows, mended, _together(sketches, queries), tally)


def _verdict(found: list[tuple[str, Match]], settings: ValidationSettings) -> tuple[Action, frozenset[str]]:
    """What is to be done with a record, and the checks whose findings are to be mended."""
    if not found:
        return "keep", frozenset()
    asked = {m.check.name: getattr(settings.actions, m.check.name) for _, m in found if m.severity != "info"}
    action: Action = next((gravest for gravest in _GRAVEST if gravest in asked.values()), "keep")
    fixed = frozenset(name for name, wanted in asked.items() if wanted == "fix") if action != "drop" else frozenset()
    return action, fixed


def _together(sketches: list[Sketches], queries: list[np.ndarray]) -> np.ndarray:
    """(N,) one structured row for each record."""
    words = np.concatenate([part.words for part in sketches])
    signatures = np.concatenate([part.signatures for part in sketches])
    kind = np.dtype([("words", "<u8"), ("query", "<u8"), ("signature", "<u4", signatures.shape[1])])
    rows = np.zeros(len(words), dtype=kind)
    rows["words"], rows["query"], rows["signature"] = words, np.concatenate(queries), signatures
    return rows


def _commit(
    work: Work, rows: list[dict[str, object]], mended: list[dict[str, object]], sketches: np.ndarray, tally: Tally
) -> Shard:
    paths = [work.to / f"findings-{work.name}.parquet", work.to / f"sketches-{work.name}.npy"]
    pq.write_table(pa.Table.from_pylist(rows, schema=FINDINGS), paths[0], compression="zstd")
    np.save(paths[1], sketches, allow_pickle=False)
    if mended:
        paths.append(work.to / f"mended-{work.name}.parquet")
        pq.write_table(pa.Table.from_pylist(mended, schema=MENDED), paths[2], compression="zstd")
    files: dict[str, FileEntry] = {path.name: growing.entry_of(path) for path in paths}
    return Shard(name=work.name, key=work.key, files=files, facts=tally.facts())
