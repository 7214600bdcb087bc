"""The exact search for hard negatives, a window of queries against a window of passages at a time.

Shape suffixes: Q queries, W passages of a window, D model width; C chunks are searched in all.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from embedctl.checkpoint.files import Model
from embedctl.errors import DataError
from embedctl.mining.answers import Answers, Places
from embedctl.model.encoding import Ids, Vectors, unit_vectors
from embedctl.model.nearest import Found, Nearest
from embedctl.tokens.shards import TokenTable

# A negative scores at most so much of what the best passage of its pair does: what comes nearer is likely to be an
# answer that nobody marked (NV-Retriever, Moreira et al. 2024, arXiv:2407.15831).
MARGIN = 0.95
# Vectors of so many passages are in memory, and scores of so many queries with them.
PASSAGES = 8192
_BLOCK = 256

Half = npt.NDArray[np.float16]


class Search:
    """The training part of a token table.

    records: those with a query, in order;  rows: (C,) numbers of the chunks that are searched, in order
    """

    def __init__(self, table: TokenTable, model: Model, dtype: torch.dtype) -> None:
        self._table, self._encoder, self._dtype = table, model.encoder, dtype
        self._device = next(model.encoder.parameters()).device
        self.dim = model.encoder.shape.dim
        self.records = np.flatnonzero(~table.held & (table.query_lengths > 0))
        if not len(self.records):
            raise DataError("no training record has a query to mine for", hint="data.query_field names the field")
        self.rows = np.flatnonzero(~table.held[table.record_of()])
        self._answers = Answers(table, self.rows)

    def vectors(self, first: int, last: int) -> Vectors:
        """Unit vectors (last - first, D) of the chunks ``rows[first:last]``."""
        return self._encoded([self._table.passage(int(row)) for row in self.rows[first:last]])

    def hardest(self, records: Places, passages: Half, keep: int, *, told: Callable[[float], None]) -> Found:
        """For each of Q records the chunks that are most similar to its query and no answers, as rows of the table.

        passages: (C, D) the vectors of all chunks, on disk
        told:     hears which share of the passages is done
        """
        queries_QD = torch.from_numpy(self._encoded([self._table.query(int(record)) for record in records]))
        limits_Q = torch.from_numpy(self._limits(records, queries_QD.numpy(), passages)).to(self._device)
        queries_QD = queries_QD.to(self._device)
        nearest = Nearest(len(records), keep, self._device)
        for first in range(0, len(passages), PASSAGES):
            last = min(first + PASSAGES, len(passages))
            passages_WD = self._tensor(passages[first:last])
            labels_W = self._tensor(self.rows[first:last])
            window = self._answers.among(first, last)
            for row in range(0, len(records), _BLOCK):
                some = slice(row, row + _BLOCK)
                # What differs in the last bits alone is a tie, as the kernel for a smaller window adds up otherwise.
                scores_QW = torch.round(queries_QD[some] @ passages_WD.T, decimals=6)
                sure = window.of(records[some])
                scores_QW[self._tensor(sure.left), self._tensor(sure.right)] = -torch.inf
                scores_QW.masked_fill_(scores_QW > limits_Q[some, None], -torch.inf)
                nearest.offer(scores_QW, labels_W, first=row)
            told(last / len(passages))
        return nearest.found()

    def _limits(self, records: Places, queries_QD: Vectors, passages: Half) -> npt.NDArray[np.float32]:
        """(Q,) the highest score that a negative may have."""
        own = self._answers.own(records)
        best = np.full(len(records), -np.inf, dtype=np.float32)
        for first in range(0, len(own.left), PASSAGES):
            left, right = own.left[first : first + PASSAGES], own.right[first : first + PASSAGES]
            scores = np.einsum("pd,pd->p", queries_QD[left], passages[right].astype(np.float32))
            np.maximum.at(best, left, scores)
        # Below zero, too, the limit is below the passage's own score.
        return np.asarray(best - (1 - MARGIN) * np.abs(best), dtype=np.float32)

    def _encoded(self, texts: list[Ids]) -> Vectors:
        return unit_vectors(self._encoder, texts, dtype=self._dtype)

    def _tensor(self, values: Half | Places) -> Tensor:
        """On the device, halves as float32."""
        tensor = torch.from_numpy(np.ascontiguousarray(values)).to(self._device)
        return tensor.float() if tensor.is_floating_point() else tensor
