"""A folder that grows shard by shard. A shard once committed survives a kill, and is taken over by later versions.

While it grows it lies beside its target under a hidden name; when the block ends well it takes the target's place.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from embedctl.artifacts import folder as folders
from embedctl.artifacts import manifest
from embedctl.artifacts.manifest import FileEntry
from embedctl.errors import RefusedError

FILE = "shards.json"
_NOTE = ".shard.json"


class Shard(BaseModel):
    """Some files of an artifact that were made together.

    key:   digest of all that they were made from; the same key means the same bytes
    facts: counts, to be added up over the shards
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    key: str
    files: dict[str, FileEntry]
    facts: dict[str, JsonValue] = {}


@dataclass(slots=True)
class GrowingFolder:
    """``path`` is where to write. ``shards``: those that are committed, in the order of their names when done."""

    path: Path
    shards: dict[str, Shard]
    _older: dict[str, tuple[Path, Shard]]

    def take(self, name: str, key: str) -> Shard | None:
        """The shard of this key, if it was made before, by this run or for an older version of the artifact.

        If not, nothing stands where it is to be written: what does may be a second name of the older version's file.
        """
        here = self.shards.get(name)
        if here is not None and here.key == key and _whole(self.path, here):
            return here
        folder, shard = self._older.get(key, (None, None))
        if folder is None or shard is None or not _whole(folder, shard):
            self.shards.pop(name, None)
            for path in self.path.glob(f"*{name}*"):
                path.unlink()
            return None
        renamed = {file: file.replace(shard.name, name) for file in shard.files}
        for file, new in renamed.items():
            link(folder / file, self.path / new)
        files = {renamed[file]: entry for file, entry in shard.files.items()}
        return self.commit(Shard(name=name, key=key, files=files, facts=shard.facts))

    def commit(self, shard: Shard) -> Shard:
        """Note a shard whose files are written and synced; from here on it exists."""
        folders.write_file(self.path / (shard.name + _NOTE), shard.model_dump_json().encode())
        self.shards[shard.name] = shard
        return shard

    def look_again(self) -> None:
        """See what other processes have committed."""
        self.shards.update(_noted(self.path))

    def finish(self, names: list[str]) -> dict[str, FileEntry]:
        """Keep the shards ``names`` and no others, list them in ``shards.json``; the entries of their files."""
        kept = [self.shards[name] for name in names]
        entries = {file: entry for shard in kept for file, entry in shard.files.items()}
        # Histograms of many shards are many numbers: written by `json`, indented, they took a quarter of a second.
        listed = ",\n".join(shard.model_dump_json() for shard in kept)
        folders.write_file(self.path / FILE, f'{{"format": 1, "shards": [\n{listed}\n]}}\n'.encode())
        for shard in self.shards.values():
            for file in set(shard.files) - set(entries):
                (self.path / file).unlink(missing_ok=True)
            (self.path / (shard.name + _NOTE)).unlink(missing_ok=True)
        return entries


@contextmanager
def growing_folder(target: Path, identity: str) -> Iterator[GrowingFolder]:
    """Yield the folder that will take the place of ``target``, with the shards that an interrupted run left in it.

    identity: what the whole is made from; shards of a run with another identity serve by their keys alone
    """
    if target.is_symlink():
        raise RefusedError(f"{target} is a symbolic link", hint="remove the link; embedctl writes only real folders")
    partial = partial_of(target)
    stale = target.with_name(f".{target.name}.stale")
    if partial.exists() and _identity(partial) != identity:
        folders.remove_if_there(stale)
        partial.rename(stale)
    partial.mkdir(parents=True, exist_ok=True)
    folders.write_file(partial / ".identity", identity.encode())
    older = {key: found for folder in (stale, target) for key, found in _by_key(folder).items()}
    growing = GrowingFolder(partial, _noted(partial), older)
    yield growing
    (partial / ".identity").unlink()
    folders.put_in_place(partial, target)
    folders.remove_if_there(stale)


def joined_folder(target: Path) -> GrowingFolder:
    """The folder that another process is growing, to help it with that."""
    return GrowingFolder(partial_of(target), _noted(partial_of(target)), {})


def partial_of(target: Path) -> Path:
    """Where an artifact lies while it grows."""
    return target.with_name(f".{target.name}.partial")


def tidy(target: Path) -> None:
    """Remove what a run that was killed when ``target`` had just got its name has left."""
    for end in ("partial", "stale", "deleted"):
        folders.remove_if_there(target.with_name(f".{target.name}.{end}"))


def entry_of(path: Path) -> FileEntry:
    """Make a written file durable, and say what is in it."""
    folders.sync(path)
    return manifest.entry_of(path)


def read_shards(folder: Path) -> list[Shard]:
    """The shards of a finished artifact."""
    try:
        return [Shard.model_validate(shard) for shard in json.loads((folder / FILE).read_bytes())["shards"]]
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return []


def key_of(parts: Mapping[str, JsonValue]) -> str:
    """The digest of what a shard is made from."""
    return manifest.digest(dict(parts))


def _noted(folder: Path) -> dict[str, Shard]:
    """The shards that a run has committed in ``folder`` before it was interrupted."""
    shards = {shard.name: shard for shard in read_shards(folder)}
    for note in sorted(folder.glob(f"*{_NOTE}")):
        try:
            shard = Shard.model_validate_json(note.read_bytes())
        except (ValidationError, OSError):
            continue
        shards[shard.name] = shard
    return shards


def _by_key(folder: Path) -> dict[str, tuple[Path, Shard]]:
    return {shard.key: (folder, shard) for shard in _noted(folder).values()}


def _identity(folder: Path) -> str:
    try:
        return (folder / ".identity").read_text(encoding="utf-8")
    except OSError:
        return ""


def _whole(folder: Path, shard: Shard) -> bool:
    return all((folder / name).is_file() and manifest.entry_of(folder / name) == e for name, e in shard.files.items())


def link(old: Path, new: Path) -> None:
    """A second name for a file that nobody changes; a copy where the file system has no such names."""
    new.unlink(missing_ok=True)
    try:
        os.link(old, new)
    except OSError:
        shutil.copyfile(old, new)
        folders.sync(new)
