"""Retrieval on the held split: each held query against every record, best chunk first."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from embedctl.evaluation.bm25 import Bm25
from embedctl.evaluation.metrics import Floats, Ranks, ranks_of, retrieval_metrics
from embedctl.model.encoder import Encoder
from embedctl.model.encoding import encode
from embedctl.model.nearest import unit
from embedctl.progress import Watch, unwatched
from embedctl.settings import EvaluationSettings
from embedctl.tokens.shards import Ids, TokenTable

_QUERIES_AT_A_TIME = 256
_CLOZE_TOKENS = 24


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked, and what is searched.

    kind:    "query": the held records' own queries; "cloze": where records have no query, a run of tokens
             cut out of the middle of each held record, which is easier and says less
    queries: (Q) token ids;  texts: (Q) the same as text
    answers: (Q,) place in ``records`` of the record that each query belongs to
    records: (R,) numbers of the searched records;  rows: (N,) their chunks;  firsts: (R,) where in ``rows`` each begins
    """

    kind: str
    queries: list[Ids]
    texts: list[str]
    answers: npt.NDArray[np.int64]
    records: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    firsts: npt.NDArray[np.int64]


def held_task(table: TokenTable, settings: EvaluationSettings, *, seed: int) -> Task | None:
    """The task that the held split makes; ``None`` if nothing is held."""
    with_query = np.flatnonzero(table.held & (table.query_lengths > 0))
    asked = with_query if len(with_query) else np.flatnonzero(table.held)
    records = np.flatnonzero(table.held) if settings.documents == "held" else np.arange(table.records)
    records = _sampled(records, asked, settings.max_documents, seed)
    if not len(asked) or len(records) < 2:
        return None
    if settings.max_documents:
        asked = asked[: settings.max_documents]
    starts = table.record_starts
    rows = np.concatenate([np.arange(starts[r], starts[r + 1]) for r in records])
    firsts = np.concatenate([[0], np.cumsum(starts[records + 1] - starts[records])[:-1]])
    answers = np.searchsorted(records, asked)
    if len(with_query):
        queries = [table.query(int(record)) for record in asked]
        texts = [text or "" for text in table.strings("query", starts[asked])]
        return Task("query", queries, texts, answers, records, rows, firsts)
    queries = [_cloze(table, int(starts[record])) for record in asked]
    texts = table.tokenizer.decode_batch([query.tolist() for query in queries])
    return Task("cloze", queries, texts, answers, records, rows, firsts)


def evaluate_model(
    encoder: Encoder,
    table: TokenTable,
    task: Task,
    settings: EvaluationSettings,
    *,
    dtype: torch.dtype,
    watch: Watch = unwatched,
) -> dict[str, float]:
    """recall@k, nDCG@10 and MRR by the cosine; exact search, with memory for 256 queries' scores at a time."""
    passages = unit(encode(encoder, [table.passage(int(row)) for row in task.rows], dtype=dtype, watch=watch))
    queries = unit(encode(encoder, task.queries, dtype=dtype))
    found: list[Ranks] = []
    for first in range(0, len(queries), _QUERIES_AT_A_TIME):
        some = slice(first, first + _QUERIES_AT_A_TIME)
        found.append(_ranks(queries[some] @ passages.T, task, task.answers[some]))
    return retrieval_metrics(np.concatenate(found), settings.recall_at)


def evaluate_bm25(table: TokenTable, task: Task, settings: EvaluationSettings) -> dict[str, float]:
    """The same figures for BM25 over the whole text of each record."""
    index = Bm25(_whole_texts(table, task))
    found = []
    for first in range(0, len(task.texts), _QUERIES_AT_A_TIME):
        some = slice(first, first + _QUERIES_AT_A_TIME)
        found.append(ranks_of(index.score_all(task.texts[some]), task.answers[some]))
    return retrieval_metrics(np.concatenate(found), settings.recall_at)


def _ranks(scores: Floats, task: Task, answers: npt.NDArray[np.int64]) -> Ranks:
    """A record is as good as its best chunk."""
    return ranks_of(np.maximum.reduceat(scores, task.firsts, axis=1), answers)


def _sampled(
    records: npt.NDArray[np.int64], asked: npt.NDArray[np.int64], limit: int, seed: int
) -> npt.NDArray[np.int64]:
    if not limit or len(records) <= limit:
        return records
    others = np.setdiff1d(records, asked)
    room = max(0, limit - len(asked))
    sample = np.random.Generator(np.random.Philox(key=seed)).permutation(others)[:room]
    return np.sort(np.concatenate([asked[:limit], sample]))


def _cloze(table: TokenTable, row: int) -> Ids:
    ids, frame, asked = table.passage(row), table.frame, table.query_frame
    inner = ids[len(frame.prefix) : len(ids) - len(frame.suffix)]
    first = max(0, (len(inner) - _CLOZE_TOKENS) // 2)
    middle = inner[first : first + _CLOZE_TOKENS]
    return asked.around(middle)


def _whole_texts(table: TokenTable, task: Task) -> list[str]:
    """Each searched record's text, put together from its chunks without what they share."""
    texts = iter(table.strings("text", task.rows))
    whole = []
    for record in task.records:
        pieces, reached = [], 0
        first, last = (int(table.record_starts[number]) for number in (record, record + 1))
        for row in table.rows(first, last, ["start", "end"]):
            pieces.append((next(texts) or "")[max(0, reached - row["start"]) :])
            reached = row["end"]
        whole.append("".join(pieces))
    return whole
