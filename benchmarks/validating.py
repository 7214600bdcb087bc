"""Validation, the whole command, every check as it is set by default: python -m benchmarks.validating DATA

DATA is a folder with medquad/, digitalgov_web/, eltec_novels/ and pubmedqa/ (texts). Their texts come once as they are
and then, until there are MEGABYTES of them, with a third of the words of their vocabulary replaced by others about as
frequent, in each turn another third: so each turn has the copies and near copies that the texts have among themselves,
and next to none of another turn.
"""

import argparse
import json
import pstats
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from benchmarks.tokenizing import peak_bytes, read_texts

RESULT = Path(__file__).parent / "results" / "validating.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[250, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stages", action="store_true", help="only the seconds of the steps of one run")
    parser.add_argument("--memory", action="store_true", help="only the memory that embedctl takes")
    options = parser.parse_args()
    sizes = [measure(options, megabytes) for megabytes in options.megabytes]
    if options.memory or options.stages:
        return
    result: dict[str, Any] = {
        "command": f"python -m benchmarks.validating DATA --megabytes {' '.join(map(str, options.megabytes))}",
        "machine": describe("google-re2", "xxhash", "pyarrow"),
        "sizes": sizes,
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


def measure(options: argparse.Namespace, megabytes: int) -> dict[str, Any]:
    """What so much text takes; with ``--memory`` or ``--stages`` that is printed and nothing else is."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = write_text(options.data, folder / "text.jsonl", megabytes * 10**6)
        run(folder, "data", "fetch")
        if options.memory:
            peak = peak_bytes(folder, command("data", "validate"))
            print(f"{size / 1e6:,.0f} MB of text: {peak / 2**20:,.0f} MiB at most, all processes together")
            return {}
        if options.stages:
            print(stages(folder))
            return {}
        seconds = [validate(folder) for _ in range(options.rounds)]
        report = json.loads((folder / "ws/validation/main/report.json").read_bytes())
    return {
        "megabytes": round(size / 1e6, 1),
        "records": report["records"],
        "dropped_as_copies": sum(report["duplicates"][check] for check in ("duplicate", "near_duplicate")),
        "seconds": [round(each, 2) for each in seconds],
    }


def validate(folder: Path) -> float:
    """Judge the corpus from the beginning; the wall time in seconds, from the shell and back."""
    shutil.rmtree(folder / "ws" / "validation", ignore_errors=True)
    began = time.perf_counter()
    run(folder, "data", "validate")
    return time.perf_counter() - began


def stages(folder: Path) -> str:
    """The steps of ``validate`` in the process that was started, each with its seconds; the others work beside it."""
    profile = folder / "profile"
    words = command("data", "validate")
    began = time.perf_counter()
    subprocess.run([words[0], "-m", "cProfile", "-o", str(profile), *words[1:]], cwd=folder, check=True)
    whole = time.perf_counter() - began
    known = pstats.Stats(str(profile)).stats  # type: ignore[attr-defined]
    place = next(key for key in known if key[2] == "validate" and key[0].endswith("data/validation.py"))
    took = {key[2]: callers[place][3] for key, (*_, callers) in known.items() if place in callers}
    rows = [(name, seconds) for name, seconds in sorted(took.items(), key=lambda row: -row[1]) if seconds >= 0.005]
    rows.append(("(start and end of the command)", whole - known[place][3]))
    return "\n".join(f"{seconds:7.2f} s  {name}" for name, seconds in rows)


def run(folder: Path, *words: str) -> None:
    subprocess.run(command(*words), cwd=folder, stdout=subprocess.DEVNULL, check=True)


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "embedctl", "-q", "--workspace", "ws", "--set", "data.path=text.jsonl", *words]


def write_text(data: Path, path: Path, size: int) -> int:
    """Texts under distinct ids until there are ``size`` bytes of them; the bytes written."""
    texts = list(read_texts(data))
    words = [word for word, _ in Counter(word for text in texts for word in text.split(" ")).most_common()]
    written = 0
    with path.open("w", encoding="utf-8") as file:
        for turn in range(10**6):
            other = replaced(words, turn)
            for number, text in enumerate(texts):
                here = " ".join([other.get(word, word) for word in text.split(" ")]) if turn else text
                file.write(json.dumps({"id": f"{turn}-{number}", "text": here}, ensure_ascii=False) + "\n")
                written += len(here.encode())
                if written >= size:
                    return written
    raise AssertionError("unreachable")


def replaced(words: list[str], turn: int) -> dict[str, str]:
    """A third of the ``words``, which stand in the order of their frequency: each with another about as frequent."""
    draw = random.Random(turn)
    chosen = [word for word in words if draw.random() < 1 / 3]
    return dict(zip(chosen, [*chosen[1:], *chosen[:1]], strict=True))


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    machine = result["machine"]
    lines = ["| text | records | copies among them | s | MB/s, best and worst of the rounds |", "|--:|--:|--:|--:|--:|"]
    for size in result["sizes"]:
        best, worst = min(size["seconds"]), max(size["seconds"])
        lines.append(
            f"| {size['megabytes']:,.0f} MB | {size['records']:,} | {size['dropped_as_copies']:,} | {best:.1f} "
            f"| {size['megabytes'] / best:.1f}, {size['megabytes'] / worst:.1f} |"
        )
    measured = f"Measured on {machine['date']}: {machine['processor']}, {machine['versions']}."
    return "\n".join([*lines, "", f"{measured} Command: `{result['command']}`."])


if __name__ == "__main__":
    main()
