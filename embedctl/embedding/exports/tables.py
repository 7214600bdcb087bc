"""Parquet: the vectors as they are kept, and in the layout of Pinecone's bulk import."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embedctl.embedding.exports.blocks import BATCH_ROWS, Block, Source
from embedctl.embedding.exports.plain import flat, own_id, sent_id
from embedctl.embedding.vectors import matrix
from embedctl.errors import ConfigError, DataError

# Pinecone's limits of one record, and what it calls the namespace without a name.
_ID_CHARACTERS = 512
_METADATA_BYTES = 40_000
_DEFAULT_NAMESPACE = "__default__"
# A file of 1,024 float32 per vector has about 1 GiB; Pinecone takes up to 10.
_PART_ROWS = 64 * BATCH_ROWS

_PINECONE = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("values", pa.list_(pa.float32()), nullable=False),
        pa.field("metadata", pa.string(), nullable=False),
    ]
)


def write_parquet(folder: Path, source: Source) -> None:
    """One ``vectors.parquet`` with id, values, digest and metadata as they are kept (int8: and scale)."""
    # Dictionary pages cost time and save nothing on values that hardly repeat.
    with pq.ParquetWriter(folder / "vectors.parquet", _kept(source), use_dictionary=False) as writer:
        for batch in source.batches():
            writer.write_batch(batch)


def read_parquet(folder: Path, source: Source) -> Iterator[Block]:
    for batch in pq.ParquetFile(folder / "vectors.parquet").iter_batches(batch_size=BATCH_ROWS):
        yield Block(batch.column("id").to_pylist(), matrix(batch), batch.column("metadata").to_pylist())


def pinecone_folder(namespace: str) -> str:
    """Where the files of a namespace lie in what is uploaded.

    Raises ``ConfigError`` for a namespace that is no name of one folder.
    """
    if "/" in namespace or "\\" in namespace or "\0" in namespace or namespace in (".", ".."):
        raise ConfigError(
            f"the namespace {namespace!r} cannot be a folder, which Pinecone's import asks for",
            hint="--set store.namespace=NAME",
        )
    return f"import/{namespace or _DEFAULT_NAMESPACE}"


def write_pinecone(folder: Path, source: Source) -> None:
    """``import/NAMESPACE/part-00000.parquet`` and more: id, values as float32, metadata as flat JSON.

    Raises ``DataError`` for what Pinecone refuses.
    """
    home = folder / pinecone_folder(source.namespace)
    home.mkdir(parents=True)
    writer: pq.ParquetWriter | None = None
    try:
        for number, block in enumerate(source.blocks()):
            if number * BATCH_ROWS % _PART_ROWS == 0:
                if writer is not None:
                    writer.close()
                path = home / f"part-{number * BATCH_ROWS // _PART_ROWS:05d}.parquet"
                writer = pq.ParquetWriter(path, _PINECONE, use_dictionary=False)
            assert writer is not None
            writer.write_table(_pinecone_table(block))
    finally:
        if writer is not None:
            writer.close()


def read_pinecone(folder: Path, source: Source) -> Iterator[Block]:
    """From Parquet's own rows; ``flat_of`` says what their metadata should be."""
    for part in sorted(folder.glob("import/*/part-*.parquet")):
        for batch in pq.ParquetFile(part).iter_batches(batch_size=BATCH_ROWS):
            values = batch.column("values").flatten().to_numpy().reshape(len(batch), source.dim)
            texts = batch.column("metadata").to_pylist()
            ids = list(map(own_id, batch.column("id").to_pylist()))
            yield Block(ids, values, [json.loads(text) for text in texts])


def flat_of(raw: str) -> dict[str, Any]:
    return flat(json.loads(raw))


def _kept(source: Source) -> pa.Schema:
    """The columns of the vectors; Pinecone's where there is not even an empty part."""
    parts = sorted(source.folder.glob("part-*.parquet"))
    return pq.ParquetFile(parts[0]).schema_arrow if parts else _PINECONE


def _pinecone_table(block: Block) -> pa.Table:
    metadata = [json.dumps(flat_of(raw), ensure_ascii=False) for raw in block.metadata or []]
    ids = list(map(sent_id, block.ids))
    for id_, values, text in zip(ids, block.values, metadata, strict=True):
        _refuse_for_pinecone(id_, values, text)
    offsets = np.arange(len(block.ids) + 1, dtype=np.int32) * block.values.shape[1]
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(block.values.ravel()))
    return pa.table({"id": ids, "values": lists, "metadata": metadata}, schema=_PINECONE)


def _refuse_for_pinecone(id_: str, values: Any, metadata: str) -> None:
    if not id_ or len(id_) > _ID_CHARACTERS:
        raise DataError(f"the id {id_!r} is not one for Pinecone: want 1 to {_ID_CHARACTERS} ASCII characters")
    if not values.any():
        raise DataError(f"the vector of {id_} is all zeros, which Pinecone refuses")
    size = len(metadata.encode())
    if size > _METADATA_BYTES:
        raise DataError(
            f"the metadata of {id_} has {size:,} bytes; Pinecone takes {_METADATA_BYTES:,}",
            hint="set embedding.with_text = false, or lower tokens.max_tokens",
        )
