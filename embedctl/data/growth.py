"""What a corpus held before, so that fetching it again writes only what is new or changed."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import JsonValue

from embedctl.artifacts.manifest import Manifest
from embedctl.data import columns
from embedctl.data.records import Record

# Settings that may differ between a corpus and the one that it grows into.
_GROWS = ("files", "files_sha256", "revision", "max_records", "max_bytes")
_encode = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True, slots=True)
class Older:
    """The corpus that is there. In memory are a key and a digest for each of its records (about 160 bytes)."""

    content_id: str
    parts: tuple[Path, ...]
    _sha256: Mapping[str, str]
    _content: Mapping[bytes, int]
    _keys: Mapping[str, list[bytes]]  # by part, in the order of its rows

    @classmethod
    def of(cls, found: Manifest | None, folder: Path, recipe: Mapping[str, JsonValue]) -> "Older | None":
        """The corpus in ``folder`` if it came from the same sources, read in the same way, and is whole."""
        if found is None or _lineage(found.settings) != _lineage(recipe):
            return None
        sha256 = {name: entry.sha256 for name, entry in found.files.items() if name.startswith("part-")}
        content: dict[bytes, int] = {}
        keys: dict[str, list[bytes]] = {}
        for name in sorted(sha256):
            # A part is small, and once in memory it is both checked and read.
            data = (folder / name).read_bytes() if (folder / name).is_file() else b""
            if hashlib.sha256(data).hexdigest() != sha256[name]:
                return None
            rows = dict(_digests(data))
            keys[name] = list(rows)
            content |= rows
        parts = tuple(folder / name for name in keys)
        return cls(found.content_id, parts, sha256, content, keys)

    def __len__(self) -> int:
        return len(self._content)

    def __contains__(self, key: bytes) -> bool:
        return key in self._content

    def has(self, key: bytes, record: Record) -> bool:
        """Whether the record is there just as it is."""
        return self._content.get(key) == content_of(record)

    def gone(self, seen: set[bytes]) -> int:
        """How many records the sources do not hold any more."""
        return len(self._content.keys() - seen)

    def sha256(self, part: Path) -> str:
        return self._sha256[part.name]

    def remaining(self, part: Path, *, seen: set[bytes], changed: set[bytes]) -> pa.Table | None:
        """The rows of ``part`` that stay; ``None`` if that is all of them."""
        stays = np.array([key in seen and key not in changed for key in self._keys[part.name]])
        return None if stays.all() else columns.read(part).take(columns.numbers(np.flatnonzero(stays)))


def _digests(part: bytes) -> Iterator[tuple[bytes, int]]:
    """Key and digest of each record of a part, in order."""
    for batch in pq.ParquetFile(pa.BufferReader(part)).iter_batches(batch_size=1024):
        for row in batch.to_pylist():
            yield key_of(row["id"]), _digest(row["text"], row["query"], row["source"], row["metadata"])


def key_of(record_id: str) -> bytes:
    """Twelve bytes that stand for an id, so that memory stays small; two ids do not share them by chance."""
    return hashlib.blake2b(record_id.encode(), digest_size=12).digest()


def content_of(record: Record) -> int:
    """What a record holds besides its id, in 64 bits."""
    return _digest(record.text, record.query, record.source, metadata_text(record))


def metadata_text(record: Record) -> str:
    """The metadata of a record as a row holds them."""
    return _encode(dict(record.metadata))


def _digest(text: str, query: str | None, source: str, metadata: str) -> int:
    whole = hashlib.blake2b(digest_size=8)
    for piece in (text, "\0" if query is None else query, source, metadata):
        whole.update(piece.encode())
        whole.update(b"\xff")
    return int.from_bytes(whole.digest(), "big")


def _lineage(settings: Mapping[str, JsonValue]) -> JsonValue:
    return {
        name: _lineage(value) if isinstance(value, dict) else value
        for name, value in settings.items()
        if name not in _GROWS
    }
