"""The other ways to embed that benchmarks.embedding measures; each runs in a process of its own."""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

BATCHES = (16, 32, 64, 128)
TRIED = 256


def encode_theirs(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds for all texts; the vectors stay in a file."""
    from embedctl.tokens.shards import TokenTable

    table = TokenTable(options.folder / "ws/tokens/main")
    texts = [str(text) for text in table.strings("text", list(range(len(table))))]
    if options.theirs.startswith("encode"):
        run, sizes = by_sentence_transformers(options), (32,) if "defaults" in options.theirs else BATCHES
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

    dtype = torch.bfloat16 if "bf16" in options.theirs else torch.float32
    kinds = {} if "defaults" in options.theirs else {"torch_dtype": dtype, "attn_implementation": "sdpa"}
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
    half = "bf16" in options.theirs
    call = by_openvino(options.folder, half=half) if "OpenVINO" in options.theirs else by_onnxruntime(options.folder)

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


def by_openvino(folder: Path, *, half: bool) -> Any:
    import openvino

    core = openvino.Core()
    hints = {"INFERENCE_PRECISION_HINT": "bf16" if half else "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(core.read_model(folder / "model.onnx"), "CPU", hints)
    return lambda ids, mask: next(iter(compiled({"input_ids": ids, "attention_mask": mask}).values()))
