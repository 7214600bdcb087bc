"""What fixes an encoder: its layout, its sizes and how it pools."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Layout = Literal["bert", "modernbert"]
Pooling = Literal["mean", "cls", "last"]


@dataclass(frozen=True, slots=True)
class Shape:
    """What fixes the sizes of an encoder's weights, and what it computes with them.

    normalize: whether vectors have unit length
    local_tokens: modernbert: how far a token sees to either side in layers that are not global
    global_every: modernbert: of so many layers the first sees the whole text
    theta, local_theta: modernbert: base of the rotary angles in global and in other layers
    """

    vocabulary: int
    max_tokens: int
    layers: int
    dim: int
    heads: int
    intermediate_dim: int
    pooling: Pooling = "mean"
    layout: Layout = "bert"
    normalize: bool = True
    norm_epsilon: float = 1e-12
    local_tokens: int = 64
    global_every: int = 3
    theta: float = 160_000.0
    local_theta: float = 10_000.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def is_local(self, layer: int) -> bool:
        """Whether attention of layer number ``layer`` looks at the neighbourhood alone."""
        return self.layout == "modernbert" and layer % self.global_every != 0
