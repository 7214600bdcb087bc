"""The model that embeds: the head of a run, or what ``embedding.model`` names."""

from pathlib import Path

import torch

from embedctl.artifacts.layout import Layout
from embedctl.checkpoint import files, opening
from embedctl.checkpoint.files import Model
from embedctl.errors import ConfigError
from embedctl.settings import EmbeddingSettings


def named_model(folder: Path) -> str:
    """What decides the vectors of the model in ``folder``: weights, shape and tokenizer."""
    return opening.identity_of(_there(folder))


def model_of(settings: EmbeddingSettings, layout: Layout, device: torch.device) -> Model:
    """The model, with its weights on the device."""
    if settings.model is None:
        return files.load_model(files.head(layout.checkpoints), device)
    return opening.open_model(_there(settings.model), device)


def _there(folder: Path) -> Path:
    if not folder.is_dir():
        raise ConfigError(f"embedding.model: no folder at {folder}", hint="a published model, a run, or a checkpoint")
    return folder
