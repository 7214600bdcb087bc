"""The best of very many, a window of them at a time: exact, and the same however the windows are cut.

Shape suffixes: Q queries, W candidates of a window, K kept for each query.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# Labels stand in the lower half of a key, and a smaller one wins among equal scores.
LABELS = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Found:
    """scores: float32 (Q, K), best first; labels: int64 (Q, K). Where there were fewer than K: -inf and -1."""

    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


class Nearest:
    """The K candidates of highest score of each query; of equal scores the smaller label. Memory: 8 bytes for each."""

    def __init__(self, queries: int, keep: int, device: torch.device) -> None:
        self._keys_QK = _keys(torch.full((queries, keep), -torch.inf), torch.tensor(LABELS)).to(device)

    def offer(self, scores_QW: Tensor, labels_W: Tensor, *, first: int = 0) -> None:
        """Take the candidates of a window into account, for the queries from ``first`` on.

        scores_QW: float32, on the device; -inf: not to be kept
        labels_W:  int64, 0 to 2**32 - 2
        """
        some = slice(first, first + len(scores_QW))
        kept_QK = self._keys_QK[some]
        floor_Q = _scores(kept_QK.amin(dim=1)).unsqueeze(1)
        better_QW = (scores_QW >= floor_Q) & (scores_QW > -torch.inf)
        # After a few windows hardly any candidate is good enough, and sorting is what takes the time.
        counts_Q = better_QW.sum(dim=1)
        rows, columns = better_QW.nonzero(as_tuple=True)
        places = torch.arange(len(rows), device=rows.device) - (counts_Q.cumsum(0) - counts_Q)[rows]
        keys = kept_QK.new_full((len(scores_QW), int(counts_Q.max())), torch.iinfo(torch.int64).min)
        keys[rows, places] = _keys(scores_QW[rows, columns], labels_W[columns])
        self._keys_QK[some] = torch.cat([kept_QK, keys], dim=1).topk(kept_QK.shape[1], dim=1, sorted=False).values

    def labels(self) -> npt.NDArray[np.int64]:
        """The labels kept for any query, in order."""
        labels = np.unique(self._decoded().labels)
        return labels[labels >= 0]

    def relabel(self, new: npt.NDArray[np.int64]) -> None:
        """Give label ``n`` the name ``new[n]``."""
        found = self._decoded()
        labels = np.where(found.labels < 0, LABELS, np.append(new, LABELS)[found.labels])
        self._keys_QK = _keys(torch.from_numpy(found.scores), torch.from_numpy(labels)).to(self._keys_QK.device)

    def found(self) -> Found:
        """What is kept, best first."""
        self._keys_QK = self._keys_QK.sort(dim=1, descending=True).values
        return self._decoded()

    def _decoded(self) -> Found:
        scores = _scores(self._keys_QK).cpu().numpy()
        labels = LABELS - (self._keys_QK & LABELS).cpu().numpy()
        labels[np.isneginf(scores)] = -1
        return Found(scores, labels)


def unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Each row scaled to length 1, so that products are cosines; a row of zeros stays."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def _keys(scores: Tensor, labels: Tensor) -> Tensor:
    """int64 that are in the order of (score, -label): the bits of a float32, of negative ones turned round, and below
    them the label."""
    # Adding zero makes -0.0 the same as 0.0.
    bits = (scores + 0.0).view(torch.int32)
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(torch.int64)
    return (ordered << 32) | (LABELS - labels)


def _scores(keys: Tensor) -> Tensor:
    ordered = (keys >> 32).to(torch.int32)
    return torch.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered).view(torch.float32)
