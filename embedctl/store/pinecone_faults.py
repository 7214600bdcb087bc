"""What the SDK raises, in three kinds: it may pass, these rows are refused, or nothing more can be done."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any

from embedctl.errors import AuthError, EmbedctlError, NotFoundError
from embedctl.store.protocol import Busy, Refused

_MAY_PASS = {408, 425, 429}
_LONGEST_RETRY_AFTER_SECONDS = 120.0


@contextmanager
def translated(target: str) -> Iterator[None]:
    """Raise ``Busy``, ``Refused`` or an ``EmbedctlError`` for whatever the SDK raises inside."""
    from pinecone.errors import (
        ApiError,
        PineconeConnectionError,
        PineconeTimeoutError,
        PineconeTypeError,
        PineconeValueError,
        ResponseParsingError,
    )

    try:
        yield
    except (PineconeConnectionError, PineconeTimeoutError, ResponseParsingError) as fault:
        raise Busy(_first_line(fault)) from None
    except (PineconeValueError, PineconeTypeError) as fault:
        raise Refused(_first_line(fault)) from None
    except ApiError as fault:
        if fault.status_code in _MAY_PASS or fault.status_code >= 500:
            raise Busy(f"HTTP {fault.status_code}", retry_after=retry_after(fault.headers or {})) from None
        raise _final(fault, target) from None


def _final(fault: Any, target: str) -> EmbedctlError | Refused:
    status = fault.status_code
    if status in (401, 403):
        return AuthError(f"{target} refuses the key (HTTP {status})", hint="check PINECONE_API_KEY and its project")
    if status == 402:
        return AuthError(f"{target}: the quota is used up or unpaid (HTTP 402)", hint="see Pinecone's billing page")
    if status == 404:
        return NotFoundError(f"there is no {target}", hint="check store.collection and store.host")
    return Refused(f"HTTP {status}: {_first_line(fault)}")


def retry_after(headers: dict[str, str], *, now: float | None = None) -> float | None:
    """Seconds that a server asks to wait, said as seconds or as a date; ``None`` if it says nothing sensible."""
    value = next((text for name, text in headers.items() if name.lower() == "retry-after"), "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - (time.time() if now is None else now)
        except ValueError:
            return None
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_SECONDS) if math.isfinite(seconds) else None


def _first_line(fault: Exception) -> str:
    return str(fault).splitlines()[0] if str(fault) else type(fault).__name__
