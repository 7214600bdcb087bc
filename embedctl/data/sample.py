"""A few records from all over a corpus, for what would take too long to find out of all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from embedctl.data import columns
from embedctl.data.checks import languages

_RECORDS = 2000
_PARTS = 16


@dataclass(frozen=True, slots=True)
class Sample:
    """Texts and their queries (``None`` where there is none), and the share of the texts in each language."""

    texts: list[str] = field(default_factory=list)
    queries: list[str | None] = field(default_factory=list)
    languages: Mapping[str, float] = field(default_factory=dict)


def sample_of(parts: Sequence[Path]) -> Sample:
    """Records from the beginnings of up to ``_PARTS`` parts of a corpus, evenly spread."""
    if not parts:
        return Sample()
    chosen = [parts[n] for n in sorted({int(n) for n in np.linspace(0, len(parts) - 1, _PARTS)})]
    texts: list[str] = []
    queries: list[str | None] = []
    for part in chosen:
        # The first group of rows of each: pages are read as a whole, and these are a part of a part.
        file = pq.ParquetFile(part)
        rows = file.read_row_groups([0][: file.num_row_groups], ["text", "query"], use_threads=False)
        here = columns.numbers(np.unique(np.linspace(0, len(rows) - 1, _RECORDS // len(chosen), dtype=np.int64)))
        texts += rows.column("text").take(here).to_pylist()
        queries += rows.column("query").take(here).to_pylist()
    return Sample(texts, queries, languages.mix(texts))
