"""What a report says of all records together, added up part by part."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from embedctl.artifacts.manifest import Manifest
from embedctl.data import columns
from embedctl.data.checks.kinds import TIERS, VERDICTS, Tier
from embedctl.data.lengths import Lengths


@dataclass(slots=True)
class Totals:
    """Counts of verdicts by source, the gravest severity, and the lengths: in memory that does not grow with the data.

    sources: their names in the settings; one for all if these name none
    """

    sources: list[str]
    given: npt.NDArray[np.int64] = field(init=False)
    characters: Lengths = field(default_factory=Lengths)
    query_characters: Lengths = field(default_factory=Lengths)
    _gravest: int = -1

    def __post_init__(self) -> None:
        self.given = np.zeros((len(self.sources), len(VERDICTS)), np.int64)

    @classmethod
    def of(cls, corpus: Manifest) -> "Totals":
        """Nothing yet, of the sources of ``corpus``."""
        known = corpus.facts.get("sources")
        return cls(list(known) if isinstance(known, dict) and known else ["data"])

    @property
    def records(self) -> int:
        return int(self.given.sum())

    @property
    def worst(self) -> Tier | None:
        """``None`` where nothing was found, or only what is harmless."""
        return TIERS[self._gravest] if self._gravest > 0 else None

    def add(self, findings: pa.Table, verdicts: pa.RecordBatch) -> None:
        """Count one part: its findings, and what became of each record."""
        given = columns.codes_of(verdicts.column("verdict"), list(VERDICTS))
        places = self._places(findings.column("source")) * len(VERDICTS) + given
        self.given += np.bincount(places, minlength=self.given.size).reshape(self.given.shape)
        self._gravest = max(self._gravest, *columns.codes_of(verdicts.column("severity"), TIERS).tolist())
        self.characters.add(columns.values_of(findings.column("characters")))
        self.query_characters.add(columns.values_of(findings.column("query_characters").drop_null()))

    def counts(self) -> dict[str, int]:
        """How many records were kept, flagged, fixed and dropped."""
        return _named(self.given.sum(axis=0).tolist())

    def by_source(self) -> dict[str, dict[str, int]]:
        rows = self.given.tolist()
        return {name: {"records": sum(row), **_named(row)} for name, row in zip(self.sources, rows, strict=True)}

    def _places(self, sources: pa.ChunkedArray) -> npt.NDArray[np.int64]:
        """(N,) which source each record is of: with several, its name stands first in the record's own."""
        if len(self.sources) == 1:
            return np.zeros(len(sources), np.int64)
        distinct = sources.combine_chunks().dictionary_encode()
        firsts = [source.split("/", 1)[0] for source in distinct.dictionary.to_pylist()]
        places = np.array([self.sources.index(first) for first in firsts], np.int64)
        return places.take(columns.values_of(distinct.indices, np.int32))


def _named(counts: Sequence[int]) -> dict[str, int]:
    return dict(zip(VERDICTS.values(), counts, strict=True))
