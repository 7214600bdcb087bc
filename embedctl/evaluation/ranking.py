"""The best documents of a folder in BEIR's layout for each of its queries, by a model or by BM25.

Shape suffixes: Q queries, W documents of a window, K kept for each query, D model width.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import JsonValue
from torch import Tensor

from embedctl.checkpoint.files import Model
from embedctl.errors import DataError
from embedctl.evaluation.beir import BeirFolder, Judged
from embedctl.evaluation.bm25 import Bm25, Collection, words
from embedctl.evaluation.metrics import Grades, graded_metrics
from embedctl.model.encoding import unit_vectors
from embedctl.model.nearest import Nearest
from embedctl.progress import Tick, Watch, unwatched
from embedctl.settings import EvaluationSettings
from embedctl.tokens.tokenizer import encode_texts, frame_of

# Scores of so many queries with one window are in memory.
_QUERIES_AT_A_TIME = 256
_LEAST_KEPT = 100


class Ranking:
    """The K best documents of each query so far; of equal scores the later name comes first, as in trec_eval.

    In memory are K numbers for each query, and the names of the documents that are among the best of any.
    """

    def __init__(self, queries: int, keep: int, device: torch.device) -> None:
        self._keep = keep
        self._nearest = Nearest(queries, keep + 1, device)
        self._device = device
        self.names: list[str] = []

    def admit(self, names: Sequence[str]) -> Tensor:
        """(W,) numbers for the documents of a window; those kept from earlier ones are numbered anew."""
        kept = self._nearest.labels()
        everyone = sorted({*names, *(self.names[n] for n in kept)}, reverse=True)
        number = {name: n for n, name in enumerate(everyone)}
        if len(kept):
            new = np.zeros(len(self.names), dtype=np.int64)
            new[kept] = [number[self.names[n]] for n in kept]
            self._nearest.relabel(new)
        self.names = everyone
        return torch.tensor([number[name] for name in names], device=self._device)

    def offer(self, scores_QW: Tensor, numbers_W: Tensor, first: int) -> None:
        """Scores of a window's documents for the queries from ``first`` on; -inf: not found."""
        self._nearest.offer(scores_QW, numbers_W, first=first)

    def grades(self, judged: Judged) -> list[Grades]:
        """For each query the grades of its documents, best first.

        A document that is called like the query is the query itself and no answer, as in BEIR, unless it is judged one.
        """
        found = []
        for labels, grades, own in zip(self._nearest.found().labels, judged.grades, judged.names, strict=True):
            names = [self.names[n] for n in labels if n >= 0]
            twice = [name for name, times in Counter(names).items() if times > 1]
            if twice:
                raise DataError(f"two documents are called {twice[0]!r}")
            answers = [name for name in names if name != own or grades.get(own)][: self._keep]
            found.append(np.array([grades.get(name, 0) for name in answers], dtype=np.int64))
        return found


@dataclass(frozen=True, slots=True)
class Counted:
    """How many documents there are, and how many texts were cut to the model's limits."""

    documents: int
    cut_documents: int
    cut_queries: int


def evaluate_folder(
    model: Model, files: BeirFolder, settings: EvaluationSettings, *, dtype: torch.dtype, watch: Watch = unwatched
) -> dict[str, JsonValue]:
    """recall@k, nDCG@10, MRR@100 and MAP@100 of the model, and of BM25 beside it."""
    judged = files.judged()
    keep = max(*settings.recall_at, _LEAST_KEPT)
    device = next(model.encoder.parameters()).device
    by_words, by_model = (Ranking(len(judged.texts), keep, at) for at in (torch.device("cpu"), device))
    documents = rank_by_words(by_words, files, judged)
    counted = rank_by_model(by_model, model, files, judged, dtype=dtype, total=documents, watch=watch)
    every = [np.array(list(grades.values()), dtype=np.int64) for grades in judged.grades]
    return {
        "folder": str(files.folder),
        "queries": len(judged.texts),
        "documents": counted.documents,
        "cut_queries": counted.cut_queries,
        "queries_max_tokens": model.query_max_tokens,
        "cut_documents": counted.cut_documents,
        "documents_max_tokens": model.max_tokens,
        "model": dict(graded_metrics(by_model.grades(judged), every, settings.recall_at)),
        "bm25": dict(graded_metrics(by_words.grades(judged), every, settings.recall_at)),
    }


def rank_by_model(
    ranking: Ranking,
    model: Model,
    files: BeirFolder,
    judged: Judged,
    *,
    dtype: torch.dtype,
    total: int | None = None,
    watch: Watch = unwatched,
) -> Counted:
    """By the cosine of query and document; the prompts of the model stand before both."""
    device = next(model.encoder.parameters()).device
    asked = encode_texts(model.tokenizer, judged.texts, model.query_frame, model.query_max_tokens)
    queries_QD = torch.from_numpy(unit_vectors(model.encoder, asked.ids, dtype=dtype)).to(device)
    frame = frame_of(model.tokenizer, model.passage_prompt)
    done = cut = 0
    for window in files.windows():
        told = encode_texts(model.tokenizer, [document.text for document in window], frame, model.max_tokens)
        passages_WD = torch.from_numpy(unit_vectors(model.encoder, told.ids, dtype=dtype)).to(device)
        numbers_W = ranking.admit([document.name for document in window])
        for first in range(0, len(queries_QD), _QUERIES_AT_A_TIME):
            ranking.offer(queries_QD[first : first + _QUERIES_AT_A_TIME] @ passages_WD.T, numbers_W, first)
        done, cut = done + len(window), cut + told.cut
        watch(Tick(done, total, "documents"))
    return Counted(done, cut, asked.cut)


def rank_by_words(ranking: Ranking, files: BeirFolder, judged: Judged) -> int:
    """By BM25; a document without a word of the query is not found. Returns the number of documents."""
    asked = {word for text in judged.texts for word in words(text)}
    collection = Collection.of((document.text for document in files.documents()), asked)
    for window in files.windows():
        index = Bm25([document.text for document in window], collection)
        numbers_W = ranking.admit([document.name for document in window])
        for first in range(0, len(judged.texts), _QUERIES_AT_A_TIME):
            scores_QW = index.score_all(judged.texts[first : first + _QUERIES_AT_A_TIME])
            scores_QW[scores_QW == 0] = -np.inf
            ranking.offer(torch.from_numpy(scores_QW).float(), numbers_W, first)
    return collection.texts
