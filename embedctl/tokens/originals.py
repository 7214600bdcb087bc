"""The texts of chunks.

A shard does not hold them again: beside it lies its part of the corpus, as a second name of that file, and a chunk is a
span of one of its records. Only what validation has mended stands in the shard itself.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

# What the text of a chunk is found by.
COLUMNS = ("row", "start", "end", "text")


def beside(shard: Path) -> Path:
    """Where the part of the corpus lies that the shard was made from."""
    return shard.with_suffix(".parquet")


def with_texts(chunks: pa.Table, shard: Path) -> pa.Table:
    """Chunks of the shard, with all of ``COLUMNS``, and now with all of their texts."""
    texts = chunks.column("text")
    if not texts.null_count:
        return chunks
    rows = chunks.column("row").fill_null(-1).to_numpy()
    wanted, places = np.unique(rows[rows >= 0], return_inverse=True)
    records = pq.ParquetFile(beside(shard)).read(["text"], use_threads=False).column("text")
    whole = records.take(pa.array(wanted)).to_pylist()
    spans = zip(
        *(chunks.column(name).filter(pa.array(rows >= 0)).to_pylist() for name in ("start", "end")), strict=True
    )
    cut = (whole[place][start:end] for place, (start, end) in zip(places.tolist(), spans, strict=True))
    found = [text if text is not None else next(cut) for text in texts.to_pylist()]
    return chunks.set_column(chunks.schema.get_field_index("text"), "text", pa.array(found, pa.string()))
