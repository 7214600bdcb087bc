"""A few records from all over a corpus, for what would take too long to find out of all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from embedctl.data import columns
from embedctl.data.checks import languages

_RECORDS = 2000
_GROUPS = 16


@dataclass(frozen=True, slots=True)
class Sample:
    """Texts and their queries (``None`` where there is none), and the share of the texts in each language."""

    texts: list[str] = field(default_factory=list)
    queries: list[str | None] = field(default_factory=list)
    languages: Mapping[str, float] = field(default_factory=dict)


def sample_of(parts: Sequence[Path]) -> Sample:
    """Records of a few groups of rows from all over a corpus, evenly spread in each."""
    groups = _groups(parts)
    texts: list[str] = []
    queries: list[str | None] = []
    for file, group in groups:
        rows = file.read_row_group(group, ["text", "query"], use_threads=False)
        here = columns.numbers(np.unique(np.linspace(0, len(rows) - 1, _RECORDS // len(groups), dtype=np.int64)))
        texts += rows.column("text").take(here).to_pylist()
        queries += rows.column("query").take(here).to_pylist()
    return Sample(texts, queries, languages.mix(texts))


def _groups(parts: Sequence[Path]) -> list[tuple[pq.ParquetFile, int]]:
    """Of many parts one group of rows each, of every part another than of the one before; of few parts several each.

    What is read is read as a whole, and a group is a tenth of a part.
    """
    chosen = sorted({int(n) for n in np.linspace(0, len(parts) - 1, _GROUPS)}) if parts else []
    each = -(-_GROUPS // max(len(chosen), 1))
    found = []
    for number, part in enumerate(chosen):
        file = pq.ParquetFile(parts[part])
        if file.metadata.num_rows:
            places = (np.arange(each) + (number + 0.5) / len(chosen)) / each
            found += [(file, int(group)) for group in np.unique((places * file.num_row_groups).astype(np.int64))]
    return found
