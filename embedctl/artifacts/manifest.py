"""What an artifact says of itself. The manifest is written last: a folder without one does not exist."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from threading import Event
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from embedctl.artifacts import folder as folders
from embedctl.errors import ArtifactError, NotFoundError, TornError

FILE = "manifest.json"
FORMAT = 1

_DIFFERENCES_SHOWN = 3

Kind = Literal["corpus", "validation", "tokens", "negatives", "checkpoint", "evaluation", "vectors", "export"]

MADE_BY: dict[str, str] = {
    "corpus": "embedctl data fetch",
    "validation": "embedctl data validate",
    "tokens": "embedctl data tokenize",
    "negatives": "embedctl mine",
    "checkpoint": "embedctl train",
    "evaluation": "embedctl eval",
    "vectors": "embedctl embed generate",
    "export": "embedctl embed export",
}


class FileEntry(BaseModel):
    """Size and content of one file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int
    sha256: str


class Manifest(BaseModel):
    """One per artifact folder.

    fingerprint: of everything that the content depends on; the same fingerprint means up to date
    parents:     kind -> ``content_id`` of each artifact that this one was made from
    settings:    the settings that matter to the content, as they were
    facts:       counts and shapes, each named with its unit
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    format: int = FORMAT
    fingerprint: str
    parents: dict[str, str] = {}
    settings: dict[str, JsonValue] = {}
    files: dict[str, FileEntry] = {}
    facts: dict[str, JsonValue] = {}

    @property
    def content_id(self) -> str:
        """What the files hold, in one word: equal content has equal ids however it was made."""
        return digest({"kind": self.kind, "files": {name: entry.sha256 for name, entry in self.files.items()}})

    @property
    def size_bytes(self) -> int:
        return sum(entry.bytes for entry in self.files.values())

    def number(self, fact: str) -> int:
        """A fact that is a count; a manifest without it is foreign."""
        value = self.facts.get(fact)
        if not isinstance(value, int):
            raise ArtifactError(f"this {self.kind}'s manifest has no count {fact!r}")
        return value


def fingerprint(kind: Kind, parents: Mapping[str, str], settings: Mapping[str, JsonValue]) -> str:
    """The identity of a result before it is made: what it is made from, and how."""
    return digest({"kind": kind, "format": FORMAT, "parents": dict(parents), "settings": dict(settings)})


def difference(found: Manifest, parents: Mapping[str, str | None], settings: Mapping[str, JsonValue]) -> str:
    """Why ``found`` would be made otherwise now, in words; empty if it would not.

    parents: kind -> ``content_id`` at hand, ``None`` where there is none
    """
    for kind, content in parents.items():
        if found.parents.get(kind) != content:
            return f"made before the {kind} changed"
    now, then = _flat(settings), _flat(found.settings)
    changed = [key for key in sorted({*now, *then}) if now.get(key) != then.get(key)]
    shown = [f"{key}: {then.get(key)} → {now.get(key)}" for key in changed[:_DIFFERENCES_SHOWN]]
    more = len(changed) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")


def write(
    folder: Path,
    kind: Kind,
    *,
    parents: Mapping[str, str],
    settings: Mapping[str, JsonValue],
    facts: Mapping[str, JsonValue],
    identity: str | None = None,
    known: Mapping[str, FileEntry] | None = None,
) -> Manifest:
    """Describe every file in ``folder``; to be called last, inside ``new_folder``.

    known: entries of files that were hashed already
    """
    known = known or {}
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in (FILE, ".identity"))
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    manifest = Manifest(
        kind=kind,
        fingerprint=identity or fingerprint(kind, parents, settings),
        parents=dict(parents),
        settings=dict(settings),
        files={name: known.get(name) or entry_of(path) for name, path in names.items()},
        facts=dict(facts),
    )
    folders.write_file(folder / FILE, (manifest.model_dump_json(indent=2) + "\n").encode())
    return manifest


def read(folder: Path, kind: Kind) -> Manifest:
    """The manifest of ``folder``, which must be an artifact of ``kind``."""
    path = folder / FILE
    make = f"run `{MADE_BY[kind]}` first"
    if not path.is_file():
        if folder.is_dir():
            raise ArtifactError(f"no {kind} at {folder}: {FILE} is missing", hint=make)
        raise NotFoundError(f"no {kind} at {folder}", hint=make)
    try:
        raw = json.loads(path.read_bytes())
        found = raw.get("format") if isinstance(raw, dict) else None
        if isinstance(found, int) and found > FORMAT:
            raise ArtifactError(
                f"{path} was written by a newer embedctl (format {found}, this one reads {FORMAT})",
                hint="pip install --upgrade embedctl",
            )
        manifest = Manifest.model_validate(raw)
    except (ValueError, ValidationError):
        raise TornError(f"{path} is damaged", hint=f"remove {folder} and {make}") from None
    if manifest.kind != kind:
        raise ArtifactError(f"{folder} holds a {manifest.kind}, not a {kind}", hint=make)
    return manifest


def find(folder: Path, kind: Kind) -> Manifest | None:
    """Like :func:`read`, but ``None`` where there is nothing."""
    return read(folder, kind) if (folder / FILE).is_file() else None


def damaged(
    folder: Path, manifest: Manifest, *, only: Sequence[str] = ("*",), given_up: Event | None = None
) -> list[str]:
    """The files of an artifact that are missing or do not hold what was written, in order of name.

    only:     patterns of the names to look at
    given_up: set when nobody waits for the answer any more
    """
    bad = []
    for name, entry in sorted(manifest.files.items()):
        if given_up and given_up.is_set():
            break
        if not any(fnmatchcase(name, pattern) for pattern in only):
            continue
        path = folder / name
        if not path.is_file() or path.stat().st_size != entry.bytes or entry_of(path) != entry:
            bad.append(name)
    return bad


def read_verified(folder: Path, kind: Kind, *, only: Sequence[str] = ("*",)) -> Manifest:
    """Read the manifest and check every byte that it vouches for (about 1.5 GB/s).

    only: patterns of the names of the files that the caller will read
    """
    manifest = read(folder, kind)
    verify(folder, manifest, only=only)
    return manifest


def verify(folder: Path, manifest: Manifest, *, only: Sequence[str] = ("*",), given_up: Event | None = None) -> None:
    """What :func:`read_verified` does with a manifest that was read before; see :func:`damaged`."""
    bad = damaged(folder, manifest, only=only, given_up=given_up)
    if bad:
        raise ArtifactError(
            f"{folder / bad[0]} is damaged: its SHA-256 is not the one in {FILE}",
            hint=f"remove {folder} and run `{MADE_BY[manifest.kind]}` again",
        )


def entry_of(path: Path) -> FileEntry:
    """Size and SHA-256 of a file (about 2 GB/s)."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return FileEntry(bytes=path.stat().st_size, sha256=digest)


def _flat(tree: Mapping[str, JsonValue], before: str = "") -> dict[str, JsonValue]:
    leaves: dict[str, JsonValue] = {}
    for name, node in tree.items():
        leaves.update(_flat(node, f"{before}{name}.") if isinstance(node, dict) else {before + name: node})
    return leaves


def digest(content: object) -> str:
    """SHA-256 of what JSON can hold, whatever the order of keys."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
