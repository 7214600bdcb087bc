"""A moving average of the weights, which is often better than the last of them."""

import torch
from torch import Tensor

from embedctl.model.encoder import Encoder


class Average:
    """The exponential moving average of an encoder's weights.

    Early on the decay is smaller, (1 + n) / (10 + n) at step n, so that the first weights do not linger.
    """

    def __init__(self, encoder: Encoder, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.weights: dict[str, Tensor] = {name: value.detach().clone() for name, value in encoder.state_dict().items()}

    def take_in(self, encoder: Encoder) -> None:
        """One more step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            for name, value in encoder.state_dict().items():
                self.weights[name].lerp_(value, 1 - decay)
