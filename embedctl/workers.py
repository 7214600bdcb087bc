"""Work spread over processes of this machine."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING, Self, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

Task = TypeVar("Task")
Result = TypeVar("Result")


_KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**31),
    "MALLOC_TOP_PAD_": str(2**26),
}


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Crew:
    """Up to ``size`` processes that work for one ``with`` block, importing ``module`` as they start."""

    def __init__(self, size: int, module: str) -> None:
        self.size, self._module = size, module
        self._pool: ProcessPoolExecutor | None = None

    def start(self) -> None:
        """Let the processes start while the caller has other things to do; :meth:`spread` does it else."""
        if self._pool is not None or self.size <= 1:
            return
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        # glibc gives large blocks back at once and takes them anew with every array: a fifth of the time of such work.
        for name, value in _KEEP_MEMORY.items():
            os.environ.setdefault(name, value)
        # Spawned, not forked: Arrow's and the tokenizers' threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(self.size, mp_context=context, initializer=_become_worker)
        with _interrupts_held():
            for _ in range(self.size):
                self._pool.submit(import_module, self._module)

    def spread(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[Task, Result]]:
        """Call ``function`` on every task, each in one of the processes; in the order of finishing.

        In a crew of one, and if there is one task and no process yet, it is called right here. ``function`` and tasks
        have to be importable and picklable. The first failure is raised.
        """
        if len(tasks) > 1:
            self.start()
        if self._pool is None:
            yield from ((task, function(task)) for task in tasks)
            return
        from concurrent.futures import as_completed

        running = {self._pool.submit(function, task): task for task in tasks}
        for done in as_completed(running):
            yield running.pop(done), done.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._pool is None:
            return
        if kind is not None:
            # What has not begun is given up, and what has as well.
            for process in list((self._pool._processes or {}).values()):
                process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)


def spread(
    function: Callable[[Task], Result], tasks: Sequence[Task], *, processes: int | None = None
) -> Iterator[tuple[Task, Result]]:
    """:meth:`Crew.spread` by ``processes`` (default: one a core) that are there for these tasks alone."""
    with Crew(min(processes or cores(), len(tasks)), function.__module__) as crew:
        yield from crew.spread(function, tasks)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """A process that is started in this block does not hear Ctrl-C, not even before :func:`_become_worker`."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _WithoutPandas(MetaPathFinder):
    """pyarrow imports pandas if it can, which takes half a second, and then has no use for it here."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("workers do without pandas", name="pandas")


def _become_worker() -> None:
    """Leave signals from the terminal to the parent, and do not outlive it."""
    import multiprocessing

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.meta_path.insert(0, _WithoutPandas())
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
