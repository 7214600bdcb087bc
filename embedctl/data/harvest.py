"""From sources to the parts of a corpus: what is new or changed is written, the rest is taken over."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, JsonValue

from embedctl.artifacts import growing
from embedctl.artifacts.growing import GrowingFolder, Shard
from embedctl.artifacts.manifest import FileEntry
from embedctl.data import columns
from embedctl.data.growth import Older, key_of, metadata_text
from embedctl.data.positions import Positions
from embedctl.data.records import Record
from embedctl.data.steps import Step, Steps, split_keys
from embedctl.data.streams import Mixture, summary
from embedctl.errors import DataError
from embedctl.progress import Tick, Watch

_log = logging.getLogger(__name__)

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("query", pa.string()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("metadata", pa.string(), nullable=False),
    ]
)
GROUP_ROWS = 2048

# Where little is new, a step is noted after so many times the size of a part.
_LONGEST_STEP_PARTS = 16


@dataclass(slots=True)
class _Stretch:
    """What was read since the last step."""

    group: list[Record] = field(default_factory=list)  # to be written
    group_bytes: int = 0
    read_bytes: int = 0
    keys: list[bytes] = field(default_factory=list)
    changed: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Harvest:
    """The records of a mixture on their way into parts of about ``part_bytes`` of text."""

    folder: GrowingFolder
    mixture: Mixture
    older: Older | None
    steps: Steps
    part_bytes: int
    seen: set[bytes] = field(default_factory=set)
    changed: set[bytes] = field(default_factory=set)
    _parts: list[str] = field(default_factory=list)
    _stretch: _Stretch = field(default_factory=_Stretch)

    def run(self, watch: Watch, *, total: int | None) -> None:
        """Read all sources to their end, step after step."""
        self._resume()
        for record, size in self.mixture:
            self._add(record, size)
            if len(self.seen) % GROUP_ROWS == 0:
                self._tell(watch, total)
            stretch = self._stretch
            if stretch.group_bytes >= self.part_bytes or stretch.read_bytes >= self.part_bytes * _LONGEST_STEP_PARTS:
                self._step()
        if self._stretch.keys:
            self._step()
        self._tell(watch, total)
        if not self.seen:
            raise DataError(self._nothing(), hint="embedctl config show data; set data.path to a folder of text")

    def finish(self) -> dict[str, FileEntry]:
        """Take over the older parts, without what the sources do not hold any more."""
        kept = [part.stem for part in self.older.parts if self._keep(part)] if self.older else []
        self._parts = sorted([*kept, *self._parts])
        entries = self.folder.finish(self._parts)
        for path in self.folder.path.iterdir():  # what a killed run has begun and this one has no use for
            if path.name not in (*entries, growing.FILE, ".identity"):
                path.unlink()
        binary = [name for source in self.mixture.sources for name in source.notes.binary]
        if binary:
            _log.warning("%d binary files were passed over, %s first", len(binary), binary[0])
        return entries

    def facts(self) -> dict[str, JsonValue]:
        shards = [self.folder.shards[name] for name in self._parts]
        counts = [_Counts.model_validate(shard.facts) for shard in shards]
        totals: dict[str, JsonValue] = {
            name: sum(getattr(count, name) for count in counts) for name in _Counts.model_fields
        }
        if self.older:
            gone = self.older.gone(self.seen)
            totals["new_records"] = len(self.seen) - (len(self.older) - gone)
            totals |= {"changed_records": len(self.changed), "gone_records": gone}
        return {**totals, "sources": {source.name or "data": summary(source) for source in self.mixture.sources}}

    def _add(self, record: Record, size: int) -> None:
        key, stretch = key_of(record.id), self._stretch
        if key in self.seen:
            raise DataError(
                f"the id {record.id!r} stands for two records (the second in {record.source})",
                hint="ids must be unique; name another field with data.id_field, or none to have them numbered",
            )
        self.seen.add(key)
        stretch.keys.append(key)
        stretch.read_bytes += size
        if self.older and key in self.older:
            if self.older.has(key, record):
                return
            self.changed.add(key)
            stretch.changed.append(key)
        stretch.group.append(record)
        stretch.group_bytes += size

    def _resume(self) -> None:
        """Go on after the steps of a fetch that was interrupted, as far as what they have written is whole."""
        positions: Positions | None = None
        for step in self.steps.read():
            if step.part and self.folder.take(step.part, step.sha256) is None:
                self.steps.refuse()
                break
            self.seen.update(split_keys(step.keys))
            self.changed.update(split_keys(step.changed))
            self._parts += [step.part] if step.part else []
            positions = step.positions
        if positions is not None:
            self.mixture.go_to(positions)
            _log.warning("going on after %s records that an interrupted fetch has left", f"{len(self.seen):,}")

    def _step(self) -> None:
        stretch, self._stretch = self._stretch, _Stretch()
        part, sha256 = "", ""
        if stretch.group:
            first = _after(self.older.parts) if self.older else 0
            part = f"part-{first + len(self._parts):05d}"
            sha256 = self._write(part, table_of(stretch.group))
            self._parts.append(part)
        keys, changed = b"".join(stretch.keys), b"".join(stretch.changed)
        self.steps.add(Step(part, sha256, keys, changed, self.mixture.position()))

    def _keep(self, part: Path) -> bool:
        """Whether anything of an older part stays."""
        assert self.older is not None
        table = self.older.remaining(part, seen=self.seen, changed=self.changed)
        if table is None and self.folder.take(part.stem, self.older.sha256(part)):
            return True
        table = columns.read(part) if table is None else table
        if len(table):
            self._write(part.stem, table)
        return len(table) > 0

    def _write(self, name: str, table: pa.Table) -> str:
        path = self.folder.path / f"{name}.parquet"
        path.unlink(missing_ok=True)  # it may be another name of a file of the older corpus
        # Of texts and ids hardly one is there twice, and nobody asks for the least of them.
        repeated = ["source"]
        pq.write_table(
            table,
            path,
            compression="zstd",
            row_group_size=GROUP_ROWS,
            use_dictionary=repeated,
            write_statistics=repeated,
        )
        entry = growing.entry_of(path)
        facts = _counts(table).model_dump()
        self.folder.commit(Shard(name=name, key=entry.sha256, files={path.name: entry}, facts=facts))
        return entry.sha256

    def _tell(self, watch: Watch, total: int | None) -> None:
        size = sum(source.bytes for source in self.mixture.sources)
        watch(Tick(len(self.seen), total, "records", {"text": f"{size / 1e6:,.1f} MB"}))

    def _nothing(self) -> str:
        binary = sum(len(source.notes.binary) for source in self.mixture.sources)
        return "the source holds no records" + (f": {binary} files are all binary" if binary else "")


class _Counts(BaseModel):
    """The facts of a part, to be added up."""

    records: int
    records_with_query: int
    characters: int


def _counts(table: pa.Table) -> _Counts:
    queries = table.column("query")
    characters = pc.sum(pc.utf8_length(table.column("text"))).as_py()
    return _Counts(records=len(table), records_with_query=len(queries) - queries.null_count, characters=characters)


def _after(parts: tuple[Path, ...]) -> int:
    """The first number that no part has."""
    return int(parts[-1].stem.removeprefix("part-")) + 1 if parts else 0


def table_of(records: list[Record]) -> pa.Table:
    """Records as rows of a part."""
    return pa.table(
        {
            "id": [record.id for record in records],
            "text": [record.text for record in records],
            "query": [record.query for record in records],
            "source": [record.source for record in records],
            "metadata": [metadata_text(record) for record in records],
        },
        schema=SCHEMA,
    )
