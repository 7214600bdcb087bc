"""Where the figures of a run go: metrics.jsonl always; TensorBoard and W&B where wanted. None of them stops a run."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

from pydantic import JsonValue

from embedctl.artifacts.folder import write_file
from embedctl.artifacts.layout import Layout
from embedctl.settings import Secrets, Settings, TrainingSettings

METRICS = "metrics.jsonl"

_log = logging.getLogger(__name__)

Figures = Mapping[str, JsonValue]


class _Tracker(Protocol):
    def log(self, step: int, figures: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class Tracking:
    """All trackers of a run."""

    def __init__(
        self, folder: Path, settings: TrainingSettings, secrets: Secrets, *, after: int, recipe: Figures, name: str
    ) -> None:
        """Go on after step ``after``: lines of later steps, left by a run that was stopped, are taken out."""
        self._path = folder / METRICS
        keep = [line for line in read_metrics(folder) if line["step"] <= after] if after else []
        write_file(self._path, "".join(json.dumps(line) + "\n" for line in keep).encode())
        self._stream = self._path.open("a", encoding="utf-8")
        self._others: list[_Tracker] = []
        if settings.tensorboard:
            self._add(_TensorBoard, folder / "tensorboard", after)
        if settings.wandb_project:
            self._add(_Wandb, folder, settings.wandb_project, secrets, recipe, name)

    @classmethod
    @contextmanager
    def of(
        cls, layout: Layout, settings: Settings, secrets: Secrets | None, *, after: int, recipe: Figures, on: bool
    ) -> Iterator["Tracking"]:
        """The trackers of a run, closed in the end; ``on``: this process keeps them, not another one of the run."""
        if not on:
            yield _Untracked()
            return
        tracking = cls(
            layout.run_folder, settings.training, secrets or Secrets(), after=after, recipe=recipe, name=layout.run
        )
        try:
            yield tracking
        finally:
            tracking.close()

    def log(self, step: int, figures: Figures) -> None:
        """One line of metrics.jsonl; the numbers in it also go to the other trackers."""
        self._stream.write(json.dumps({"step": step, **figures}) + "\n")
        self._stream.flush()
        numbers = dict(_numbers(figures))
        for tracker in list(self._others):
            try:
                tracker.log(step, numbers)
            except (OSError, RuntimeError, ValueError, TypeError) as fault:
                _log.warning("%s failed and is off from here: %s", type(tracker).__name__.strip("_"), fault)
                self._others.remove(tracker)

    def close(self) -> None:
        with ExitStack() as stack:
            stack.enter_context(self._stream)
            for tracker in self._others:
                stack.enter_context(closing(tracker))

    def _add(self, kind: type[Any], *arguments: object) -> None:
        try:
            self._others.append(kind(*arguments))
        except ModuleNotFoundError as fault:
            _log.info("%s is not installed; not tracking with it", fault.name)
        except (OSError, RuntimeError, ValueError, TypeError) as fault:
            _log.warning("%s does not start; going on without: %s", kind.__name__.strip("_"), fault)


class _Untracked(Tracking):
    """Where another process of the run does the tracking."""

    def __init__(self) -> None:
        pass

    def log(self, step: int, figures: Figures) -> None:
        pass


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl; a last line that a crash cut short is left out."""
    path = folder / METRICS
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            _log.warning("%s: passing over a damaged line", path)
    return lines


def _numbers(figures: Mapping[str, Any], before: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in figures.items():
        if isinstance(value, Mapping):
            found += _numbers(value, f"{before}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((before + name, float(value)))
    return found


class _TensorBoard:
    def __init__(self, folder: Path, after: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=after + 1)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """W&B with the settings that matter and nothing else: no source code, no command line, no machine's console."""

    def __init__(self, folder: Path, project: str, secrets: Secrets, recipe: Figures, name: str) -> None:
        import wandb

        self._faults = wandb.errors.Error
        key = secrets.wandb_api_key
        settings = wandb.Settings(
            console="off", disable_code=True, disable_git=True, save_code=False, silent=True, x_disable_meta=True
        )
        if not key:
            _log.info("no WANDB_API_KEY: tracking offline in %s; `wandb sync` sends it later", folder / "wandb")
        # The same folder is the same run, also after a resume.
        own_id = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
        try:
            if key:
                wandb.login(key=key.get_secret_value(), verify=False)
            self._run = wandb.init(
                project=project,
                name=name,
                id=f"{name}-{own_id}",
                resume="allow" if key else None,
                dir=str(folder),
                config=dict(recipe),
                mode="online" if key else "offline",
                settings=settings,
            )
        except wandb.errors.Error as fault:
            raise RuntimeError(str(fault)) from None

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        try:
            self._run.log(dict(figures), step=step)
        except self._faults as fault:
            raise RuntimeError(str(fault)) from None

    def close(self) -> None:
        self._run.finish()
