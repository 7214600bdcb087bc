"""What validation has decided, for the steps after it, which need not load all that it took."""

from pathlib import Path

import numpy as np

from embedctl.data import columns

FILE = "verdicts.parquet"
# What is read here of a validation; its sketches are larger than all the rest.
READ = (FILE, "mended-*.parquet")


def dropped_rows(folder: Path) -> dict[str, tuple[int, ...]]:
    """For each part of the corpus its rows that must not be used."""
    table = columns.read(folder / FILE, ["verdict", "part", "row"])
    dropped = columns.numbers(np.flatnonzero(columns.codes_of(table.column("verdict"), ["drop"]) == 0))
    rows: dict[str, list[int]] = {}
    for part, row in zip(*(table.column(name).take(dropped).to_pylist() for name in ("part", "row")), strict=True):
        rows.setdefault(part, []).append(row)
    return {part: tuple(found) for part, found in rows.items()}


def mended_file(folder: Path, part: str) -> Path | None:
    """The texts of a part that were mended, if there are any."""
    path = folder / f"mended-{part}.parquet"
    return path if path.is_file() else None
