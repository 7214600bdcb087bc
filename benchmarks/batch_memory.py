"""Peak memory of training, by pairs in a batch: python -m benchmarks.batch_memory DATA

DATA holds medquad/. A nano model is trained from scratch with 64 pairs in memory at a time, on 16,384 pairs: in 256
batches of 64, and in two of 8,192. Of each run the largest resident memory of its process is told. Both are on as many
pairs, since what the allocator keeps grows with the number of chunks that a process has gone through.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import describe

RESULT = Path(__file__).parent / "results" / "batch_memory.json"
# Pairs in a batch, and how many batches.
BATCHES = {64: 256, 8192: 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    peaks: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for step in ("fetch", "validate", "tokenize"):
            embedctl(folder, options.data, "data", step)
        for pairs, steps in BATCHES.items():
            peaks[str(pairs)] = embedctl(folder, options.data, "train", pairs=pairs, steps=steps)
            print(f"{pairs} pairs: {peaks[str(pairs)] / 2**20:,.0f} MiB", flush=True)
    result = {"peak_bytes": peaks, "command": "python -m benchmarks.batch_memory DATA", "machine": describe()}
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


def embedctl(folder: Path, data: Path, *words: str, pairs: int = 64, steps: int = 1) -> int:
    """Run a command; the most memory that its process held, in bytes."""
    settings = (
        f"data.path={data.absolute() / 'medquad/qa.jsonl.gz'}",
        "data.text_field=answer",
        "data.query_field=question",
        "tokens.max_tokens=128",
        "tokens.overlap_tokens=16",
        "model.size=nano",
        "training.chunk_pairs=64",
        f"training.batch_pairs={pairs}",
        f"training.steps={steps}",
        "training.tensorboard=false",
        "evaluation.documents=held",
        f"project.run=pairs-{pairs}",
    )
    chosen = [word for setting in settings for word in ("--set", setting)]
    running = subprocess.Popen(
        [sys.executable, "-m", "embedctl", "-q", "--workspace", "ws", *chosen, *words], cwd=folder
    )
    _, status, used = os.wait4(running.pid, 0)
    if status:
        sys.exit(f"embedctl {' '.join(words)} ended with {os.waitstatus_to_exitcode(status)}")
    return used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    few, many = (result["peak_bytes"][str(pairs)] for pairs in BATCHES)
    machine = result["machine"]
    made = ", ".join(machine[name] for name in ("processor", "memory", "system", "versions"))
    return (
        "| pairs in a batch, 64 of them in memory at a time | batches | most memory held |\n"
        "|--:|--:|--:|\n"
        f"| 64 | 256 | {few / 2**20:,.0f} MiB |\n"
        f"| 8,192 | 2 | {many / 2**20:,.0f} MiB |\n\n"
        f"Measured on {machine['date']}: {made}. Command: `{result['command']}`."
    )


if __name__ == "__main__":
    main()
