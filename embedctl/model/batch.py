"""Texts laid end to end, and the groups in which attention takes them.

Shape suffixes: B texts, T tokens of all texts together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

# Lengths are rounded up to it, so that neighbouring lengths share a group and matrices have sizes that kernels like.
_MULTIPLE = 32
# Scores of a group, for each head: with the usual twelve heads they stay in a core's cache.
_GROUP_SCORES = 2**18


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring texts of a sorted batch that attention takes together.

    rows: (tokens,) place of each token among texts * length; None: no text is padded
    bias: (texts, 1, 1, length) 0 at a token, -inf at padding; None: no text is padded
    """

    tokens: int
    texts: int
    length: int
    rows: Tensor | None
    bias: Tensor | None


class FlatBatch:
    """Texts laid end to end in order of length.

    ids_T:     int64, token ids
    lengths_B: int64, on the same device; texts are in ``order`` of the sequence they came from
    """

    def __init__(self, texts: Sequence[Tensor], *, device: torch.device, exact: bool = False) -> None:
        """exact: attention takes texts of one length at a time, and pads none.

        Then the bits of a vector do not depend on the other texts, and among many texts it is faster; among few,
        those of about equal length together are.
        """
        lengths = [len(text) for text in texts]
        self.device, self._multiple = device, 1 if exact else _MULTIPLE
        self.order = sorted(range(len(texts)), key=lengths.__getitem__)
        self.lengths = [lengths[i] for i in self.order]
        self.ids_T = sent(torch.cat([texts[i] for i in self.order]), device)
        self.lengths_B = sent(torch.tensor(self.lengths), device)
        self.positions_T = sent(torch.cat([torch.arange(length) for length in self.lengths]), device)
        back = torch.empty(len(texts), dtype=torch.int64)
        back[torch.tensor(self.order)] = torch.arange(len(texts))
        self.back_B = sent(back, device)

    @property
    def longest(self) -> int:
        return self.lengths[-1]

    @cached_property
    def groups(self) -> list[Group]:
        """All texts, in order, a few of about equal length at a time."""
        groups: list[Group] = []
        first = 0
        for last in range(1, len(self.lengths) + 1):
            ceiling = self._rounded(self.lengths[first])
            full = (last - first + 1) * ceiling**2 > _GROUP_SCORES
            if last < len(self.lengths) and self._rounded(self.lengths[last]) == ceiling and not full:
                continue
            groups.append(_group(self.lengths[first:last], self.device))
            first = last
        return groups

    def _rounded(self, length: int) -> int:
        return -(-length // self._multiple) * self._multiple

    @cached_property
    def ends(self) -> Tensor:
        """(B + 1,) int32, where each text begins, and where the last one ends."""
        return torch.cat([self.lengths_B.new_zeros(1), self.lengths_B.cumsum(0)]).to(torch.int32)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; to a GPU out of pinned memory, so that nobody waits for the copy."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _group(lengths: Sequence[int], device: torch.device) -> Group:
    longest = lengths[-1]
    rows = bias = None
    if lengths[0] != longest:
        keep = torch.arange(longest) < torch.tensor(lengths).unsqueeze(1)
        rows = keep.flatten().nonzero().squeeze(1).to(device)
        bias = torch.zeros(keep.shape).masked_fill_(~keep, -math.inf)[:, None, None, :].to(device)
    return Group(sum(lengths), len(lengths), longest, rows, bias)
