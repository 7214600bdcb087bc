"""What a step of the pipeline gives back, and the question every step asks first."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

from embedctl.artifacts import manifest
from embedctl.artifacts.manifest import Kind, Manifest
from embedctl.errors import ArtifactError, RefusedError

# What showing a folder leaves in it.
_OF_DESKTOPS = {".DS_Store", "Thumbs.db", "desktop.ini"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """An artifact, and whether this call made it (``False``: it was up to date).

    measured: what can be said of the making, such as its speed; the manifest says the same whenever it is made
    """

    folder: Path
    manifest: Manifest
    made: bool
    measured: Mapping[str, JsonValue] = field(default_factory=dict)


def up_to_date(folder: Path, kind: Kind, identity: str) -> Outcome | None:
    """The artifact at ``folder`` if it was made from the same things in the same way and is whole."""
    try:
        found = manifest.find(folder, kind)
    except ArtifactError as fault:
        _log.warning("%s; making it again", fault.message)
        return None
    if found is None or found.fingerprint != identity:
        return None
    bad = manifest.damaged(folder, found)
    if bad:
        _log.warning("%s is damaged; making it again", folder / bad[0])
        return None
    return Outcome(folder, found, made=False)


def refuse_foreign(target: Path) -> None:
    """A folder with something in it that no export made is not ours to replace."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    made = manifest.find(target, "export") if target.is_dir() else None
    if made is None:
        raise RefusedError(f"{target} exists and was not made by an export", hint="choose a new folder with --to")
    ours = {target / name for name in (*made.files, manifest.FILE)}
    others = (path for path in target.rglob("*") if path not in ours and path.name not in _OF_DESKTOPS)
    foreign = sorted(path for path in others if not path.is_dir())
    if foreign:
        raise RefusedError(f"{foreign[0]} was not made by an export", hint="move it away, or choose a new folder")
