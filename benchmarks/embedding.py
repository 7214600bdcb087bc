"""Embedding, against SentenceTransformer.encode on the same texts: python -m benchmarks.embedding DATA MODEL

DATA holds medquad/; MODEL is the folder of a published model (all-MiniLM-L6-v2). The texts are its answers, cut into
chunks of at most 256 tokens. On embedctl's side counts all that it takes from the texts to the committed artifact:
`data tokenize` and `embed generate` without a cache, as the commands themselves measure it. On the other side counts
`encode` alone, with the model loaded. Every side runs in a process of its own, in turn.
"""

import argparse
import gzip
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe

RESULT = Path(__file__).parent / "results" / "embedding.json"
# The others, and how many times as fast as they embedctl has to be. Their best setting: half precision, and of some
# batch sizes the fastest on the first texts.
SIDES = {
    "encode, its defaults": 6.0,
    "encode, bf16": 1.7,
    "onnxruntime": 1.7,
    "OpenVINO, bf16": 1.7,
}
BATCHES = (16, 32, 64, 128)
TRIED = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--records", type=int, default=1200, help="answers; each is one or more passages")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--theirs", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.theirs:
        print(json.dumps(encode_theirs(options)))
        return
    with tempfile.TemporaryDirectory() as name:
        options.folder = Path(name)
        for step in ("fetch", "validate", "tokenize"):
            embedctl(options, "data", step)
        result = {**speed(options), **repeats(options), **cache(options)}
    result["command"] = (
        f"python -m benchmarks.embedding DATA MODEL --records {options.records} --rounds {options.rounds}"
    )
    result["machine"] = describe("sentence-transformers", "transformers", "onnxruntime", "openvino")
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


def speed(options: argparse.Namespace) -> dict[str, Any]:
    """Texts per second of every side, and the worst cosine of its vectors to those of the defaults."""
    ours: list[float] = []
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for number in range(options.rounds):
        for side in list(SIDES)[: None if number == 0 else 2]:
            ours.append(own_seconds(options))
            seconds[side].append(other(options, side)["seconds"])
    ids, mine = own_vectors(options)
    reference = np.load(options.folder / "encode, its defaults.npy")
    mean = statistics.median(ours)
    return {
        "texts": len(ids),
        "texts_per_second": round(len(ids) / mean, 1),
        "worst_cosine": round(float(cosines(mine, reference).min()), 5),
        "sides": {
            side: {
                "texts_per_second": round(len(ids) / statistics.median(seconds[side]), 1),
                "ratio": round(statistics.median(seconds[side]) / mean, 2),
                "target": target,
                "worst_cosine": round(float(cosines(np.load(options.folder / f"{side}.npy"), reference).min()), 5),
            }
            for side, target in SIDES.items()
        },
    }


def repeats(options: argparse.Namespace) -> dict[str, Any]:
    """The same corpus with every text twice, against twice as long as once."""
    once = embedctl(options, "embed", "generate", "--no-cache", run="once")["measured"]["seconds"]
    twice = options.folder / "twice"
    (options.folder / "doubled.jsonl").write_text("".join(doubled(options)), encoding="utf-8")
    for step in (("data", "fetch"), ("data", "validate"), ("data", "tokenize")):
        embedctl(options, *step, path=options.folder / "doubled.jsonl", workspace=twice)
    told = embedctl(options, "embed", "generate", "--no-cache", path=options.folder / "doubled.jsonl", workspace=twice)
    return {
        "repeats": {
            "share": round(told["measured"]["repeated"] / told["facts"]["vectors"], 3),
            "seconds": told["measured"]["seconds"],
            "of_twice": round(told["measured"]["seconds"] / (2 * once), 2),
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


def doubled(options: argparse.Namespace) -> list[str]:
    with gzip.open(options.data / "medquad/qa.jsonl.gz", "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line, _ in zip(stream, range(options.records), strict=False)]
    return [
        json.dumps({"id": f"{n}-{copy}", "answer": row["answer"]}) + "\n" for copy in "ab" for n, row in enumerate(rows)
    ]


def own_seconds(options: argparse.Namespace) -> float:
    """From texts to the artifact, made anew."""
    shutil.rmtree(options.folder / "ws/tokens", ignore_errors=True)
    shutil.rmtree(options.folder / "ws/vectors", ignore_errors=True)
    began = time.monotonic()
    embedctl(options, "data", "tokenize")
    tokenizing = time.monotonic() - began
    return tokenizing + float(embedctl(options, "embed", "generate", "--no-cache")["measured"]["seconds"])


def embedctl(
    options: argparse.Namespace, *words: str, run: str = "main", path: Path | None = None, workspace: Path | None = None
) -> dict[str, Any]:
    settings = (
        f"data.path={(path or options.data / 'medquad/qa.jsonl.gz').absolute()}",
        "data.text_field=answer",
        f"data.max_records={0 if path else options.records}",
        "data.held_percent=0",
        *(f"validation.actions.{name}=keep" for name in ("duplicate", "near_duplicate")),
        f"model.init_from={options.model.absolute()}",
        f"embedding.model={options.model.absolute()}",
        "tokens.max_tokens=256",
        "tokens.overlap_tokens=0",
        f"project.run={run}",
    )
    chosen = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "embedctl", "--workspace", str(workspace or options.folder / "ws"), "--json", "-q"]
    made = subprocess.run([*command, *chosen, *words], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(made.stdout)
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


def encode_theirs(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds for all texts; the vectors stay in a file."""
    from embedctl.tokens.shards import TokenTable

    table = TokenTable(options.folder / "ws/tokens/main")
    texts = [str(text) for text in table.strings("text", list(range(len(table))))]
    if options.theirs.startswith("encode"):
        run, sizes = by_sentence_transformers(options), BATCHES if "bf16" in options.theirs else (32,)
    else:
        run, sizes = by_graph(options), BATCHES
    some = texts[:: max(1, len(texts) // TRIED)]
    run(some[:32], sizes[0])
    timed = {}
    for size in sizes if len(sizes) > 1 else ():
        began = time.perf_counter()
        run(some, size)
        timed[size] = time.perf_counter() - began
    best = min(timed, key=timed.__getitem__) if timed else sizes[0]
    began = time.perf_counter()
    vectors = run(texts, best)
    seconds = time.perf_counter() - began
    np.save(options.folder / f"{options.theirs}.npy", vectors)
    return {"seconds": seconds, "batch": best}


def by_sentence_transformers(options: argparse.Namespace) -> Any:
    import torch
    from sentence_transformers import SentenceTransformer

    kinds = {"torch_dtype": torch.bfloat16, "attn_implementation": "sdpa"} if "bf16" in options.theirs else {}
    model = SentenceTransformer(str(options.model), device="cpu", model_kwargs=kinds)

    def run(texts: list[str], batch: int) -> np.ndarray[Any, Any]:
        found = model.encode(texts, batch_size=batch, convert_to_tensor=bool(kinds), show_progress_bar=False)
        return found.float().numpy() if kinds else np.asarray(found)

    return run


def by_graph(options: argparse.Namespace) -> Any:
    """The model as ONNX, texts in order of length and padded by batches, as `encode` does it."""
    from tokenizers import Tokenizer

    from embedctl.model import graphs
    from embedctl.model.published import open_folder

    graphs.write_onnx(open_folder(options.model).encoder().eval(), options.folder)
    tokenizer = Tokenizer.from_file(str(options.model / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding()
    call = by_openvino(options.folder) if "OpenVINO" in options.theirs else by_onnxruntime(options.folder)

    def run(texts: list[str], batch: int) -> np.ndarray[Any, Any]:
        order = np.argsort([-len(text) for text in texts])
        found = []
        for first in range(0, len(texts), batch):
            encoded = tokenizer.encode_batch([texts[n] for n in order[first : first + batch]])
            ids = np.array([one.ids for one in encoded], np.int64)
            found.append(call(ids, np.array([one.attention_mask for one in encoded], np.int64)))
        vectors = np.empty((len(texts), found[0].shape[1]), np.float32)
        vectors[order] = np.concatenate(found)
        return vectors

    return run


def by_onnxruntime(folder: Path) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return lambda ids, mask: session.run(None, {"input_ids": ids, "attention_mask": mask})[0]


def by_openvino(folder: Path) -> Any:
    import openvino

    core = openvino.Core()
    hints = {"INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(core.read_model(folder / "model.onnx"), "CPU", hints)
    return lambda ids, mask: next(iter(compiled({"input_ids": ids, "attention_mask": mask}).values()))


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        f"| {result['texts']:,} passages, all-MiniLM-L6-v2, 2 CPU cores | texts/s | embedctl is | worst cosine |",
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
            f"With every text twice it takes {repeats['of_twice']:.0%} of twice the time. Filling the cache takes "
            f"{cache['filling_of_without']:.0%} of the time without, a run that finds everything in it "
            f"{cache['found_of_without']:.0%}.",
            "",
            f"Measured on {result['machine']['date']}: {machine}. Command: `{result['command']}`.",
        ]
    )


if __name__ == "__main__":
    main()
