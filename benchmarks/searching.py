"""What the stores find, against exact search by numpy: python -m benchmarks.searching DATA MODEL

DATA holds medquad/; MODEL is the folder of a published model (all-MiniLM-L6-v2). MedQuAD's answers, in chunks of 48
tokens, become real vectors through embedctl itself; its questions are what is looked for. With --workspace DIR the
vectors are made there once. Bar: recall@10 >= 0.98. Wants `pip install 'embedctl[pg,dev]'`.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import SecretStr

from benchmarks.machine import describe
from embedctl.artifacts.layout import Layout
from embedctl.settings import Secrets, StoreSettings
from embedctl.store.protocol import Store

RESULT = Path(__file__).parent / "results" / "searching.json"
TARGET = 0.98
QUERIES = 300
K = 10
SIDES: dict[str, dict[str, Any]] = {
    "LanceDB, flat": {"kind": "lancedb", "index_from_rows": 0},
    "LanceDB, IVF_RQ": {"kind": "lancedb", "index_from_rows": 1},
    "pgvector `vector`, HNSW": {"kind": "pgvector", "column": "vector", "index_from_rows": 1},
    "pgvector `halfvec`, HNSW": {"kind": "pgvector", "column": "halfvec", "index_from_rows": 1},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--workspace", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        layout = Layout((options.workspace or Path(name) / "ws").absolute(), "main", "main")
        if not layout.vectors.is_dir():
            make_vectors(options, layout.root)
        result = measure(options.data, layout)
    result["command"] = "python -m benchmarks.searching DATA MODEL"
    result["machine"] = describe("lancedb", "psycopg", "numpy")
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(tables(result))
    sys.exit(any(row["recall_at_10"] < TARGET for row in result["stores"].values()))


def make_vectors(options: argparse.Namespace, workspace: Path) -> None:
    """The published weights, but for a step so small that it leaves them as they are."""
    settings = (
        f"data.path={options.data.absolute() / 'medquad/qa.jsonl.gz'}", "data.text_field=answer",
        "data.query_field=question", f"model.init_from={options.model.absolute()}", "tokens.max_tokens=48",
        "tokens.overlap_tokens=0", "training.learning_rate=1e-12", "training.tensorboard=false",
        "data.held_percent=5", "evaluation.documents=held",
    )  # fmt: skip
    chosen = [word for setting in settings for word in ("--set", setting)]
    steps = ("data fetch", "data validate", "data tokenize", "train --max-steps 1", "embed generate")
    for step in steps:
        command = [sys.executable, "-m", "embedctl", "--workspace", str(workspace), *chosen, *step.split()]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def measure(data: Path, layout: Layout) -> dict[str, Any]:
    from embedctl.embedding.vectors import matrix, read_vectors

    batches = list(read_vectors(layout.vectors, 10_000))
    values = np.concatenate([matrix(batch) for batch in batches])
    asked = question_vectors(data, layout)
    chunks = np.array([json.loads(line)["chunk"] for batch in batches for line in batch.column("metadata").to_pylist()])
    began = time.perf_counter()
    scores = [values @ one for one in asked]
    exact = [np.partition(one, -K)[-K] for one in scores]
    result: dict[str, Any] = {
        "vectors": len(values),
        "dim": values.shape[1],
        "queries": len(asked),
        "numpy_queries_per_second": round(len(asked) / (time.perf_counter() - began), 1),
        "stores": {},
    }
    first = [np.partition(one[chunks == 0], -K)[-K] for one in scores]
    row_of = {id_: row for row, id_ in enumerate(id_ for batch in batches for id_ in batch.column("id").to_pylist())}
    with database() as url:
        for name, settings in SIDES.items():
            store = opened(settings, layout, url)
            store.create(values.shape[1])
            row: dict[str, float] = {"rows_per_second": rate(store, batches)}
            result["stores"][name] = row
            row["index_seconds"] = round(seconds(partial(store.finish, written=True)), 1)

            def found(one: Any, number: int, least: list[Any], where: dict[str, Any], store: Store = store) -> float:
                hits = store.search(one, K, model="m", where=where)
                return float(sum(scores[number][row_of[hit.id]] >= least[number] - 1e-6 for hit in hits) / K)

            began = time.perf_counter()
            row["recall_at_10"] = round(float(np.mean([found(one, n, exact, {}) for n, one in enumerate(asked)])), 4)
            row["queries_per_second"] = round(len(asked) / (time.perf_counter() - began), 1)
            filtered = [found(one, n, first, {"chunk": [0]}) for n, one in enumerate(asked)]
            row["recall_at_10_filtered"] = round(float(np.mean(filtered)), 4)
            print(name, row, flush=True)
    return result


def question_vectors(data: Path, layout: Layout) -> Any:
    """Some of the questions, through the model of the vectors."""
    import torch

    from embedctl.checkpoint import files
    from embedctl.model.encoding import encode
    from embedctl.tokens.tokenizer import encode_query

    with gzip.open(data / "medquad" / "qa.jsonl.gz", "rt", encoding="utf-8") as stream:
        texts = [json.loads(line)["question"] for line in stream]
    texts = [texts[n] for n in np.random.default_rng(0).choice(len(texts), QUERIES, replace=False)]
    model = files.load_model(files.head(layout.checkpoints), torch.device("cpu"))
    ids = [np.array(encode_query(model.tokenizer, text, model.query_frame, 48), dtype=np.uint32) for text in texts]
    return encode(model.encoder, ids, dtype=torch.float32)


@contextmanager
def database() -> Iterator[str]:
    from tests.postgres import serve

    with serve(durable=True) as server:
        yield server.url()


def opened(settings: dict[str, Any], layout: Layout, url: str) -> Store:
    """A collection of its own, without full text, in a folder or on the server."""
    from embedctl.store.opening import open_store

    folder = Layout(Path(tempfile.mkdtemp(dir=layout.root)), "main", "main")
    name = f"{settings['kind']}-{settings.get('column')}-{settings['index_from_rows']}"
    secrets = Secrets(database_url=SecretStr(url))
    return open_store(StoreSettings(collection=name, full_text=False, **settings), folder, secrets)


def rate(store: Store, batches: list[pa.RecordBatch]) -> int:
    def write() -> None:
        for batch in batches:
            store.write(batch, model="m")

    return round(sum(map(len, batches)) / seconds(write))


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def tables(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    machine = result["machine"]
    lines = [
        f"| {result['vectors']:,} vectors of {result['dim']}, {result['queries']} questions "
        "| recall@10 | with a filter | queries/s | index made in |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, row in result["stores"].items():
        made = f"{row['index_seconds']} s" if "flat" not in name else ""
        lines.append(
            f"| {name} | {row['recall_at_10']:.3f} | {row['recall_at_10_filtered']:.3f} "
            f"| {row['queries_per_second']:.0f} | {made} |"
        )
    lines.append(f"| numpy, exact | 1.000 | 1.000 | {result['numpy_queries_per_second']:.0f} | |")
    made = ", ".join(machine[name] for name in ("processor", "memory", "system", "versions"))
    return "\n".join([*lines, "", f"Measured on {machine['date']}: {made}. Command: `{result['command']}`."])


if __name__ == "__main__":
    main()
