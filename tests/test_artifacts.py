"""Artifacts: whole or not there, one writer at a time, every byte vouched for."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedctl.artifacts import manifest
from embedctl.artifacts.folder import lock, new_folder, remove_folder, write_file
from embedctl.artifacts.growing import Shard, growing_folder
from embedctl.artifacts.outcome import up_to_date
from embedctl.errors import ArtifactError, LockedError, NotFoundError, RefusedError


def make(folder: Path, content: bytes = b"content", *, settings: dict[str, object] | None = None) -> manifest.Manifest:
    with new_folder(folder) as partial:
        write_file(partial / "sub" / "data.bin", content)
        return manifest.write(partial, "corpus", parents={}, settings=settings or {}, facts={"records": 1})


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_failed_write_leaves_the_old_artifact_and_no_rest():
    target = Path("ws/corpus")
    make(target, b"old")
    before = snapshot(Path("ws"))

    with pytest.raises(RuntimeError), new_folder(target) as partial:
        write_file(partial / "sub" / "data.bin", b"new")
        raise RuntimeError("the disk went away")

    assert snapshot(Path("ws")) == before


def test_a_new_artifact_takes_the_place_of_the_old_one_whole():
    target = Path("ws/corpus")
    make(target, b"old")
    make(target, b"new")

    assert snapshot(target).keys() == {"sub/data.bin", "manifest.json"}
    assert (target / "sub/data.bin").read_bytes() == b"new"
    assert [path.name for path in Path("ws").iterdir()] == ["corpus"]


CRASH = """
import os, signal, sys
from pathlib import Path
from embedctl.artifacts import manifest
from embedctl.artifacts.folder import new_folder, write_file

# Die at the n-th call to the system that changes the disk.
count = int(sys.argv[1])
def counted(call):
    def wrapped(*arguments, **named):
        global count
        count -= 1
        if count < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **named)
    return wrapped
for name in ("fsync", "mkdir", "rename", "replace", "unlink", "rmdir"):
    setattr(os, name, counted(getattr(os, name)))
with new_folder(Path("ws/corpus")) as partial:
    write_file(partial / "data.bin", b"new" * 1000)
    manifest.write(partial, "corpus", parents={}, settings={}, facts={"records": 1})
"""


def test_killed_at_any_point_the_artifact_is_the_old_or_the_new_one():
    target = Path("ws/corpus")
    seen = set()
    for count in range(100):
        with new_folder(target) as partial:
            write_file(partial / "data.bin", b"old")
            manifest.write(partial, "corpus", parents={}, settings={}, facts={"records": 1})
        child = subprocess.run([sys.executable, "-c", CRASH, str(count)])

        assert not manifest.damaged(target, manifest.read(target, "corpus"))
        seen.add((target / "data.bin").read_bytes()[:3])
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL

    assert seen == {b"old", b"new"}
    assert 5 < count < 99


@given(at=st.integers(0, 6), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found(tmp_path_factory: pytest.TempPathFactory, at: int, bit: int):
    folder = tmp_path_factory.mktemp("ws") / "corpus"
    make(folder)
    path = folder / "sub/data.bin"
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << bit
    path.write_bytes(content)

    with pytest.raises(ArtifactError, match="damaged"):
        manifest.read_verified(folder, "corpus")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": manifest.FORMAT + 1}, "written by a newer embedctl"),
        ({"kind": "tokens"}, "holds a tokens, not a corpus"),
        ({"surprise": 1}, "is damaged"),
        (None, "is damaged"),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused(change: dict[str, object] | None, message: str):
    folder = Path("ws/corpus")
    make(folder)
    path = folder / manifest.FILE
    content = {**json.loads(path.read_text()), **change} if change else {}
    path.write_text(json.dumps(content) if change else "{ cut sho", encoding="utf-8")

    with pytest.raises(ArtifactError, match=message):
        manifest.read(folder, "corpus")


def test_what_is_not_there_says_how_it_is_made():
    Path("ws/half").mkdir(parents=True)

    with pytest.raises(NotFoundError) as missing:
        manifest.read(Path("ws/corpus"), "corpus")
    with pytest.raises(ArtifactError) as half:
        manifest.read(Path("ws/half"), "corpus")

    assert missing.value.hint == half.value.hint == "run `embedctl data fetch` first"


def test_equal_content_has_equal_ids_and_other_settings_another_fingerprint():
    one = make(Path("ws/one"), settings={"a": 1})
    other = make(Path("ws/other"), settings={"a": 2})

    assert one.content_id == other.content_id
    assert one.fingerprint != other.fingerprint
    assert manifest.difference(one, {}, {"a": 2}) == "a: 1 → 2"
    assert manifest.difference(one, {}, {"a": 1}) == ""


def test_a_damaged_artifact_is_not_up_to_date():
    folder = Path("ws/corpus")
    made = make(folder)
    assert up_to_date(folder, "corpus", made.fingerprint) is not None

    (folder / "sub/data.bin").write_bytes(b"another")

    assert up_to_date(folder, "corpus", made.fingerprint) is None


def test_a_second_writer_is_told_who_the_first_is_and_a_dead_one_is_forgotten():
    path = Path("ws/.locks/corpus.lock")
    holder = subprocess.Popen(
        [
            sys.executable, "-c",
            "import sys, time; from pathlib import Path; from embedctl.artifacts.folder import lock\n"
            "with lock(Path('ws/.locks/corpus.lock')):\n  print('held', flush=True); time.sleep(60)",
        ],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"

    with pytest.raises(LockedError, match=f"process {holder.pid}"), lock(path):
        pass
    holder.kill()
    holder.wait()
    with lock(path):
        pass


def test_a_link_is_never_written_through():
    Path("precious").mkdir()
    Path("precious/file").write_text("keep")
    Path("ws").mkdir()
    Path("ws/corpus").symlink_to(Path("precious").absolute())

    with pytest.raises(RefusedError), new_folder(Path("ws/corpus")):
        pass

    assert Path("precious/file").read_text() == "keep"


def test_a_folder_is_removed_whole():
    make(Path("ws/corpus"))

    remove_folder(Path("ws/corpus"))

    assert not list(Path("ws").iterdir())


def test_a_shard_that_is_made_anew_leaves_the_older_one_as_it_is():
    target = Path("ws/tokens")
    with growing_folder(target, "first") as folder:
        write_file(folder.path / "part-1.arrow", b"old")
        files = {"part-1.arrow": manifest.entry_of(folder.path / "part-1.arrow")}
        folder.commit(Shard(name="part-1", key="old", files=files))
        folder.finish(["part-1"])
    with pytest.raises(KeyboardInterrupt), growing_folder(target, "second") as folder:
        assert folder.take("part-1", "old")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), growing_folder(target, "second") as folder:
        assert folder.take("part-1", "new") is None
        with (folder.path / "part-1.arrow").open("wb") as file:
            file.write(b"new, half")
        raise KeyboardInterrupt

    assert (target / "part-1.arrow").read_bytes() == b"old"
