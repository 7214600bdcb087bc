"""A model to measure or to mine with: published, or of a run that lies elsewhere."""

from pathlib import Path

import torch

from embedctl.artifacts import manifest
from embedctl.checkpoint import files
from embedctl.checkpoint.files import Model
from embedctl.errors import DataError
from embedctl.model import published
from embedctl.tokens import published as vocabularies
from embedctl.tokens import tokenizer as tokenizers
from embedctl.tokens.shards import TokenTable


def identity_of(folder: Path) -> str:
    """What decides the vectors of the model in ``folder``, be it published, a checkpoint, or the head of a run."""
    if not published.is_published(folder):
        return files.opened(folder).model_id
    names = [folder / published.WEIGHTS, *(p for end in ("*.json", "*.txt", "*/config.json") for p in folder.glob(end))]
    return manifest.digest({path.relative_to(folder).as_posix(): manifest.entry_of(path).sha256 for path in names})


def open_model(folder: Path, device: torch.device) -> Model:
    """The model in ``folder``, of any of these kinds; a published one takes queries as long as passages."""
    if not published.is_published(folder):
        return files.load_model(files.opened(folder), device)
    found = published.open_folder(folder)
    tokenizer = vocabularies.load(folder)
    return Model(
        found.encoder().to(device).eval(),
        tokenizer,
        tokenizers.frame_of(tokenizer, found.query_prompt),
        found.limit,
        found.limit,
        found.query_prompt,
        found.passage_prompt,
        identity_of(folder),
        step=0,
    )


def refuse_other(model: Model, table: TokenTable, where: Path | None) -> None:
    """Raise ``DataError`` unless :func:`takes`. ``where``: the model's folder; ``None``: it is that of the run."""
    if not takes(model, table):
        again = f"--set model.init_from={where} data tokenize" if where else "train"
        raise DataError(
            f"{table.folder} was made for another model: other vocabulary, prompts or lengths",
            hint=f"run `embedctl {again}` first",
        )


def takes(model: Model, table: TokenTable) -> bool:
    """Whether the tokens are those that the model would make of the texts, prompts included, and none is too long."""
    same = table.tokenizer.get_vocab() == model.tokenizer.get_vocab()
    prompts = (table.prompt("query"), table.prompt("passage")) == (model.query_prompt, model.passage_prompt)
    longest = max(int(table.lengths.max()), int(table.query_lengths.max()))
    return same and prompts and longest <= model.encoder.shape.max_tokens
