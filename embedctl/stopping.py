"""Stopping between two steps, so that what is saved or noted is whole."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from embedctl.errors import stopping_signals


class Stop:
    """Whether a signal has asked the run to end, and which."""

    def __init__(self) -> None:
        self.number: int | None = None


@contextmanager
def between_steps(*, patient: bool = False) -> Iterator[Stop]:
    """Let INT, TERM and HUP be noted; the second one acts at once, as before this block, unless we are ``patient``."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(number: int, frame: FrameType | None) -> None:
        stop.number = number
        if not patient:
            for each, handler in before.items():
                signal.signal(each, handler)

    before = {number: signal.signal(number, note) for number in stopping_signals()}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def signals_held(*, patient: bool = False) -> Iterator[None]:
    """Let INT, TERM and HUP act after this block, if it ends well; unless ``patient``, the second one acts at once."""
    with between_steps(patient=patient) as stop:
        yield
    if stop.number is not None:
        signal.raise_signal(stop.number)
