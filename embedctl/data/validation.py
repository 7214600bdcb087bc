"""The validation artifact: a verdict on every record, and a report on the whole corpus.

findings-NAME.parquet, sketches-NAME.npy, mended-NAME.parquet   of each part of the corpus
verdicts.parquet   what becomes of each record, duplicates included; one row group for each part
report.json, report.html
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import JsonValue

from embedctl.artifacts import growing, manifest
from embedctl.artifacts.folder import lock, write_file
from embedctl.artifacts.growing import GrowingFolder, Shard, growing_folder
from embedctl.artifacts.layout import Layout
from embedctl.artifacts.manifest import Manifest
from embedctl.artifacts.outcome import Outcome, up_to_date
from embedctl.data import duplicates, judging
from embedctl.data.checks.kinds import CHECKS, TIERS
from embedctl.data.checks.repair import FIXABLE
from embedctl.data.corpus import parts_of
from embedctl.data.duplicates import Copy
from embedctl.data.page import page
from embedctl.data.records import split_of
from embedctl.data.report import Plan, build, describe
from embedctl.data.sketches import Sketches
from embedctl.errors import ConfigError, DataError
from embedctl.progress import Tick, Watch, unwatched
from embedctl.settings import Severity, ValidationSettings
from embedctl.workers import spread

__all__ = ["describe", "dropped_rows", "mended_file", "read_report", "recipe_of", "refuse_above", "validate"]

_log = logging.getLogger(__name__)

VERDICTS = "verdicts.parquet"
REPORT = "report.json"
PAGE = "report.html"

_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("checks", pa.list_(pa.string()), nullable=False),
        pa.field("severity", pa.string()),
        pa.field("characters", pa.int64(), nullable=False),
        pa.field("copy_of", pa.string()),
        pa.field("part", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
    ]
)


def validate(
    settings: ValidationSettings,
    layout: Layout,
    *,
    held_percent: float = 0.0,
    plan: Plan | None = None,
    watch: Watch = unwatched,
) -> Outcome:
    """Judge every record of ``corpus/NAME``; the verdicts decide what is tokenized.

    held_percent: share of the records marked ``held``, by a hash of the id: their texts may not be trained on
    plan:         how the texts will be tokenized, to say how much of them will be cut
    """
    _refuse_unfixable(settings)
    corpus = manifest.read_verified(layout.corpus, "corpus")
    parents = {"corpus": corpus.content_id}
    recipe = recipe_of(settings, held_percent)
    identity = manifest.fingerprint("validation", parents, recipe)
    with lock(layout.lock(layout.validation)):
        found = up_to_date(layout.validation, "validation", identity)
        if found:
            return found
        with growing_folder(layout.validation, identity) as folder:
            shards = _judge(settings, layout, corpus, folder, watch)
            copies = _copies(settings, folder, shards, held_percent)
            verdicts = _verdicts(settings, folder.path, shards, copies)
            report = build(settings, layout, shards, folder.path, verdicts, copies, corpus, plan or Plan())
            write_file(folder.path / REPORT, (json.dumps(report, indent=2, ensure_ascii=False) + "\n").encode())
            write_file(folder.path / PAGE, page(report, title=f"Validation of {layout.name}").encode())
            facts = {name: report[name] for name in _FACTS}
            facts["failed"] = sum(int(str(shard.facts["failed"])) for shard in shards)
            known = folder.finish([shard.name for shard in shards])
            made = manifest.write(folder.path, "validation", parents=parents, settings=recipe, facts=facts, known=known)
    return Outcome(layout.validation, made, made=True)


_FACTS = ("records", "kept", "flagged", "fixed", "dropped", "worst_severity")


def recipe_of(settings: ValidationSettings, held_percent: float = 0.0) -> dict[str, JsonValue]:
    """The settings on which the verdicts depend."""
    return {**settings.model_dump(mode="json", exclude={"fail_on"}), "held_percent": held_percent}


def read_report(folder: Path) -> dict[str, Any]:
    """The report of a validation artifact, as it was written."""
    report: dict[str, Any] = json.loads((folder / REPORT).read_bytes())
    return report


def dropped_rows(folder: Path) -> dict[str, tuple[int, ...]]:
    """For each part of the corpus its rows that must not be used."""
    table = pq.read_table(folder / VERDICTS, columns=["part", "row"], filters=[("verdict", "=", "drop")])
    rows: dict[str, list[int]] = {}
    for part, row in zip(table.column("part").to_pylist(), table.column("row").to_pylist(), strict=True):
        rows.setdefault(part, []).append(row)
    return {part: tuple(found) for part, found in rows.items()}


def mended_file(folder: Path, part: str) -> Path | None:
    """The texts of a part that were mended, if there are any."""
    path = folder / f"mended-{part}.parquet"
    return path if path.is_file() else None


def refuse_above(settings: ValidationSettings, outcome: Outcome) -> None:
    """Raise :class:`DataError` if the worst finding reaches ``fail_on``, or a check whose action is fail struck."""
    facts = outcome.manifest.facts
    hint = f"see {outcome.folder / PAGE}"
    if facts.get("failed"):
        raise DataError(f"{facts['failed']:,} records have findings whose action is fail", hint=hint)
    found = facts.get("worst_severity")
    if settings.fail_on == "never" or found not in get_args(Severity):
        return
    if TIERS.index(found) >= TIERS.index(settings.fail_on):
        raise DataError(
            f"validation found something of severity {found} (validation.fail_on is {settings.fail_on})", hint=hint
        )


def _refuse_unfixable(settings: ValidationSettings) -> None:
    for name, action in settings.actions:
        if action == "fix" and name not in FIXABLE:
            raise ConfigError(
                f"validation.actions.{name}: there is no fix for it", hint=f"fix goes with {', '.join(sorted(FIXABLE))}"
            )


def _judge(
    settings: ValidationSettings, layout: Layout, corpus: Manifest, folder: GrowingFolder, watch: Watch
) -> list[Shard]:
    """Findings of every part, of those that are new by as many processes as there are cores."""
    recipe = recipe_of(replace_near(settings))
    ready: dict[str, Shard] = {}
    due: list[judging.Work] = []
    for part in parts_of(layout.corpus):
        key = growing.key_of({"part": corpus.files[part.name].sha256, "recipe": recipe})
        shard = folder.take(part.stem, key)
        if shard is not None:
            ready[part.stem] = shard
        else:
            due.append(judging.Work(part.stem, key, part, folder.path, settings))
    total = corpus.number("records")
    sizes = {part.stem: pq.read_metadata(part).num_rows for part in parts_of(layout.corpus)}
    done = sum(sizes[name] for name in ready)
    watch(Tick(done, total, "records"))
    for work, shard in spread(judging.judge, due):
        ready[work.name] = folder.commit(shard)
        done += sizes[work.name]
        watch(Tick(done, total, "records"))
    return [ready[name] for name in sorted(ready)]


def replace_near(settings: ValidationSettings) -> ValidationSettings:
    """The settings on which the findings in one part depend: not those for copies, which are looked for among all."""
    plain = ValidationSettings()
    copies = ("duplicate", "near_duplicate", "held_text_in_training")
    actions = settings.actions.model_copy(update={name: getattr(plain.actions, name) for name in copies})
    return settings.model_copy(
        update={"near_duplicate_similarity": plain.near_duplicate_similarity, "actions": actions}
    )


@dataclass(frozen=True, slots=True)
class _Row:
    """Where a record stands in the corpus."""

    part: str
    row: int


def _copies(
    settings: ValidationSettings, folder: GrowingFolder, shards: list[Shard], held_percent: float
) -> list[Copy]:
    """Copies among all records; rows are counted through all parts."""
    rows = [np.load(folder.path / f"sketches-{shard.name}.npy", allow_pickle=False) for shard in shards]
    if not rows:
        return []
    every = np.concatenate(rows)
    ids = [
        record
        for shard in shards
        for record in pq.read_table(folder.path / f"findings-{shard.name}.parquet", columns=["id"])
        .column("id")
        .to_pylist()
    ]
    held = np.array([split_of(record, held_percent) == "held" for record in ids], dtype=bool)
    sketches = Sketches(every["words"], every["signature"])
    found = duplicates.copies(sketches, every["query"], held, similarity=settings.near_duplicate_similarity)
    return [copy for copy in found if getattr(settings.actions, copy.check) != "keep"]


def _verdicts(settings: ValidationSettings, folder: Path, shards: list[Shard], copies: list[Copy]) -> pa.Table:
    """Write and give back what becomes of each record."""
    by_row = {copy.row: copy for copy in copies}
    tables = []
    before = 0
    ids: list[str] = []
    for shard in shards:
        ids += pq.read_table(folder / f"findings-{shard.name}.parquet", columns=["id"]).column("id").to_pylist()
    with pq.ParquetWriter(folder / VERDICTS, _SCHEMA, compression="zstd") as writer:
        for shard in shards:
            rows = pq.read_table(folder / f"findings-{shard.name}.parquet").to_pylist()
            for n, row in enumerate(rows):
                copy = by_row.get(before + n)
                row |= {"part": shard.name, "row": n, "copy_of": ids[copy.of] if copy else None}
                if copy:
                    _condemn(row, copy, settings)
            before += len(rows)
            table = pa.Table.from_pylist(rows, schema=_SCHEMA)
            writer.write_table(table)
            tables.append(table)
    return pa.concat_tables(tables) if tables else _SCHEMA.empty_table()


def _condemn(row: dict[str, Any], copy: Copy, settings: ValidationSettings) -> None:
    """Add to the verdict on a record that it is a copy."""
    check = next(check for check in CHECKS if check.name == copy.check)
    row["checks"] = sorted([*row["checks"], copy.check])
    row["severity"] = max(row["severity"] or "info", check.severity, key=TIERS.index)
    action = getattr(settings.actions, copy.check)
    if action == "drop":
        row["verdict"] = "drop"
    elif row["verdict"] == "keep":
        row["verdict"] = "flag"
