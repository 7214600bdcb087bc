"""The validation artifact: a verdict on every record, and a report on the whole corpus.

findings-NAME.parquet, sketches-NAME.npy, mended-NAME.parquet   of each part of the corpus
verdicts.parquet   what becomes of each record, duplicates included; one row group for each part
report.json, report.html
"""

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from threading import Event
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import JsonValue

from embedctl.artifacts import growing, manifest
from embedctl.artifacts.folder import lock, write_file
from embedctl.artifacts.growing import GrowingFolder, Shard, growing_folder
from embedctl.artifacts.layout import Layout
from embedctl.artifacts.manifest import Manifest
from embedctl.artifacts.outcome import Outcome, up_to_date
from embedctl.data import columns, duplicates, judging, verdicts
from embedctl.data.checks.kinds import TIERS, VERDICTS
from embedctl.data.checks.repair import FIXABLE
from embedctl.data.corpus import parts_of
from embedctl.data.duplicates import Copies
from embedctl.data.judging import Tally
from embedctl.data.opening import sha256
from embedctl.data.page import page
from embedctl.data.pairs import read_pairs, there
from embedctl.data.records import are_held
from embedctl.data.report import FORMAT, Plan, build
from embedctl.data.sample import Sample, sample_of
from embedctl.data.sketches import PERMUTATIONS, Sketches, sketch
from embedctl.data.starting import JUDGING
from embedctl.data.totals import Totals
from embedctl.errors import ConfigError, DataError
from embedctl.progress import Tick, Watch, unwatched
from embedctl.settings import Severity, ValidationSettings
from embedctl.workers import Crew, cores

_log = logging.getLogger(__name__)

REPORT = "report.json"
PAGE = "report.html"


def validate(
    settings: ValidationSettings,
    layout: Layout,
    *,
    held_percent: float = 0.0,
    similarity_file: Path | None = None,
    plan: Plan | None = None,
    watch: Watch = unwatched,
) -> Outcome:
    """Judge every record of ``corpus/NAME``; the verdicts decide what is tokenized.

    held_percent:    share of the records marked ``held``, by a hash of the id: their texts may not be trained on
    similarity_file: sentence pairs for evaluation, which may not be trained on either
    plan:            how the texts will be tokenized, to say how much of them will be cut
    """
    _refuse_unfixable(settings)
    manifest.read(layout.corpus, "corpus")  # before any lock is made
    recipe = recipe_of(settings, held_percent, similarity_file)
    # The corpus does not become another while it is read.
    with lock(layout.lock(layout.corpus), shared=True), lock(layout.lock(layout.validation)):
        corpus = manifest.read(layout.corpus, "corpus")
        parents = {"corpus": corpus.content_id}
        identity = manifest.fingerprint("validation", parents, recipe)
        found = up_to_date(layout.validation, "validation", identity)
        if found:
            manifest.verify(layout.corpus, corpus)
            growing.tidy(layout.validation)
            return found
        with growing_folder(layout.validation, identity) as folder:
            shards, held, sample = _judge(settings, layout, corpus, folder, held_percent, watch)
            ids = verdicts.ids_of(folder.path, shards)
            evaluated = _evaluated(similarity_file)
            copies = _copies(settings, folder.path, shards, held, [text for text, _ in evaluated])
            ids = pa.concat_arrays([ids, columns.words([where for _, where in evaluated]).cast(ids.type)])
            totals = Totals.of(corpus)
            verdicts.write(settings.actions, folder.path, shards, ids, copies, totals)
            tallies = [Tally.model_validate(shard.facts) for shard in shards]
            report = build(settings, layout, tallies, ids, totals, copies, sample, plan or Plan())
            write_file(folder.path / REPORT, (json.dumps(report, indent=2, ensure_ascii=False) + "\n").encode())
            write_file(folder.path / PAGE, page(report, title=f"Validation of {layout.name}").encode())
            facts = {name: report[name] for name in _FACTS}
            failing = [check for check in duplicates.CHECKS if getattr(settings.actions, check) == "fail"]
            copied = sum(copies.count(check) for check in failing)
            facts["failed"] = copied + sum(tally.failed for tally in tallies)
            known = folder.finish([shard.name for shard in shards])
            made = manifest.write(folder.path, "validation", parents=parents, settings=recipe, facts=facts, known=known)
    return Outcome(layout.validation, made, made=True)


_FACTS = ("records", *VERDICTS.values(), "worst_severity")


def recipe_of(
    settings: ValidationSettings, held_percent: float = 0.0, similarity_file: Path | None = None
) -> dict[str, JsonValue]:
    """The settings, and the content of the similarity file, on which the verdicts depend."""
    recipe = settings.model_dump(mode="json", exclude={"fail_on"})
    if similarity_file:
        recipe["similarity_sha256"] = sha256(there(similarity_file), None)
    return {**recipe, "held_percent": held_percent, "judging": judging.FORMAT, "report": FORMAT}


def read_report(folder: Path) -> dict[str, Any]:
    """The report of a validation artifact, as it was written."""
    report: dict[str, Any] = json.loads((folder / REPORT).read_bytes())
    return report


def refuse_above(settings: ValidationSettings, outcome: Outcome) -> None:
    """Raise what :func:`refusal` says, if it says anything."""
    fault = refusal(settings, outcome)
    if fault is not None:
        raise fault


def refusal(settings: ValidationSettings, outcome: Outcome) -> DataError | None:
    """What is wrong if the worst finding reaches ``fail_on``, or a check whose action is fail struck."""
    facts = outcome.manifest.facts
    hint = f"see {outcome.folder / PAGE}"
    if facts.get("failed"):
        return DataError(f"{facts['failed']:,} records have findings whose action is fail", hint=hint)
    found = facts.get("worst_severity")
    if settings.fail_on == "never" or found not in get_args(Severity):
        return None
    if TIERS.index(found) >= TIERS.index(settings.fail_on):
        return DataError(
            f"validation found something of severity {found} (validation.fail_on is {settings.fail_on})", hint=hint
        )
    return None


def _refuse_unfixable(settings: ValidationSettings) -> None:
    for name, action in settings.actions:
        if action == "fix" and name not in FIXABLE:
            raise ConfigError(
                f"validation.actions.{name}: there is no fix for it", hint=f"fix goes with {', '.join(sorted(FIXABLE))}"
            )


def _judge(
    settings: ValidationSettings,
    layout: Layout,
    corpus: Manifest,
    folder: GrowingFolder,
    held_percent: float,
    watch: Watch,
) -> tuple[list[Shard], npt.NDArray[np.bool_], Sample]:
    """Findings of every part, of those that are new by as many processes as there are cores; and the sample.

    The array: (N,) whether each record of all parts is held out
    """
    recipe = {**_within_parts(settings), "judging": judging.FORMAT}
    parts = parts_of(layout.corpus)
    ready: dict[str, Shard] = {}
    due: list[judging.Work] = []
    for part in parts:
        key = growing.key_of({"part": corpus.files[part.name].sha256, "recipe": recipe})
        shard = folder.take(part.stem, key)
        if shard is not None:
            ready[part.stem] = shard
        else:
            due.append(judging.Work(part.stem, key, part, folder.path, settings))
    total = corpus.number("records")
    held = {name: _held(folder.path, shard, held_percent) for name, shard in ready.items()}
    watch(Tick(sum(map(len, held.values())), total, "records"))
    given_up = Event()
    # Every byte is checked, and a sample is made, which takes long for its size, while processes start, and work.
    with ThreadPoolExecutor(1) as thread, Crew(min(cores(), len(due)), JUDGING) as crew:
        verified = thread.submit(manifest.verify, layout.corpus, corpus, given_up=given_up)
        sample = thread.submit(sample_of, parts)
        try:
            for _, made in crew.spread(judging.judge, due):
                verified.result()
                ready[made.name] = folder.commit(made)
                held[made.name] = _held(folder.path, made, held_percent)
                watch(Tick(sum(map(len, held.values())), total, "records"))
            verified.result()
            drawn = sample.result()
        except Exception:
            verified.result()  # whatever else goes wrong with a damaged corpus
            raise
        finally:
            given_up.set()
            sample.cancel()
    together = np.concatenate([held[name] for name in sorted(held)]) if held else np.zeros(0, dtype=bool)
    return [ready[name] for name in sorted(ready)], together, drawn


def _within_parts(settings: ValidationSettings) -> dict[str, JsonValue]:
    """The settings on which the findings in one part depend: not those for copies, which are looked for among all."""
    recipe = settings.model_dump(mode="json", exclude={"fail_on", "near_duplicate_similarity", "actions"})
    return {**recipe, "actions": settings.actions.model_dump(mode="json", exclude=set(duplicates.CHECKS))}


def _evaluated(file: Path | None) -> list[tuple[str, str]]:
    """The sentences of a similarity file, each with where it stands."""
    return [(text, pair.where) for pair in read_pairs(file) for text in (pair.first, pair.second)] if file else []


def _copies(
    settings: ValidationSettings,
    folder: Path,
    shards: list[Shard],
    held: npt.NDArray[np.bool_],
    evaluated: list[str],
) -> Copies:
    """Copies among all records; rows are counted through all parts, and on through the texts of the evaluation.

    held: (N,) of the N records of all parts
    """
    size = len(held) + len(evaluated)
    sketches = Sketches(np.zeros(size, np.uint64), np.zeros((size, PERMUTATIONS), np.uint32))
    queries = np.zeros(size, np.uint64)
    paths = [folder / f"sketches-{shard.name}.npy" for shard in shards]
    # A map holds its file open, so there is never more than one for each thread.
    *begins, at = accumulate((len(np.load(path, mmap_mode="r")) for path in paths), initial=0)

    def take(shard: Shard, path: Path, at: int) -> None:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
        here = slice(at, at + len(rows))
        sketches.words[here], sketches.signatures[here], queries[here] = rows["words"], rows["signature"], rows["query"]
        # What is dropped for itself is like nothing: a record that is like it would go for it, and both be lost.
        verdict = columns.read(verdicts.findings_of(folder, shard), ["verdict"]).column("verdict")
        gone = at + np.flatnonzero(columns.codes_of(verdict, ["drop"]) == 0)
        sketches.words[gone], sketches.signatures[gone], queries[gone] = ~gone.astype(np.uint64), 0, 0

    with ThreadPoolExecutor(cores()) as threads:
        list(threads.map(take, shards, paths, begins))
    # These are held texts that are no records. As queries they are not to be trained on either.
    asked = sketch(evaluated)
    sketches.words[at:], sketches.signatures[at:], queries[at:] = asked.words, asked.signatures, asked.words
    found = duplicates.copies(
        sketches,
        queries,
        np.concatenate([held, np.ones(len(evaluated), dtype=bool)]),
        similarity=settings.near_duplicate_similarity,
        wanted=[check for check in duplicates.CHECKS if getattr(settings.actions, check) != "keep"],
    )
    return found.among(0, len(held))


def _held(folder: Path, shard: Shard, held_percent: float) -> npt.NDArray[np.bool_]:
    """(N,) whether each record of one part is held out."""
    ids = columns.read(verdicts.findings_of(folder, shard), ["id"]).column("id")
    return are_held(ids.to_pylist(), held_percent) if held_percent else np.zeros(len(ids), dtype=bool)
