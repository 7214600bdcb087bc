"""Shards made on a Ray cluster. Every node has to see the workspace under the same path.

An actor holds the model and makes one shard at a time. When one is lost, with its node or by itself, its window goes to
another; what it had committed is on disk.
"""

import logging
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from embedctl.artifacts.growing import Shard
from embedctl.embedding.shards import ShardMaker, Tally
from embedctl.embedding.task import Task
from embedctl.embedding.windows import Window
from embedctl.errors import ConfigError, EmbedctlError, RemoteError

_log = logging.getLogger(__name__)

# A window that so many actors were lost over is not tried again.
_TRIES = 3


class Actor:
    """Runs on a node of the cluster."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._opened = task.opened()
        self._maker: ShardMaker | None = None

    def make(self, window: Window) -> tuple[Shard, Tally] | EmbedctlError:
        """An expected failure is given back: Ray would wrap it, and take one of the constructor for a lost node."""
        try:
            self._maker = self._maker or self._opened.__enter__()
            return self._maker.make(window, self._task.key(window))
        except EmbedctlError as fault:
            return fault


def make(task: Task, due: Sequence[Window]) -> Iterator[tuple[Shard, Tally]]:
    """The shards of the windows that are ``due``, in the order of finishing.

    Raises :class:`RemoteError` when a window has cost too many actors, or none is left.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise ConfigError("Ray is not installed", hint="pip install 'embedctl[ray]'") from None
    if not due:
        return
    with _cluster(ray):
        actors = _start(ray, task, len(due))
        waiting, idle, lost = deque(due), deque(actors), Counter[str]()
        running: dict[Any, tuple[Any, Window]] = {}
        while waiting or running:
            while waiting and idle:
                actor, window = idle.popleft(), waiting.popleft()
                running[actor.make.remote(window)] = (actor, window)
            if not running:
                raise RemoteError("no actor of the Ray cluster is left", hint="run the same command again")
            (ref,), _ = ray.wait(list(running), num_returns=1)
            actor, window = running.pop(ref)
            try:
                made = ray.get(ref)
            except ray.exceptions.RayActorError:
                lost[window.name] += 1
                _log.warning("an actor was lost; its window %s goes to another", window.name)
                if lost[window.name] == _TRIES:
                    raise RemoteError(
                        f"{_TRIES} actors were lost over {window.name}", hint="is there too little memory on the nodes?"
                    ) from None
                waiting.appendleft(window)
                continue
            if isinstance(made, EmbedctlError):
                raise made
            idle.append(actor)
            yield made


@contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """The cluster of RAY_ADDRESS, or one of this machine; as it was found if it is joined already."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(include_dashboard=False if "RAY_ADDRESS" not in os.environ else None, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def _start(ray: Any, task: Task, most: int) -> list[Any]:
    """An actor for each GPU of the cluster, or without any for each core."""
    has = ray.cluster_resources()
    needs = {"num_gpus": 1} if has.get("GPU") else {"num_cpus": 1}
    count = min(most, int(has.get("GPU") or has.get("CPU", 0)))
    if count < 1:
        raise ConfigError("the Ray cluster has neither a GPU nor a core that is free")
    return [ray.remote(**needs)(Actor).remote(task) for _ in range(count)]
