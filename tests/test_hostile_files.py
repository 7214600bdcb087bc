"""Hostile files: whatever lies in a source, records or an error of ours come out, soon, and nothing else is read."""

import gzip
import io
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedctl.artifacts.layout import Layout
from embedctl.data import opening
from embedctl.data.fields import Fields
from embedctl.data.local import TextFile, find_files, read_file
from embedctl.data.opening import Notes
from embedctl.data.records import Record
from embedctl.errors import DataError, EmbedctlError, RefusedError
from tests.conftest import REPOSITORY, Ran, Run
from tests.corpora import records
from tests.sources import read, said, write
from tests.test_linear_time import is_linear

__all__ = ["said"]  # a fixture

POSIX = pytest.mark.skipif(os.name != "posix", reason="names and links of POSIX")
MEMORY_BYTES = 500 * 10**6


def open_file(file: TextFile) -> list[Record]:
    return list(read_file(file, Fields(), Notes()))


def zipped(**members: str) -> Path:
    Path("text").mkdir(exist_ok=True)
    with zipfile.ZipFile("text/z.zip", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return Path("text/z.zip")


# Links, pipes, names


@POSIX
@pytest.mark.parametrize("target", ["secret.txt", "secrets", "text/../secret.txt"])
def test_a_link_out_of_the_source_is_refused(target: str):
    Path("secret.txt").write_text("not offered")
    Path("secrets").mkdir()
    Path("secrets/a.txt").write_text("not offered")
    write("inside.txt", "fine")
    Path("text/outside.txt").symlink_to(Path(target).absolute())

    with pytest.raises(RefusedError, match=r"outside\.txt is a link out of text"):
        read()


@POSIX
def test_a_link_inside_the_source_is_read_and_a_circle_is_not_walked():
    write("sub/a.txt", "fine")
    Path("text/b.txt").symlink_to("sub/a.txt")
    Path("text/sub/up").symlink_to("..")

    assert [(r.id, r.text) for r in read()] == [("b.txt", "fine"), ("sub/a.txt", "fine")]


@POSIX
def test_a_link_to_itself_is_refused():
    write("a.txt", "fine")
    Path("text/loop.txt").symlink_to("loop.txt")

    with pytest.raises(RefusedError):
        read()


@POSIX
@pytest.mark.parametrize("swapped", ["text/sub/a.txt", "text/sub"])
def test_a_link_put_there_after_the_search_is_refused(swapped: str):
    Path("elsewhere").mkdir()
    Path("elsewhere/a.txt").write_text("not offered")
    write("sub/a.txt", "fine")
    (file,) = find_files(Path("text"))

    Path(swapped).rename("moved")
    Path(swapped).symlink_to(Path("elsewhere/a.txt" if swapped.endswith("txt") else "elsewhere").absolute())

    with pytest.raises(RefusedError):
        open_file(file)


@POSIX
def test_a_link_put_there_between_the_check_and_the_opening_is_refused(monkeypatch: pytest.MonkeyPatch):
    Path("secret.txt").write_text("not offered")
    write("sub/a.txt", "fine")
    (file,) = find_files(Path("text"))
    real = opening._open_below

    def swap(*arguments: object) -> int:
        Path("text/sub/a.txt").unlink()
        Path("text/sub/a.txt").symlink_to(Path("secret.txt").absolute())
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(opening, "_open_below", swap)

    with pytest.raises(RefusedError, match="became a link while it was read"):
        open_file(file)


def fetch(run: Run, path: str) -> Ran:
    return run("--set", f"data.path={path}", "data", "fetch")


@POSIX
@pytest.mark.timeout(30)
def test_a_pipe_is_never_waited_for(run: Run):
    write("a.txt", "fine")
    os.mkfifo("text/pipe.txt")

    among, named = fetch(run, "text"), fetch(run, "text/pipe.txt")

    assert (among.code, [r.id for r in records(Layout(Path("artifacts"), "main", "main"))]) == (0, ["a.txt"])
    assert (named.code, "text/pipe.txt is not a regular file" in named.err) == (11, True), named.err

    (file,) = find_files(Path("text/a.txt"))
    Path("text/a.txt").unlink()
    os.mkfifo("text/a.txt")
    with pytest.raises(RefusedError, match="is not a regular file"):
        open_file(file)


@POSIX
@pytest.mark.timeout(30)
@pytest.mark.parametrize("path", ["zero.txt", "text"])
def test_a_device_is_refused_and_not_even_opened(monkeypatch: pytest.MonkeyPatch, run: Run, path: str):
    opened: list[object] = []
    monkeypatch.setattr(opening, "_open_below", lambda *way: opened.append(way) or os.open("/dev/null", os.O_RDONLY))
    Path("zero.txt").symlink_to("/dev/zero")
    Path("text").mkdir()
    Path("text/zero.txt").symlink_to("/dev/zero")

    ran = fetch(run, path)

    assert (ran.code, opened) == (11, []), ran.err


@POSIX
def test_hostile_names_give_ids_that_can_be_written():
    odd = (b"bad\xff", b"bad\xfe", b"esc\x1b[31m", b"new\nline", "rtl\u202etxt".encode(), "ü".encode())
    names = [name + b".txt" for name in odd]
    Path("text").mkdir()
    for name in names:
        Path("text", os.fsdecode(name)).write_text("fine")

    ids = [r.id for r in read()]

    assert len(set(ids)) == len(names)
    assert all(id_.encode() and id_.isprintable() for id_ in ids)
    assert {r"bad\xff.txt", r"esc\x1b[31m.txt", r"new\nline.txt", "ü.txt"} <= set(ids)


@pytest.mark.parametrize("path", ["../nowhere", "C:\\x", "\\\\srv\\x", "a\0b", "x" * 5000, "nowhere/*.txt", "**.txt"])
def test_a_path_that_is_not_there_is_an_error_of_ours(path: str):
    with pytest.raises(EmbedctlError):
        find_files(Path(path))


def test_a_pattern_stays_below_its_first_wildcard():
    write("a/x.jsonl", '{"text": "1"}')
    write("a/b/y.jsonl.gz", gzip.compress(b'{"text": "2"}'))
    write("a/.hidden/z.jsonl", '{"text": "no"}')
    write("a/n.txt", "no")

    assert [r.id for r in read("text/**/*.jsonl*")] == ["a/b/y.jsonl.gz:1", "a/x.jsonl:1"]
    with pytest.raises(RefusedError):
        read("text/*/../../*")


# Zips


def test_members_come_in_order_and_hidden_or_foreign_ones_do_not():
    zipped(**{"b.txt": "two", "a/x.md": "one", "__MACOSX/b.txt": "no", ".c.txt": "no", "d.png": "no", "e.zip": "no"})

    assert [(r.id, r.text) for r in read()] == [("z.zip/a/x.md", "one"), ("z.zip/b.txt", "two")]


@pytest.mark.parametrize(
    "name", ["../a.txt", "/etc/a.txt", "a/../../b.txt", "C:\\a.txt", "..\\a.txt", "\\\\srv\\a.txt"]
)
def test_a_member_that_points_out_of_the_zip_is_refused(name: str):
    zipped(**{name: "x"})

    with pytest.raises(RefusedError, match="points out of the zip"):
        read()


def test_a_member_that_is_a_link_is_passed_over(said: pytest.LogCaptureFixture):
    Path("text").mkdir()
    with zipfile.ZipFile("text/z.zip", "w") as archive:
        link = zipfile.ZipInfo("link.txt")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("a.txt", "fine")

    assert [r.id for r in read()] == ["z.zip/a.txt"]
    assert "text/z.zip/link.txt is a link or a device; passed over" in said.text


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_overlapping_and_encrypted_members_are_refused():
    Path("text").mkdir()
    with zipfile.ZipFile("text/z.zip", "w") as archive:
        archive.writestr("a.txt", "one")
        archive.writestr("a.txt", "two")
    with pytest.raises(RefusedError, match="two members overlap or have the same name"):
        read()

    data = bytearray(zipped(**{"a.txt": "one"}).read_bytes())
    data[data.rindex(b"PK\1\2") + 8] |= 1
    Path("text/z.zip").write_bytes(data)
    with pytest.raises(DataError, match=r"text/z\.zip/a\.txt is encrypted"):
        read()


def test_a_thousand_members_take_no_more_than_their_share():
    def read_members(text: str) -> None:
        zipped(**{f"{n}.txt": f"text {n}" for n in range(len(text))})
        assert len(read()) == len(text)

    assert is_linear(read_members, "m", 400)


# Bombs


def gzip_bomb(megabytes: int) -> bytes:
    line = b'{"text": "' + b"a" * 99_980 + b'"}\n'
    return gzip.compress(line * 10) * megabytes


def parquet_bomb(rows: int, characters: int) -> bytes:
    sink = io.BytesIO()
    text = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["a" * characters]))
    pq.write_table(pa.table({"text": text}), sink, compression="zstd", store_schema=False)
    return sink.getvalue()


BOMB = """
import resource, sys
from embedctl.artifacts.layout import Layout
from embedctl.data import opening
opening.MOST_UNPACKED_BYTES = int(sys.argv[1])
from pathlib import Path
from embedctl.data.local import find_files, read_file, Fields, Notes
from embedctl.errors import DataError

try:
    for file in find_files(Path("text")):
        for record in read_file(file, Fields(), Notes()):
            pass
except DataError as fault:
    print(fault.message)
# Not ru_maxrss, which begins with what the parent of the process held.
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("kind", "limit"), [("jsonl.gz", 2**30), ("txt.gz", 2**28), ("parquet", 2**30), ("zip", 2**28)]
)
def test_a_bomb_is_stopped_at_the_limit_in_bounded_memory(kind: str, limit: int):
    assert opening.MOST_UNPACKED_BYTES == 2**30
    bomb = parquet_bomb(2000, 1_000_000) if kind == "parquet" else gzip_bomb(limit // 10**6 + 10)
    assert len(bomb) < 2 * 10**6
    if kind == "zip":
        Path("text").mkdir()
        with zipfile.ZipFile("text/z.zip", "w") as archive:
            archive.writestr("a.jsonl.gz", bomb)
    else:
        write(f"a.{kind}", bomb)

    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    ran = subprocess.run(
        [sys.executable, "-c", BOMB, str(limit)], capture_output=True, text=True, timeout=60, env=environment
    )

    message, memory = ran.stdout.splitlines()
    assert f"unpacks to more than {limit:,} bytes" in message
    assert int(memory) < MEMORY_BYTES
