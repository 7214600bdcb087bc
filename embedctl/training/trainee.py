"""What is trained: an encoder, and what its objective needs beside it."""

import math

import torch
from torch import Tensor, nn

from embedctl.model.encoder import Encoder
from embedctl.model.objective import TokenGuess
from embedctl.settings import TrainingSettings

# A learned temperature below it makes gradients of single pairs explode (Radford et al. 2021 clip there too).
_COLDEST = 0.01


class Trainee(nn.Module):
    """The encoder with the learned temperature (contrastive) or the head that guesses words (mlm)."""

    def __init__(self, encoder: Encoder, settings: TrainingSettings, *, seed: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.guess: TokenGuess | None = None
        self.log_temperature: nn.Parameter | None = None
        if settings.objective == "mlm":
            self.guess = _fresh(TokenGuess(encoder.shape), seed)
        elif settings.learn_temperature:
            self.log_temperature = nn.Parameter(torch.tensor(math.log(settings.temperature)))
        self._temperature = settings.temperature

    @property
    def temperature(self) -> float | Tensor:
        if self.log_temperature is None:
            return self._temperature
        return self.log_temperature.exp()

    @torch.no_grad()
    def settle(self) -> None:
        """After a step: bound the temperature itself, as no gradient leads back over a bound on what is made of it."""
        if self.log_temperature is not None:
            self.log_temperature.clamp_(min=math.log(_COLDEST))

    def extras(self) -> dict[str, Tensor]:
        """The weights that are not the encoder's."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("encoder.")}


def _fresh(head: TokenGuess, seed: int) -> TokenGuess:
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        head.dense.weight.normal_(0.0, 0.02, generator=generator)
        head.dense.bias.zero_()
    return head
