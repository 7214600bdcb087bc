"""Records from files on this machine: which files there are, and the right reader for each."""

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from embedctl.data.archives import members
from embedctl.data.encodings import find_encoding
from embedctl.data.fields import Fields, excerpt, without_surrogates
from embedctl.data.formats import READERS
from embedctl.data.objects import read_members
from embedctl.data.opening import Notes, TextFile, shown
from embedctl.data.pubmedqa import article
from embedctl.data.records import Record
from embedctl.data.tables import TABLES, read_table
from embedctl.errors import ConfigError, DataError, NotFoundError, RefusedError, StorageError
from embedctl.settings import SourceSettings

_log = logging.getLogger(__name__)

FORMATS = (*READERS, *TABLES)
COMPRESSIONS = (".gz", ".zst")
PUBMEDQA_NAMES = ("ori_pqal.json", "ori_pqau.json", "ori_pqaa.json")

_MAGIC = re.compile(r"[*?\[]")


def files_of(settings: SourceSettings) -> list[TextFile]:
    """The files of a source on this machine; of one on the Hub none."""
    if settings.path is None:
        return []
    if settings.source in ("hub", "openwebtext"):
        raise ConfigError(f"data.path does not go with source {settings.source}", hint='set data.source = "local"')
    return find_pubmedqa(settings.path) if settings.source == "pubmedqa" else find_files(settings.path)


def find_files(path: Path) -> list[TextFile]:
    """The readable files of ``path``, a file, folder or pattern, in the order of their names; hidden ones are left out.

    A link that leads out of the folder is refused: what it points at was not offered.
    """
    try:
        files = _found(path)
    except OSError as fault:
        raise StorageError(f"{shown(str(path)):.200} cannot be read: {fault.strerror or fault}") from None
    if not files:
        wanted = ", ".join(FORMATS)
        raise DataError(
            f"no file in {shown(str(path))} ends with one of {wanted} (or these with .gz or .zst, or in a .zip)",
            hint="set data.path to a folder of text",
        )
    return sorted(files, key=lambda file: file.name)


def read_file(file: TextFile, fields: Fields, notes: Notes) -> Iterator[Record]:
    """Every record of ``file``, streaming. One that holds no text gives none and is noted."""
    if file.format in TABLES:
        yield from read_table(file, fields)
        return
    encoding = find_encoding(file, notes)
    if encoding is not None:
        yield from READERS[file.format](file, encoding, fields)


def _found(path: Path) -> list[TextFile]:
    if path.is_dir():
        return [file for found in _walk(path) for file in _at(found, path)]
    if os.path.lexists(path):
        return _at(path, None)
    if _MAGIC.search(str(path)):
        return [file for found, root in _matches(path) for file in _at(found, root)]
    raise NotFoundError(f"no file or folder at {shown(str(path))}", hint="set data.path to your text")


def _walk(root: Path) -> Iterator[Path]:
    def fail(fault: OSError) -> None:  # a folder that is silently left out would be missed much later
        raise StorageError(f"{shown(str(fault.filename))} cannot be read: {fault.strerror}") from None

    for folder, inner, names in os.walk(root, onerror=fail):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in inner:
            if Path(folder, name).is_symlink():  # not followed; but one that leads out is told
                _require_inside(Path(folder, name), root)
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def _matches(pattern: Path) -> Iterator[tuple[Path, Path]]:
    first = next(number for number, part in enumerate(pattern.parts) if _MAGIC.search(part))
    root, rest = Path(*pattern.parts[:first]), pattern.parts[first:]
    if ".." in rest:
        raise RefusedError(f"the pattern {shown(str(pattern))} leads out of {root}", hint='leave out ".."')
    try:
        for found in root.glob(str(Path(*rest))):
            if not any(part.startswith(".") for part in found.relative_to(root).parts):
                yield found, root
    except ValueError as fault:
        raise NotFoundError(f"{shown(str(pattern))} is not a pattern of files: {fault}") from None


def _at(path: Path, root: Path | None) -> list[TextFile]:
    """What is to be read at ``path``: itself, the members of a zip, or nothing."""
    form, compression = _kind(path.name)
    if form not in FORMATS and (form != ".zip" or compression):
        return []
    if root is not None:
        _require_inside(path, root)
    if not path.is_file():
        # A pipe named by the user is an error when it is opened; among other files it is only passed over.
        if root is None or path.is_dir():
            return [] if root is not None else [TextFile(path, path.name, form, compression)]
        _log.warning("%s is not a regular file; passed over", shown(str(path)))
        return []
    name = shown(path.name if root is None else path.relative_to(root).as_posix())
    if form != ".zip":
        return [TextFile(path, name, form, compression, root=root)]
    return _in_zip(path, name, root)


def _in_zip(path: Path, name: str, root: Path | None) -> list[TextFile]:
    files = []
    for entry in members(path, root):
        form, compression = _kind(entry.filename)
        inside = shown(without_surrogates(entry.filename))
        if form in FORMATS:
            files.append(TextFile(path, f"{name}/{inside}", form, compression, root, entry))
        elif form == ".zip":
            _log.warning("%s/%s is a zip inside a zip; passed over", shown(str(path)), inside)
    return files


def _kind(name: str) -> tuple[str, str]:
    suffixes = [suffix.lower() for suffix in Path(name).suffixes[-2:]]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else ""
    return (suffixes[-1] if suffixes else ""), compression


def _require_inside(path: Path, root: Path) -> None:
    try:
        inside = path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # links that go in a circle
        inside = False
    if not inside:
        raise RefusedError(
            f"{shown(str(path))} is a link out of {shown(str(root))}", hint="copy what it points at into the folder"
        )


def find_pubmedqa(path: Path) -> list[TextFile]:
    """The PubMedQA files at ``path``: itself, or those of a folder."""
    if path.is_file():
        return [TextFile(path, shown(path.name), ".json", ".gz" if path.suffix == ".gz" else "")]
    names = [name + end for name in PUBMEDQA_NAMES for end in ("", ".gz") if (path / (name + end)).is_file()]
    if not names:
        wanted = ", ".join(PUBMEDQA_NAMES)
        raise NotFoundError(f"no PubMedQA file at {shown(str(path))}", hint=f"want one of {wanted} (or .gz)")
    return [TextFile(path / name, name, ".json", ".gz" if name.endswith(".gz") else "", root=path) for name in names]


def read_pubmedqa(file: TextFile) -> Iterator[Record]:
    """PubMedQA's ``ori_pqa*.json``: each question with the abstract that answers it."""
    for pubmed_id, found in read_members(file):
        where = f"{file.place}: article {excerpt(pubmed_id)}"
        if not isinstance(found, dict):
            raise DataError(f"{where}: want an object of fields, got {excerpt(found)}")
        yield article(
            pubmed_id,
            found.get("QUESTION"),
            found.get("CONTEXTS"),
            where=where,
            answer=found.get("final_decision"),
            conclusion=found.get("LONG_ANSWER"),
            meshes=found.get("MESHES"),
        )
