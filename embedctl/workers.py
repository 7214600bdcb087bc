"""Work spread over processes of this machine."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future, ProcessPoolExecutor

Task = TypeVar("Task")
Result = TypeVar("Result")


# Never forked from the process of the command, whose threads (Arrow's, the tokenizers') do not survive that, but from
# one that has imported what they need and done nothing else.
_FORKED = sys.platform == "linux"
_KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**31),
    "MALLOC_TOP_PAD_": str(2**26),
}


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare(module: str) -> None:
    """Let the process that workers are forked from start, and import ``module`` while the caller does other things.

    It ends with this process. The first module is the one that counts: workers that need another import it themselves.
    """
    if not _FORKED or cores() == 1:
        return
    from multiprocessing import forkserver, resource_tracker

    # glibc gives large blocks back at once and takes them anew with every array: a fifth of the time of such work.
    for name, value in _KEEP_MEMORY.items():
        os.environ.setdefault(name, value)
    forkserver.set_forkserver_preload([module])
    # Where this starts it lets interrupts through again, so it comes first.
    resource_tracker.ensure_running()
    with _interrupts_held():
        forkserver.ensure_running()


class Crew:
    """Up to ``size`` processes that work for one ``with`` block, importing ``module`` as they start."""

    def __init__(self, size: int, module: str) -> None:
        self.size, self._module = size, module
        self._started = False
        self._pool: ProcessPoolExecutor | None = None
        self._opening: threading.Thread | None = None
        self._warm: list[Future[Any]] = []

    def start(self, warm: Callable[[], object] | None = None) -> None:
        """Let the processes start while the caller has other things to do; :meth:`spread` does it else.

        warm: what they do first, once for each of them, which saves time later and may fail; one may do it twice
        """
        if self._started or self.size <= 1:
            return
        self._started = True
        prepare(self._module)
        if warm is not None:
            self._opening = threading.Thread(target=self._warmed, args=(warm,), daemon=True)
            self._opening.start()
        elif not _FORKED:
            self._open()

    def _warmed(self, warm: Callable[[], object]) -> None:
        with suppress(Exception):  # what is wrong is said where the work is done
            pool = self._open()
            self._warm = [pool.submit(warm) for _ in range(self.size)]

    def warmed(self) -> Any:
        """Wait for what the first of them made of ``warm``; ``None`` if that failed, or nobody was to do it."""
        from concurrent.futures import FIRST_COMPLETED, wait

        self._opened()
        with suppress(Exception):
            return next(iter(wait(self._warm, return_when=FIRST_COMPLETED).done)).result()
        return None

    def _open(self) -> "ProcessPoolExecutor":
        """The processes. A fork waits until what it is a copy of has imported all."""
        if self._pool is None:
            import multiprocessing
            from concurrent.futures import ProcessPoolExecutor

            context = multiprocessing.get_context("forkserver" if _FORKED else "spawn")
            self._pool = ProcessPoolExecutor(self.size, mp_context=context, initializer=_become_worker)
            with _interrupts_held():
                for _ in range(self.size):
                    self._pool.submit(import_module, self._module)
        return self._pool

    def spread(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[Task, Result]]:
        """Call ``function`` on every task, each in one of the processes; in the order of finishing.

        In a crew of one, and if there is one task and no process yet, it is called right here. ``function`` and tasks
        have to be importable and picklable. The first failure is raised.
        """
        if len(tasks) > 1:
            self.start()
        if not self._started:
            yield from ((task, function(task)) for task in tasks)
            return
        from concurrent.futures import as_completed

        self._opened()
        pool = self._open()
        running = {pool.submit(function, task): task for task in tasks}
        for done in as_completed(running):
            yield running.pop(done), done.result()

    def _opened(self) -> None:
        if self._opening is not None:
            self._opening.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._opened()
        finally:
            self._close(now=kind is not None)

    def _close(self, *, now: bool) -> None:
        """now: what has not begun is given up, and what has as well"""
        if self._pool is None:
            return
        if now:
            for process in list((self._pool._processes or {}).values()):
                process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)


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


class _WithoutPandas(MetaPathFinder, Loader):
    """Who imports it is told that it is not there. Who only looks for it, as torch does before it compiles, is not."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname == "pandas" else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        raise ModuleNotFoundError("done without pandas", name=spec.name)


@contextmanager
def without_pandas() -> Iterator[None]:
    """pyarrow imports pandas where it finds it, which takes a third of a second, and then has no use for it here."""
    finder = _WithoutPandas()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


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
