"""Embedding, against SentenceTransformer.encode on the same texts: python -m benchmarks.embedding DATA MODEL

DATA holds medquad/; MODEL is the folder of a published model (all-MiniLM-L6-v2). The texts are the paragraphs of its
answers, each once, longer ones cut after 150 words so that nearly all fit into 256 tokens. On embedctl's side counts
all that it takes from the texts to the committed artifact: `data tokenize` and `embed generate` without a cache, as the
commands themselves measure it. On the other side counts `encode` alone, with the model loaded. Every side runs in a
process of its own, in turn.
"""

import argparse
import gzip
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import encoders
from benchmarks.machine import describe, half_precision

# Products of bfloat16 are several times as fast with AMX, on all sides: figures with and without it stand side by side.
RESULT = Path(__file__).parent / "results" / "embedding.json"
WITHOUT_AMX = RESULT.with_name("embedding_without_amx.json")
WITHOUT_HALF = RESULT.with_name("embedding_without_bf16.json")
WORDS = 150
KEPT = ("duplicate", "near_duplicate", "repetition", "too_short")
# The others, and how many times as fast as they embedctl has to be. Their best setting: half precision where the
# processor has it, and of some batch sizes the fastest on the first texts.
SIDES = {
    "encode, its defaults": 6.0,
    **({"encode, bf16": 1.7} if half_precision() else {"encode, its best setting": 1.7}),
    "onnxruntime": 1.7,
    **({"OpenVINO, bf16": 1.7} if half_precision() else {"OpenVINO": 1.7}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--records", type=int, default=2000, help="answers whose paragraphs are the passages")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--memory", action="store_true", help="only the memory for 100,000 and 1,000,000 chunks")
    parser.add_argument("--theirs", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.theirs:
        print(json.dumps(encoders.encode_theirs(options)))
        return
    path = WITHOUT_HALF if not half_precision() else RESULT if "AMX" in describe()["processor"] else WITHOUT_AMX
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    with tempfile.TemporaryDirectory() as name:
        options.folder = Path(name)
        if options.memory:
            result |= memory(options)
            path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
            print(result["memory_mib"])
            return
        write_passages(options)
        for step in ("fetch", "validate", "tokenize"):
            embedctl(options, "data", step)
        result |= {**speed(options), **repeats(options), **cache(options)}
    result["command"] = (
        f"python -m benchmarks.embedding DATA MODEL --records {options.records} --rounds {options.rounds}"
    )
    result["machine"] = describe("sentence-transformers", "transformers", "onnxruntime", "openvino")
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


def speed(options: argparse.Namespace) -> dict[str, Any]:
    """Texts per second of every side, and the worst cosine of its vectors to those of the defaults.

    A side is compared with embedctl just before it and just after it, as the machine is not equally fast all the time.
    """
    ours = [own_seconds(options)]
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    ratios: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(options.rounds):
        for side in SIDES:
            seconds[side].append(other(options, side)["seconds"])
            ours.append(own_seconds(options))
            ratios[side].append(seconds[side][-1] / statistics.mean(ours[-2:]))
    ids, mine = own_vectors(options)
    reference = np.load(options.folder / "encode, its defaults.npy")
    return {
        "texts": len(ids),
        "repeated": repeated(options),
        "tokens_of_texts": lengths(options),
        "texts_per_second": round(len(ids) / statistics.median(ours), 1),
        "worst_cosine": round(float(cosines(mine, reference).min()), 5),
        "sides": {
            side: {
                "texts_per_second": round(len(ids) / statistics.median(seconds[side]), 1),
                "ratio": round(statistics.median(ratios[side]), 2),
                "ratios": [round(ratio, 3) for ratio in ratios[side]],
                "target": target,
                "worst_cosine": round(float(cosines(np.load(options.folder / f"{side}.npy"), reference).min()), 5),
            }
            for side, target in SIDES.items()
        },
    }


def lengths(options: argparse.Namespace) -> list[int]:
    """Tokens of the passages: a tenth has fewer, half, a tenth has more."""
    from embedctl.tokens.shards import TokenTable

    return [int(n) for n in np.percentile(TokenTable(options.folder / "ws/tokens/main").lengths, (10, 50, 90))]


def repeats(options: argparse.Namespace) -> dict[str, Any]:
    """The same corpus with every text twice, against it once before and once after."""

    def once(run: str) -> float:
        return float(embedctl(options, "embed", "generate", "--no-cache", run=run)["measured"]["seconds"])

    before = once("before")
    twice = options.folder / "twice"
    for step in (("data", "fetch"), ("data", "validate"), ("data", "tokenize")):
        embedctl(options, *step, path=options.folder / "doubled.jsonl", workspace=twice)
    told = embedctl(options, "embed", "generate", "--no-cache", path=options.folder / "doubled.jsonl", workspace=twice)
    return {
        "repeats": {
            "share": round(told["measured"]["repeated"] / told["facts"]["vectors"], 3),
            "seconds": told["measured"]["seconds"],
            "of_twice": round(told["measured"]["seconds"] / (before + once("after")), 2),
        }
    }


def cache(options: argparse.Namespace) -> dict[str, Any]:
    """An empty cache against none, and a second run that finds everything."""
    without = embedctl(options, "embed", "generate", "--no-cache", run="without")["measured"]["seconds"]
    filling = embedctl(options, "embed", "generate", run="filling")["measured"]["seconds"]
    found = embedctl(options, "embed", "generate", run="found")["measured"]
    return {
        "cache": {
            "filling_of_without": round(filling / without, 3),
            "found_of_without": round(found["seconds"] / without, 3),
            "hits": found["cached"],
        }
    }


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """Peak memory of embedding 100,000 and 1,000,000 chunks with a model that costs next to nothing."""
    peaks = {}
    for chunks in (100_000, 1_000_000):
        workspace = options.folder / f"ws-{chunks}"
        path = options.folder / f"{chunks}.jsonl"
        with path.open("w", encoding="utf-8") as stream:
            for n in range(chunks):
                text = f"Sentence {n} says {n * 7919 % 104729} of {n * 31 % 997} and nothing else."
                row = {"id": str(n), "question": f"what says {n}?", "answer": text}
                stream.write(json.dumps(row) + "\n")
        small = ("model.layers=0", "model.dim=64", "model.init_from=", "embedding.model=")
        more = (
            *small,
            "validation.actions.held_text_in_training=keep",
            "tokens.vocabulary_size=1000",
            "data.query_field=question",
        )
        chosen: dict[str, Any] = {"path": path, "workspace": workspace, "more": more}
        for step in (("data", "fetch"), ("data", "validate"), ("data", "tokenize"), ("train", "--max-steps", "1")):
            embedctl(options, *step, **chosen)
        told = embedctl(options, "embed", "generate", "--no-cache", peak=(peak := []), **chosen)
        assert told["facts"]["vectors"] >= chunks * 0.99, told
        peaks[f"{told['facts']['vectors']}"] = round(max(peak) / 2**20)
    return {"memory_mib": peaks}


def memory_told(result: dict[str, Any]) -> str:
    if "memory_mib" not in result:
        return "Memory was not measured."
    (few, small), (many, large) = sorted((int(chunks), mib) for chunks, mib in result["memory_mib"].items())
    return f"`embed generate` of {few:,} chunks holds {small} MiB at most, of {many:,} chunks {large} MiB (`--memory`)."


def write_passages(options: argparse.Namespace) -> None:
    """``passages.jsonl`` and, with each of them twice, ``doubled.jsonl``."""
    with gzip.open(options.data / "medquad/qa.jsonl.gz", "rt", encoding="utf-8") as stream:
        answers = [json.loads(line)["answer"] for line, _ in zip(stream, range(options.records), strict=False)]
    paragraphs = [line.split() for answer in answers for line in answer.split("\n")]
    pieces = (words[n : n + WORDS] for words in paragraphs for n in range(0, len(words), WORDS))
    rows = [{"id": str(number), "answer": text} for number, text in enumerate(dict.fromkeys(map(" ".join, pieces)))]
    again = [{**row, "id": f"{row['id']}-again"} for row in rows]
    for name, some in (("passages", rows), ("doubled", rows + again)):
        lines = "".join(json.dumps(row) + "\n" for row in some)
        (options.folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")


def own_seconds(options: argparse.Namespace) -> float:
    """From texts to the artifact, made anew."""
    shutil.rmtree(options.folder / "ws/tokens", ignore_errors=True)
    shutil.rmtree(options.folder / "ws/vectors", ignore_errors=True)
    steps = (("data", "tokenize"), ("embed", "generate", "--no-cache"))
    return sum(float(embedctl(options, *step)["measured"]["seconds"]) for step in steps)


def repeated(options: argparse.Namespace) -> int:
    """Passages that embedctl need not embed, since others are the same."""
    from embedctl.tokens.shards import TokenTable

    table = TokenTable(options.folder / "ws/tokens/main")
    return len(table) - len(set(table.strings("text", list(range(len(table))))))


def embedctl(
    options: argparse.Namespace,
    *words: str,
    run: str = "main",
    path: Path | None = None,
    workspace: Path | None = None,
    more: tuple[str, ...] = (),
    peak: list[int] | None = None,
) -> dict[str, Any]:
    """What the command says. ``peak``: the bytes of memory that it had at most are put there."""
    settings = (
        f"data.path={path or options.folder / 'passages.jsonl'}",
        "data.text_field=answer",
        "data.held_percent=0",
        *(f"validation.actions.{name}=keep" for name in KEPT),
        f"model.init_from={options.model.absolute()}",
        f"embedding.model={options.model.absolute()}",
        "tokens.max_tokens=256",
        "tokens.overlap_tokens=0",
        f"project.run={run}",
        *more,
    )
    chosen = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "embedctl", "--workspace", str(workspace or options.folder / "ws"), "--json", "-q"]
    with subprocess.Popen([*command, *chosen, *words], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, said
    if peak is not None:
        peak.append(used.ru_maxrss * 1024)
    found: dict[str, Any] = json.loads(said)
    return found


def own_vectors(options: argparse.Namespace) -> tuple[list[str], np.ndarray[Any, Any]]:
    from embedctl.embedding.vectors import matrix, read_vectors

    batches = list(read_vectors(options.folder / "ws/vectors/main", 4096))
    ids = [id_ for batch in batches for id_ in batch.column("id").to_pylist()]
    return ids, np.concatenate([matrix(batch) for batch in batches])


def cosines(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    found: np.ndarray[Any, Any] = (one * other).sum(axis=1) / lengths
    return found


def other(options: argparse.Namespace, side: str) -> dict[str, Any]:
    words = [str(options.data), str(options.model), "--theirs", side, "--folder", str(options.folder)]
    command = [sys.executable, "-m", "benchmarks.embedding", *words]
    made = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(made.stdout.splitlines()[-1])
    return found


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        f"| {result['texts']:,} passages, all-MiniLM-L6-v2, 2 CPU cores | passages/s | embedctl is | worst cosine |",
        "|---|--:|--:|--:|",
        f"| embedctl, from texts to the artifact | {result['texts_per_second']} | | {result['worst_cosine']} |",
    ]
    for side, row in result["sides"].items():
        lines.append(f"| {side} | {row['texts_per_second']} | {row['ratio']} × as fast | {row['worst_cosine']} |")
    machine = ", ".join(result["machine"][name] for name in ("processor", "memory", "system", "versions"))
    repeats, cache = result["repeats"], result["cache"]
    return "\n".join(
        [
            *lines,
            "",
            "A tenth of the passages has less than {} tokens, half less than {}, a tenth more than {}; {} are the "
            "same as others.".format(*result["tokens_of_texts"], result["repeated"]),
            f"With every one twice it takes {repeats['of_twice']:.0%} of twice the time. Filling the cache takes "
            f"{cache['filling_of_without']:.0%} of the time without, a run that finds everything in it "
            f"{cache['found_of_without']:.0%}. {memory_told(result)}",
            "",
            f"Measured on {result['machine']['date']}: {machine}. Command: `{result['command']}`.",
        ]
    )


if __name__ == "__main__":
    main()
