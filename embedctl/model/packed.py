"""Linear layers for inference on a CPU, with their weights in the order in which oneDNN's kernels read them.

``F.linear`` brings them into that order in every call, or in float32 goes to another library: on an AMD EPYC this is
1.25 times as fast in bfloat16 and 2.3 times in float32, and the activation costs next to nothing. Where tiled.py can do
a whole block at once, it does.
"""

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from embedctl.model import native, tiled

if TYPE_CHECKING:
    from embedctl.model.encoder import Encoder

# Vectors of another number are not mixed with those of this one: some bits of theirs are others.
ARITHMETIC = 4


def arithmetic_of(encoder: "Encoder", dtype: torch.dtype) -> str:
    """What a vector's bits depend on, apart from the weights and the text."""
    way, whole = way_of(next(encoder.parameters()).device, dtype), encoder.whole is not None
    # In part: attention, norms and means, between layers of another library.
    by = f" by {way}" if whole else f" by {way} in part" if way in ("tiles", "lanes") else ""
    return f"{dtype} {ARITHMETIC}{by}"


def way_of(device: torch.device, dtype: torch.dtype) -> str:
    """How this machine computes as far as it is done in C, else by torch."""
    if device.type != "cpu":
        return device.type
    if dtype == torch.bfloat16 and native.available():
        return "tiles" if native.has_tiles() else "lanes"
    return "floats" if dtype == torch.float32 and native.has_floats() else "torch"


class PackedLinear(nn.Module):
    """What an ``nn.Linear`` computes, in one arithmetic, without gradients."""

    def __init__(self, layer: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach().to(dtype), None)
        self._bias = None if layer.bias is None else layer.bias.detach().to(dtype)

    def forward(self, x: Tensor, *, gelu: bool = False) -> Tensor:
        found: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._weight, self._bias, "gelu" if gelu else "none", [], "none"
        )
        return found


def packed(encoder: "Encoder", dtype: torch.dtype) -> "Encoder":
    """The encoder for inference in ``dtype``: a copy with packed layers where that can be had, else itself."""
    if next(encoder.parameters()).device.type != "cpu":
        return encoder
    tiles = tiled.can_take(encoder, dtype)
    if not tiles and not _can_pack(dtype):
        return encoder
    made = copy.deepcopy(encoder)
    if tiles:
        made.whole = tiled.TiledEncoder(made, dtype)
        made.blocks = nn.ModuleList()
        return made
    for parent in list(made.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Linear):
                setattr(parent, name, PackedLinear(child, dtype))
    return made


def _can_pack(dtype: torch.dtype) -> bool:
    """Whether this torch has the kernels. They are torch's own way to compile for a CPU, but no public interface."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    names = ["_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported"]
    if not available or not all(hasattr(torch.ops.mkldnn, name) for name in names):
        return False
    # With AVX2 alone they refuse bfloat16.
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
