"""One loop of retries for all that is asked of a store: full jitter, the server's own wish, a deadline."""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from embedctl.errors import DataError, RemoteError
from embedctl.store.protocol import Busy, Refused

_log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

_FIRST_WIDTH = 4
# While others get through, a request waits as if it had failed only so often.
_TRIES_AMONG_SUCCESSES = 4
# So many faults in a row, without one success, and all wait; then one request is let through to see.
_FAULTS_IN_A_ROW = 8


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to try again, and how long to wait between."""

    deadline_seconds: float = 300.0
    first_wait_seconds: float = 0.25
    longest_wait_seconds: float = 10.0
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.monotonic

    def wait(self, tries: int, asked: float | None = None) -> float:
        """Seconds until the next attempt after ``tries`` that failed (full jitter); never less than was asked for."""
        jitter = min(self.longest_wait_seconds, self.first_wait_seconds * 2.0**tries) * random.random()
        return max(jitter, asked or 0.0)

    def gone(self, what: str, fault: Busy) -> RemoteError:
        return RemoteError(
            f"{what} kept failing for {self.deadline_seconds:.0f} s: {fault.reason}",
            hint="run the same command again later: what was acknowledged is not sent twice",
        )


def persist(call: Callable[[], Answer], what: str, patience: Patience | None = None) -> Answer:
    """The answer of ``call``, tried again until the deadline as long as it is ``Busy``."""
    patience = patience or Patience()
    began, tries = patience.now(), 0
    while True:
        try:
            return call()
        except Refused as fault:
            raise DataError(f"{what} refuses the request: {fault.reason}") from None
        except Busy as fault:
            wait = patience.wait(tries, fault.retry_after)
            if patience.now() - began + wait > patience.deadline_seconds:
                raise patience.gone(what, fault) from None
            _log.info("%s: %s; trying again in %.1f s", what, fault.reason, wait)
        tries += 1
        patience.sleep(wait)


class Gate:
    """How many requests may be under way at once.

    It widens as long as all goes well: by one per success until the first fault, then by one per round. A fault halves
    it, once per round. After several faults in a row it shuts for a while, and then lets one request through to see.
    """

    def __init__(self, most: int, patience: Patience) -> None:
        self._most, self._patience = most, patience
        self._width = float(min(most, _FIRST_WIDTH))
        self._in_a_row = 0
        self._calm = True
        self.failing_since = float("inf")
        self._narrowed_at = self.opens_at = float("-inf")

    def room(self, under_way: int, now: float) -> int:
        """How many more requests may be sent now."""
        if now < self.opens_at:
            return 0
        return max(0, int(self._width) - under_way)

    def wait(self, tries: int, fault: Busy) -> float:
        """Seconds until a request that failed so many times is sent again."""
        return self._patience.wait(min(tries - 1, self._in_a_row + _TRIES_AMONG_SUCCESSES), fault.retry_after)

    def succeeded(self) -> None:
        self._in_a_row = 0
        self.failing_since = float("inf")
        self._width = min(self._most, self._width + (1.0 if self._calm else 1.0 / self._width))

    def failed(self, fault: Busy, *, sent_at: float, now: float) -> None:
        self._in_a_row += 1
        self._calm = False
        self.failing_since = min(self.failing_since, now)
        if sent_at > self._narrowed_at:
            self._width, self._narrowed_at = max(1.0, self._width / 2), now
        if fault.retry_after is not None:
            self.opens_at = max(self.opens_at, now + fault.retry_after)
        if self._in_a_row >= _FAULTS_IN_A_ROW:
            self._width = 1.0
            self.opens_at = max(self.opens_at, now + self._patience.wait(self._in_a_row - _FAULTS_IN_A_ROW))
