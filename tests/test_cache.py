"""The cache of vectors: bounded, without pickle, and never a reason to fail."""

import os
import pickle
import sqlite3
from pathlib import Path

import pytest

from embedctl.embedding.cache import VectorCache


def test_the_cache_runs_no_code_and_finds_nothing_in_a_row_that_is_not_its_own(tmp_path: Path):
    canary = tmp_path / "canary"
    evil = pickle.dumps(_Evil(str(canary)))
    keys = [bytes([n]) * 16 for n in range(4)]
    with VectorCache(tmp_path / "cache", megabytes=10) as cache:
        cache.put([(key, b"row of " + key) for key in keys])
    precious = tmp_path / "precious"
    precious.write_text("kept")
    with sqlite3.connect(tmp_path / "cache/cache.db") as table:
        table.execute("UPDATE Cache SET mode = 4, value = ? WHERE key = ?", (evil, keys[0]))
        table.execute("UPDATE Cache SET mode = 3, filename = '../precious', value = NULL WHERE key = ?", (keys[1],))
        table.execute("UPDATE Cache SET value = replace(value, 'row', 'raw') WHERE key = ?", (keys[2],))

    with VectorCache(tmp_path / "cache", megabytes=10) as cache:
        found = cache.get(keys)
        cache.put([(keys[1], b"anew")])

    assert found == {keys[3]: b"row of " + keys[3]}
    assert not canary.exists()
    assert precious.read_text() == "kept"
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


class _Evil:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_the_cache_stays_within_its_bytes(tmp_path: Path):
    with VectorCache(tmp_path / "cache", megabytes=2) as cache:
        for n in range(8):
            cache.put([(n.to_bytes(8, "big") + k.to_bytes(8, "big"), bytes(1000)) for k in range(500)])
        newest = cache.get([(7).to_bytes(8, "big") + k.to_bytes(8, "big") for k in range(500)])
        oldest = cache.get([(0).to_bytes(8, "big") + k.to_bytes(8, "big") for k in range(500)])

    assert sum(path.stat().st_size for path in (tmp_path / "cache").iterdir() if path.suffix == ".db") < 2.1e6
    assert (len(newest), len(oldest)) == (500, 0)


def test_a_damaged_cache_is_replaced_and_a_full_disk_does_no_harm(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/cache.db").write_bytes(b"this is no database" * 1000)

    with VectorCache(tmp_path / "cache", megabytes=2) as cache:
        cache.put([(b"k" * 16, b"row")])
        assert cache.get([b"k" * 16]) == {b"k" * 16: b"row"}
    assert "damaged" in caplog.text


def test_a_cache_that_cannot_be_opened_is_kept_and_gone_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with VectorCache(tmp_path / "cache", megabytes=2) as cache:
        cache.put([(b"k" * 16, b"row")])

    def full(*_: object, **__: object) -> None:
        fault = sqlite3.OperationalError("database or disk is full")
        fault.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr("diskcache.Cache", full)
        with VectorCache(tmp_path / "cache", megabytes=2) as cache:
            cache.put([(b"l" * 16, b"row")])
            assert cache.get([b"k" * 16]) == {}
    with VectorCache(tmp_path / "cache", megabytes=2) as cache:
        assert cache.get([b"k" * 16]) == {b"k" * 16: b"row"}
    (tmp_path / "file").write_text("")
    with VectorCache(tmp_path / "file", megabytes=2) as cache:
        assert cache.get([b"k" * 16]) == {}
