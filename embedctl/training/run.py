"""A training run: the loop joined with checkpoints, evaluation and tracking."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from embedctl.artifacts import manifest
from embedctl.artifacts.folder import lock, write_file
from embedctl.artifacts.layout import Layout
from embedctl.artifacts.outcome import Outcome
from embedctl.checkpoint import files, retention
from embedctl.checkpoint.files import Checkpoint
from embedctl.errors import DivergedError, Interrupted
from embedctl.evaluation.retrieval import Task, evaluate_model, held_task
from embedctl.memory.host import process_rss_bytes
from embedctl.model.encoder import Shape, initialise
from embedctl.model.precision import pick_device, pick_dtype
from embedctl.progress import Tick, Watch, unwatched
from embedctl.settings import Secrets, Settings
from embedctl.template import config_text
from embedctl.tokens.shards import TokenTable
from embedctl.training import loop, starting
from embedctl.training.loop import Step
from embedctl.training.optimizer import load_optimizer, make_optimizer, optimizer_tensors
from embedctl.training.pairs import PairStream
from embedctl.training.stopping import between_steps
from embedctl.training.tracking import Tracking

CONFIG = "config.toml"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What ``train`` is to do."""

    resume: bool = False
    max_steps: int | None = None


def train(
    settings: Settings, layout: Layout, plan: Plan, *, secrets: Secrets | None = None, watch: Watch = unwatched
) -> Outcome:
    """Train on ``tokens/NAME`` into ``runs/NAME`` until the schedule, or ``max_steps``, ends.

    A run that stands there with other settings is set aside, not overwritten.
    """
    tokens = manifest.read(layout.tokens, "tokens")
    identity = starting.identity_of(settings, tokens.content_id)
    with lock(layout.lock(layout.run_folder)):
        done = starting.finished(layout, identity)
        # Of a finished run with an older step restored, --resume trains the rest again.
        if done and not (plan.resume and files.head(layout.checkpoints).step != done.step):
            return Outcome(done.folder, done.manifest, made=False)
        start = starting.starting_point(settings, layout, identity, tokens.content_id, resume=plan.resume)
        table = TokenTable(layout.tokens)
        run = _Run(settings, layout, table, start, secrets or Secrets(), watch)
        try:
            last = run.go(plan.max_steps)
        finally:
            run.tracking.close()
    return Outcome(last.folder, last.manifest, made=True)


class _Run:
    """The parts of one run, and what happens between its steps."""

    def __init__(
        self,
        settings: Settings,
        layout: Layout,
        table: TokenTable,
        start: Checkpoint | None,
        secrets: Secrets,
        watch: Watch,
    ) -> None:
        self._settings, self._layout, self._table, self._watch = settings, layout, table, watch
        training = settings.training
        self._device = pick_device(settings.compute.device)
        self._dtype = pick_dtype(settings.compute.precision, self._device)
        self._stream = PairStream(table, training, seed=settings.project.seed)
        self._total = loop.total_steps(self._stream, training)
        self._encoder = initialise(_shape(settings, table), settings.project.seed).to(self._device)
        self._optimizer = make_optimizer(self._encoder, training)
        self._task: Task | None = held_task(table, settings.evaluation, seed=settings.project.seed)
        self._tokenizer_json = (table.folder / "tokenizer.json").read_bytes()
        self._recipe = starting.recipe_of(settings)
        self._saved = start
        self._after = start.step if start else 0
        self._seen_tokens = 0
        self._chunk_pairs = training.chunk_pairs
        if start:
            self._restore(start)
        folder = layout.run_folder
        write_file(folder / CONFIG, config_text(settings).encode())
        self.tracking = Tracking(folder, training, secrets, after=self._after, recipe=self._recipe, name=layout.run)

    def go(self, max_steps: int | None) -> Checkpoint:
        """Train; save at the end, at every ``checkpoint.every_steps``, and when asked to stop."""
        training, every = self._settings.training, self._settings.checkpoint.every_steps
        last = min(self._total, max_steps or self._total)
        if not self._after:
            self._save(None, self._evaluate(0))
        steps = loop.steps(
            self._encoder,
            self._optimizer,
            self._stream,
            training,
            after=self._after,
            dtype=self._dtype,
            chunk_pairs=self._chunk_pairs,
        )
        with between_steps() as stop:
            for step in self._guarded(steps, last):
                self._seen_tokens += step.tokens
                self._chunk_pairs = step.chunk_pairs
                self._report(step)
                at_end = step.number in (last, self._total)
                metrics = None
                if step.number == self._total or _due(step.number, training.evaluate_every_steps):
                    metrics = self._evaluate(step.number)
                if at_end or stop.number or metrics or step.number % every == 0:
                    self._save(step, metrics)
                if stop.number and not at_end:
                    steps.close()
                    raise Interrupted(
                        stop.number,
                        message=f"stopped after step {step.number} of {self._total}; its checkpoint is saved",
                        hint="embedctl train --resume goes on",
                    )
        steps.close()
        assert self._saved is not None  # step 0 at the latest
        return self._saved

    def _guarded(self, steps: Iterator[Step], last: int) -> Iterator[Step]:
        """Steps up to ``last``; a run that diverges names the last good checkpoint."""
        for _ in range(self._after, last):
            try:
                yield next(steps)
            except DivergedError as fault:
                good = self._saved.step if self._saved else 0
                raise DivergedError(
                    f"{fault.message}; the weights of step {good} are saved",
                    hint="lower training.learning_rate or raise training.warmup_share",
                ) from None

    def _report(self, step: Step) -> None:
        rate = step.tokens / step.seconds
        memory = _memory_bytes(self._device)
        if step.number % self._settings.training.log_every_steps == 0:
            self.tracking.log(
                step.number,
                {
                    "epoch": round(step.epoch, 4),
                    "loss_nats": step.loss_nats,
                    "learning_rate": step.learning_rate,
                    "gradient_norm": step.gradient_norm,
                    "tokens": self._seen_tokens,
                    "tokens_per_second": round(rate, 1),
                    "data_wait_share": round(step.wait_seconds / step.seconds, 4),
                    "memory_bytes": memory,
                },
            )
        detail = {
            "loss": f"{step.loss_nats:.3f}",
            "rate": f"{rate:,.0f} tokens/s",
            "memory": f"{memory / 2**30:.1f} GiB",
        }
        self._watch(Tick(step.number, self._total, "steps", detail))
        self._alert(step.number, memory)

    def _alert(self, number: int, memory: int) -> None:
        from embedctl.memory.host import read_host

        if number % 100 != 1:
            return
        if self._device.type == "cuda":
            total = torch.cuda.get_device_properties(self._device).total_memory
        else:
            total = read_host().memory_total_bytes
        limit = self._settings.memory.alert_ratio
        if memory > limit * total:
            _log.warning("memory: %.0f %% of %.1f GiB in use at step %d", 100 * memory / total, total / 2**30, number)

    def _evaluate(self, number: int) -> dict[str, float] | None:
        if self._task is None:
            return None
        metrics = evaluate_model(self._encoder, self._table, self._task, self._settings.evaluation, dtype=self._dtype)
        self.tracking.log(number, {"evaluation": {**metrics, "queries": len(self._task.queries)}})
        return metrics

    def _save(self, step: Step | None, metrics: dict[str, float] | None) -> None:
        number = step.number if step else 0
        self._saved = files.save(
            self._layout.checkpoints,
            number,
            encoder=self._encoder,
            optimizer=optimizer_tensors(self._encoder, self._optimizer),
            tokenizer_json=self._tokenizer_json,
            config={
                "query_max_tokens": self._table.manifest.settings["query_max_tokens"],
                "lowercase": self._table.manifest.settings.get("lowercase"),
            },
            state={
                "next_batch": number * self._settings.training.gradient_accumulation_steps,
                "tokens": self._seen_tokens,
                "threads": torch.get_num_threads(),
                "dtype": str(self._dtype),
                "chunk_pairs": self._chunk_pairs,
                "torch": torch.__version__,
            },
            parents={"tokens": self._table.manifest.content_id},
            recipe=self._recipe,
            facts={
                "total_steps": self._total,
                "epoch": round(step.epoch, 4) if step else 0.0,
                "loss_nats": step.loss_nats if step else None,
                "metrics": dict(metrics) if metrics else None,
            },
        )
        for old in retention.doomed_of(self._layout.checkpoints, self._settings.checkpoint):
            retention.remove(old)

    def _restore(self, start: Checkpoint) -> None:
        state = files.read_json(start, files.STATE)
        files.load_weights(start, self._encoder)
        load_optimizer(self._encoder, self._optimizer, files.read_tensors(start, files.OPTIMIZER))
        self._seen_tokens = int(state["tokens"])
        self._chunk_pairs = min(self._chunk_pairs, int(state["chunk_pairs"]))
        if state["threads"] != torch.get_num_threads():
            # The number of threads decides the order of sums, and so the last bits (pytorch#88718).
            _log.info("computing with %d threads as this run did before", state["threads"])
            torch.set_num_threads(int(state["threads"]))
        if state["dtype"] != str(self._dtype) or state["torch"] != torch.__version__:
            _log.warning(
                "this run computed in %s with torch %s, now %s with %s: it goes on, but not to the same bits",
                state["dtype"], state["torch"], self._dtype, torch.__version__,
            )  # fmt: skip


def _due(number: int, every: int) -> bool:
    return bool(every) and number % every == 0


def _shape(settings: Settings, table: TokenTable) -> Shape:
    longest = max(int(table.lengths.max()), int(table.query_lengths.max()))
    wanted = int(table.manifest.settings["max_tokens"])  # type: ignore[arg-type]
    return Shape(table.tokenizer.get_vocab_size(), max(wanted, longest), **settings.model.model_dump())


def _memory_bytes(device: torch.device) -> int:
    """What this process holds: of the GPU where it computes there, else of the host."""
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else process_rss_bytes()
