"""One matrix in a file: npy, safetensors, and the weight of an embedding layer.

The header is written first, then row after row: neither writing nor reading back holds the matrix. Nothing of it
stays mapped either: pages of a mapped file that were read count as memory of the process.
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np

from embedctl.embedding.exports.blocks import BATCH_ROWS, Block, Source
from embedctl.embedding.exports.ids import IdWriter, read_ids
from embedctl.errors import ArtifactError

# Of a tensor in safetensors; its file wants the header's length to be a multiple of eight.
_SAFE_DTYPE = {"float32": "F32", "float16": "F16"}
_ALIGNED_BYTES = 8


def write_npy(folder: Path, source: Source) -> None:
    """``vectors.npy`` (N, D) and ``ids.json``, a list in the same order."""
    with (folder / "vectors.npy").open("wb") as stream, IdWriter(folder / "ids.json") as ids:
        header = {"descr": source.dtype.str, "fortran_order": False, "shape": (source.count, source.dim)}
        np.lib.format.write_array_header_1_0(stream, header)
        _write_rows(stream, ids, source)


def read_npy(folder: Path, source: Source) -> Iterator[Block]:
    path, ids = folder / "vectors.npy", read_ids(folder / "ids.json")
    with path.open("rb") as stream:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ArtifactError(f"{path} is not of version 1.0")
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(stream)
        _refuse_shape(path, shape, str(dtype), source)
        if by_columns:
            raise ArtifactError(f"{path} is kept by columns")
        for first in range(0, source.count, BATCH_ROWS):
            wanted = min(BATCH_ROWS, source.count - first) * source.dim
            values = np.fromfile(stream, dtype, wanted)
            if len(values) < wanted:
                raise ArtifactError(f"{path} ends early")
            rows = values.reshape(-1, source.dim).astype(np.float32, copy=False)
            yield Block(list(islice(ids, len(rows))), rows)
        if stream.read(1):
            raise ArtifactError(f"{path} holds more than {source.count} vectors")
    _refuse_more(ids, folder)


def write_safetensors(folder: Path, source: Source) -> None:
    """``vectors.safetensors`` with ``vectors`` (N, D), and ``ids.json``, a list in the same order."""
    with (folder / "vectors.safetensors").open("wb") as stream, IdWriter(folder / "ids.json") as ids:
        _write_tensor(stream, "vectors", ids, source)


def read_safetensors(folder: Path, source: Source) -> Iterator[Block]:
    return _read_tensor(folder / "vectors.safetensors", "vectors", read_ids(folder / "ids.json"), source)


def write_layer(folder: Path, source: Source) -> None:
    """``weight`` (N, D) for ``nn.Embedding.from_pretrained``, and ``rows.json``: id -> row."""
    with (folder / "embedding.safetensors").open("wb") as stream, IdWriter(folder / "rows.json", rows=True) as ids:
        _write_tensor(stream, "weight", ids, source)


def read_layer(folder: Path, source: Source) -> Iterator[Block]:
    ids = read_ids(folder / "rows.json", rows=True)
    return _read_tensor(folder / "embedding.safetensors", "weight", ids, source)


def _write_tensor(stream: IO[bytes], name: str, ids: IdWriter, source: Source) -> None:
    size = source.count * source.dim * source.dtype.itemsize
    kept = {
        "dtype": _SAFE_DTYPE[source.dtype.name],
        "shape": [source.count, source.dim],
        "data_offsets": [0, size],
    }
    header = json.dumps({"__metadata__": {"format": "pt"}, name: kept}).encode()
    header += b" " * (-len(header) % _ALIGNED_BYTES)
    stream.write(len(header).to_bytes(8, "little") + header)
    _write_rows(stream, ids, source)


def _write_rows(stream: IO[bytes], ids: IdWriter, source: Source) -> None:
    for block in source.blocks():
        stream.write(np.ascontiguousarray(block.values, dtype=source.dtype).tobytes())
        ids.write(block.ids)


def _read_tensor(path: Path, name: str, ids: Iterator[str], source: Source) -> Iterator[Block]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as tensors:
        kept = tensors.get_slice(name)
        dtypes = {short: long for long, short in _SAFE_DTYPE.items()}
        _refuse_shape(path, tuple(kept.get_shape()), dtypes.get(kept.get_dtype(), kept.get_dtype()), source)
    for first in range(0, source.count, BATCH_ROWS):
        # It maps the file; opened anew for each block, so that pages that were read do not stay in memory.
        with safe_open(path, framework="numpy") as tensors:
            rows = tensors.get_slice(name)[first : min(first + BATCH_ROWS, source.count)].astype(np.float32)
        yield Block(list(islice(ids, len(rows))), rows)
    _refuse_more(ids, path)


def _refuse_shape(path: Path, shape: tuple[int, ...], dtype: str, source: Source) -> None:
    want = ((source.count, source.dim), source.dtype.name)
    if (tuple(shape), dtype) != want:
        raise ArtifactError(f"{path} holds {dtype} {tuple(shape)}, want {want[1]} {want[0]}")


def _refuse_more(ids: Iterator[str], where: Path) -> None:
    if next(ids, None) is not None:
        raise ArtifactError(f"{where}: there are more ids than vectors")
