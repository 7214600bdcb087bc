"""The optimizer, and its state as named tensors."""

import torch

from embedctl.checkpoint.files import Tensors
from embedctl.errors import ArtifactError
from embedctl.model.encoder import Encoder
from embedctl.settings import TrainingSettings


def make_optimizer(encoder: Encoder, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW; weight decay on matrices alone, as norms and biases have no scale to spare."""
    matrices = [p for p in encoder.parameters() if p.dim() >= 2]
    vectors = [p for p in encoder.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98), fused=True)


def optimizer_tensors(encoder: Encoder, optimizer: torch.optim.Optimizer) -> Tensors:
    """The state of the optimizer under the names of the weights that it belongs to."""
    tensors: Tensors = {}
    for name, weight in encoder.named_parameters():
        for key, value in optimizer.state.get(weight, {}).items():
            tensors[f"{name}/{key}"] = value.detach().cpu().contiguous()
    return tensors


def load_optimizer(encoder: Encoder, optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Put back what :func:`optimizer_tensors` gave."""
    if not tensors:
        return  # step 0: nothing has been averaged yet
    for name, weight in encoder.named_parameters():
        own = {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}
        if not own:
            raise ArtifactError(f"the optimizer state of {name} is missing from the checkpoint")
        optimizer.state[weight] = {
            key: value if key == "step" else value.to(weight.device) for key, value in own.items()
        }
