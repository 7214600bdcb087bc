"""From scratch, in less than half an hour on two cores, against BM25: python -m benchmarks.scratch DATA

DATA holds medquad/. The recipe is examples/medquad/config.toml as it stands; held-out questions against all held-out
answers. Nothing published goes into the model: its vocabulary and its weights come from the text alone.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import describe

RESULT = Path(__file__).parent / "results" / "scratch.json"
RECIPE = Path(__file__).parent.parent / "examples" / "medquad" / "config.toml"
STEPS = (("data", "fetch"), ("data", "validate"), ("data", "tokenize"), ("train",), ("eval",))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(RECIPE, folder)
        shutil.copy(options.data / "medquad" / "qa.jsonl.gz", folder)
        minutes = {}
        for words in STEPS:
            started = time.perf_counter()
            command = [sys.executable, "-m", "embedctl", "--config", RECIPE.name, *words]
            subprocess.run(command, cwd=folder, check=True)
            minutes[" ".join(words)] = round((time.perf_counter() - started) / 60, 1)
        report = json.loads((folder / "artifacts/evaluation/main/report.json").read_text(encoding="utf-8"))
        lines = (folder / "artifacts/runs/main/metrics.jsonl").read_text(encoding="utf-8").splitlines()
        steps = [line for line in map(json.loads, lines) if "loss_nats" in line]
    result = {
        "command": "python -m benchmarks.scratch DATA",
        "machine": describe(),
        "minutes": minutes,
        "tokens": steps[-1]["tokens"],
        "memory_bytes": max(line["memory_bytes"] for line in steps),
        "data_wait_share": sorted(line["data_wait_share"] for line in steps)[len(steps) // 2],
        **report["retrieval"],
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(tables(result))


def tables(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        f"| {result['queries']:,} held-out questions against {result['records']:,} answers "
        "| recall@1 | recall@10 | nDCG@10 | MRR |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, title in (("model", "from scratch"), ("bm25", "BM25 (no model at all)")):
        row = result[name]
        figures = " | ".join(f"{row[figure]:.3f}" for figure in ("recall_at_1", "recall_at_10", "ndcg_at_10", "mrr"))
        lines.append(f"| {title} | {figures} |")
    machine = result["machine"]
    made = ", ".join(machine[name] for name in ("processor", "memory", "system", "versions"))
    minutes = result["minutes"]
    lines += [
        "",
        f"{sum(minutes.values()):.0f} minutes in all, {minutes['train']:.0f} of them training on "
        f"{result['tokens'] / 1e6:.1f} million tokens. Measured on {machine['date']}: {made}. "
        f"Command: `{result['command']}`.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
