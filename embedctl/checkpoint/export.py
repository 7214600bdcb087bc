"""A checkpoint as a model that other programs open, and as a copy elsewhere."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import JsonValue

from embedctl.artifacts import manifest
from embedctl.artifacts.folder import lock, new_folder, write_file
from embedctl.artifacts.layout import Layout
from embedctl.artifacts.outcome import Outcome, refuse_foreign, up_to_date
from embedctl.checkpoint import files
from embedctl.checkpoint.files import Checkpoint, Model
from embedctl.errors import ArtifactError, RefusedError
from embedctl.model import graphs, published, sentence_transformers
from embedctl.model.encoder import Encoder
from embedctl.model.encoding import embed
from embedctl.model.graphs import Graph
from embedctl.model.padded import Padded
from embedctl.tokens import tokenizer as tokenizers

FORMATS = ("sentence-transformers", "onnx", "torchscript")

# Lengths, in tokens, of the texts of which an export must give the model's vectors, and how near these must be.
_TRIED_TOKENS = (1, 2, 17, 65, 130, 512)
_LEAST_COSINE = 0.99999


def export_model(layout: Layout, form: str = FORMATS[0], *, to: Path | None = None) -> Outcome:
    """Write the head of the run as a folder of its own: ``to``, or ``exports/NAME-FORMAT`` in the workspace.

    What was written is read back and compared with the model; :class:`ArtifactError`, and no folder, if it differs.
    """
    checkpoint = files.head(layout.checkpoints)
    target = (to or layout.exports / f"{layout.run}-{form}").absolute()
    parents = {"checkpoint": checkpoint.model_id}
    recipe: dict[str, JsonValue] = {"format": form}
    with lock(layout.root / ".locks" / "exports.lock"):
        found = up_to_date(target, "export", manifest.fingerprint("export", parents, recipe))
        if found:
            return found
        refuse_foreign(target)
        model = files.load_model(checkpoint, torch.device("cpu"))
        with new_folder(target) as folder:
            cosine = refuse_other_vectors(model.encoder, _WRITERS[form](model, folder), form)
            facts: dict[str, JsonValue] = {
                "step": model.step,
                "dim": model.encoder.shape.dim,
                "least_cosine": round(cosine, 7),
            }
            made = manifest.write(folder, "export", parents=parents, settings=recipe, facts=facts)
    return Outcome(target, made, made=True)


def refuse_other_vectors(encoder: Encoder, graph: Graph, form: str) -> float:
    """Compare the vectors of texts of several lengths, together and alone; the least cosine, in [0.99999, 1]."""
    shape = encoder.shape
    generator = torch.Generator().manual_seed(0)
    lengths = [min(tokens, shape.max_tokens) for tokens in _TRIED_TOKENS]
    texts = [torch.randint(shape.vocabulary, (tokens,), generator=generator) for tokens in lengths]
    ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(text) for text in texts], batch_first=True)
    alone = slice(2, 3), slice(lengths[2])
    with torch.inference_mode():
        theirs = torch.cat([graph(ids, mask), graph(ids[alone].contiguous(), mask[alone].contiguous())])
        ours = embed(encoder, [text.numpy().astype("uint32") for text in texts], torch.float32)
        ours = torch.cat([ours, ours[2:3]])
        # The cosine where both are equally long, less where they are not.
        cosines = 2 * (ours * theirs).sum(1) / (ours.square().sum(1) + theirs.square().sum(1))
    worst = int(cosines.argmin())
    # Turned round, for a vector that is not a number compares as false.
    if not cosines[worst] >= _LEAST_COSINE:
        tokens = [*lengths, lengths[2]][worst]
        raise ArtifactError(
            f"the {form} export gives other vectors than the model: "
            f"cosine {cosines[worst]:.5f} at a text of {tokens} tokens, want {_LEAST_COSINE}",
            hint="nothing was kept; export to another format, and report this with what `embedctl doctor` shows",
        )
    return min(float(cosines[worst]), 1.0)


def copy_checkpoint(checkpoint: Checkpoint, to: Path) -> Path:
    """Copy a checkpoint, verified, into ``to``, which must not exist yet or be empty."""
    files.refuse_damaged(checkpoint)
    target = to.absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RefusedError(f"{target} is not empty", hint="choose a new folder with --to")
    if target.is_dir():
        target.rmdir()
    with new_folder(target) as folder:
        shutil.copytree(checkpoint.folder, folder, dirs_exist_ok=True)
    return target


def _sentence_transformers(model: Model, folder: Path) -> Graph:
    prompts = {"query_prompt": model.query_prompt, "passage_prompt": model.passage_prompt}
    sentence_transformers.write_folder(model.encoder, model.tokenizer, folder, **prompts)
    again = published.open_folder(folder)
    encoder = again.encoder()
    kept = encoder.state_dict()
    changed = [name for name, value in model.encoder.state_dict().items() if not torch.equal(value, kept[name])]
    if changed:
        raise ArtifactError(f"the sentence-transformers export holds other weights than the model: {changed[0]}")
    return Padded(encoder)


def _onnx(model: Model, folder: Path) -> Graph:
    graphs.write_onnx(model.encoder, folder)
    _describe(model, folder, graphs.ONNX)
    return graphs.open_onnx(folder)


def _torchscript(model: Model, folder: Path) -> Graph:
    graphs.write_torchscript(model.encoder, folder)
    _describe(model, folder, graphs.TORCHSCRIPT)
    return graphs.open_torchscript(folder)


def _describe(model: Model, folder: Path, file: str) -> None:
    """Write the tokenizer, and what to know before calling the graph."""
    shape = model.encoder.shape
    config = {
        "file": file,
        "inputs": graphs.INPUTS,
        "output": graphs.OUTPUT,
        "layout": shape.layout,
        "dim": shape.dim,
        "max_tokens": shape.max_tokens,
        "pooling": shape.pooling,
        "normalize": shape.normalize,
        "padding_id": model.tokenizer.token_to_id(tokenizers.PAD) or 0,
        "prompts": {"query": model.query_prompt, "passage": model.passage_prompt},
    }
    write_file(folder / "config.json", (json.dumps(config, indent=2) + "\n").encode())
    write_file(folder / "tokenizer.json", (model.tokenizer.to_str(pretty=True) + "\n").encode())


_WRITERS: dict[str, Callable[[Model, Path], Graph]] = {
    "sentence-transformers": _sentence_transformers,
    "onnx": _onnx,
    "torchscript": _torchscript,
}
