"""The model that embeds: the head of a run, or what ``embedding.model`` names."""

from pathlib import Path

import torch

from embedctl.artifacts.layout import Layout
from embedctl.checkpoint import files, opening
from embedctl.checkpoint.files import Model
from embedctl.errors import ConfigError
from embedctl.model.encoding import Vectors
from embedctl.model.nearest import unit
from embedctl.settings import EmbeddingSettings


def model_id_of(settings: EmbeddingSettings, layout: Layout) -> str:
    """What decides the vectors: weights, shape and tokenizer."""
    return files.head(layout.checkpoints).model_id if settings.model is None else named_model(settings.model)


def named_model(folder: Path) -> str:
    """What decides the vectors of the model in ``folder``: weights, shape and tokenizer."""
    return opening.identity_of(_there(folder))


def model_of(settings: EmbeddingSettings, layout: Layout, device: torch.device) -> Model:
    """The model, with its weights on the device."""
    if settings.model is None:
        return files.load_model(files.head(layout.checkpoints), device)
    return opening.open_model(_there(settings.model), device)


def shortened(vectors: Vectors, dim: int, *, normalize: bool) -> Vectors:
    """The first ``dim`` values of each vector (0: all), which with ``normalize`` have length 1 again.

    They are a vector by themselves if the model was trained for it (Matryoshka, Kusupati et al., arXiv:2205.13147).
    """
    if not dim or dim == vectors.shape[1]:
        return vectors
    return unit(vectors[:, :dim]) if normalize else vectors[:, :dim]


def _there(folder: Path) -> Path:
    if not folder.is_dir():
        raise ConfigError(f"embedding.model: no folder at {folder}", hint="a published model, a run, or a checkpoint")
    return folder
