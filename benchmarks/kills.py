"""Kill training at random times until it is done; the weights have to be those of a run left alone.

python -m benchmarks.kills [RUNS]
"""

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import describe

RESULT = Path(__file__).parent / "results" / "kills.json"
KILLS = 12  # at most, in one run
SETTINGS = (
    "data.source=pubmedqa", "data.max_records=300", "tokens.vocabulary_size=1000", "tokens.max_tokens=64",
    "tokens.overlap_tokens=8", "model.layers=1", "model.dim=64", "model.intermediate_dim=128",
    "training.epochs=30", "training.batch_pairs=32", "training.tensorboard=false", "checkpoint.every_steps=2",
    "project.seed=3",
)  # fmt: skip


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    chance = random.Random(20261124)
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        expected = finish(Path(folder) / "alone")
        alone_seconds = time.monotonic() - began
        outcomes = [
            with_kills(Path(folder) / f"run-{number}", chance, expected, alone_seconds) for number in range(runs)
        ]
    result: dict[str, Any] = {
        "command": f"python -m benchmarks.kills {runs}",
        "machine": describe("safetensors"),
        "save_every_steps": 2,
        "runs": runs,
        "kills": sum(kills for kills, _ in outcomes),
        "equal": sum(equal for _, equal in outcomes),
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(sentence(result))
    sys.exit(result["equal"] != runs)


def with_kills(workspace: Path, chance: random.Random, expected: dict[str, str], whole: float) -> tuple[int, bool]:
    """Kill ``run`` at random times, as often as allowed, then let it end; (kills, equal)."""
    kills = 0
    for _ in range(KILLS):
        running = subprocess.Popen(command(workspace), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.3, whole / 2))
        if running.poll() is not None:
            break
        running.kill()
        kills += running.wait() == -signal.SIGKILL
    equal = finish(workspace) == expected
    print(f"{workspace.name}: {kills} kills, {'equal' if equal else 'DIFFERENT'}", flush=True)
    return kills, equal


def finish(workspace: Path) -> dict[str, str]:
    """SHA-256 of what training left, and of the vectors."""
    subprocess.run(command(workspace), check=True, stdout=subprocess.DEVNULL)
    last = sorted((workspace / "runs" / "main" / "checkpoints").glob("step-*"))[-1]
    found = {}
    for folder in (last, workspace / "vectors" / "main"):
        files = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
        found.update({f"{folder.name}/{name}": entry["sha256"] for name, entry in files.items() if "state" not in name})
    return found


def command(workspace: Path) -> list[str]:
    words = [sys.executable, "-m", "embedctl", "-q", "--workspace", str(workspace)]
    source = Path(__file__).parent.parent / "examples" / "pubmedqa" / "ori_pqal.json.gz"
    for setting in (*SETTINGS, f"data.path={source}"):
        words += ["--set", setting]
    return [*words, "run"]


def sentence(result: dict[str, Any]) -> str:
    return (
        f"{result['runs']} runs of the whole job, {result['kills']} SIGKILLs at random times: "
        f"{result['equal']} of {result['runs']} ended in the same bits as a run left alone"
    )


if __name__ == "__main__":
    main()
