"""How far a fetch has come, noted beside the corpus while that grows, so that a fetch that is killed goes on there.

A step is a stretch of the sources that was read, and what became of it. Steps are files that are written whole.

They are not noted with the shards of the growing folder: those are found by their keys in any order and stay in the
artifact; steps have an order, some have written no shard, and with the fetch their many keys are done with.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from embedctl.artifacts import folder as folders
from embedctl.data.positions import Positions

KEY_BYTES = 12


@dataclass(frozen=True, slots=True)
class Step:
    """``part``: what was written of the stretch, with its SHA-256; empty where nothing was new.

    keys:      of all records read, one after the other
    changed:   of those that stand otherwise in the older corpus
    positions: where the sources stand after it
    """

    part: str
    sha256: str
    keys: bytes
    changed: bytes
    positions: Positions


class Steps:
    """The steps of one fetch. Those of another one (``identity``) are removed."""

    def __init__(self, target: Path, identity: str) -> None:
        self._folder = _folder_of(target)
        noted = self._folder / "identity"
        if not noted.is_file() or noted.read_text(encoding="utf-8") != identity:
            folders.remove_if_there(self._folder)
            folders.write_file(noted, identity.encode())
        self._count = 0

    def read(self) -> Iterator[Step]:
        """Those that are there, in order; stop asking to have the rest written over."""
        while step := _read(self._file(self._count)):
            self._count += 1
            yield step

    def refuse(self) -> None:
        """The step that was read last does not hold: write over it, and forget those after it."""
        self._count -= 1

    def add(self, step: Step) -> None:
        head = {
            "part": step.part,
            "sha256": step.sha256,
            "keys": len(step.keys),
            "changed": len(step.changed),
            "positions": step.positions.model_dump(),
        }
        # One that follows is of another past.
        self._file(self._count + 1).unlink(missing_ok=True)
        folders.write_file(self._file(self._count), json.dumps(head).encode() + b"\n" + step.keys + step.changed)
        self._count += 1

    def _file(self, number: int) -> Path:
        return self._folder / f"step-{number:06d}"


def forget_steps(target: Path) -> None:
    """The corpus has its name: how it came to it does not matter any more."""
    folders.remove_if_there(_folder_of(target))


def split_keys(joined: bytes) -> Iterator[bytes]:
    return (joined[at : at + KEY_BYTES] for at in range(0, len(joined), KEY_BYTES))


def _folder_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.steps")


def _read(file: Path) -> Step | None:
    try:
        first, _, rest = file.read_bytes().partition(b"\n")
        head = json.loads(first)
        middle, end = head["keys"], head["keys"] + head["changed"]
        if len(rest) != end:
            return None
        positions = Positions.model_validate(head["positions"])
        return Step(head["part"], head["sha256"], rest[:middle], rest[middle:], positions)
    except (OSError, ValueError, KeyError, TypeError):
        return None
