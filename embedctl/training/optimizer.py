"""The optimizer, and its state as named tensors."""

from collections.abc import Sequence

import torch
from torch import nn

from embedctl.checkpoint.files import Tensors
from embedctl.errors import ArtifactError
from embedctl.settings import TrainingSettings
from embedctl.training.trainee import Trainee

Optimizers = Sequence[torch.optim.Optimizer]


def make_optimizers(trainee: Trainee, settings: TrainingSettings) -> list[torch.optim.Optimizer]:
    """AdamW for everything; or Muon for the matrices of the blocks and AdamW for the rest.

    Weight decay on matrices alone, as norms and biases have no scale to spare. Muon's updates are scaled to those of
    AdamW, so that one learning rate serves both (Liu et al. 2025, arXiv:2502.16982).
    """
    inner = {id(weight) for weight in trainee.encoder.blocks.parameters() if weight.dim() == 2}
    muon = [weight for weight in trainee.parameters() if id(weight) in inner and settings.optimizer == "muon"]
    rest = [weight for weight in trainee.parameters() if id(weight) not in {id(matrix) for matrix in muon}]
    groups = [
        {"params": [p for p in rest if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in rest if p.dim() < 2], "weight_decay": 0.0},
    ]
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW([group for group in groups if group["params"]], betas=(0.9, 0.98), fused=True)
    ]
    if muon:
        found.append(torch.optim.Muon(muon, weight_decay=settings.weight_decay, adjust_lr_fn="match_rms_adamw"))
    return found


def optimizer_tensors(trainee: Trainee, optimizers: Optimizers) -> Tensors:
    """The state of the optimizers under the names of the weights that it belongs to."""
    tensors: Tensors = {}
    for name, weight in _named(trainee):
        for optimizer in optimizers:
            for key, value in optimizer.state.get(weight, {}).items():
                tensors[f"{name}/{key}"] = value.detach().cpu().contiguous()
    return tensors


def load_optimizers(trainee: Trainee, optimizers: Optimizers, tensors: Tensors) -> None:
    """Put back what :func:`optimizer_tensors` gave."""
    if not tensors:
        return  # step 0: nothing has been averaged yet
    for optimizer in optimizers:
        owned = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
        for name, weight in _named(trainee):
            if id(weight) not in owned:
                continue
            own = {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}
            if not own:
                raise ArtifactError(f"the optimizer state of {name} is missing from the checkpoint")
            # "step" too: fused kernels read it on the device.
            optimizer.state[weight] = {key: value.to(weight.device) for key, value in own.items()}


def _named(trainee: Trainee) -> list[tuple[str, nn.Parameter]]:
    return [(name.removeprefix("encoder."), weight) for name, weight in trainee.named_parameters()]
