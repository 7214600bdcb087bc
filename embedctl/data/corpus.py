"""The corpus artifact: records in Parquet, written and read as a stream, grown by what is new."""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
from pydantic import JsonValue

from embedctl.artifacts import growing, manifest
from embedctl.artifacts.folder import lock
from embedctl.artifacts.growing import growing_folder
from embedctl.artifacts.layout import Layout
from embedctl.artifacts.manifest import Manifest
from embedctl.artifacts.outcome import Outcome, up_to_date
from embedctl.data import local, streams
from embedctl.data.growth import Older
from embedctl.data.harvest import GROUP_ROWS, SCHEMA, Harvest
from embedctl.data.opening import TextFile, sha256
from embedctl.data.records import Record
from embedctl.data.steps import Steps, forget_steps
from embedctl.data.streams import Mixture, chosen
from embedctl.errors import ArtifactError, ConfigError
from embedctl.progress import Watch, unwatched
from embedctl.settings import DataSettings, NamedSourceSettings, Secrets, SourceSettings

__all__ = ["PART_BYTES", "SCHEMA", "fetch", "parts_of", "read_part", "read_records", "recipe_of"]

# A part is the unit of work of all later steps: small enough to hold, large enough to be worth a process.
PART_BYTES = 16 * 2**20


def fetch(
    settings: DataSettings,
    layout: Layout,
    *,
    seed: int = 0,
    secrets: Secrets | None = None,
    fresh: bool = False,
    watch: Watch = unwatched,
) -> Outcome:
    """Bring the records of the configured sources into ``corpus/NAME``.

    Where the same sources were fetched before, parts whose records are still the same stay as they are,
    and what is new or changed comes after them; with ``fresh`` all is written anew, in the order of the sources.
    """
    files = _files_of(settings)
    recipe = _recipe_of_all(settings, files, seed)
    target = layout.corpus
    with lock(layout.lock(target)):
        found = None if fresh else up_to_date(target, "corpus", manifest.fingerprint("corpus", {}, recipe))
        if found:
            growing.tidy(target)
            forget_steps(target)
            return found
        older = None if fresh else Older.of(_found(target), target, recipe)
        identity = manifest.digest([recipe, older.content_id if older else None])
        steps = Steps(target, identity)
        with growing_folder(target, identity) as folder:
            harvest = Harvest(folder, Mixture(settings, files, seed=seed, secrets=secrets), older, steps, PART_BYTES)
            harvest.run(watch, total=settings.max_records or None)
            known = harvest.finish()
            made = manifest.write(
                folder.path, "corpus", parents={}, settings=recipe, facts=harvest.facts(), known=known
            )
        forget_steps(target)
    return Outcome(target, made, made=True)


def read_records(folder: Path) -> Iterator[Record]:
    """Every record of a corpus, in order; at most one group of rows is in memory."""
    for part in parts_of(folder):
        yield from read_part(part)


def read_part(part: Path) -> Iterator[Record]:
    """Every record of one file of a corpus."""
    for batch in pq.ParquetFile(part).iter_batches(batch_size=GROUP_ROWS):
        for row in batch.to_pylist():
            yield Record(row["id"], row["text"], row["query"], row["source"], json.loads(row["metadata"]))


def parts_of(folder: Path) -> list[Path]:
    """The files of a corpus, in order."""
    return sorted(folder.glob("part-*.parquet"))


def _files_of(settings: DataSettings) -> list[list[TextFile]]:
    return [local.files_of(source) for source in chosen(settings)]


def recipe_of(settings: DataSettings, *, seed: int = 0) -> dict[str, JsonValue]:
    """What the corpus depends on. For local files that is their content, wherever they lie."""
    return _recipe_of_all(settings, _files_of(settings), seed)


def _recipe_of_all(settings: DataSettings, files: list[list[TextFile]], seed: int) -> dict[str, JsonValue]:
    if not settings.sources:
        return {**_recipe(settings, files[0], seed), "reading": streams.FORMAT}
    each = zip(settings.sources, files, strict=True)
    named: dict[str, JsonValue] = {source.name: _recipe(source, own, seed) for source, own in each}
    limits = {"max_records": settings.max_records, "max_bytes": settings.max_bytes}
    return {"sources": named, **limits, "reading": streams.FORMAT}


def _recipe(settings: SourceSettings, files: list[TextFile], seed: int) -> dict[str, JsonValue]:
    recipe: dict[str, JsonValue] = {"source": settings.source, "max_records": settings.max_records}
    plain = SourceSettings()
    for name in ("max_bytes", "text_field", "query_field", "id_field", "metadata_fields"):
        value = getattr(settings, name)
        if value != getattr(plain, name):
            recipe[name] = list(value) if isinstance(value, tuple) else value
    if settings.sample_percent < 100:
        recipe |= {"sample_percent": settings.sample_percent, "seed": seed}
    if isinstance(settings, NamedSourceSettings):
        recipe["weight"] = settings.weight
    if settings.path is None:
        return {**recipe, **_recipe_of_hub(settings)}
    # Members of a zip share its path.
    hashes = {path: sha256(path, root) for path, root in {file.path: file.root for file in files}.items()}
    named = {file.name: hashes[file.path] for file in files}
    return {**recipe, "files": len(files), "files_sha256": manifest.digest(named)}


def _recipe_of_hub(settings: SourceSettings) -> dict[str, JsonValue]:
    from embedctl.data.hub import PRESETS, require_name

    if settings.source == "local":
        raise ConfigError(
            "data.path is not set", hint="embedctl --set data.path=FOLDER data fetch, or set it in config.toml"
        )
    require_name(settings)
    preset = PRESETS.get(settings.source)
    # Without a revision the newest one is fetched and noted; `status` does not ask the network whether it still is.
    revision = settings.revision or (preset.revision if preset else "")
    recipe: dict[str, JsonValue] = {"revision": revision, "split": settings.split}
    if settings.configuration:
        recipe["configuration"] = settings.configuration
    return {**recipe, "dataset": settings.dataset} if settings.source == "hub" else recipe


def _found(folder: Path) -> Manifest | None:
    """The manifest of the corpus that is there, if it can be read."""
    try:
        return manifest.find(folder, "corpus")
    except ArtifactError:
        return None
