"""The encoder as a graph that runs without embedctl: ONNX, and TorchScript.

Both take ``input_ids`` and ``attention_mask``, int64 (B, T), and give float32 (B, D), for any B and T.
"""

import importlib.util
import io
import logging
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from embedctl.errors import ConfigError
from embedctl.model.encoder import Encoder
from embedctl.model.padded import Padded

ONNX = "model.onnx"
TORCHSCRIPT = "model.pt"

INPUTS = ("input_ids", "attention_mask")
# Not "embedding": onnxruntime takes that for the node of the same name.
OUTPUT = "sentence_embedding"

# From token ids and mask to vectors.
Graph = Callable[[Tensor, Tensor], Tensor]


def write_onnx(encoder: Encoder, folder: Path) -> None:
    """Write ``model.onnx`` and beside it its weights, ``model.onnx.data``."""
    _refuse_missing()
    texts, tokens = torch.export.Dim("texts", min=1), torch.export.Dim("tokens", min=1, max=encoder.shape.max_tokens)
    # Sizes of 0 and 1 would be taken for fixed ones.
    ids = torch.zeros(2, min(8, encoder.shape.max_tokens), dtype=torch.int64)
    with _quiet_exporter():
        program = torch.onnx.export(
            Padded(encoder).eval(),
            (ids, torch.ones_like(ids)),
            input_names=INPUTS,
            output_names=[OUTPUT],
            dynamic_shapes=[{0: texts, 1: tokens}] * len(INPUTS),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    for node in program.model.graph.all_nodes():
        # Stack traces: paths of this machine, most of the file.
        node.metadata_props.clear()
    program.save(folder / ONNX, external_data=True)


def open_onnx(folder: Path) -> Graph:
    """What onnxruntime makes of it, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / ONNX, providers=["CPUExecutionProvider"])

    def run(input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        given = (input_ids.numpy(), attention_mask.numpy())
        return torch.from_numpy(session.run([OUTPUT], dict(zip(INPUTS, given, strict=True)))[0])

    return run


def write_torchscript(encoder: Encoder, folder: Path) -> None:
    """Write ``model.pt``, for ``torch.jit.load``."""
    with _deprecated_silently():
        # In memory first: PyTorch aborts the process when the disk is full.
        whole = torch.jit.script(Padded(encoder).eval()).save_to_buffer()  # type: ignore[no-untyped-call]
    with zipfile.ZipFile(io.BytesIO(whole)) as source, zipfile.ZipFile(folder / TORCHSCRIPT, "w") as target:
        for entry in source.infolist():
            # Leave out where each line of the source stood: paths of this machine.
            if not entry.filename.endswith(".debug_pkl"):
                # Stored, for PyTorch reads tensors out of it as they lie.
                with source.open(entry) as read, target.open(entry.filename, "w", force_zip64=True) as written:
                    shutil.copyfileobj(read, written)


def open_torchscript(folder: Path) -> Graph:
    """What PyTorch makes of it, on the CPU."""
    with _deprecated_silently():
        module: Graph = torch.jit.load(folder / TORCHSCRIPT, map_location="cpu")  # type: ignore[no-untyped-call]
    return module


def can_run_onnx() -> bool:
    """Whether all is installed that writing and running ONNX takes."""
    return not _missing()


def _missing() -> list[str]:
    return [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]


def _refuse_missing() -> None:
    missing = _missing()
    if missing:
        raise ConfigError(
            f"writing ONNX takes packages that are not installed: {', '.join(missing)}",
            hint="pip install 'embedctl[onnx]'",
        )


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Without what PyTorch's exporter says of its own inside and of torchvision."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _deprecated_silently() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        yield
