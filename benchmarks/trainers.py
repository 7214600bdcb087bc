"""The other way to train that benchmarks.training measures, in a process of its own."""

import argparse
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import half_precision


def train_theirs(options: argparse.Namespace, rate: float) -> dict[str, Any]:
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, losses
    from sentence_transformers.training_args import SentenceTransformerTrainingArguments
    from torch.utils.data import SequentialSampler
    from transformers import TrainerCallback

    best = "best" in options.theirs
    kinds: dict[str, Any] = {"attn_implementation": "sdpa"} if best else {}
    model = SentenceTransformer(str(options.model), device="cpu", model_kwargs=kinds)
    model.max_seq_length = 256
    if best:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    queries, passages = same_pairs(options, epochs=1)
    seconds: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *arguments: Any, **named: Any) -> None:
            self.started = time.perf_counter()

        def on_step_end(self, *arguments: Any, **named: Any) -> None:
            seconds.append(time.perf_counter() - self.started)

    class InOrder(SentenceTransformerTrainer):  # type: ignore[misc]
        """Batches as embedctl has them, so that both sides see the same."""

        def get_batch_sampler(self, dataset: Any, batch_size: int, drop_last: bool, **named: Any) -> Any:
            from sentence_transformers.sampler import DefaultBatchSampler

            return DefaultBatchSampler(SequentialSampler(dataset), batch_size=batch_size, drop_last=drop_last)

    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(options.folder / "theirs"),
        num_train_epochs=1,
        max_steps=options.steps or -1,
        per_device_train_batch_size=64,
        dataloader_drop_last=True,
        learning_rate=rate,
        warmup_ratio=0.1,
        bf16=best and half_precision(),
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
    )
    data = Dataset.from_dict({"anchor": queries, "positive": passages})
    loss = losses.MultipleNegativesRankingLoss(model)
    InOrder(model=model, args=arguments, train_dataset=data, loss=loss, callbacks=[Clock()]).train()
    if options.steps:
        return {"seconds": seconds}
    model.save(str(options.folder / "trained"))
    return {"seconds": seconds, "metrics": measure(options, options.folder / "trained")}


def same_pairs(options: argparse.Namespace, *, epochs: int) -> tuple[list[str], list[str]]:
    """The texts of the pairs of embedctl's first epoch, in its order."""
    from embedctl.settings import TrainingSettings
    from embedctl.tokens.shards import TokenTable
    from embedctl.training.pairs import PairStream

    table = TokenTable(options.folder / "ws/tokens/main")
    stream = PairStream(table, TrainingSettings(batch_pairs=64), seed=options.seed)
    batches = [stream.batch(number) for number in range(stream.batches_per_epoch * epochs)]
    texts = [
        [table.tokenizer.decode(ids.tolist()) for batch in batches for ids in part(batch)]
        for part in (lambda batch: batch.queries, lambda batch: batch.passages)
    ]
    return texts[0], texts[1]


def measure(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """The same evaluation as embedctl's, of a saved model."""
    import torch

    from embedctl.evaluation.retrieval import evaluate_model, held_task
    from embedctl.model.published import open_folder
    from embedctl.settings import EvaluationSettings
    from embedctl.tokens.shards import TokenTable

    settings = EvaluationSettings(documents="held")
    table = TokenTable(options.folder / "ws/tokens/main")
    task = held_task(table, settings, seed=0)
    assert task is not None
    return evaluate_model(open_folder(folder).encoder().eval(), table, task, settings, dtype=torch.float32)
