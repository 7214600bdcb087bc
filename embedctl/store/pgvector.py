"""PostgreSQL with pgvector: the store on a server of one's own."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, LiteralString

import pyarrow as pa
from pydantic import SecretStr

from embedctl.errors import ArtifactError, ConfigError
from embedctl.settings import StoreSettings
from embedctl.store import copies
from embedctl.store.postgres import Postgres, condition_of, need_pgvector, quoted
from embedctl.store.protocol import Hit, Limits, Vector, Where

# Rows stay in one piece, up to a page: fetching each vector from elsewhere makes writing and scanning slower.
_TABLE: LiteralString = """
CREATE TABLE IF NOT EXISTS {table} (
    id text COLLATE "C" PRIMARY KEY,
    embedding {column}({dim}) NOT NULL,
    digest text NOT NULL,
    model text NOT NULL,
    metadata jsonb NOT NULL
) WITH (toast_tuple_target = 8160)
"""
_ROWS: LiteralString = """
CREATE TEMPORARY TABLE embedctl_rows WITH (toast_tuple_target = 8160) ON COMMIT DROP AS
SELECT id, embedding, digest, model, metadata FROM {table} WITH NO DATA
"""
# English as in LanceDB: words of other languages lose no more than an English ending.
_WORDS: LiteralString = """
ALTER TABLE {table} ADD COLUMN IF NOT EXISTS
    words tsvector GENERATED ALWAYS AS (to_tsvector('english', coalesce(metadata ->> 'text', ''))) STORED
"""
_COPY: LiteralString = "COPY {table} (id, embedding, digest, model, metadata) FROM STDIN (FORMAT binary)"
_UPSERT: LiteralString = """
INSERT INTO {table} (id, embedding, digest, model, metadata)
SELECT id, embedding, digest, model, metadata FROM embedctl_rows
ON CONFLICT (id) DO UPDATE SET embedding = excluded.embedding, digest = excluded.digest,
    model = excluded.model, metadata = excluded.metadata
"""
_LOOK: LiteralString = """
SELECT attname, typname, atttypmod FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
"""
_INDEXED: LiteralString = """
SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
WHERE indrelid = to_regclass(%s) AND indisvalid
"""
_HNSW: LiteralString = """
CREATE INDEX ON {table} USING hnsw (embedding {operators}) WITH (m = {links}, ef_construction = {effort})
"""
_KEYWORD: LiteralString = """
SELECT id, ts_rank(words, %s::tsquery) AS score, metadata FROM {table} WHERE words @@ %s::tsquery AND
"""
_INDEXED_DIMS = {"vector": 2000, "halfvec": 4000}  # HNSW takes no more
_INDEX_MEMORY_BYTES = 2**30
# Up to so many rows that a filter lets through are compared one by one: exact, and as fast as an index.
_EXACT_ROWS = 10_000
# With its defaults (16, 64, and 40 while searching) HNSW loses more than 2 % of the nearest of real vectors.
_LINKS = 24
_EF_CONSTRUCTION = 200
_EF_SEARCH = 400
_MOST_EF_SEARCH = 1000  # pgvector's own limit
# Copies of one vector, if there are hundreds, are linked to nothing else: a search that meets them finds little else.
_MORE, _COPIES = 20, 10
_IDS_PER_PAGE = 10_000


class PgvectorStore:
    """One table, named as the collection, in one schema."""

    limits = Limits(rows=2000, request_bytes=None, metadata_bytes=None, id_characters=None, concurrency=4)

    def __init__(self, settings: StoreSettings, url: SecretStr | None) -> None:
        """Raises ``AuthError`` or ``ConfigError`` without a usable URL."""
        self._database = Postgres(url)
        self._settings = settings
        self._column: str = settings.column
        self._dim: int | None = None
        self._words = False

    @property
    def target(self) -> str:
        return f"pgvector:{self._database.where}/{'.'.join(self._path())}"

    @property
    def dim(self) -> int | None:
        if self._dim is None:
            with self._database.transaction() as cursor:
                self._look(cursor)
        return self._dim

    def count(self) -> int:
        if self.dim is None:
            return 0
        with self._database.transaction() as cursor:
            return int(self._run(cursor, "SELECT count(*) FROM {table}").fetchone()[0])

    def create(self, dim: int) -> None:
        with self._database.transaction() as cursor:
            self._look(cursor)
            if self._dim is None:
                need_pgvector(cursor)
                if self._settings.namespace:
                    self._run(cursor, "CREATE SCHEMA IF NOT EXISTS {schema}")
                self._run(cursor, _TABLE, dim=dim)
                self._look(cursor)
            if (self._dim, self._column) != (dim, self._settings.column):
                raise ArtifactError(
                    f"table {self._settings.collection!r} holds {self._column}({self._dim}), "
                    f"these are {self._settings.column}({dim})",
                    hint="--set store.collection=NAME starts another table",
                )
            if self._settings.full_text and not self._words:
                self._run(cursor, _WORDS)
                self._look(cursor)

    def known(self, ids: Sequence[str]) -> dict[str, str]:
        if not ids:
            return {}
        with self._database.transaction() as cursor:
            return dict(self._run(cursor, "SELECT id, digest FROM {table} WHERE id = ANY (%s)", [list(ids)]))

    def size(self, rows: pa.RecordBatch) -> None:
        return None

    def write(self, rows: pa.RecordBatch, *, model: str, new: bool = False) -> None:
        """Rows that are new go straight into the table, which takes half as long."""
        sent = copies.copied(rows, model, self._column)
        with self._database.transaction() as cursor:
            if new and self._added(cursor, sent):
                return
            self._run(cursor, _ROWS)
            with cursor.copy("COPY embedctl_rows FROM STDIN (FORMAT binary)") as copy:
                copy.write(sent)
            self._run(cursor, _UPSERT)

    def _added(self, cursor: Any, sent: bytes) -> bool:
        """Whether the table has taken all.

        It has taken none if somebody else has stored one of the ids meanwhile, or row-level security forbids COPY.
        """
        from psycopg.errors import FeatureNotSupported, UniqueViolation

        try:
            with cursor.connection.transaction(), cursor.copy(self._named(_COPY)) as copy:
                copy.write(sent)
        except (UniqueViolation, FeatureNotSupported):
            return False
        return True

    def ids(self) -> Iterator[list[str]]:
        last = ""
        while self.dim is not None:
            with self._database.transaction() as cursor:
                found = self._run(
                    cursor,
                    "SELECT id FROM {table} WHERE id > %s ORDER BY id LIMIT %s",
                    [last, _IDS_PER_PAGE],
                ).fetchall()
            if not found:
                return
            yield [id_ for (id_,) in found]
            last = found[-1][0]

    def delete(self, ids: Sequence[str]) -> None:
        with self._database.transaction() as cursor:
            self._run(cursor, "DELETE FROM {table} WHERE id = ANY (%s)", [list(ids)])

    def fetch(self, ids: Sequence[str]) -> dict[str, Vector]:
        with self._database.transaction() as cursor:
            query = "SELECT id, {send}(embedding) FROM {table} WHERE id = ANY (%s)"
            return {id_: copies.received(sent, self._column) for id_, sent in self._run(cursor, query, [list(ids)])}

    def finish(self, *, written: bool) -> None:
        """Make the indexes, once there are enough rows; they follow every later write by themselves."""
        least = self._settings.index_from_rows
        if not least or self.count() < least:
            return
        with self._database.transaction() as cursor:
            have = before = self._indexed(cursor)
            if "embedding" not in have and (self._dim or 0) <= _INDEXED_DIMS[self._column]:
                # Building in less memory than the graph takes is many times slower.
                self._run(
                    cursor, "SELECT set_config('maintenance_work_mem', %s, true)", [f"{_INDEX_MEMORY_BYTES >> 10}kB"]
                )
                self._run(cursor, _HNSW)
            if "metadata" not in have:
                self._run(cursor, "CREATE INDEX ON {table} USING gin (metadata jsonb_path_ops)")
            if self._words and "words" not in have:
                self._run(cursor, "CREATE INDEX ON {table} USING gin (words)")
            if written or self._indexed(cursor) != before:
                self._run(cursor, "ANALYZE {table}")

    def search(self, vector: Vector, k: int, *, model: str, where: Where) -> list[Hit]:
        if self.dim is None:
            return []
        asked = json.dumps(vector.tolist())
        condition, values = condition_of(model, where)
        head: LiteralString = "SELECT id, 1 - (embedding <=> %s::{column}) AS score, metadata FROM {table} WHERE "
        with self._database.transaction() as cursor:
            ef = min(_MOST_EF_SEARCH, max(_EF_SEARCH, 2 * k))
            cursor.execute("SELECT set_config('hnsw.ef_search', %s, true)", [str(ef)])
            cursor.execute("SELECT set_config('hnsw.iterative_scan', 'strict_order', true)")
            found: list[Any] = []
            if not where or self._many(cursor, condition, values):
                nearest: LiteralString = " ORDER BY embedding <=> %s::{column} LIMIT %s"
                found = self._run(cursor, head + condition + nearest, [asked, *values, asked, k + _MORE]).fetchall()
            if len(found) < k or self._in_dead_end(cursor, [score for _, score, _ in found]):
                # No index is made for this order: every row that is let through is compared.
                found = self._run(
                    cursor, head + condition + " ORDER BY score DESC LIMIT %s", [asked, *values, k]
                ).fetchall()
        return [Hit(id_, float(score), metadata) for id_, score, metadata in found[:k]]

    def keyword(self, text: str, k: int, *, model: str, where: Where) -> list[Hit]:
        """By the rank of full text search; any of the words is enough."""
        if self.dim is None:
            return []
        if not self._words:
            raise ConfigError(
                f"table {self._settings.collection!r} has no words to look through",
                hint="`embedctl embed upsert` with store.full_text = true adds them",
            )
        condition, values = condition_of(model, where)
        with self._database.transaction() as cursor:
            lexemes = cursor.execute("SELECT lexeme FROM unnest(to_tsvector('english', %s))", [text]).fetchall()
            any_of = " | ".join(quoted(lexeme) for (lexeme,) in lexemes)
            found = self._run(
                cursor, _KEYWORD + condition + " ORDER BY score DESC, id LIMIT %s", [any_of, any_of, *values, k]
            ).fetchall()
        return [Hit(id_, float(score), metadata) for id_, score, metadata in found]

    def _in_dead_end(self, cursor: Any, scores: list[float]) -> bool:
        """Whether more than a third of what an index has found are copies of one vector, and more than a node holds."""
        copies = max(Counter(scores).values())
        return copies > max(_COPIES, len(scores) // 3) and "embedding" in self._indexed(cursor)

    def _many(self, cursor: Any, condition: LiteralString, values: list[Any]) -> bool:
        """Whether a filter lets through more rows than are compared one by one."""
        query: LiteralString = (
            "SELECT count(*) FROM (SELECT 1 FROM {table} WHERE " + condition + " LIMIT %s) AS let_through"
        )
        return int(self._run(cursor, query, [*values, _EXACT_ROWS + 1]).fetchone()[0]) > _EXACT_ROWS

    def _indexed(self, cursor: Any) -> set[str]:
        return {name for (name,) in cursor.execute(_INDEXED, [self._name(cursor)])}

    def _look(self, cursor: Any) -> None:
        """Note what is there under the name, if anything."""
        found = {name: (kind, width) for name, kind, width in cursor.execute(_LOOK, [self._name(cursor)])}
        if not found:
            return
        kind, width = found.get("embedding", ("", 0))
        if not found.keys() >= {*copies.COLUMNS} or kind not in _INDEXED_DIMS:
            raise ConfigError(
                f"table {self._settings.collection!r} is there and was not made by embedctl",
                hint="--set store.collection=NAME uses another, --set store.namespace=SCHEMA another schema",
            )
        self._column, self._dim, self._words = kind, int(width), "words" in found

    def _name(self, cursor: Any) -> str:
        """The table's name as SQL, quoted."""
        from psycopg.sql import Identifier

        return Identifier(*self._path()).as_string(cursor)

    def _path(self) -> tuple[str, ...]:
        return (*filter(None, [self._settings.namespace]), self._settings.collection)

    def _run(self, cursor: Any, query: LiteralString, values: Sequence[Any] = (), *, dim: int | None = None) -> Any:
        """Execute ``query``; values are bound, never put in."""
        # A sign that stands for a value would be one in a name too.
        return cursor.execute(self._named(query, percent="%%", dim=dim), values)

    def _named(self, query: LiteralString, *, percent: str = "%", dim: int | None = None) -> Any:
        """``query`` with the names of this table put in, quoted."""
        from psycopg.sql import SQL, Identifier, Literal

        return SQL(query).format(
            table=Identifier(*(part.replace("%", percent) for part in self._path())),
            schema=Identifier(self._settings.namespace.replace("%", percent)),
            column=Identifier(self._column),
            operators=Identifier(f"{self._column}_cosine_ops"),
            send=Identifier(f"{self._column}_send"),
            dim=Literal(dim),
            links=Literal(_LINKS),
            effort=Literal(_EF_CONSTRUCTION),
        )
