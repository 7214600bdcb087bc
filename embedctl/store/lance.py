"""LanceDB, embedded in the workspace: the default store."""

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from embedctl.embedding.vectors import matrix
from embedctl.errors import ArtifactError, ConfigError
from embedctl.store.protocol import Hit, Limits, Vector, Where

_IDS_PER_PAGE = 10_000


class LanceStore:
    """A table in a LanceDB folder. A write makes a version, whatever its size: so few and large ones."""

    limits = Limits(rows=50_000, request_bytes=None, metadata_bytes=None, id_characters=None, concurrency=1)

    def __init__(self, folder: Path, table: str, target: str) -> None:
        self._folder = folder
        self._name = table
        self.target = target
        self._opened: Any = None

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
        found = table.search().where(_one_of(ids)).select(["id", "digest"]).limit(len(ids)).to_arrow()
        return dict(zip(found.column("id").to_pylist(), found.column("digest").to_pylist(), strict=True))

    def create(self, dim: int) -> None:
        have = self.dim
        if have is not None and have != dim:
            raise ArtifactError(
                f"table {self._name!r} holds vectors of {have} dimensions, these have {dim}",
                hint="--set store.collection=NAME starts another table",
            )
        if have is None:
            self._opened = self._connection().create_table(self._name, schema=_schema(dim))

    def size(self, rows: pa.RecordBatch) -> None:
        return None

    def write(self, rows: pa.RecordBatch, *, model: str) -> None:
        table = self._table()
        assert table is not None
        vectors = matrix(rows)
        columns = {
            "id": rows.column("id"),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
            "digest": rows.column("digest"),
            "model": pa.repeat(pa.scalar(model), len(rows)),
            "metadata": rows.column("metadata"),
        }
        merge = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        merge.execute(pa.table(columns, schema=table.schema))

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
        found = table.search().where(_one_of(ids)).select(["id", "vector"]).limit(len(ids)).to_arrow()
        return dict(zip(found.column("id").to_pylist(), found.column("vector").to_numpy(), strict=True))

    def finish(self) -> None:
        table = self._table()
        if table is not None:
            # Each write made a version of its own; keep those of the last hour for readers that are under way.
            table.optimize(cleanup_older_than=timedelta(hours=1))

    def search(self, vector: Vector, k: int, *, model: str, where: Where) -> list[Hit]:
        table = self._table()
        if table is None:
            return []
        query = table.search(vector, vector_column_name="vector").distance_type("cosine").where(f"model = '{model}'")
        found = query.select(["id", "metadata", "_distance"]).limit(k).to_list()
        return [Hit(row["id"], 1.0 - row["_distance"], json.loads(row["metadata"])) for row in found]

    def keyword(self, text: str, k: int, *, model: str, where: Where) -> list[Hit]:
        raise ConfigError("LanceDB's full text is not used yet")

    def _connection(self) -> Any:
        import lancedb

        self._folder.mkdir(parents=True, exist_ok=True)
        return lancedb.connect(str(self._folder))

    def _table(self) -> Any:
        if self._opened is None and (self._folder / f"{self._name}.lance").is_dir():
            self._opened = self._connection().open_table(self._name)
        return self._opened


def _one_of(ids: Sequence[str]) -> Any:
    from lancedb.expr import col

    return col("id").isin(ids)


def _schema(dim: int) -> pa.Schema:
    # Without this mark two writers that merge the same ids at once silently double the rows (lancedb#2463).
    primary = {"lance-schema:unenforced-primary-key": "true"}
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False, metadata=primary),
            pa.field("vector", pa.list_(pa.float32(), dim), nullable=False),
            pa.field("digest", pa.string(), nullable=False),
            pa.field("model", pa.string(), nullable=False),
            pa.field("metadata", pa.string(), nullable=False),
        ]
    )
