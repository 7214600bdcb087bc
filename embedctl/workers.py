"""Work spread over processes of this machine."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from typing import TypeVar

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


def spread(
    function: Callable[[Task], Result], tasks: Sequence[Task], *, processes: int | None = None
) -> Iterator[tuple[Task, Result]]:
    """Call ``function`` on every task, each in one of ``processes`` (default: one a core); in the order of finishing.

    With one process or one task it is called right here. ``function`` and tasks have to be importable
    and picklable. The first failure is raised, and what has not begun by then is given up.
    """
    wanted = min(processes or cores(), len(tasks))
    if wanted <= 1:
        yield from ((task, function(task)) for task in tasks)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed

    # glibc gives large blocks back at once and takes them anew with every array: a fifth of the time of such work.
    for name, value in _KEEP_MEMORY.items():
        os.environ.setdefault(name, value)
    # Spawned, not forked: Arrow's and the tokenizers' threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(wanted, mp_context=context, initializer=_become_worker)
    try:
        running = {pool.submit(function, task): task for task in tasks}
        for done in as_completed(running):
            yield running.pop(done), done.result()
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


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
