"""Upserting: exact under faults and kills, faster than a plain loop, and how fast.

python -m benchmarks.upserting [--faults]

Vectors are made up: clustered, 384 values, written as the artifact that `embed generate` leaves. Pinecone is the
loopback server of the tests, in a process of its own, behind the real SDK.
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.machine import describe
from embedctl.artifacts.layout import Layout
from embedctl.embedding.vectors import matrix, read_vectors
from tests.loopback_pinecone import APPLIED, BEFORE, KEY
from tests.postgres import serve
from tests.rows import batch, write_vectors

RESULT = Path(__file__).parent / "results" / "upserting.json"
DIM = 384
PART_ROWS = 8192  # of a part that `embed generate` writes, at most
# Share of faults -> vectors of a run, and the bar for vectors applied per vector stored.
FAULTS = {0.1: (48_000, 1.1), 0.3: (24_000, 1.25), 0.6: (12_000, 1.6)}
FAULT_DIM = 16
# Stores whose speed is measured, and how they are set. PostgreSQL is the one of the tests, with fsync.
STORES = {
    "LanceDB": ("store.kind=lancedb",),
    "LanceDB, `store.full_text = false`": ("store.kind=lancedb", "store.full_text=false"),
    "pgvector": ("store.kind=pgvector",),
    "pgvector, `store.full_text = false`": ("store.kind=pgvector", "store.full_text=false"),
    "pgvector, the same, `halfvec`": ("store.kind=pgvector", "store.full_text=false", "store.column=halfvec"),
}
FAULT_SETTINGS = ("store.kind=pinecone", "store.batch_size=50", "store.timeout_seconds=1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", action="store_true", help="only faults and kills; else only speed")
    parser.add_argument("--runs", type=int, default=5, help="of each share of faults")
    parser.add_argument("--kills", type=int, default=7, help="in each run")
    parser.add_argument("--rows", type=int, default=100_000)
    options = parser.parse_args()
    kept = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        if options.faults:
            found = {"faults": under_faults(Path(folder), options.runs, options.kills)}
        else:
            write(Path(folder), options.rows, DIM)
            found = {"plain_loop": against_a_loop(Path(folder)), "stores": speeds(Path(folder))}
    command = f"python -m benchmarks.upserting{' --faults' if options.faults else ''}"
    measured = {"command": command, "machine": describe("lancedb", "pinecone", "pyarrow")}
    section = "faults" if options.faults else "speed"
    result = {**kept, **found, "measured": {**kept.get("measured", {}), section: measured}}
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(tables(result))


def write(folder: Path, rows: int, dim: int) -> None:
    """Clustered vectors of length 1, with the metadata of a chunk and its text."""
    chance = np.random.default_rng(20261125)
    centres = chance.normal(size=(1000, dim)).astype(np.float32)
    parts = []
    for first in range(0, rows, PART_ROWS):
        count = min(PART_ROWS, rows - first)
        noise = chance.normal(size=(count, dim)).astype(np.float32)
        values = centres[chance.integers(len(centres), size=count)] + 0.5 * noise
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        parts.append(rows_of(first, values))
    write_vectors(Layout(folder / "ws", "main", "main"), *parts)


def rows_of(first: int, values: np.ndarray) -> pa.RecordBatch:
    numbers = range(first, first + len(values))
    text = "Patients with mild symptoms should rest and drink plenty of water; see a doctor when they last. " * 3
    metadata = [{"record": f"r{n}", "chunk": 0, "start": 0, "end": 288, "source": "a", "text": text} for n in numbers]
    return batch([f"r{n}#0" for n in numbers], values, digests=[f"{n:032x}" for n in numbers], metadata=metadata)


@contextmanager
def server(*words: str) -> Iterator[str]:
    running = subprocess.Popen(
        [sys.executable, "-m", "tests.loopback_pinecone", *words], stdout=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    try:
        yield running.stdout.readline().strip()
    finally:
        running.kill()
        running.wait()


def asked(url: str, what: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/{what}") as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def upsert(folder: Path, url: str, *settings: str) -> subprocess.Popen[str]:
    words = [word for setting in settings for word in ("--set", setting)]
    environment = {**os.environ, "PINECONE_CONTROLLER_HOST": url, "PINECONE_API_KEY": KEY}
    return subprocess.Popen(
        [sys.executable, "-m", "embedctl", "-q", "--json", "--workspace", "ws", *words, "embed", "upsert"],
        cwd=folder, env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def under_faults(folder: Path, runs: int, kills: int) -> list[dict[str, Any]]:
    found = []
    for share, (rows, bar) in FAULTS.items():
        outcomes = []
        for number in range(runs):
            at = folder / f"{share}-{number}"
            write(at, rows, FAULT_DIM)
            outcomes.append(with_kills(at, share, seed=number, rows=rows, kills=kills))
            print(f"{share:.0%} faults, run {number}: {outcomes[-1]}", flush=True)
        found.append(
            {
                "share": share,
                "bar": bar,
                "runs": runs,
                "vectors": rows,
                "kills": sum(one["kills"] for one in outcomes),
                "exact": sum(one["exact"] for one in outcomes),
                "applied_per_vector": round(statistics.mean(one["applied"] for one in outcomes) / rows, 3),
                "most_applied_per_vector": round(max(one["applied"] for one in outcomes) / rows, 3),
                "sent_per_vector": round(statistics.mean(one["sent"] for one in outcomes) / rows, 3),
                "kinds_of_faults": len(BEFORE + APPLIED),
            }
        )
    return found


def with_kills(folder: Path, share: float, *, seed: int, rows: int, kills: int) -> dict[str, Any]:
    """One upsert that is killed when the server has applied so and so many vectors, and then left to end."""
    done = 0
    with server("--faults", str(share), "--seed", str(seed)) as url:
        for applied in sorted(random.Random(seed).sample(range(rows // 50, int(rows * 0.95)), kills)):
            running = upsert(folder, url, *FAULT_SETTINGS)
            while asked(url, "_figures")["applied"] < applied and running.poll() is None:
                time.sleep(0.003)
            running.kill()
            done += running.wait() == -signal.SIGKILL
        ended = upsert(folder, url, *FAULT_SETTINGS).wait()
        found = asked(url, "_dump")
    return {
        "kills": done,
        "exact": ended == 0 and found["stored"].get("") == expected(folder),
        "sent": found["sent"],
        "applied": found["applied"],
    }


def expected(folder: Path) -> dict[str, str]:
    """id -> the bits of its vector."""
    rows = read_vectors(folder / "ws" / "vectors" / "main", 10_000)
    pairs = (zip(one.column("id").to_pylist(), matrix(one), strict=True) for one in rows)
    return {id_: vector.tobytes().hex() for some in pairs for id_, vector in some}


PLAIN = """
import json, sys, time
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from pinecone import Pinecone
url, key, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
table = pa.concat_tables(map(pq.read_table, sorted(Path("ws/vectors/main").glob("part-*.parquet")))).slice(0, rows)
assert len(table) == rows
ids, metadata = table.column("id").to_pylist(), [json.loads(m) for m in table.column("metadata").to_pylist()]
values = table.column("values").combine_chunks().flatten().to_numpy().reshape(len(ids), -1)
index = Pinecone(api_key=key).index(host=url)
began = time.perf_counter()
for first in range(0, len(ids), 100):
    one = slice(first, first + 100)
    records = zip(ids[one], values[one].tolist(), metadata[one])
    index.upsert(vectors=[{"id": i, "values": v, "metadata": m} for i, v, m in records])
print(time.perf_counter() - began)
"""


def against_a_loop(folder: Path, rows: int = 60_000, rounds: int = 2) -> dict[str, Any]:
    """The whole command, start and checks and all, against a loop of ``index.upsert`` with all in memory already."""
    (folder / "small").mkdir()
    write(folder / "small", rows, DIM)
    ours, theirs = [], []
    for _ in range(rounds):
        with server("--latency", "0.05") as url:
            ours.append(timed(folder / "small", url, "store.kind=pinecone", f"store.collection=c{len(ours)}"))
        with server("--latency", "0.05") as url:
            made = urllib.request.Request(f"{url}/indexes", headers={"Api-Key": KEY}, data=json.dumps(
                {"name": "main", "schema": {"fields": {"_values": {"type": "dense_vector", "dimension": DIM}}}}
            ).encode())  # fmt: skip
            urllib.request.urlopen(made).close()
            words = [sys.executable, "-c", PLAIN, url, KEY, str(rows)]
            done = subprocess.run(words, cwd=folder / "small", check=True, capture_output=True, text=True)
            theirs.append(float(done.stdout))
    return {
        "vectors": rows,
        "latency_seconds": 0.05,
        "embedctl_vectors_per_second": round(rows / min(ours)),
        "plain_loop_vectors_per_second": round(rows / min(theirs)),
        "ratio": round(min(theirs) / min(ours), 2),
        "bar": 4.0,
    }


def timed(folder: Path, url: str, *settings: str) -> float:
    """Seconds of the whole command, from the shell and back."""
    began = time.perf_counter()
    running = upsert(folder, url, *settings)
    assert running.wait() == 0
    return time.perf_counter() - began


def speeds(folder: Path, rounds: int = 3) -> list[dict[str, Any]]:
    """Each store: the whole command, and what is left of it without the time that a run takes that does nothing."""
    rows = sum(len(one) for one in read_vectors(folder / "ws" / "vectors" / "main", 10_000))
    seconds: dict[str, list[tuple[float, float]]] = {store: [] for store in STORES}
    with serve(durable=True) as server:
        os.environ["DATABASE_URL"] = server.url()
        for number in range(rounds):
            for place, (store, settings) in enumerate(STORES.items()):
                chosen = (*settings, f"store.collection=c{number}_{place}")
                seconds[store].append((timed(folder, "", *chosen), timed(folder, "", *chosen)))
    found = []
    for store, pairs in seconds.items():
        first, again = (min(times) for times in zip(*pairs, strict=True))
        found.append(
            {
                "kind": store,
                "vectors": rows,
                "seconds": round(first, 2),
                "again_seconds": round(again, 2),
                "vectors_per_second": round(rows / first),
                "vectors_per_second_without_start": round(rows / (first - again)),
            }
        )
    return found


def tables(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = []
    if "faults" in result:
        lines += [
            "| faults | runs | SIGKILLs | store exact, bit for bit | applied per vector (bar) | sent per vector |",
            "|--:|--:|--:|--:|--:|--:|",
        ]
        lines += [
            f"| {one['share']:.0%} | {one['runs']} | {one['kills']} | {one['exact']} of {one['runs']} | "
            f"{one['applied_per_vector']:.3f} ({one['bar']}) | {one['sent_per_vector']:.3f} |"
            for one in result["faults"]
        ]
    if "plain_loop" in result:
        loop = result["plain_loop"]
        lines += [
            "",
            f"| {DIM} dimensions | vectors/s |",
            "|---|--:|",
            f"| Pinecone, 50 ms a request: `embed upsert` | {loop['embedctl_vectors_per_second']:,} |",
            f"| Pinecone, 50 ms a request: a loop of `index.upsert`, 100 at a time | "
            f"{loop['plain_loop_vectors_per_second']:,} ({loop['ratio']} × as slow) |",
        ]
        lines += [
            f"| {one['kind']}: `embed upsert`, start of the command left out | "
            f"{one['vectors_per_second_without_start']:,} |"
            for one in result["stores"]
        ]
    measured = [
        f"`{one['command']}` on {one['machine']['date']}: {one['machine']['processor']}, {one['machine']['versions']}."
        for one in result["measured"].values()
    ]
    return "\n".join([*lines, "", "Measured by " + " ".join(measured)])


if __name__ == "__main__":
    main()
