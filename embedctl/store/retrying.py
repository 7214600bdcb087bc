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


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to try again, and how long to wait between."""

    deadline_seconds: float = 300.0
    first_wait_seconds: float = 0.25
    longest_wait_seconds: float = 30.0
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
