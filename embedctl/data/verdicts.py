"""What becomes of each record: the findings of its part, and whether it is a copy of another.

N records of one part, C copies among them.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embedctl.artifacts.growing import Shard
from embedctl.data import columns, decided, duplicates
from embedctl.data.checks.kinds import CHECKS, TIERS, VERDICTS, Verdict
from embedctl.data.duplicates import Copies
from embedctl.data.totals import Totals
from embedctl.settings import ActionSettings

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
_NAMES = sorted(check.name for check in CHECKS)
_SEVERITY = {check.name: check.severity for check in CHECKS}
_WORDS: list[Verdict] = list(VERDICTS)
_KEEP, _FLAG, _DROP = _WORDS.index("keep"), _WORDS.index("flag"), _WORDS.index("drop")


def findings_of(folder: Path, shard: Shard) -> Path:
    """Where the findings of one part are."""
    return folder / f"findings-{shard.name}.parquet"


def ids_of(folder: Path, shards: list[Shard]) -> pa.Array:
    """The ids of all records, in order."""
    chunks = [
        chunk.cast(pa.large_string())
        for shard in shards
        for chunk in columns.read(findings_of(folder, shard), ["id"]).column("id").chunks
    ]
    return pa.concat_arrays(chunks) if chunks else columns.words([]).cast(pa.large_string())


def write(
    actions: ActionSettings, folder: Path, shards: list[Shard], ids: pa.Array, copies: Copies, totals: Totals
) -> None:
    """Write a group of rows for each part, and count them in ``totals``.

    ids: of all records, see :func:`ids_of`, and names of what else they may be copies of
    The rows of ``copies`` are counted through all parts.
    """
    before = 0
    pending: Future[None] | None = None
    with (
        pq.ParquetWriter(folder / decided.FILE, _SCHEMA, compression="zstd") as writer,
        ThreadPoolExecutor(1) as thread,
    ):
        for shard in shards:
            findings = columns.read(findings_of(folder, shard))
            here = copies.among(before, before + len(findings))
            batch = _of_part(actions, shard.name, findings, here, ids)
            before += len(findings)
            totals.add(findings, batch)
            # One part is written while the next is decided.
            if pending:
                pending.result()
            pending = thread.submit(writer.write_table, pa.Table.from_batches([batch]))
        if pending:
            pending.result()


def _of_part(actions: ActionSettings, part: str, findings: pa.Table, copies: Copies, ids: pa.Array) -> pa.RecordBatch:
    """The rows of one part. ``copies``: those of its records, their rows counted from its first."""
    size = len(findings)
    of = np.full(size, -1)
    of[copies.rows] = copies.of
    verdicts = columns.codes_of(findings.column("verdict"), _WORDS)
    dropped = np.array([getattr(actions, check) == "drop" for check in duplicates.CHECKS])[copies.checks]
    before = verdicts[copies.rows]
    verdicts[copies.rows] = np.where(dropped, _DROP, np.where(before == _KEEP, _FLAG, before))
    severities = columns.codes_of(findings.column("severity"), TIERS)
    least = np.array([TIERS.index(_SEVERITY[check]) for check in duplicates.CHECKS])[copies.checks]
    severities[copies.rows] = np.maximum(severities[copies.rows], least)
    arrays = [
        findings.column("id").combine_chunks(),
        columns.strings_of(verdicts, _WORDS),
        _checks(findings.column("checks").combine_chunks(), copies),
        columns.strings_of(severities, TIERS),
        findings.column("characters").combine_chunks(),
        ids.take(columns.numbers(of, there=of >= 0)).cast(pa.string()),
        columns.strings_of(np.zeros(size, np.int32), [part]),
        columns.numbers(np.arange(size)),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA)


def _checks(found: pa.ListArray, copies: Copies) -> pa.ListArray:
    """The names of the checks that struck, in the order of the alphabet, with those that found the copies."""
    counts = np.diff(columns.values_of(found.offsets, np.int32)) if len(found) else np.zeros(0, np.int64)
    copied = np.array([_NAMES.index(check) for check in duplicates.CHECKS])[copies.checks]
    names = np.concatenate([columns.codes_of(found.flatten(), _NAMES), copied])
    rows = np.concatenate([np.repeat(np.arange(len(found)), counts), copies.rows])
    offsets = np.cumsum([0, *np.bincount(rows, minlength=len(found))], dtype=np.int32)
    ordered = names[np.lexsort((names, rows))]
    return pa.ListArray.from_arrays(columns.numbers(offsets), columns.strings_of(ordered, _NAMES))
