"""LanceDB, embedded in the workspace: the default store."""

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from embedctl.errors import ArtifactError
from embedctl.store.protocol import Hit, Row, Vector


class LanceStore:
    """A table in a LanceDB folder."""

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
        # LanceDB takes SQL text without parameters: quote as SQL does.
        quoted = ", ".join("'" + id_.replace("'", "''") + "'" for id_ in ids)
        found = table.search().where(f"id IN ({quoted})").select(["id", "digest"]).limit(len(ids)).to_arrow()
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

    def write(self, rows: Sequence[Row], *, model: str) -> None:
        table = self._table()
        dim = self.dim
        assert table is not None
        assert dim is not None
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate([row.values for row in rows])), dim)
        batch = pa.table(
            {
                "id": [row.id for row in rows],
                "vector": vectors,
                "digest": [row.digest for row in rows],
                "model": [model] * len(rows),
                "metadata": [json.dumps(dict(row.metadata), ensure_ascii=False) for row in rows],
            },
            schema=table.schema,
        )
        table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(batch)

    def finish(self) -> None:
        table = self._table()
        if table is not None:
            # Each write made a version of its own; keep those of the last hour for readers that are under way.
            table.optimize(cleanup_older_than=timedelta(hours=1))

    def search(self, vector: Vector, k: int, *, model: str) -> list[Hit]:
        table = self._table()
        if table is None:
            return []
        query = table.search(vector, vector_column_name="vector").distance_type("cosine").where(f"model = '{model}'")
        found = query.select(["id", "metadata", "_distance"]).limit(k).to_list()
        return [Hit(row["id"], 1.0 - row["_distance"], json.loads(row["metadata"])) for row in found]

    def _connection(self) -> Any:
        import lancedb

        self._folder.mkdir(parents=True, exist_ok=True)
        return lancedb.connect(str(self._folder))

    def _table(self) -> Any:
        if self._opened is None and (self._folder / f"{self._name}.lance").is_dir():
            self._opened = self._connection().open_table(self._name)
        return self._opened


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
