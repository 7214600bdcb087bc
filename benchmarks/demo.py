"""The example of the README, measured: python -m benchmarks.demo

Runs examples/pubmedqa in an empty workspace, a second time, and one search; writes benchmarks/results/demo.json
and prints the table of the README.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import describe

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "benchmarks" / "results" / "demo.json"
NAMES = {"model": "the model of the demo", "untrained": "the same before training", "bm25": "BM25 (no model at all)"}
COLUMNS = {"recall_at_1": "recall@1", "recall_at_10": "recall@10", "ndcg_at_10": "nDCG@10", "mrr": "MRR"}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = ["--config", str(ROOT / "examples/pubmedqa/config.toml"), "--workspace", folder, "--json", "-q"]
        first, first_seconds = embedctl(*command, "run")
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        second, second_seconds = embedctl(*command, "run")
        _, search_seconds = embedctl(*command, "embed", "search", "Is obesity a risk factor for prostate cancer?")
        assert not any(step["made"] for step in second["steps"])
        help_seconds = min(embedctl("--help")[1] for _ in range(10))
        lines = (Path(folder) / "runs" / "main" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = {step["step"]: step for step in first["steps"]}
    metrics = [line for line in map(json.loads, lines) if "tokens_per_second" in line]
    result = {
        "command": "python -m benchmarks.demo",
        "machine": describe("lancedb"),
        "retrieval": steps["eval"]["facts"]["retrieval"],
        "seconds": {
            "run": round(first_seconds, 1),
            "train": steps["train"]["seconds"],
            "second_run": round(second_seconds, 1),
            "search": round(search_seconds, 1),
            "help": round(help_seconds, 2),
        },
        "peak_memory_gib": round(peak / 2**30, 2),
        "tokens_per_second": round(sorted(m["tokens_per_second"] for m in metrics)[len(metrics) // 2]),
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(tables(result))


def embedctl(*words: str) -> tuple[Any, float]:
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "embedctl", *words], check=True, capture_output=True, text=True)
    took = time.perf_counter() - began
    return (json.loads(done.stdout) if "--json" in words else None), took


def tables(result: dict[str, Any]) -> str:
    """The figures as the README shows them."""
    found, seconds = result["retrieval"], result["seconds"]
    machine = result["machine"]
    rows = [
        f"| {label} | " + " | ".join(f"{found[key][column]:.3f}" for column in COLUMNS) + " |"
        for key, label in NAMES.items()
    ]
    return "\n".join(
        [
            f"| {found['queries']} held-out questions against {found['records']:,} abstracts | "
            + " | ".join(COLUMNS.values())
            + " |",
            "|---|" + "--:|" * len(COLUMNS),
            *rows,
            "",
            "| what | figure |",
            "|---|--:|",
            f"| whole job, from raw text to store | {seconds['run']:.0f} s |",
            f"| of which training | {seconds['train']:.0f} s |",
            f"| training speed (median step) | {result['tokens_per_second']:,} tokens/s |",
            f"| most memory held | {result['peak_memory_gib']:.1f} GiB |",
            f"| the same command again, nothing to do | {seconds['second_run']:.1f} s |",
            f"| one search, from the shell and back | {seconds['search']:.1f} s |",
            f"| `embedctl --help` | {seconds['help']:.2f} s |",
            "",
            f"Measured on {machine['date']}: {machine['processor']}, {machine['memory']}, {machine['system']}, "
            f"{machine['versions']}. Command: `{result['command']}`.",
        ]
    )


if __name__ == "__main__":
    main()
