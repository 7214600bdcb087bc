"""Training, against sentence-transformers' trainer on the same pairs: python -m benchmarks.training DATA MODEL

DATA holds medquad/; MODEL is the folder of a published model (all-MiniLM-L6-v2). Both sides begin with its weights and
see the same batches of 64 pairs, texts of at most 256 tokens, on the same machine in turn: embedctl by its own command,
the other by SentenceTransformerTrainer with MultipleNegativesRankingLoss. With --epoch both train for a whole epoch and
are compared on the held-out questions instead: embedctl once as the other side does, and once with a negative beside
each pair, which `embedctl mine` finds in the same data with the same weights; in some orders of the pairs (--seeds), as
the order makes a difference of its own. The other side needs `pip install accelerate`.
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

from benchmarks import trainers
from benchmarks.machine import describe, half_precision

RESULT = Path(__file__).parent / "results" / "training.json"
WITHOUT_HALF = RESULT.with_name("training_without_bf16.json")
# The best that was found for the other side: half precision where the processor has it, no dropout, fused attention.
SIDES = {"its defaults": 8.0, "its best setting": 2.0}
QUALITY = {
    "embedctl": "embedctl",
    "mined": "embedctl, with a mined negative beside each pair; mining is in the minutes",
    "sentence-transformers": "sentence-transformers",
}
RATE = 5e-5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epoch", action="store_true", help="compare the quality after one epoch, not the speed")
    parser.add_argument("--seeds", type=int, default=1, help="orders of the pairs that --epoch trains in")
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--theirs", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.theirs:
        print(json.dumps(trainers.train_theirs(options, RATE)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for step in ("fetch", "validate", "tokenize"):
            embedctl(folder, options, "data", step)
        part, measure_part = ("quality", quality) if options.epoch else ("speed", speed)
        measured = measure_part(folder, options)
    path = RESULT if half_precision() else WITHOUT_HALF
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    how = f"--epoch --seeds {options.seeds}" if options.epoch else f"--steps {options.steps} --rounds {options.rounds}"
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
    """Metrics on the held-out questions after one epoch and the minutes that it took, means of the seeds."""
    began = time.perf_counter()
    embedctl(folder, options, "mine", "--per-query", "1", "--model", str(options.model.absolute()))
    mining = (time.perf_counter() - began) / 60
    found: dict[str, list[dict[str, float]]] = {side: [] for side in QUALITY}
    for seed in range(options.seeds):
        options.seed = seed
        report = after_an_epoch(folder, options, f"plain-{seed}")
        mined = after_an_epoch(folder, options, f"mined-{seed}", "training.hard_negatives=1")
        theirs = other(folder, options, "its best setting", 0)
        found["embedctl"].append({**report["model"], "minutes": minutes(folder, f"plain-{seed}")})
        found["mined"].append({**mined["model"], "minutes": mining + minutes(folder, f"mined-{seed}")})
        found["sentence-transformers"].append({**theirs["metrics"], "minutes": sum(theirs["seconds"]) / 60})
        print({side: rows[-1] for side, rows in found.items()}, file=sys.stderr, flush=True)
    return {
        "queries": report["queries"],
        "records": report["records"],
        **{
            side: {name: statistics.mean(row[name] for row in rows) for name in rows[0]} for side, rows in found.items()
        },
        "ndcg_at_10_by_seed": {side: [row["ndcg_at_10"] for row in rows] for side, rows in found.items()},
        "before": report["untrained"],
        "bm25": report["bm25"],
    }


def after_an_epoch(folder: Path, options: argparse.Namespace, run: str, *more: str) -> dict[str, Any]:
    """What `eval` says of retrieval then, in float32 as on the other side."""
    more = (f"project.seed={options.seed}", *more)
    embedctl(folder, options, "train", run=run, more=more)
    embedctl(folder, options, "eval", run=run, more=("compute.precision=fp32", *more))
    report = json.loads((folder / "ws/evaluation" / run / "report.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = report["retrieval"]
    return found


def minutes(folder: Path, run: str) -> float:
    return sum(step_seconds(folder, run)) / 60


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
    words += ["--seed", str(options.seed)]
    made = subprocess.run(
        [sys.executable, "-m", "benchmarks.training", *words], check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(made.stdout.splitlines()[-1])
    return found


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
    if "quality" in result:
        lines += ["", *quality_table(result["quality"])]
    return "\n".join(lines)


def quality_table(found: dict[str, Any]) -> list[str]:
    lines = [
        f"| after one epoch, {found['queries']:,} held-out questions | nDCG@10 | recall@10 | minutes |",
        "|---|--:|--:|--:|",
    ]
    for name, title in {**QUALITY, "before": "the model before", "bm25": "BM25"}.items():
        row = found[name]
        took = f"{row['minutes']:.1f}" if "minutes" in row else ""
        lines.append(f"| {title} | {row['ndcg_at_10']:.4f} | {row['recall_at_10']:.3f} | {took} |")
    by_seed = found["ndcg_at_10_by_seed"]
    theirs = by_seed["sentence-transformers"]
    told = []
    for side, title in {"embedctl": "embedctl", "mined": "with mined negatives"}.items():
        apart = [one - other for one, other in zip(by_seed[side], theirs, strict=True)]
        error = f" ± {statistics.stdev(apart) / len(apart) ** 0.5:.4f}" if len(apart) > 1 else ""
        told.append(f"{title} {statistics.mean(apart):+.4f}{error}")
    lines += [
        "",
        f"Means of {len(theirs)} orders of the pairs, each the same on all sides. nDCG@10 less that of "
        f"sentence-transformers, with its standard error: {', '.join(told)}.",
    ]
    return [*lines, "", measured_on(found)]


def measured_on(part: dict[str, Any]) -> str:
    machine = part["machine"]
    made = ", ".join(machine[name] for name in ("processor", "memory", "system", "versions"))
    return f"Measured on {machine['date']}: {made}. Command: `{part['command']}`."


if __name__ == "__main__":
    main()
