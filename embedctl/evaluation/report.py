"""The evaluation artifact: how good a model is, beside its untrained self and BM25."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue

from embedctl.artifacts import manifest
from embedctl.artifacts.folder import lock, new_folder, write_file
from embedctl.artifacts.layout import Layout
from embedctl.artifacts.outcome import Outcome, up_to_date
from embedctl.checkpoint import beginning, files, opening
from embedctl.data.opening import sha256
from embedctl.data.pairs import there
from embedctl.errors import DataError, EmbedctlError
from embedctl.evaluation.beir import BeirFolder
from embedctl.evaluation.mteb_tasks import evaluate_tasks
from embedctl.evaluation.ranking import evaluate_folder
from embedctl.evaluation.retrieval import Task, evaluate_bm25, evaluate_model, held_task
from embedctl.evaluation.similarity import evaluate_similarity
from embedctl.model.encoder import Encoder
from embedctl.model.precision import pick_device, pick_dtype
from embedctl.progress import Watch, unwatched
from embedctl.settings import ComputeSettings, EvaluationSettings, ModelSettings
from embedctl.tokens.shards import TokenTable

REPORT = "report.json"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured. ``checkpoint``: the head of the run, ``None`` if the model lies elsewhere."""

    model: files.Model
    dtype: torch.dtype
    checkpoint: files.Checkpoint | None

    @property
    def seed(self) -> int:
        """What draws the sample of records that are searched."""
        seed = self.checkpoint.manifest.settings.get("seed") if self.checkpoint else 0
        return seed if isinstance(seed, int) else 0


def recipe_of(settings: EvaluationSettings, compute: ComputeSettings) -> dict[str, JsonValue]:
    """The settings, and the content of the files that they name, on which the report depends."""
    recipe = settings.model_dump(mode="json", exclude={"similarity_file", "beir_folders"})
    if settings.similarity_file:
        recipe["similarity_sha256"] = sha256(there(settings.similarity_file), None)
    recipe["beir_sha256"] = [BeirFolder.find(folder).digest for folder in settings.beir_folders]
    return {**recipe, "precision": compute.precision}


def evaluate(
    settings: EvaluationSettings,
    compute: ComputeSettings,
    layout: Layout,
    *,
    model: Path | None = None,
    or_nothing: bool = False,
    watch: Watch = unwatched,
) -> Outcome:
    """Measure the head of ``runs/NAME`` on the held split, and on whatever else the settings name.

    model:      the folder of a published model, of a run or of a checkpoint, to measure instead; without tokens too
    or_nothing: where there is nothing to measure on, leave an empty report instead of raising ``DataError``
    """
    tokens = manifest.read(layout.tokens, "tokens") if model is None else manifest.find(layout.tokens, "tokens")
    checkpoint = None
    if model is None:
        checkpoint = files.head(layout.checkpoints)
        model_id = checkpoint.model_id
    else:
        model_id = opening.identity_of(model)
    target = _target(layout, model, model_id)
    parents = {**({"tokens": tokens.content_id} if tokens else {}), "checkpoint": model_id}
    recipe = recipe_of(settings, compute)
    with lock(layout.lock(target)):
        found = up_to_date(target, "evaluation", manifest.fingerprint("evaluation", parents, recipe))
        if found and (or_nothing or read_report(target)):
            return found
        subject = _opened(model, checkpoint, compute)
        table = TokenTable(layout.tokens) if tokens else None
        report = dict(_measured(settings, subject, table, watch))
        if not report:
            if model is not None and table is not None:
                opening.refuse_other(subject.model, table, model)
            fault = DataError(
                "there is nothing to evaluate on: no record is held out and no file is set",
                hint="raise data.held_percent and tokenize again, or set evaluation.similarity_file or .beir_folders",
            )
            if not or_nothing:
                raise fault
            _log.warning("%s", fault.message)
        with new_folder(target) as folder:
            write_file(folder / REPORT, (json.dumps(report, indent=2) + "\n").encode())
            facts = {"step": subject.model.step, **report}
            made = manifest.write(folder, "evaluation", parents=parents, settings=recipe, facts=facts)
    return Outcome(target, made, made=True)


def read_report(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / REPORT).read_bytes())
    return report


def _target(layout: Layout, model: Path | None, model_id: str) -> Path:
    """A model from elsewhere has a report of its own, so that the run's stays."""
    if model is None:
        return layout.evaluation
    return layout.evaluation.with_name(f"{model.absolute().name}-{model_id[:8]}")


def _opened(model: Path | None, checkpoint: files.Checkpoint | None, compute: ComputeSettings) -> Subject:
    device = pick_device(compute.device)
    if checkpoint is not None:
        loaded = files.load_model(checkpoint, device)
    else:
        assert model is not None
        loaded = opening.open_model(model, device)
    return Subject(loaded, pick_dtype(compute.precision, device), checkpoint)


def _measured(
    settings: EvaluationSettings, subject: Subject, table: TokenTable | None, watch: Watch
) -> Iterator[tuple[str, JsonValue]]:
    """The parts of the report for which there is something to measure on."""
    model, dtype = subject.model, subject.dtype
    if table is not None and _takes(subject, table):
        task = held_task(table, settings, seed=subject.seed)
        if task is not None:
            yield "retrieval", _held(settings, subject, table, task, watch)
    if settings.similarity_file is not None:
        yield "similarity", dict(evaluate_similarity(model, settings.similarity_file, dtype=dtype))
    if settings.beir_folders:
        folders = [BeirFolder.find(folder) for folder in settings.beir_folders]
        yield "beir", [evaluate_folder(model, found, settings, dtype=dtype, watch=watch) for found in folders]
    if settings.mteb_tasks:
        yield "mteb", evaluate_tasks(model, settings.mteb_tasks, dtype=dtype)


def _takes(subject: Subject, table: TokenTable) -> bool:
    """Whether the tokens are those that the model would make of the texts; of a run it is a fault if they are not."""
    if opening.takes(subject.model, table):
        return True
    if subject.checkpoint is not None:
        raise DataError(f"{table.folder} was made for another model", hint="run `embedctl train` on these tokens")
    _log.warning("%s was made for another model; the held-out records are not measured", table.folder)
    return False


def _held(
    settings: EvaluationSettings, subject: Subject, table: TokenTable, task: Task, watch: Watch
) -> dict[str, JsonValue]:
    """Figures on the held split; of a run also those of the encoder as it was before training."""
    encoder, dtype = subject.model.encoder, subject.dtype
    figures: dict[str, JsonValue] = {
        "task": task.kind,
        "queries": len(task.queries),
        "records": len(task.records),
        "model": dict(evaluate_model(encoder, table, task, settings, dtype=dtype, watch=watch)),
    }
    if subject.checkpoint is not None:
        untrained = _before(subject.checkpoint, table)
        if untrained is not None:
            untrained.to(next(encoder.parameters()).device)
            figures["untrained"] = dict(evaluate_model(untrained, table, task, settings, dtype=dtype, watch=watch))
    return {**figures, "bm25": dict(evaluate_bm25(table, task, settings))}


def _before(checkpoint: files.Checkpoint, table: TokenTable) -> Encoder | None:
    """The encoder as the run began with it; ``None`` where ``model.init_from`` is gone or another by now."""
    first = files.scan(checkpoint.folder.parent)[0]
    own = first.step == 0 and first.manifest.fingerprint == checkpoint.manifest.fingerprint
    if own and not files.damage_of(first):
        return files.load_model(first, torch.device("cpu")).encoder.eval()
    recipe = checkpoint.manifest.settings
    model, seed = recipe["model"], recipe["seed"]
    assert isinstance(model, dict)
    assert isinstance(seed, int)
    begun = ModelSettings.model_validate({name: value for name, value in model.items() if name != "origin"})
    try:
        same = beginning.origin_of(begun) == model["origin"]
    except EmbedctlError:
        same = False
    if not same:
        _log.warning("%s is not what the run began with: no figures from before training", begun.init_from)
        return None
    return beginning.begin(begun, table, seed=seed).eval()
