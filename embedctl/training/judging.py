"""How good the weights are at a step: what evaluation measures, and for hidden words the loss on held records."""

import logging
from dataclasses import dataclass

import torch

from embedctl.errors import ConfigError
from embedctl.evaluation.retrieval import Task, evaluate_model, held_task
from embedctl.evaluation.similarity import SentencePairs, read_pairs, spearman_of
from embedctl.model.encoder import Encoder
from embedctl.settings import Settings
from embedctl.tokens.shards import TokenTable
from embedctl.training.gradients import loss_of_masks
from embedctl.training.masks import MaskBatch, held_batch
from embedctl.training.trainee import Trainee

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Judge:
    """What a run can be measured on; ``None`` where there is nothing of the kind."""

    settings: Settings
    table: TokenTable
    task: Task | None
    pairs: SentencePairs | None
    hidden: MaskBatch | None
    dtype: torch.dtype

    @classmethod
    def of(cls, settings: Settings, table: TokenTable, dtype: torch.dtype) -> "Judge":
        """Raises :class:`ConfigError` if the metric that makes a checkpoint the best cannot be measured here."""
        seed, training = settings.project.seed, settings.training
        mlm = training.objective == "mlm"
        file = settings.evaluation.similarity_file
        judge = cls(
            settings,
            table,
            None if mlm else held_task(table, settings.evaluation, seed=seed),
            None if mlm or file is None else read_pairs(file),
            held_batch(table, training, seed=seed) if mlm else None,
            dtype,
        )
        chosen = settings.checkpoint.metric
        if chosen is not None and chosen not in judge.names:
            raise ConfigError(
                f"checkpoint.metric is {chosen}, which this run does not measure",
                hint=f"one of {', '.join(sorted(judge.names))}; or unset it",
            )
        if training.patience and settings.metric not in judge.names - {"loss_nats"}:
            raise ConfigError(
                f"training.patience waits for a better {settings.metric}, which its evaluations do not measure",
                hint="raise data.held_percent and tokenize again, or set training.patience to 0",
            )
        return judge

    @property
    def names(self) -> set[str]:
        """The metrics that can be measured."""
        names = {"loss_nats"}
        if self.task is not None:
            names |= {"ndcg_at_10", "mrr", *(f"recall_at_{k}" for k in {*self.settings.evaluation.recall_at, 10})}
        if self.pairs is not None:
            names.add("spearman")
        if self.hidden is not None:
            names.add("held_loss_nats")
        return names

    def measure(self, trainee: Trainee, encoder: Encoder) -> dict[str, float]:
        """All that can be measured of ``encoder``; ``trainee`` has the head that guesses words."""
        found: dict[str, float] = {}
        if self.task is not None:
            found |= evaluate_model(encoder, self.table, self.task, self.settings.evaluation, dtype=self.dtype)
        if self.pairs is not None:
            frame, limit = self.table.query_frame, min(self.table.query_max_tokens, encoder.shape.max_tokens)
            found["spearman"] = spearman_of(
                encoder, self.table.tokenizer, self.pairs, frame=frame, limit=limit, dtype=self.dtype
            )
        if self.hidden is not None:
            found["held_loss_nats"] = loss_of_masks(trainee, encoder, self.hidden, dtype=self.dtype)
        return found
