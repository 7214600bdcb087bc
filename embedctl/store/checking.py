"""What no store would take is found before it is sent: such a record is set aside, the others go on."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedctl.artifacts.folder import write_file
from embedctl.embedding.exports.plain import sent_id
from embedctl.embedding.vectors import matrix
from embedctl.store.protocol import Limits


@dataclass(slots=True)
class Rejects:
    """Records that were not stored, and why; kept in a file, one JSON object a line."""

    path: Path
    reasons: dict[str, str] = field(default_factory=dict)

    def write(self) -> None:
        """Replace what an earlier upsert left; without rejects there is no file."""
        lines = [json.dumps({"id": id_, "reason": reason}, ensure_ascii=False) for id_, reason in self.reasons.items()]
        if lines:
            write_file(self.path, ("\n".join(lines) + "\n").encode())
        else:
            self.path.unlink(missing_ok=True)


def sound(rows: pa.RecordBatch, dim: int, limits: Limits, rejects: Rejects) -> pa.RecordBatch:
    """The rows that may be sent; the others go to ``rejects``."""
    bad: dict[int, str] = {}
    _check_vectors(rows, dim, bad)
    _check_names(rows, limits, bad)
    if not bad:
        return rows
    ids = rows.column("id")
    rejects.reasons.update({ids[at].as_py(): reason for at, reason in sorted(bad.items())})
    return rows.take(pa.array(sorted(set(range(len(rows))) - bad.keys()), pa.int64()))


def _check_vectors(rows: pa.RecordBatch, dim: int, bad: dict[int, str]) -> None:
    widths = pc.fill_null(pc.list_value_length(rows.column("values")), 0).to_numpy()
    odd = np.flatnonzero(widths != dim)
    bad.update({int(at): f"the vector has {widths[at]} values, the store's have {dim}" for at in odd})
    even = np.flatnonzero(widths == dim)
    if not len(even):
        return
    vectors = matrix(rows if not len(odd) else rows.take(pa.array(even, pa.int64())))
    # The sum of the squares is finite and above zero if and only if all is well, but for overflow and underflow.
    squares = np.einsum("nd,nd->n", vectors, vectors)
    for at in np.flatnonzero(~(np.isfinite(squares) & (squares > 0))):
        if not np.isfinite(vectors[at]).all():
            bad[int(even[at])] = "a value of the vector is not finite"
        elif not vectors[at].any():
            bad[int(even[at])] = "all values of the vector are zero"


def _check_names(rows: pa.RecordBatch, limits: Limits, bad: dict[int, str]) -> None:
    ids = rows.column("id")
    if limits.id_characters is not None:
        lengths = np.array([len(sent_id(id_)) for id_ in ids.to_pylist()])
        reason = f"the id is not one that the store takes: 1 to {limits.id_characters} ASCII characters"
        bad.update({int(at): reason for at in np.flatnonzero((lengths == 0) | (lengths > limits.id_characters))})
    if limits.metadata_bytes is not None:
        sizes = pc.binary_length(rows.column("metadata")).to_numpy()
        for at in np.flatnonzero(sizes > limits.metadata_bytes):
            bad[int(at)] = f"the metadata has {sizes[at]:,} bytes, the store takes {limits.metadata_bytes:,}"
