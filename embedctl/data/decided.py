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
    parts = table.column("part").take(dropped)
    rows = columns.values_of(table.column("row").take(dropped))
    # The rows of a part stand together, in the order of the parts.
    names = parts.unique().to_pylist()
    ends = np.flatnonzero(np.diff(columns.codes_of(parts, names))) + 1
    return {name: tuple(found.tolist()) for name, found in zip(names, np.split(rows, ends), strict=False)}


def mended_rows(folder: Path, part: str) -> dict[int, tuple[str, str | None]]:
    """Text and query of each row of a part that was mended."""
    path = mended_file(folder, part)
    rows = columns.read(path).to_pylist() if path else []
    return {row["row"]: (row["text"], row["query"]) for row in rows}


def mended_file(folder: Path, part: str) -> Path | None:
    """The texts of a part that were mended, if there are any."""
    path = folder / f"mended-{part}.parquet"
    return path if path.is_file() else None
