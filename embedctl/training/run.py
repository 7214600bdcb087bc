"""A training run: the loop joined with checkpoints, evaluation and tracking."""

import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from embedctl.artifacts import manifest
from embedctl.artifacts.folder import lock, write_file
from embedctl.artifacts.layout import Layout
from embedctl.artifacts.outcome import Outcome
from embedctl.checkpoint import beginning, files, retention
from embedctl.checkpoint.files import Checkpoint
from embedctl.errors import ConfigError, DivergedError, Interrupted
from embedctl.mining.negatives import Negatives
from embedctl.model.encoder import Encoder
from embedctl.model.precision import pick_device, pick_dtype
from embedctl.progress import Watch, unwatched
from embedctl.ranks import Ranks, joined
from embedctl.settings import Secrets, Settings, TrainingSettings
from embedctl.stopping import Stop, between_steps
from embedctl.template import config_text
from embedctl.tokens.shards import TokenTable
from embedctl.training import curves, loop, schedule, starting, state
from embedctl.training.average import Average
from embedctl.training.judging import Judge
from embedctl.training.laying import Layer
from embedctl.training.loop import Conditions, Parts, Step, Stream
from embedctl.training.masks import MaskStream
from embedctl.training.optimizer import make_optimizers
from embedctl.training.pairs import PairStream
from embedctl.training.scale import LossScale
from embedctl.training.state import Counters
from embedctl.training.tracking import Tracking
from embedctl.training.trainee import Trainee
from embedctl.training.watching import Watcher

CONFIG = "config.toml"

_TIMED_STEPS = 3

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

    A run that stands there with other settings is set aside, not overwritten. Under ``torchrun`` every process has a
    part of each batch, and the first one does the writing.
    """
    tokens = manifest.read(layout.tokens, "tokens")
    identity = starting.identity_of(settings, layout, tokens.content_id)
    with joined(settings.compute.device) as ranks, _alone(layout, ranks):
        done = start = None
        if ranks.is_first:
            done = starting.finished(layout, identity)
            # Of a finished run with an older step restored, --resume trains the rest again.
            if done and plan.resume and files.head(layout.checkpoints).step != done.step:
                done = None
            if done is None:
                start = starting.starting_point(settings, layout, identity, tokens.content_id, resume=plan.resume)
        # What the first process found goes for all of them.
        if ranks.most(bool(done)):
            # Of an older step that was restored it is the head that all others use.
            done = files.head(layout.checkpoints)
            return Outcome(done.folder, done.manifest, made=False)
        step = int(ranks.most(start.step + 1 if start else 0))
        if step and start is None:
            start = files.find(layout.checkpoints, step - 1)
        if not ranks.is_first:
            logging.getLogger("embedctl").setLevel(logging.ERROR)  # once is enough
        run = _Run(settings, layout, TokenTable(layout.tokens), start, ranks)
        if ranks.is_first and start is None and files.scan(layout.checkpoints):
            # Now that the new run is known to be possible.
            starting.set_aside(layout.run_folder)
        with Tracking.of(layout, settings, secrets, after=run.after, recipe=run.recipe, on=ranks.is_first) as tracking:
            last = run.go(plan.max_steps, tracking, watch if ranks.is_first else unwatched)
    return Outcome(last.folder, last.manifest, made=start is None or last.step > start.step)


class _Run:
    """The parts of one run, and what happens between its steps."""

    def __init__(
        self, settings: Settings, layout: Layout, table: TokenTable, start: Checkpoint | None, ranks: Ranks
    ) -> None:
        self._settings, self._layout, self._table, self._ranks = settings, layout, table, ranks
        training, seed = settings.training, settings.project.seed
        self._device = pick_device(settings.compute.device)
        self._dtype = pick_dtype(settings.compute.precision, self._device)
        self._stream = _stream(settings, layout, table)
        encoder = beginning.again(start) if start else beginning.begin(settings.model, table, seed=seed)
        _refuse_impossible(training, encoder, ranks)
        trainee = Trainee(encoder, training, seed=seed).to(self._device)
        self._parts = Parts(
            trainee,
            make_optimizers(trainee, training),
            LossScale.of(self._dtype),
            Average(encoder, training.ema_decay) if training.ema_decay else None,
            training.batch_tokens if training.objective == "mlm" else training.chunk_pairs,
        )
        self._conditions = Conditions(
            self._parts,
            self._stream,
            Layer(self._device, ranks),
            training,
            schedule.peak_rate(training, fresh=not settings.model.init_from),
            self._dtype,
            ranks,
        )
        self._judge = Judge.of(settings, table, self._dtype)
        self.recipe = starting.recipe_of(settings, layout)
        self._saved = start
        self.after = start.step if start else 0
        self._counters = Counters()
        if start:
            self._counters = state.restore(start, self._parts, dtype=self._dtype, processes=ranks.size)
            self._total = start.manifest.number("total_steps")
        else:
            self._total = schedule.total_steps(self._stream.batches_per_epoch, training)
            if training.minutes:
                self._total = self._steps_in(training.minutes)

    def go(self, max_steps: int | None, tracking: Tracking, watch: Watch) -> Checkpoint:
        """Train; save at the end, at every ``checkpoint.every_steps``, and when asked to stop."""
        training = self._settings.training
        watcher = Watcher(self._settings, self._encoder.shape, tracking, watch, self._device, self._dtype)
        if training.compile:
            for block in self._encoder.blocks:
                block.compile(dynamic=True)
        last = min(self._total, max_steps or self._total)
        if not self.after:
            self._save(None, self._measure(0, tracking))
        steps = loop.steps(self._conditions, after=self.after, total=self._total)
        with between_steps() as stop:
            for step in self._guarded(steps, last):
                self._counters.tokens += step.tokens
                watcher.report(step, total=self._total, seen_tokens=self._counters.tokens, processes=self._ranks.size)
                if self._between(step, last, stop, tracking):
                    break
        steps.close()
        self._ranks.most(0)  # the first process has saved
        return self._saved or files.head(self._layout.checkpoints)

    def _between(self, step: Step, last: int, stop: Stop, tracking: Tracking) -> bool:
        """What is due after a step; whether the run ends with it."""
        training = self._settings.training
        signal = int(self._ranks.most(stop.number or 0))
        metrics = None
        if step.number == self._total or _due(step.number, training.evaluate_every_steps):
            metrics = self._measure(step.number, tracking)
        if training.patience and int(self._ranks.most(self._counters.worse)) >= training.patience:
            _log.warning("no better %s in %d evaluations: stopping", self._settings.metric, training.patience)
            self._total = step.number
        at_end = step.number in (last, self._total)
        if at_end or signal or metrics or step.number % self._settings.checkpoint.every_steps == 0:
            self._save(step, metrics)
        if signal and not at_end:
            self._ranks.most(0)  # the first process has saved
            raise Interrupted(
                signal,
                message=f"stopped after step {step.number} of {self._total}; its checkpoint is saved",
                hint="embedctl train --resume goes on",
            )
        return at_end

    @property
    def _encoder(self) -> Encoder:
        return self._parts.trainee.encoder

    def _guarded(self, steps: Iterator[Step], last: int) -> Iterator[Step]:
        """Steps up to ``last``; a run that diverges names the last good checkpoint."""
        for _ in range(self.after, last):
            try:
                yield next(steps)
            except DivergedError as fault:
                good = self._saved.step if self._saved else 0
                raise DivergedError(
                    f"{fault.message}; the weights of step {good} are saved",
                    hint="lower training.learning_rate or raise training.warmup_share",
                ) from None

    def _steps_in(self, minutes: float) -> int:
        """How many steps fit, by the time that a few take which change nothing."""
        many, seconds, lay = self._settings.training.gradient_accumulation_steps, [], self._conditions.layer.lay
        for number in range(_TIMED_STEPS + 1):
            batches = [lay(self._stream.batch(number * many + n), self._parts.chunk) for n in range(many)]
            started = time.perf_counter()
            loop.gradients_of(self._conditions, batches)
            seconds.append(time.perf_counter() - started)
            self._parts.trainee.zero_grad(set_to_none=True)
        # The first one is slower: memory is taken and kernels are made.
        slowest = self._ranks.most(sorted(seconds[1:])[_TIMED_STEPS // 2])
        return max(1, int(60 * minutes / slowest))

    def _measure(self, number: int, tracking: Tracking) -> dict[str, float] | None:
        """Evaluate, on the first process; counts how long nothing was better."""
        if not self._ranks.is_first:
            return None
        shown = self._encoder
        if self._parts.average is not None:
            shown = Encoder(shown.shape).to(self._device)
            shown.load_state_dict(self._parts.average.weights)
        metrics = self._judge.measure(self._parts.trainee, shown)
        if not metrics:
            return None
        count = {"queries": len(self._judge.task.queries)} if self._judge.task else {}
        tracking.log(number, {"evaluation": {**metrics, **count}})
        curves.draw(self._layout.run_folder)
        metric = self._settings.metric
        if number and metric in metrics:
            before = [c for c in files.scan(self._layout.checkpoints) if c.step < number]
            best = retention.best(before, metric)
            known = best.metric(metric) if best else None
            worse = known is not None and retention.merit(metrics[metric], metric) <= retention.merit(known, metric)
            self._counters.worse = self._counters.worse + 1 if worse else 0
        return metrics

    def _save(self, step: Step | None, metrics: dict[str, float] | None) -> None:
        if not self._ranks.is_first:
            return
        number = step.number if step else 0
        parts, table = self._parts, self._table
        next_batch = number * self._settings.training.gradient_accumulation_steps
        write_file(self._layout.run_folder / CONFIG, config_text(self._settings).encode())
        self._saved = files.save(
            self._layout.checkpoints,
            number,
            shape=self._encoder.shape,
            weights=parts.average.weights if parts.average else self._encoder.state_dict(),
            optimizer=state.hidden_state(parts),
            tokenizer_json=(table.folder / "tokenizer.json").read_bytes(),
            config={
                "query_max_tokens": table.query_max_tokens,
                "lowercase": table.manifest.settings.get("lowercase"),
                "query_prompt": table.prompt("query"),
                "passage_prompt": table.prompt("passage"),
            },
            state={
                "next_batch": next_batch,
                **state.described(parts, self._counters, self._dtype, self._ranks.size),
            },
            parents={"tokens": table.manifest.content_id},
            recipe=self.recipe,
            facts={
                "total_steps": self._total,
                "epoch": round(step.epoch, 4) if step else 0.0,
                "loss_nats": step.loss_nats if step else None,
                "metrics": dict(metrics) if metrics else None,
            },
        )
        for old in retention.doomed_of(self._layout.checkpoints, self._settings.checkpoint, self._settings.metric):
            retention.remove(old)


def _alone(layout: Layout, ranks: Ranks) -> AbstractContextManager[None]:
    """The lock of the run, taken by the first process for all of them."""
    return lock(layout.lock(layout.run_folder)) if ranks.is_first else nullcontext()


def _refuse_impossible(training: TrainingSettings, encoder: Encoder, ranks: Ranks) -> None:
    dim, device = encoder.shape.dim, next(encoder.parameters()).device
    if training.compile and device.type != "cuda":
        raise ConfigError(
            f"training.compile is for a GPU; this run computes on {device.type}", hint="--set training.compile=false"
        )
    if any(part >= dim for part in training.matryoshka_dims):
        raise ConfigError(
            f"training.matryoshka_dims is {list(training.matryoshka_dims)}, but a vector has {dim} values",
            hint="name numbers below it; the whole vector is trained anyway",
        )
    if training.objective == "contrastive" and 2 * training.batch_pairs < ranks.size:
        raise ConfigError(
            f"{ranks.size} processes share {2 * training.batch_pairs} texts of a batch",
            hint="raise training.batch_pairs",
        )


def _stream(settings: Settings, layout: Layout, table: TokenTable) -> Stream:
    training, seed = settings.training, settings.project.seed
    if training.objective == "mlm":
        return MaskStream(table, training, seed=seed)
    mined = Negatives(layout.negatives, tokens=table.manifest.content_id) if training.hard_negatives else None
    return PairStream(table, training, seed=seed, mined=mined)


def _due(number: int, every: int) -> bool:
    return bool(every) and number % every == 0
