"""Training, against sentence-transformers' trainer on the same pairs: python -m benchmarks.training DATA MODEL

DATA holds medquad/; MODEL is the folder of a published model (all-MiniLM-L6-v2). Both sides begin with its weights and
see the same batches of 64 pairs, texts of at most 256 tokens, on the same machine in turn: embedctl by its own command,
the other by SentenceTransformerTrainer with MultipleNegativesRankingLoss. With --epoch both train for a whole epoch and
are compared on the held-out questions instead: embedctl once as the other side does, and once with a negative beside
each pair, which `embedctl mine` finds in the same data with the same weights. The other side needs `pip install
accelerate`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import describe, half_precision

RESULT = Path(__file__).parent / "results" / "training.json"
WITHOUT_HALF = RESULT.with_name("training_without_bf16.json")
# The best that was found for the other side: half precision where the processor has it, no dropout, fused attention.
SIDES = {"its defaults": 8.0, "its best setting": 2.0}
RATE = 5e-5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epoch", action="store_true", help="compare the quality after one epoch, not the speed")
    parser.add_argument("--theirs", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.theirs:
        print(json.dumps(train_theirs(options)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for step in ("fetch", "validate", "tokenize"):
            embedctl(folder, options, "data", step)
        part, measure_part = ("quality", quality) if options.epoch else ("speed", speed)
        measured = measure_part(folder, options)
    path = RESULT if half_precision() else WITHOUT_HALF
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    how = "--epoch" if options.epoch else f"--steps {options.steps} --rounds {options.rounds}"
    command = f"python -m benchmarks.training DATA MODEL {how}"
    result[part] = {
        **measured,
        "command": command,
        "machine": describe("sentence-transformers", "transformers", "accelerate"),
    }
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(tables(result))


def speed(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Pairs per second of each side, in turn; the median of the rounds' median steps."""
    ours: list[float] = []
    theirs: dict[str, list[float]] = {side: [] for side in SIDES}
    for number in range(options.rounds):
        for side, rates in theirs.items():
            run = f"speed-{number}-{len(rates)}-{side.split()[1]}"
            embedctl(folder, options, "train", "--max-steps", str(options.steps), run=run, epochs=1)
            ours.append(64 / statistics.median(step_seconds(folder, run)[2:]))
            rates.append(64 / statistics.median(other(folder, options, side, options.steps)["seconds"][2:]))
    mine = statistics.median(ours)
    return {
        "pairs_per_second": round(mine, 1),
        **{
            side: {
                "pairs_per_second": round(statistics.median(rates), 1),
                "ratio": round(mine / statistics.median(rates), 2),
                "target": SIDES[side],
            }
            for side, rates in theirs.items()
        },
    }


def quality(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """nDCG@10 on the held-out questions after one epoch, and the minutes that it took."""
    report = after_an_epoch(folder, options, "epoch")
    began = time.perf_counter()
    embedctl(folder, options, "mine", "--per-query", "1", "--model", str(options.model.absolute()))
    mining = time.perf_counter() - began
    mined = after_an_epoch(folder, options, "mined", "training.hard_negatives=1")
    found = other(folder, options, "its best setting", 0)
    return {
        "queries": report["queries"],
        "records": report["records"],
        "embedctl": {**report["model"], "minutes": round(sum(step_seconds(folder, "epoch")) / 60, 1)},
        "mined": {**mined["model"], "minutes": round((mining + sum(step_seconds(folder, "mined"))) / 60, 1)},
        "sentence-transformers": {**found["metrics"], "minutes": round(sum(found["seconds"]) / 60, 1)},
        "before": report["untrained"],
        "bm25": report["bm25"],
    }


def after_an_epoch(folder: Path, options: argparse.Namespace, run: str, *more: str) -> dict[str, Any]:
    """What `eval` says of retrieval then."""
    for step in ("train", "eval"):
        embedctl(folder, options, step, run=run, more=more)
    report = json.loads((folder / "ws/evaluation" / run / "report.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = report["retrieval"]
    return found


def embedctl(
    folder: Path,
    options: argparse.Namespace,
    *words: str,
    run: str = "main",
    epochs: int = 1,
    more: tuple[str, ...] = (),
) -> None:
    settings = (
        f"data.path={options.data.absolute() / 'medquad/qa.jsonl.gz'}",
        "data.text_field=answer",
        "data.query_field=question",
        f"model.init_from={options.model.absolute()}",
        "tokens.max_tokens=256",
        "training.batch_pairs=64",
        f"training.learning_rate={RATE}",
        f"training.epochs={epochs}",
        "training.tensorboard=false",
        "evaluation.documents=held",
        f"project.run={run}",
        *more,
    )
    chosen = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "embedctl", "--workspace", "ws", *chosen, *words]
    subprocess.run(command, cwd=folder, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def step_seconds(folder: Path, run: str) -> list[float]:
    """What each step took, from its tokens and rate."""
    lines = [json.loads(line) for line in (folder / "ws/runs" / run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss_nats" in line]
    before = [0, *(line["tokens"] for line in steps)]
    return [(line["tokens"] - seen) / line["tokens_per_second"] for line, seen in zip(steps, before, strict=False)]


def other(folder: Path, options: argparse.Namespace, side: str, steps: int) -> dict[str, Any]:
    """The other side in a process of its own; 0 steps: one epoch and its quality."""
    words = [str(options.data), str(options.model), "--theirs", side, "--folder", str(folder), "--steps", str(steps)]
    made = subprocess.run(
        [sys.executable, "-m", "benchmarks.training", *words], check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(made.stdout.splitlines()[-1])
    return found


def train_theirs(options: argparse.Namespace) -> dict[str, Any]:
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, losses
    from sentence_transformers.training_args import SentenceTransformerTrainingArguments
    from torch.utils.data import SequentialSampler
    from transformers import TrainerCallback

    best = options.theirs == "its best setting"
    kinds: dict[str, Any] = {"attn_implementation": "sdpa"} if best else {}
    model = SentenceTransformer(str(options.model), device="cpu", model_kwargs=kinds)
    model.max_seq_length = 256
    if best:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    queries, passages = same_pairs(options, epochs=1)
    seconds: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *arguments: Any, **named: Any) -> None:
            self.started = time.perf_counter()

        def on_step_end(self, *arguments: Any, **named: Any) -> None:
            seconds.append(time.perf_counter() - self.started)

    class InOrder(SentenceTransformerTrainer):  # type: ignore[misc]
        """Batches as embedctl has them, so that both sides see the same."""

        def get_batch_sampler(self, dataset: Any, batch_size: int, drop_last: bool, **named: Any) -> Any:
            from sentence_transformers.sampler import DefaultBatchSampler

            return DefaultBatchSampler(SequentialSampler(dataset), batch_size=batch_size, drop_last=drop_last)

    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(options.folder / "theirs"),
        num_train_epochs=1,
        max_steps=options.steps or -1,
        per_device_train_batch_size=64,
        dataloader_drop_last=True,
        learning_rate=RATE,
        warmup_ratio=0.1,
        bf16=best and half_precision(),
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
    )
    data = Dataset.from_dict({"anchor": queries, "positive": passages})
    loss = losses.MultipleNegativesRankingLoss(model)
    InOrder(model=model, args=arguments, train_dataset=data, loss=loss, callbacks=[Clock()]).train()
    if options.steps:
        return {"seconds": seconds}
    model.save(str(options.folder / "trained"))
    return {"seconds": seconds, "metrics": measure(options, options.folder / "trained")}


def same_pairs(options: argparse.Namespace, *, epochs: int) -> tuple[list[str], list[str]]:
    """The texts of the pairs of embedctl's first epoch, in its order."""
    from embedctl.settings import TrainingSettings
    from embedctl.tokens.shards import TokenTable
    from embedctl.training.pairs import PairStream

    table = TokenTable(options.folder / "ws/tokens/main")
    stream = PairStream(table, TrainingSettings(batch_pairs=64), seed=0)
    batches = [stream.batch(number) for number in range(stream.batches_per_epoch * epochs)]
    texts = [
        [table.tokenizer.decode(ids.tolist()) for batch in batches for ids in part(batch)]
        for part in (lambda batch: batch.queries, lambda batch: batch.passages)
    ]
    return texts[0], texts[1]


def measure(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """The same evaluation as embedctl's, of a saved model."""
    import torch

    from embedctl.evaluation.retrieval import evaluate_model, held_task
    from embedctl.model.published import open_folder
    from embedctl.settings import EvaluationSettings
    from embedctl.tokens.shards import TokenTable

    settings = EvaluationSettings(documents="held")
    table = TokenTable(options.folder / "ws/tokens/main")
    task = held_task(table, settings, seed=0)
    assert task is not None
    return evaluate_model(open_folder(folder).encoder().eval(), table, task, settings, dtype=torch.float32)


def tables(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    speeds = result["speed"]
    lines = [
        "| training on 2 CPU cores, MedQuAD, 64 pairs | pairs/s | embedctl is |",
        "|---|--:|--:|",
        f"| embedctl | {speeds['pairs_per_second']} | |",
    ]
    for side in SIDES:
        row = speeds[side]
        lines.append(f"| SentenceTransformerTrainer, {side} | {row['pairs_per_second']} | {row['ratio']} × as fast |")
    lines += ["", measured_on(speeds)]
    found = result.get("quality")
    if found:
        lines += [
            "",
            f"| after one epoch, {found['queries']:,} held-out questions | nDCG@10 | recall@10 | minutes |",
            "|---|--:|--:|--:|",
        ]
        titles = {
            "embedctl": "embedctl",
            "mined": "embedctl, with a mined negative beside each pair; mining is in the minutes",
            "sentence-transformers": "sentence-transformers",
            "before": "the model before",
            "bm25": "BM25",
        }
        for name, title in titles.items():
            if name not in found:
                continue
            row = found[name]
            minutes = row.get("minutes", "")
            lines.append(f"| {title} | {row['ndcg_at_10']:.3f} | {row['recall_at_10']:.3f} | {minutes} |")
        lines += ["", measured_on(found)]
    return "\n".join(lines)


def measured_on(part: dict[str, Any]) -> str:
    machine = part["machine"]
    made = ", ".join(machine[name] for name in ("processor", "memory", "system", "versions"))
    return f"Measured on {machine['date']}: {made}. Command: `{part['command']}`."


if __name__ == "__main__":
    main()
