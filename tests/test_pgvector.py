"""PostgreSQL with pgvector, a real server: found is nearest, twice is once, and a batch is never there in part."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from pydantic import SecretStr

from embedctl.errors import AuthError, ConfigError, EmbedctlError, NotFoundError
from embedctl.settings import Secrets, StoreSettings
from embedctl.store.pgvector import PgvectorStore
from embedctl.store.protocol import Busy, Refused
from embedctl.store.upsert import Wish, upsert
from tests.conftest import REPOSITORY, Run, options, tiny
from tests.postgres import PASSWORD, Postgres
from tests.rows import write_vectors
from tests.test_store import stored

Values = npt.NDArray[np.float32]


def url(database: Postgres) -> str:
    return database.url(database="tests")


def opened(at: str, dim: int | None = None, **settings: object) -> PgvectorStore:
    store = PgvectorStore(StoreSettings(kind="pgvector", **settings), SecretStr(at))
    if dim is not None:
        store.create(dim)
    return store


def clustered(count: int, dim: int = 16, seed: int = 0) -> Values:
    """Points around 40 centres that are the same for every ``seed``: an index is no good for what has no structure."""
    centres = np.random.default_rng(0).normal(size=(40, dim))
    generator = np.random.default_rng(seed + 1)
    found = centres[generator.integers(40, size=count)] + 0.3 * generator.normal(size=(count, dim))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def batch(values: Values, *, first: int = 0, **metadata: object) -> pa.RecordBatch:
    numbers = range(first, first + len(values))
    return pa.RecordBatch.from_pydict(
        {
            "id": [f"r{n}" for n in numbers],
            "values": pa.array(list(values), pa.list_(pa.float32())),
            "digest": [f"d{n}" for n in numbers],
            "metadata": [json.dumps({"n": n, "parity": n % 2, **metadata}, ensure_ascii=False) for n in numbers],
        }
    )


def test_a_written_vector_comes_back_bit_by_bit(database: Postgres):
    values = clustered(50)
    whole, half = opened(url(database), 16), opened(url(database), 16, column="halfvec", collection="half")
    for store in (whole, half):
        store.write(batch(values), model="m")

    ids = [f"r{n}" for n in range(50)]
    assert all(np.array_equal(whole.fetch(ids)[id_], values[n]) for n, id_ in enumerate(ids))
    assert all(np.array_equal(half.fetch(ids)[id_], values[n].astype(np.float16)) for n, id_ in enumerate(ids))


def test_twice_is_once_and_what_changed_is_replaced(database: Postgres):
    store = opened(url(database), 16)
    store.write(batch(clustered(30)), model="m")
    store.write(batch(clustered(30)), model="m")
    store.write(batch(clustered(10, seed=5), text="new"), model="n")

    assert store.count() == 30
    assert store.known(["r1", "r29", "none"]) == {"r1": "d1", "r29": "d29"}
    assert sorted(id_ for page in store.ids() for id_ in page) == sorted(f"r{n}" for n in range(30))
    assert {hit.id for hit in store.search(clustered(1)[0], 50, model="n", where={})} == {f"r{n}" for n in range(10)}
    store.delete(["r0", "none"])
    assert store.count() == 29


@pytest.mark.parametrize("schema", ["", "50 %s"])
def test_rows_that_are_new_go_straight_in_unless_somebody_was_faster(database: Postgres, schema: str):
    values = clustered(30)
    store = opened(url(database), 16, namespace=schema)
    store.write(batch(values[:20]), model="m", new=True)

    store.write(batch(np.concatenate([clustered(10, seed=5), values[10:]])), model="n", new=True)

    found = store.fetch([f"r{n}" for n in range(30)])
    assert store.count() == 30
    assert all(np.array_equal(found[f"r{n}"], one) for n, one in enumerate(clustered(10, seed=5)))
    assert len(store.search(values[0], 50, model="n", where={})) == 30


def test_row_level_security_forbids_copy_and_no_upsert(database: Postgres):
    opened(url(database), 16)
    database.run(
        "CREATE ROLE app LOGIN",
        "GRANT TEMPORARY ON DATABASE tests TO app",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON main TO app",
        "ALTER TABLE main ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY all_rows ON main TO app USING (true) WITH CHECK (true)",
        database="tests",
    )
    store = opened(database.url("app", database="tests"))

    store.write(batch(clustered(30)), model="m", new=True)

    assert store.count() == 30


def test_a_dry_run_asks_no_table_that_is_not_there(database: Postgres):
    loaded = tiny("store.kind=pgvector")
    write_vectors(loaded.layout, batch(clustered(30)))
    secrets = Secrets(database_url=SecretStr(url(database)))

    tally = upsert(loaded.settings.store, loaded.layout, Wish(dry_run=True, prune_stale=True), secrets=secrets)

    assert (tally.written, tally.sent, tally.deleted) == (30, 0, 0)
    assert opened(url(database)).dim is None


@pytest.mark.parametrize(
    ("column", "dtype"), [("vector", "float32"), ("halfvec", "float32"), ("vector", "int8"), ("halfvec", "float16")]
)
def test_the_command_brings_it_up_to_date_verifies_and_writes_nothing_twice(
    database: Postgres, run: Run, column: str, dtype: str
):
    stored(f"embedding.dtype={dtype}")
    words = options("store.kind=pgvector", f"store.column={column}", f"embedding.dtype={dtype}")

    first = json.loads(run(*words, "--json", "embed", "upsert", "--verify", "all").out)
    second = json.loads(run(*words, "--json", "embed", "upsert").out)
    other = "(SELECT embedding FROM main WHERE id = 'r2#0')"
    database.run(
        f"UPDATE main SET embedding = {other} WHERE id = 'r1#0'", "DELETE FROM main WHERE id = 'r3#0'", database="tests"
    )
    wrong = run(*words, "embed", "upsert", "--verify", "all")

    assert first["written"] == first["verified"] > 50
    assert (second["written"], second["unchanged"]) == (0, first["written"])
    assert wrong.code == 4
    assert "r1#0" in wrong.err
    assert run(*words, "embed", "upsert", "--verify", "all").code == 0
    assert opened(url(database)).count() == first["written"]


def test_the_table_of_another_server_is_not_taken_for_this_one(
    database: Postgres, run: Run, monkeypatch: pytest.MonkeyPatch
):
    stored()
    words = options("store.kind=pgvector")

    def state() -> str:
        return str(json.loads(run(*words, "--json", "status").out)[-1]["state"])

    assert run(*words, "embed", "upsert").code == 0
    here = state()
    monkeypatch.setenv("DATABASE_URL", url(database).replace("/tests", "/elsewhere"))
    elsewhere = state()
    monkeypatch.delenv("DATABASE_URL")

    assert here == state() == "stale"  # the run of the test stopped training early
    assert elsewhere == "missing"


WRITER = """
import sys, numpy as np
from tests.test_pgvector import batch, clustered, opened
store = opened(sys.argv[1])
for number in range(1000):
    print(number, flush=True)
    store.write(batch(clustered(200), first=200 * number, number=number), model="m")
"""


def test_killed_while_writing_leaves_whole_batches(database: Postgres):
    store = opened(url(database), 16)
    for chance in range(4):
        store.delete([f"r{n}" for n in range(200_000)])
        program = [sys.executable, "-c", WRITER, url(database)]
        child = subprocess.Popen(program, stdout=subprocess.PIPE, cwd=REPOSITORY)
        assert child.stdout is not None
        while int(child.stdout.readline()) < 3 + chance:
            pass
        time.sleep(0.002 * chance)
        child.send_signal(signal.SIGKILL)
        begun = max(int(line) for line in child.stdout.read().split() or ["0"])
        child.wait()

        rows = dict(database.run("SELECT metadata ->> 'number', count(*) FROM main GROUP BY 1", database="tests"))
        assert set(rows.values()) == {200}
        assert len(rows) >= max(3 + chance, begun)


def test_a_lost_connection_may_pass_and_the_next_try_has_a_new_one(database: Postgres):
    store = opened(url(database), 16)
    database.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'embedctl'")

    with pytest.raises(Busy):
        store.write(batch(clustered(5)), model="m")
    store.write(batch(clustered(5)), model="m")

    assert store.count() == 5


def test_a_held_lock_and_a_full_server_may_pass(database: Postgres):
    import psycopg

    store = opened(f"{url(database)}&options=-c%20lock_timeout%3D50ms", 16)
    with psycopg.connect(url(database)) as other:
        other.execute("LOCK TABLE main")
        with pytest.raises(Busy, match="lock timeout"):
            store.write(batch(clustered(5)), model="m")
    database.run("CREATE ROLE crowd LOGIN CONNECTION LIMIT 0")
    with pytest.raises(Busy, match="too many connections"):
        opened(database.url("crowd", database="tests")).count()


@pytest.mark.parametrize("bad", ["\0", "\ud800", "lone \udfff"])
def test_text_that_no_database_takes_is_refused_and_the_rest_is_taken(database: Postgres, bad: str):
    store = opened(url(database), 16)
    rows = batch(clustered(1))
    hostile = rows.set_column(3, "metadata", pa.array([json.dumps({"text": bad})]))

    with pytest.raises(Refused):
        store.write(hostile, model="m")
    store.write(rows, model="m")

    assert store.count() == 1


def test_numbers_too_large_for_half_precision_are_refused(database: Postgres):
    store = opened(url(database), 16, column="halfvec")

    with pytest.raises(Refused):
        store.write(batch(clustered(3) * np.float32(1e6)), model="m")


def test_a_refused_login_and_a_missing_database_say_so_without_the_password(database: Postgres):
    wrong = database.url("locked", "wrong-canary", database="tests")
    faults: list[tuple[str, type[Exception]]] = [
        (wrong, AuthError),
        (database.url("locked", database="tests"), AuthError),
        (database.url("nobody-canary"), AuthError),
        (database.url(database="nowhere"), NotFoundError),
        ("postgresql://user:pass-canary@127.0.0.1:1/x", Busy),
        ("postgresql+psycopg2://user:pass-canary@host/x", ConfigError),
        ("host=127.0.0.1 port=nonsense password=pass-canary", ConfigError),
        ("pass-canary", ConfigError),
        ("  ", AuthError),
    ]
    for at, kind in faults:
        with pytest.raises(kind) as caught:
            opened(at).create(4)
        told = f"{caught.value} {getattr(caught.value, 'hint', '')}"
        assert "wrong-canary" not in told
        assert "pass-canary" not in told


def test_the_command_never_shows_the_password(database: Postgres, run: Run, monkeypatch: pytest.MonkeyPatch):
    stored()
    for user, password, code in (("locked", "wrong-canary", 7), ("locked", PASSWORD, 2)):
        monkeypatch.setenv("DATABASE_URL", database.url(user, password, database="tests"))
        for words in (["embed", "upsert"], ["embed", "search", "river"], ["doctor"], ["config", "show"]):
            ran = run(*options("store.kind=pgvector"), "-v", *words)
            if words[1:] == ["upsert"]:
                assert ran.code == code
                assert "Traceback" not in ran.err
            assert password not in ran.out + ran.err
    written = [path for path in Path("ws").rglob("*") if path.is_file()]
    assert not any(b"canary" in path.read_bytes() for path in written)


def test_a_server_without_the_extension_says_what_to_type(database: Postgres):
    database.run(
        "GRANT ALL ON DATABASE tests TO locked",
        "REVOKE CREATE ON DATABASE tests FROM locked, PUBLIC",
    )
    may_not = database.url("locked", PASSWORD, database="tests")
    database.run("CREATE SCHEMA fake", "CREATE TABLE fake.pg_available_extensions "
               "(name text, installed_version text, default_version text)", database="tests")  # fmt: skip

    with pytest.raises(ConfigError) as unprivileged:
        opened(may_not, 4)
    with pytest.raises(ConfigError) as missing:
        opened(f"{url(database)}&options=-c%20search_path%3Dfake%2Cpg_catalog%2Cpublic", 4)
    database.run("INSERT INTO fake.pg_available_extensions VALUES ('vector', '0.7.4', '0.8.0')", database="tests")
    with pytest.raises(ConfigError) as old:
        opened(f"{url(database)}&options=-c%20search_path%3Dfake%2Cpg_catalog%2Cpublic", 4)

    assert "CREATE EXTENSION vector" in str(unprivileged.value.hint)
    assert "postgresql-18-pgvector" in str(missing.value.hint)
    assert "ALTER EXTENSION vector UPDATE" in str(old.value.hint)


def test_a_table_of_somebody_else_and_one_of_another_width_are_left_alone(database: Postgres):
    database.run("CREATE TABLE main (id int)", database="tests")

    with pytest.raises(ConfigError, match="not made by embedctl"):
        opened(url(database), 4)
    opened(url(database), 4, collection="mine")
    with pytest.raises(EmbedctlError, match=r"holds vector\(4\), these are vector\(5\)"):
        opened(url(database), 5, collection="mine")
    with pytest.raises(EmbedctlError, match=r"holds vector\(4\), these are halfvec\(4\)"):
        opened(url(database), 4, collection="mine", column="halfvec")


@pytest.mark.parametrize("name", ['a"; DROP TABLE main; --', "ünï code", "%s", "{table}"])
def test_names_are_never_taken_for_sql(database: Postgres, name: str):
    opened(url(database), 4).write(batch(clustered(3, dim=4)), model="m")
    other = opened(url(database), 4, namespace=name)
    other.write(batch(clustered(2, dim=4)), model="m")

    assert (opened(url(database)).count(), other.count()) == (3, 2)
    assert len(other.search(clustered(1, dim=4)[0], 5, model=name, where={})) == 0


def test_the_connection_string_may_be_missing(run: Run):
    stored()

    ran = run(*options("store.kind=pgvector"), "embed", "upsert")

    assert ran.code == 7
    assert "DATABASE_URL is not set" in ran.err
    assert "postgresql://USER:PASSWORD@HOST/DATABASE" in ran.err
    assert os.environ.get("DATABASE_URL") is None
