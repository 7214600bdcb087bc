"""Vectors of chunks that came before, read back from the shards they are in."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from embedctl.embedding.vectors import Keeping, Packed
from embedctl.embedding.windows import Window

# The vectors of so many windows stay in memory.
_WINDOWS = 4


@dataclass(slots=True)
class Earlier:
    """Shape suffixes: N chunks, R bytes of a vector as it is kept."""

    folder: Path
    windows: Sequence[Window]
    keeping: Keeping
    _read: "OrderedDict[int, Packed]" = field(default_factory=OrderedDict)

    def fill(self, rows_NR: Packed, chunks: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Write the vectors of ``chunks`` (their numbers among all; -1: none) into the rows.

        Returns which were found: where several processes share the work, a shard may not be there yet.
        """
        found = np.zeros(len(chunks), dtype=bool)
        starts = np.array([window.start for window in self.windows])
        places = np.where(chunks < 0, -1, np.searchsorted(starts, chunks, side="right") - 1)
        for number in np.unique(places[places >= 0]).tolist():
            packed = self._vectors(number)
            if packed is not None:
                here = places == number
                rows_NR[here] = packed[chunks[here] - starts[number]]
                found |= here
        return found

    def _vectors(self, number: int) -> Packed | None:
        if number not in self._read:
            # Written under another name, and renamed when it is whole.
            path = self.folder / f"{self.windows[number].name}.parquet"
            if not path.is_file():
                return None
            columns = ["values", "scale"] if self.keeping.dtype == "int8" else ["values"]
            self._read[number] = self.keeping.packed_again(pq.read_table(path, columns=columns, use_threads=False))
        self._read.move_to_end(number)
        if len(self._read) > _WINDOWS:
            self._read.popitem(last=False)
        return self._read[number]
