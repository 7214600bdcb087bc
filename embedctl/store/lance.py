"""LanceDB, embedded in the workspace: the default store."""

import json
import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from embedctl.artifacts.folder import remove_if_there
from embedctl.errors import ArtifactError, ConfigError
from embedctl.settings import StoreSettings
from embedctl.store import filters
from embedctl.store.lance_rows import schema, table_of
from embedctl.store.protocol import Hit, Limits, Vector, Where

# An index compares a digest of each vector; so many times k are compared again by the vectors themselves. Without
# that 43 % of the nearest are lost among a million.
_REFINE_FACTOR = 20
_LEAST_PROBES = 30
_IDS_PER_PAGE = 10_000
# Each write leaves one; so many cost a search nothing.
_MOST_FRAGMENTS = 16


class LanceStore:
    """A table in a LanceDB folder."""

    # Fewer rows make more versions; more leave less to read while a write is under way. Two at once: the columns of
    # one are made while the other is written.
    limits = Limits(
        rows=10_000, request_bytes=None, metadata_bytes=None, id_characters=None, concurrency=2, exclusive=True
    )

    def __init__(self, folder: Path, settings: StoreSettings, target: str) -> None:
        self._folder = folder
        self._settings = settings
        self._name = settings.collection
        self.target = target
        self._opened: Any = None
        self._is_new = False
        self._writing = threading.Lock()

    @property
    def dim(self) -> int | None:
        table = self._table()
        return None if table is None else int(table.schema.field("vector").type.list_size)

    def count(self) -> int:
        table = self._table()
        return 0 if table is None else int(table.count_rows())

    def known(self, ids: Sequence[str]) -> dict[str, str]:
        table = self._table()
        if table is None or not ids:
            return {}
        # Without a limit: if an id were there twice, another would be taken for one that is not there at all.
        found = table.search().where(_one_of(ids)).select(["id", "digest"]).to_arrow()
        return dict(zip(found.column("id").to_pylist(), found.column("digest").to_pylist(), strict=True))

    def create(self, dim: int) -> None:
        have = self.dim
        if have is not None and have != dim:
            raise ArtifactError(
                f"table {self._name!r} holds vectors of {have} dimensions, these have {dim}",
                hint="--set store.collection=NAME starts another table",
            )
        if have is None:
            remove_if_there(self._place)  # by an upsert that was killed while it made the table
            self._opened = self._connection().create_table(self._name, schema=schema(dim))
            self._is_new = True
        self._refuse_old()

    def size(self, rows: pa.RecordBatch) -> None:
        return None

    def write(self, rows: pa.RecordBatch, *, model: str, new: bool = False) -> None:
        """Rows that are new are added, which takes half as long as merging them.

        An id that is added twice is there twice: so only under the workspace's lock, which is not let go before this
        has ended (``Limits.exclusive``), and what is tried again is merged.
        """
        table = self._table()
        assert table is not None
        columns = table_of(rows, model, table.schema)
        with self._writing:
            if new:
                table.add(columns)
            else:
                table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(columns)

    def ids(self) -> Iterator[list[str]]:
        table = self._table()
        if table is not None:
            for batch in table.search().select(["id"]).to_batches(_IDS_PER_PAGE):
                yield batch.column("id").to_pylist()

    def delete(self, ids: Sequence[str]) -> None:
        table = self._table()
        if table is not None and ids:
            table.delete(_one_of(ids))

    def fetch(self, ids: Sequence[str]) -> dict[str, Vector]:
        table = self._table()
        if table is None or not ids:
            return {}
        found = table.search().where(_one_of(ids)).select(["id", "vector"]).to_arrow()
        return dict(zip(found.column("id").to_pylist(), found.column("vector").to_numpy(), strict=True))

    def finish(self, *, written: bool) -> None:
        """Bring the indexes up to date, those of vectors and metadata once there are enough rows; clean up."""
        from lancedb.index import FTS, BTree, IvfFlat, IvfRq, LabelList

        table = self._table()
        if table is None:
            return
        wanted: dict[str, Any] = {"text": FTS()} if self._settings.full_text else {}
        least = self._settings.index_from_rows
        if least and table.count_rows() >= least:
            # A digest has a bit for each value, in whole bytes.
            vectors = IvfFlat if (self.dim or 0) % 8 else IvfRq
            wanted |= {"vector": vectors(distance_type="cosine"), "labels": LabelList(), "id": BTree()}
        have = self._indexed()
        for column, kind in wanted.items():
            if column not in have:
                table.create_index(column, config=kind)
        # What is new has nothing to clean up, and its indexes hold all rows.
        if written and (not self._is_new or table.stats()["fragment_stats"]["num_fragments"] > _MOST_FRAGMENTS):
            # Each write made a version of its own; keep those of the last hour for readers that are under way.
            table.optimize(cleanup_older_than=timedelta(hours=1))

    def search(self, vector: Vector, k: int, *, model: str, where: Where) -> list[Hit]:
        table = self._table()
        if table is None:
            return []
        query = table.search(vector, vector_column_name="vector").distance_type("cosine")
        # Without an index these change nothing; with one, probes go on until a filter has let k rows through.
        query = query.refine_factor(_REFINE_FACTOR).minimum_nprobes(_LEAST_PROBES).maximum_nprobes(0)
        return _hits(query, k, _condition(model, where), score="_distance")

    def keyword(self, text: str, k: int, *, model: str, where: Where) -> list[Hit]:
        """By BM25, after stemming; any of the words is enough."""
        from lancedb.query import MatchQuery

        table = self._table()
        if table is None:
            return []
        if "text" not in self._indexed():
            raise ConfigError(
                f"table {self._name!r} has no index of words",
                hint="`embedctl embed upsert` makes it, with store.full_text = true",
            )
        # Not the text alone, in which LanceDB would read quotation marks as a phrase. Any: mypy sees no defaults.
        words: Any = MatchQuery
        query = table.search(words(text, "text"), query_type="fts")
        return _hits(query, k, _condition(model, where), score="_score")

    def _indexed(self) -> set[str]:
        table = self._table()
        return {column for index in table.list_indices() for column in index.columns}

    def _refuse_old(self) -> None:
        if "labels" not in self._opened.schema.names:
            raise ArtifactError(
                f"table {self._name!r} was made by an older embedctl",
                hint="--set store.collection=NAME starts another table",
            )

    def _connection(self) -> Any:
        import lancedb

        self._folder.mkdir(parents=True, exist_ok=True)
        return lancedb.connect(str(self._folder))

    def _table(self) -> Any:
        # The folder comes first, then what makes it a table.
        if self._opened is None and any((self._place / "_versions").glob("*.manifest")):
            self._opened = self._connection().open_table(self._name)
        return self._opened

    @property
    def _place(self) -> Path:
        return self._folder / f"{self._name}.lance"


def _hits(query: Any, k: int, condition: str, *, score: str) -> list[Hit]:
    found = query.where(condition).select(["id", "metadata", "text", score]).limit(k).to_list()
    hits = []
    for row in found:
        text = {} if row["text"] is None else {"text": row["text"]}
        value = 1.0 - row[score] if score == "_distance" else float(row[score])
        hits.append(Hit(row["id"], value, {**json.loads(row["metadata"]), **text}))
    return hits


def _one_of(ids: Sequence[str]) -> Any:
    from lancedb.expr import col

    return col("id").isin(ids)


def _condition(model: str, where: Where) -> str:
    """The one form of SQL that is ever made: a label, quoted, is in a row's list. LanceDB binds no parameters here."""
    parts = [f"model = {_quoted(model)}"]
    for key, allowed in where.items():
        either = [f"array_has(labels, {_quoted(label)})" for label in sorted(filters.labels(key, allowed))]
        parts.append("(" + " OR ".join(either) + ")")
    return " AND ".join(parts)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
