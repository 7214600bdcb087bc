"""Exports of vectors: the readers that people use find every bit, and what reads back otherwise is not kept."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from embedctl.artifacts.layout import Layout
from embedctl.embedding.export import FORMATS, export
from embedctl.embedding.exports.blocks import Block, Source
from embedctl.embedding.exports.lines import decimals, numbers
from embedctl.errors import ArtifactError, ConfigError, DataError
from tests.conftest import Run
from tests.vectors import scales_of, write_vectors

Matrix = npt.NDArray[np.float32]
Read = Callable[[Path], tuple[list[str], Matrix]]

IDS = [
    "plain",
    "two words",
    "tab\there",
    "line\nend\r\n",
    'quo"te,s',
    "=cmd|' /C calc'!A0",
    "'apostrophe",
    "-1",
    "50%20",
]
IDS += ["Über 你好 🙂", "nbsp\u00a0sep\u2028x", "{}", "nan", "</s>", "@SUM(A1)", "＝1+1"]
ASCII = [f"r{n}#0" for n in range(len(IDS))]
METADATA = [
    {"record": id_, "text": f"=1+1\t{id_}\n\"'", "score": n / 3, "none": None, "tags": ["a", id_], "deep": {"x": [n]}}
    for n, id_ in enumerate(IDS)
]
# Both ends of what a float32 can be, and numbers whose shortest decimals are long.
EXTREMES = np.array([-0.0, 1e-45, 3.4028235e38, 1.1754942e-38, 16777216, -1e-7], np.float32)


def matrix(rows: int = len(IDS), dim: int = 6) -> Matrix:
    made = np.random.default_rng(1).standard_normal((rows, dim)).astype(np.float32)
    if rows:
        made[rows // 2] = EXTREMES[:dim]
    return made


def made(ids: list[str] = IDS, dtype: str = "float32") -> tuple[Layout, Matrix]:
    layout = Layout(Path("ws").absolute(), "main", "main")
    values = matrix(len(ids))
    if dtype == "float16":
        values = np.clip(values, -6e4, 6e4).astype(np.float16).astype(np.float32)
    if dtype == "int8":
        values[len(ids) // 2] = 0.5
        scales = scales_of(values)[:, None]
        whole = np.rint(values / scales).astype(np.int8)
        write_vectors(layout, ids, values, METADATA[: len(ids)], dtype)
        return layout, whole.astype(np.float32) * scales
    write_vectors(layout, ids, values, METADATA[: len(ids)], dtype)
    return layout, values


def npy(folder: Path) -> tuple[list[str], Matrix]:
    array = np.load(folder / "vectors.npy", allow_pickle=False)
    return json.loads((folder / "ids.json").read_text("utf-8")), array


def parquet(folder: Path) -> tuple[list[str], Matrix]:
    table = pq.read_table(folder / "vectors.parquet").to_pylist()
    assert [json.loads(row["metadata"]) for row in table] == METADATA[: len(table)]
    values = np.array([row["values"] for row in table])
    if table and "scale" in table[0]:
        values = values * np.array([row["scale"] for row in table], np.float32)[:, None]
    return [row["id"] for row in table], values


def jsonl(folder: Path) -> tuple[list[str], Matrix]:
    rows = [json.loads(line) for line in (folder / "vectors.jsonl").read_bytes().split(b"\n")[:-1]]
    assert [row["metadata"] for row in rows] == METADATA[: len(rows)]
    return [row["id"] for row in rows], np.array([row["values"] for row in rows])


def spreadsheet(folder: Path) -> tuple[list[str], Matrix]:
    with (folder / "vectors.csv").open(encoding="utf-8", newline="") as stream:
        head, *rows = list(csv.reader(stream))
    assert head == ["id", "metadata", *(f"v{n}" for n in range(6))]
    assert not [row for row in rows if row[0][0] in "=+-@\t\r\n＝＋－＠"]
    assert [json.loads(row[1]) for row in rows] == METADATA[: len(rows)]
    return [row[0].removeprefix("'") for row in rows], np.array([list(map(float, row[2:])) for row in rows])


def words(lines: list[str]) -> tuple[list[str], Matrix]:
    """As gensim and the many readers of GloVe: cut at any white space."""
    rows = [line.split() for line in lines]
    return [unquote(row[0]) for row in rows], np.array([list(map(float, row[1:])) for row in rows])


def word2vec(folder: Path) -> tuple[list[str], Matrix]:
    head, *lines = (folder / "vectors.txt").read_text("utf-8").splitlines()
    ids, values = words(lines)
    assert head == f"{len(ids)} 6"
    return ids, values


def glove(folder: Path) -> tuple[list[str], Matrix]:
    return words((folder / "vectors.txt").read_text("utf-8").splitlines())


def safetensors(folder: Path) -> tuple[list[str], Matrix]:
    ids = json.loads((folder / "ids.json").read_text("utf-8"))
    return ids, load_file(folder / "vectors.safetensors")["vectors"].numpy()


def layer(folder: Path) -> tuple[list[str], Matrix]:
    rows = json.loads((folder / "rows.json").read_text("utf-8"))
    weight = load_file(folder / "embedding.safetensors")["weight"]
    if not rows:
        return [], weight.numpy()
    found = torch.nn.Embedding.from_pretrained(weight)(torch.tensor(list(rows.values())))
    return list(rows), found.numpy()


def projector(folder: Path) -> tuple[list[str], Matrix]:
    """By the code of TensorBoard's own plugin."""
    plugin = pytest.importorskip("tensorboard.plugins.projector.projector_plugin")
    context = SimpleNamespace(data_provider=None, logdir=str(folder))
    configs, _ = plugin.ProjectorPlugin(context)._read_latest_config_files([(".", str(folder))])
    (embedding,) = configs["."].embeddings
    values = plugin._read_tensor_tsv_file(str(folder / embedding.tensor_path))
    head, *rows = (folder / embedding.metadata_path).read_text("utf-8").split("\n")[:-1] or [""]
    assert all(line.count("\t") == head.count("\t") for line in rows)
    return [unquote(line.split("\t")[0]) for line in rows], values


def faiss(folder: Path) -> tuple[list[str], Matrix]:
    library = pytest.importorskip("faiss")
    index = library.read_index(str(folder / "vectors.faiss"))
    return json.loads((folder / "ids.json").read_text("utf-8")), index.reconstruct_n(0, index.ntotal)


READERS: dict[str, Read] = {
    "npy": npy,
    "parquet": parquet,
    "jsonl": jsonl,
    "csv": spreadsheet,
    "word2vec": word2vec,
    "glove": glove,
    "safetensors": safetensors,
    "embedding-layer": layer,
    "projector": projector,
    "faiss": faiss,
}
ARRAYS = ("npy", "safetensors", "embedding-layer")


def same_bits(one: Matrix, other: Matrix) -> bool:
    return np.array_equal(one.astype(np.float32).view(np.uint32), other.astype(np.float32).view(np.uint32))


@pytest.mark.parametrize("form", READERS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_the_readers_people_use_find_ids_order_and_every_bit(form: str, dtype: str):
    layout, values = made(dtype=dtype)

    done = export(form, layout)
    ids, found = READERS[form](done.folder)

    assert (ids, same_bits(found, values)) == (IDS, True)
    assert form not in ARRAYS or found.dtype == (dtype if dtype == "float16" else "float32")
    assert export(form, layout).made is False


@pytest.mark.parametrize("form", FORMATS)
def test_no_vectors_are_an_export_too(form: str):
    layout, _ = made([])

    done = export(form, layout)

    assert done.manifest.facts["vectors"] == 0
    assert form in ("pinecone-parquet", "projector") or READERS[form](done.folder)[0] == []


@pytest.mark.parametrize("namespace", ["", "mine"])
def test_pinecone_finds_a_folder_per_namespace_and_flat_metadata(namespace: str):
    layout, values = made(ASCII)

    folder = export("pinecone-parquet", layout, namespace=namespace).folder

    (space,) = (folder / "import").iterdir()
    assert space.name == (namespace or "__default__")
    table = pq.read_table(space / "part-00000.parquet", partitioning=None)
    assert {f.name: str(f.type).replace("element", "item") for f in table.schema} == {
        "id": "string",
        "values": "list<item: float>",
        "metadata": "string",
    }
    assert table.column("id").to_pylist() == ASCII
    assert same_bits(np.array(table.column("values").to_pylist()), values)
    first = json.loads(table.column("metadata")[1].as_py())
    assert (first["deep"], first["tags"], "none" in first) == ('{"x": [1]}', ["a", IDS[1]], False)


def test_what_pinecone_refuses_is_refused_before():
    layout, _ = made(["Ü" * 100])

    with pytest.raises(DataError, match="ASCII"):
        export("pinecone-parquet", layout)
    with pytest.raises(ConfigError, match="cannot be a folder"):
        export("pinecone-parquet", layout, namespace="../out")
    assert not list(layout.exports.iterdir())


@dataclasses.dataclass(frozen=True, slots=True)
class Bent(Source):
    """A source that gives one block otherwise than it is."""

    bend: Callable[[Block], Block] = lambda block: block

    def blocks(self, doing: str = "vectors") -> Iterator[Block]:
        for block in Source.blocks(self, doing):
            yield self.bend(block) if "plain" in block.ids or ASCII[0] in block.ids else block


def another_bit(block: Block) -> Block:
    values = block.values.copy()
    values.view(np.uint32)[2, 3] ^= 1
    return dataclasses.replace(block, values=values)


def another_id(block: Block) -> Block:
    return dataclasses.replace(block, ids=[*block.ids[:3], "x" + block.ids[3], *block.ids[4:]])


def another_order(block: Block) -> Block:
    return Block(block.ids[::-1], block.values[::-1].copy(), (block.metadata or [])[::-1])


def one_less(block: Block) -> Block:
    return Block(block.ids[:-1], block.values[:-1], (block.metadata or [])[:-1])


def one_more(block: Block) -> Block:
    return Block([*block.ids, "z"], np.vstack([block.values, block.values[:1]]), [*(block.metadata or []), "{}"])


@pytest.mark.parametrize("bend", [another_bit, another_id, another_order, one_less, one_more])
@pytest.mark.parametrize("form", [form for form in FORMATS if form != "parquet"])
def test_a_writer_that_errs_is_noticed_and_nothing_is_left(
    form: str, bend: Callable[[Block], Block], monkeypatch: pytest.MonkeyPatch
):
    layout, _ = made(ASCII if form == "pinecone-parquet" else IDS)
    right = FORMATS[form]

    def wrong(folder: Path, source: Source) -> None:
        own = {field.name: getattr(source, field.name) for field in dataclasses.fields(source)}
        right.write(folder, Bent(**own, bend=bend))

    monkeypatch.setitem(FORMATS, form, dataclasses.replace(right, write=wrong))
    with pytest.raises(ArtifactError, match=form):
        export(form, layout)

    assert not list(layout.exports.iterdir())


def test_parquet_with_one_other_bit_is_noticed(monkeypatch: pytest.MonkeyPatch):
    layout, values = made()
    right = FORMATS["parquet"]

    def wrong(folder: Path, source: Source) -> None:
        right.write(folder, source)
        table = pq.read_table(folder / "vectors.parquet")
        bent = values.copy()
        bent.view(np.uint32)[2, 3] ^= 1
        other = pa.array(list(bent), table.schema.field("values").type)
        pq.write_table(table.set_column(1, table.schema.field("values"), other), folder / "vectors.parquet")

    monkeypatch.setitem(FORMATS, "parquet", dataclasses.replace(right, write=wrong))
    with pytest.raises(ArtifactError, match="vector 2 "):
        export("parquet", layout)

    assert not list(layout.exports.iterdir())


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_that_is_cut_or_bent_after_writing_is_noticed(form: str, monkeypatch: pytest.MonkeyPatch):
    layout, _ = made(ASCII)
    right = FORMATS[form]

    def cut(folder: Path, source: Source) -> None:
        right.write(folder, source)
        path = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.name[0] in "tve")
        path.write_bytes(path.read_bytes()[:-9])

    monkeypatch.setitem(FORMATS, form, dataclasses.replace(right, write=cut))
    with pytest.raises(ArtifactError):
        export(form, layout)

    assert not list(layout.exports.iterdir())


@pytest.mark.parametrize("form", FORMATS)
def test_killed_between_writing_and_reading_back_leaves_nothing_at_the_target(form: str):
    layout, _ = made(ASCII)
    child = os.fork()
    if not child:
        right = FORMATS[form]
        FORMATS[form] = dataclasses.replace(right, read=lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        export(form, layout)
        os._exit(0)
    _, status = os.waitpid(child, 0)

    assert os.WTERMSIG(status) == signal.SIGKILL
    assert [path.name for path in layout.exports.iterdir()] == [f".main-{form}.partial"]
    assert export(form, layout).made
    assert [path.name for path in layout.exports.iterdir()] == [f"main-{form}"]


def test_decimals_are_the_shortest_that_are_the_same_float32():
    bits = np.random.default_rng(2).integers(0, 2**32, 60_000, dtype=np.uint64).astype(np.uint32)
    every = bits.view(np.float32)
    every = np.concatenate([every[np.isfinite(every)], EXTREMES])[:59_000].reshape(-1, 100)

    texts = [row.decode() for row in decimals(every, b" ")]

    assert same_bits(numbers(texts, " ", 100), every)
    # The digits alone: how an exponent is written differs.
    digits = [one.partition("e")[0].replace(".", "").strip("-0") for one in " ".join(texts[:20]).split()]
    theirs = [np.format_float_scientific(one, unique=True) for one in every[:20].ravel()]
    assert digits == [one.partition("e")[0].replace(".", "").strip("-0") for one in theirs]


def test_faiss_that_is_not_installed_says_what_to_type(run: Run, monkeypatch: pytest.MonkeyPatch):
    made()
    monkeypatch.setitem(sys.modules, "faiss", None)

    ran = run("--workspace", "ws", "embed", "export", "--format", "faiss")

    assert ran.code == 2
    assert ran.err == (
        "error: writing a faiss index takes faiss, which is not installed\n hint: pip install faiss-cpu\n"
    )


@pytest.mark.parametrize("form", READERS)
def test_every_format_says_how_to_read_it(form: str, run: Run):
    made()
    ran = run("--workspace", "ws", "embed", "export", "--format", form)

    assert (ran.code, "next: " in ran.err) == (0, True), ran.err


PEAK = """
import sys
from pathlib import Path
from embedctl.artifacts.layout import Layout
from embedctl.embedding.export import export
export(sys.argv[1], Layout(Path("ws").absolute(), "main", sys.argv[2]))
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
@pytest.mark.parametrize("form", ["npy", "safetensors", "jsonl"])
def test_memory_does_not_grow_with_the_vectors(form: str):
    peaks = []
    for count in (8_000, 48_000):
        layout = Layout(Path("ws").absolute(), "main", str(count))
        values = np.random.default_rng(1).standard_normal((count, 256)).astype(np.float32)
        write_vectors(layout, [f"r{n}" for n in range(count)], values, [{}] * count, "float32", parts=count // 4000)
        ran = subprocess.run([sys.executable, "-c", PEAK, form, str(count)], capture_output=True, text=True, check=True)
        peaks.append(int(ran.stdout) * 1024)

    # The vectors between the two are 41 MB.
    assert peaks[1] - peaks[0] < 20e6, peaks
