"""The weights with which a run begins: fresh, published, or those of another run."""

from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer

from embedctl.checkpoint import files
from embedctl.checkpoint.opening import identity_of
from embedctl.errors import DataError
from embedctl.model import published
from embedctl.model.encoder import Encoder, initialise
from embedctl.model.shape import Shape
from embedctl.settings import ModelSettings
from embedctl.tokens import published as tokenizers
from embedctl.tokens.shards import TokenTable


def origin_of(settings: ModelSettings) -> str | None:
    """What identifies the weights of ``model.init_from``; ``None`` for fresh ones."""
    return identity_of(published.resolve(settings.init_from)) if settings.init_from else None


def begin(settings: ModelSettings, table: TokenTable, *, seed: int) -> Encoder:
    """The encoder as step 0 of a run has it."""
    longest = max(int(table.lengths.max()), int(table.query_lengths.max()))
    if not settings.init_from:
        wanted = int(table.manifest.settings["max_tokens"])  # type: ignore[arg-type]
        return initialise(_fresh_shape(settings, table.tokenizer.get_vocab_size(), max(wanted, longest)), seed)
    folder = published.resolve(settings.init_from)
    if published.is_published(folder):
        encoder, tokenizer = published.open_folder(folder).encoder(), tokenizers.load(folder)
    else:
        model = files.load_model(files.opened(folder), torch.device("cpu"))
        encoder, tokenizer = model.encoder, model.tokenizer
    _refuse_other_tokens(table, tokenizer, settings.init_from)
    if longest > encoder.shape.max_tokens:
        raise DataError(
            f"a text has {longest} tokens, but {settings.init_from} takes {encoder.shape.max_tokens}",
            hint=f"--set tokens.max_tokens={encoder.shape.max_tokens}, and tokenize again",
        )
    shape = encoder.shape
    normalize = shape.normalize if settings.normalize is None else settings.normalize
    encoder.shape = replace(shape, pooling=settings.pooling or shape.pooling, normalize=normalize)
    return encoder.train()


def again(start: files.Checkpoint) -> Encoder:
    """An encoder of the checkpoint's shape, for its weights; what the run began with need not be there any more."""
    return Encoder(Shape(**files.read_json(start, files.CONFIG)["shape"])).train()


def _fresh_shape(settings: ModelSettings, vocabulary: int, max_tokens: int) -> Shape:
    layers, dim, heads, intermediate_dim = settings.sizes
    return Shape(
        vocabulary=vocabulary,
        max_tokens=max_tokens,
        layers=layers,
        dim=dim,
        heads=heads,
        intermediate_dim=intermediate_dim,
        pooling=settings.pooling or "mean",
        layout=settings.layout,
        normalize=settings.normalize is not False,
        norm_epsilon=1e-12 if settings.layout == "bert" else 1e-5,
    )


def _refuse_other_tokens(table: TokenTable, tokenizer: Tokenizer, where: str | Path) -> None:
    if table.tokenizer.get_vocab() != tokenizer.get_vocab():
        raise DataError(
            f"{table.folder} was made with another vocabulary than that of {where}",
            hint="run `embedctl data tokenize` again; of a run, set tokens.tokenizer to its tokenizer.json",
        )
