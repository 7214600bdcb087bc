"""The evaluation artifact: how good the head of a run is, beside its untrained self and BM25."""

import json
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from embedctl.artifacts import manifest
from embedctl.artifacts.folder import lock, new_folder, write_file
from embedctl.artifacts.layout import Layout
from embedctl.artifacts.outcome import Outcome, up_to_date
from embedctl.checkpoint import files
from embedctl.data.opening import sha256
from embedctl.errors import DataError
from embedctl.evaluation.retrieval import Task, evaluate_bm25, evaluate_model, held_task
from embedctl.evaluation.similarity import evaluate_similarity
from embedctl.model.encoder import initialise
from embedctl.model.precision import pick_device, pick_dtype
from embedctl.progress import Watch, unwatched
from embedctl.settings import ComputeSettings, EvaluationSettings
from embedctl.tokens.shards import TokenTable

REPORT = "report.json"


def recipe_of(settings: EvaluationSettings, compute: ComputeSettings) -> dict[str, JsonValue]:
    """The settings, and the content of the similarity file, on which the report depends."""
    recipe = settings.model_dump(mode="json", exclude={"similarity_file"})
    if settings.similarity_file and settings.similarity_file.is_file():
        recipe["similarity_sha256"] = sha256(settings.similarity_file, None)
    return {**recipe, "precision": compute.precision}


def evaluate(
    settings: EvaluationSettings, compute: ComputeSettings, layout: Layout, *, watch: Watch = unwatched
) -> Outcome:
    """Measure the head of ``runs/NAME`` on the held split, and on ``similarity_file`` if there is one."""
    tokens = manifest.read(layout.tokens, "tokens")
    checkpoint = files.head(layout.checkpoints)
    parents = {"tokens": tokens.content_id, "checkpoint": checkpoint.model_id}
    recipe = recipe_of(settings, compute)
    with lock(layout.lock(layout.evaluation)):
        found = up_to_date(layout.evaluation, "evaluation", manifest.fingerprint("evaluation", parents, recipe))
        if found:
            return found
        report = _measure(settings, compute, layout, checkpoint, watch)
        with new_folder(layout.evaluation) as folder:
            write_file(folder / REPORT, (json.dumps(report, indent=2) + "\n").encode())
            facts = {"step": checkpoint.step, **report}
            made = manifest.write(folder, "evaluation", parents=parents, settings=recipe, facts=facts)
    return Outcome(layout.evaluation, made, made=True)


def read_report(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / REPORT).read_bytes())
    return report


def _measure(
    settings: EvaluationSettings, compute: ComputeSettings, layout: Layout, checkpoint: files.Checkpoint, watch: Watch
) -> dict[str, JsonValue]:
    table = TokenTable(layout.tokens)
    model = files.load_model(checkpoint, pick_device(compute.device))
    device = next(model.encoder.parameters()).device
    dtype = pick_dtype(compute.precision, device)
    seed = checkpoint.manifest.settings.get("seed")
    task = held_task(table, settings, seed=seed if isinstance(seed, int) else 0)
    report: dict[str, JsonValue] = {}
    if task is not None:
        untrained = initialise(model.encoder.shape, seed if isinstance(seed, int) else 0).to(device)
        report["retrieval"] = {
            **_described(task),
            "model": dict(evaluate_model(model.encoder, table, task, settings, dtype=dtype, watch=watch)),
            "untrained": dict(evaluate_model(untrained, table, task, settings, dtype=dtype, watch=watch)),
            "bm25": dict(evaluate_bm25(table, task, settings)),
        }
    if settings.similarity_file is not None:
        report["similarity"] = dict(evaluate_similarity(model, settings.similarity_file, dtype=dtype))
    if not report:
        raise DataError(
            "there is nothing to evaluate on: no record is held out and no similarity file is set",
            hint="raise data.held_percent and tokenize again, or set evaluation.similarity_file",
        )
    return report


def _described(task: Task) -> dict[str, JsonValue]:
    return {"task": task.kind, "queries": len(task.queries), "records": len(task.records)}
