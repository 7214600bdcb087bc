"""A model taken elsewhere: other programs open it, and give the vectors that the model gives."""

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tokenizers import Tokenizer

from embedctl.checkpoint import files
from embedctl.checkpoint.export import export_model, refuse_other_vectors
from embedctl.errors import ArtifactError, RefusedError
from embedctl.loading import Loaded
from embedctl.model import graphs
from embedctl.model.encoder import Encoder
from embedctl.model.encoding import encode
from embedctl.model.graphs import Graph
from embedctl.model.padded import Padded
from embedctl.tokens.tokenizer import frame_of
from tests.conftest import REPOSITORY, Run, options, prepare, train
from tests.test_model import lively

CPU = torch.device("cpu")
# The last one is cut.
SENTENCES = ["the river breaks", "a violin sings near the old harbour", "x", "Über naïve 你好 🙂", "river " * 200]
PROMPTS = ("tokens.query_prompt=query:", "tokens.passage_prompt=passage:")

Vectors = npt.NDArray[np.float32]


def trained(*more: str) -> Loaded:
    loaded = prepare("model.layers=2", *more)
    train(loaded, max_steps=2)
    return loaded


def vectors(loaded: Loaded, prompt: str = "") -> Vectors:
    """What the head of the run makes of the sentences after ``prompt``."""
    model = files.load_model(files.head(loaded.layout.checkpoints), CPU)
    frame, limit = frame_of(model.tokenizer, prompt), model.encoder.shape.max_tokens
    bare = [encoding.ids for encoding in model.tokenizer.encode_batch(SENTENCES, add_special_tokens=False)]
    ids = [frame.around(np.asarray(some[: limit - frame.count], dtype=np.uint32)) for some in bare]
    assert len(ids[-1]) == limit
    return encode(model.encoder, ids, dtype=torch.float32)


def same(ours: Vectors, theirs: Vectors) -> bool:
    assert np.isfinite(theirs).all()
    cosines = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    return bool(cosines.min() >= 0.99999 and np.abs(ours - theirs).max() < 1e-5)


@pytest.mark.parametrize(("layout", "pooling"), [("bert", "mean"), ("bert", "cls"), ("modernbert", "last")])
def test_sentence_transformers_opens_the_export_and_gives_the_same_vectors(layout: str, pooling: str):
    from sentence_transformers import SentenceTransformer

    loaded = trained(f"model.layout={layout}", f"model.pooling={pooling}", *PROMPTS)

    theirs = SentenceTransformer(str(export_model(loaded.layout).folder), device="cpu")

    assert same(vectors(loaded), theirs.encode(SENTENCES))
    assert same(vectors(loaded, "query:"), theirs.encode_query(SENTENCES))
    assert same(vectors(loaded, "passage:"), theirs.encode_document(SENTENCES))
    assert not same(vectors(loaded), theirs.encode_query(SENTENCES))
    # Version 3.0 hands ModernBERT whatever its tokenizer gives, unless told what it takes.
    told = json.loads(Path("ws/exports/main-sentence-transformers/tokenizer_config.json").read_text())
    assert ("model_input_names" in told) == (layout == "modernbert")


def by_onnxruntime(folder: Path) -> Callable[[dict[str, Vectors]], Vectors]:
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return lambda given: session.run(["sentence_embedding"], given)[0]


def by_torch(folder: Path) -> Callable[[dict[str, Vectors]], Vectors]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = torch.jit.load(folder / "model.pt")
    return lambda given: module(**{name: torch.from_numpy(value) for name, value in given.items()}).detach().numpy()


@pytest.mark.parametrize("layout", ["bert", "modernbert"])
@pytest.mark.parametrize(("form", "opened"), [("onnx", by_onnxruntime), ("torchscript", by_torch)])
def test_a_graph_gives_the_same_vectors_with_what_lies_beside_it(
    run: Run, form: str, opened: Callable[[Path], Callable[[dict[str, Vectors]], Vectors]], layout: str
):
    loaded = trained(f"model.layout={layout}", "tokens.max_tokens=160", *PROMPTS)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ran = run(*options(f"model.layout={layout}"), "model", "export", "--format", form)

    assert ran.code == 0, ran.err
    folder = Path(f"ws/exports/main-{form}")
    config = json.loads((folder / "config.json").read_text())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(config["max_tokens"])
    tokenizer.enable_padding(pad_id=config["padding_id"])
    call = opened(folder)
    for prompt in ("", config["prompts"]["query"], config["prompts"]["passage"]):
        encodings = tokenizer.encode_batch([prompt + sentence for sentence in SENTENCES])
        ids, mask = np.asarray([e.ids for e in encodings]), np.asarray([e.attention_mask for e in encodings])
        assert same(vectors(loaded, prompt), call({"input_ids": ids, "attention_mask": mask}))
    assert set(config["prompts"].values()) == {"query:", "passage:"}
    assert (config["dim"], config["pooling"]) == (32, "mean")


def test_an_export_tells_nothing_of_the_machine(tmp_path: Path):
    for write in (graphs.write_onnx, graphs.write_torchscript):
        write(lively(), tmp_path)

    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    assert set(written) == {"model.onnx", "model.onnx.data", "model.pt"}
    paths = [str(REPOSITORY).encode(), b"site-packages", str(Path.home()).encode() + b"/"]
    assert not [name for name, content in written.items() for path in paths if path in content]


def short(encoder: Encoder) -> Graph:
    """Blind to what comes after the 400th token."""
    return lambda ids, mask: Padded(encoder)(ids[:, :400], mask[:, :400])


def paddings(encoder: Encoder) -> Graph:
    """Takes padding for text."""
    return lambda ids, mask: Padded(encoder)(ids, torch.ones_like(mask))


def long(encoder: Encoder) -> Graph:
    """The right directions, another length."""
    return lambda ids, mask: 1.01 * Padded(encoder)(ids, mask)


def empty(encoder: Encoder) -> Graph:
    """Not a number, for a text alone."""
    return lambda ids, mask: Padded(encoder)(ids, mask) * (torch.nan if len(ids) == 1 else 1)


@pytest.mark.parametrize("broken", [short, paddings, long, empty])
def test_a_graph_with_other_vectors_is_refused(broken: Callable[[Encoder], Graph]):
    encoder = lively()

    assert refuse_other_vectors(encoder, Padded(encoder), "onnx") >= 0.99999
    with pytest.raises(ArtifactError, match=r"the onnx export gives other vectors than the model: cosine .* want 0.99"):
        refuse_other_vectors(encoder, broken(encoder), "onnx")


def test_of_a_graph_with_other_vectors_nothing_is_left(run: Run, monkeypatch: pytest.MonkeyPatch):
    loaded = trained()
    model = files.load_model(files.head(loaded.layout.checkpoints), CPU)
    monkeypatch.setattr(graphs, "open_torchscript", lambda folder: paddings(model.encoder))

    ran = run(*options(), "model", "export", "--format", "torchscript")

    assert (ran.code, list(Path("ws/exports").iterdir())) == (4, [])
    assert "other vectors than the model" in ran.err


def test_onnx_without_its_packages_says_what_to_type(run: Run, monkeypatch: pytest.MonkeyPatch):
    trained()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    ran = run(*options(), "model", "export", "--format", "onnx")

    assert (ran.code, list(Path("ws/exports").iterdir())) == (2, [])
    assert ran.err == (
        "error: writing ONNX takes packages that are not installed: onnxruntime\n hint: pip install 'embedctl[onnx]'\n"
    )


def test_an_unknown_format_is_a_usage_error(run: Run):
    ran = run("model", "export", "--format", "tflite")

    assert ran.code == 2
    assert "want sentence-transformers, onnx, torchscript; got 'tflite'" in ran.err


def test_an_export_replaces_only_an_export():
    loaded = prepare()
    train(loaded, max_steps=1)
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")

    with pytest.raises(RefusedError):
        export_model(loaded.layout, to=Path("mine"))
    first = export_model(loaded.layout, to=Path("out"))
    again = export_model(loaded.layout, to=Path("out"))

    assert Path("mine/thesis.txt").read_text() == "years of work"
    assert (first.made, again.made) == (True, False)
    assert json.loads(Path("out/config.json").read_text())["model_type"] == "bert"
