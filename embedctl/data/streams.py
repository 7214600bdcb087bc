"""Sources as streams that say where they stand: a fetch that was interrupted goes on from there."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from embedctl.data import local
from embedctl.data.fields import Fields
from embedctl.data.opening import Notes, TextFile
from embedctl.data.positions import Positions, RowsPosition, SourcePosition
from embedctl.data.records import Record
from embedctl.settings import DataSettings, NamedSourceSettings, Secrets, SourceSettings

# To be raised when any reader makes other records of the same source: what was fetched before is then read anew.
FORMAT = 1


class Rows(Protocol):
    """The rows of one source, in an order that is always the same."""

    def read(self, position: RowsPosition | None) -> Iterator[Record]:
        """All records, or those after ``position``."""

    def position(self) -> RowsPosition:
        """Where the stream stands: after the record that was read last."""


class LocalRows:
    """The records of files on this machine, one file after the other."""

    def __init__(self, settings: SourceSettings, files: Sequence[TextFile], notes: Notes) -> None:
        self._settings, self._files, self._notes = settings, files, notes
        self._file = self._row = 0

    def read(self, position: RowsPosition | None) -> Iterator[Record]:
        first, skipped = (position.file, position.row) if position else (0, 0)
        for file in range(first, len(self._files)):
            self._file, self._row = file, 0
            # What the file in which we go on has to say was noted before.
            notes = Notes() if position and self._file == first else self._notes
            for record in self._records(self._files[self._file], notes):
                self._row += 1
                if self._file > first or self._row > skipped:
                    yield record

    def position(self) -> RowsPosition:
        return RowsPosition(file=self._file, row=self._row)

    def _records(self, file: TextFile, notes: Notes) -> Iterator[Record]:
        if self._settings.source == "pubmedqa":
            return local.read_pubmedqa(file)
        return local.read_file(file, fields_of(self._settings), notes)


class Source:
    """One source with its limits: a sample of its records, at most so many, at most so many bytes."""

    def __init__(
        self, settings: SourceSettings, files: Sequence[TextFile], *, seed: int, secrets: Secrets | None
    ) -> None:
        self.settings = settings
        self.notes = Notes()
        self.name = settings.name if isinstance(settings, NamedSourceSettings) else ""
        self.weight = settings.weight if isinstance(settings, NamedSourceSettings) else 1.0
        self.records = self.bytes = 0
        self._seed = seed
        self._rows = _rows(settings, files, self.notes, secrets)
        self._stream: Iterator[Record] | None = None
        self._position: RowsPosition | None = None

    @property
    def behind(self) -> float:
        """The lower, the sooner it is its turn."""
        return (self.records + 1) / self.weight

    def go_to(self, position: SourcePosition) -> None:
        """Go on after the record that was the last when ``position`` was asked for."""
        self.records, self.bytes, self._position = position.records, position.bytes, position.rows
        self.notes.encodings.update(position.encodings)
        self.notes.binary.extend(position.binary)

    def position(self) -> SourcePosition:
        return SourcePosition(
            records=self.records,
            bytes=self.bytes,
            rows=self._rows.position() if self._stream is not None else self._position,
            encodings=dict(self.notes.encodings),
            binary=list(self.notes.binary),
        )

    def next(self, *, room_bytes: int | None) -> tuple[Record, int] | None:
        """The next record and its size; ``None`` when there are no more or a limit is reached, for good.

        room_bytes: what all sources together may still give
        """
        limits = self.settings
        if limits.max_records and self.records >= limits.max_records:
            return None
        if limits.max_bytes:
            own = limits.max_bytes - self.bytes
            room_bytes = own if room_bytes is None else min(own, room_bytes)
        if self._stream is None:
            self._stream = self._rows.read(self._position)
        for found in self._stream:
            record = _named(found, self.name) if self.name else found
            if limits.sample_percent < 100 and not self._drawn(record.id):
                continue
            size = size_of(record)
            if room_bytes is not None and size > room_bytes:
                return None
            self.records, self.bytes = self.records + 1, self.bytes + size
            return record, size
        return None

    def _drawn(self, record_id: str) -> bool:
        """A function of the id: a record stays in the sample, or out of it, as its source grows."""
        digest = hashlib.blake2b(f"{self._seed}/{record_id}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64 * 100 < self.settings.sample_percent


class Mixture:
    """The records of several sources with their sizes, each as often as its weight says, until all are exhausted.

    Which one comes next is a function of how many each has given: the source that is furthest behind.
    """

    def __init__(
        self, settings: DataSettings, files: Sequence[Sequence[TextFile]], *, seed: int, secrets: Secrets | None
    ) -> None:
        """``files``: those of each source, see :func:`embedctl.data.local.files_of`."""
        self.sources = [
            Source(source, own, seed=seed, secrets=secrets) for source, own in zip(chosen(settings), files, strict=True)
        ]
        self._most_records = settings.max_records if settings.sources else 0
        self._most_bytes = settings.max_bytes if settings.sources else 0
        self._ended: set[int] = set()

    def __iter__(self) -> Iterator[tuple[Record, int]]:
        while (turn := self._turn()) is not None:
            room = self._most_bytes - sum(source.bytes for source in self.sources) if self._most_bytes else None
            found = self.sources[turn].next(room_bytes=room)
            if found is None:
                self._ended.add(turn)
            else:
                yield found

    def position(self) -> Positions:
        return Positions(ended=sorted(self._ended), sources=[source.position() for source in self.sources])

    def go_to(self, positions: Positions) -> None:
        self._ended = set(positions.ended)
        for source, position in zip(self.sources, positions.sources, strict=True):
            source.go_to(position)

    def _turn(self) -> int | None:
        """The source that is furthest behind its weight; ``None`` when all is read that was asked for."""
        if self._most_records and sum(source.records for source in self.sources) >= self._most_records:
            return None
        running = [number for number in range(len(self.sources)) if number not in self._ended]
        return min(running, key=lambda number: self.sources[number].behind, default=None)


def chosen(settings: DataSettings) -> tuple[SourceSettings, ...]:
    """The sources of the settings: several, or the one that they are themselves."""
    return settings.sources or (settings,)


def fields_of(settings: SourceSettings) -> Fields:
    """How the rows of a source are to be read."""
    return Fields(settings.text_field, settings.query_field, settings.id_field, settings.metadata_fields)


def size_of(record: Record) -> int:
    """Bytes of text and query, in UTF-8."""
    return _bytes(record.text) + (_bytes(record.query) if record.query else 0)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _named(record: Record, name: str) -> Record:
    return Record(f"{name}/{record.id}", record.text, record.query, f"{name}/{record.source}", record.metadata)


def _rows(settings: SourceSettings, files: Sequence[TextFile], notes: Notes, secrets: Secrets | None) -> Rows:
    if settings.path is not None:
        return LocalRows(settings, files, notes)
    from embedctl.data.hub import HubRows

    token = secrets.hf_token.get_secret_value() if secrets and secrets.hf_token else None
    return HubRows(settings, token=token)


def summary(source: Source) -> dict[str, Any]:
    """What the manifest says of a source."""
    facts: dict[str, Any] = {"records": source.records, "bytes": source.bytes}
    if source.notes.encodings:
        facts["encodings"] = dict(sorted(source.notes.encodings.items()))
    if source.notes.binary:
        facts["binary_files"] = len(source.notes.binary)
    rows = source.position().rows
    if rows and rows.revision:
        facts["revision"] = rows.revision
    return facts
