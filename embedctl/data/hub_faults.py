"""What can go wrong between here and the Hub, in embedctl's own words."""

import contextlib
import os
import re
import sys
import threading
from collections.abc import Iterator

from embedctl.data.fields import excerpt
from embedctl.errors import AuthError, DataError, EmbedctlError, NotFoundError, RefusedError, RemoteError

_REACH_SECONDS = 3.0
_AGAIN = "run the same command again; it goes on where it was"
_PLAIN = "embedctl reads plain data files alone: parquet, json, csv, text, arrow"
_LOCAL = 'check the network, or set data.source = "local" and data.path to a copy on this machine'


def reach() -> None:
    """Say within seconds that there is no network: the libraries themselves try for half a minute."""
    from huggingface_hub import constants

    offline = [name for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE") if _is_on(os.environ.get(name, ""))]
    if offline:
        raise RemoteError(f"{offline[0]} is set, and this source is on the Hub", hint=f"unset it; or {_LOCAL}")
    reasons: list[str] = []
    # In a thread of its own: the resolver of names cannot be told how long it may take.
    asking = threading.Thread(target=_ask, args=(constants.ENDPOINT, reasons), daemon=True)
    asking.start()
    asking.join(_REACH_SECONDS + 0.5)
    if asking.is_alive():
        reasons.append(f"no answer within {_REACH_SECONDS:.0f} seconds")
    if reasons:
        raise RemoteError(f"the Hub at {constants.ENDPOINT} cannot be reached: {reasons[0]}", hint=_LOCAL)


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn what the libraries raise into an error that a user can act on."""
    try:
        yield
    except (EmbedctlError, MemoryError):
        raise
    except Exception as fault:  # its formats raise what they like: any class may mean a damaged file
        known = _explain(fault, what)
        if known is None:
            raise
        raise known from None


def _ask(endpoint: str, reasons: list[str]) -> None:
    from huggingface_hub import get_session

    session = get_session()
    failures: tuple[type[Exception], ...] = (*_http_errors(), OSError, ValueError)
    try:
        session.head(endpoint, timeout=_REACH_SECONDS)
    except failures as fault:
        reasons.append(str(fault) or type(fault).__name__)


def _explain(fault: Exception, what: str) -> EmbedctlError | None:
    from datasets.exceptions import DatasetNotFoundError

    # datasets drops the cause of this one and keeps the sentence.
    if isinstance(fault, DatasetNotFoundError) and "gated dataset" in str(fault):
        return AuthError(f"{what} needs permission", hint="ask for it on the Hub, then set HF_TOKEN")
    causes = list(_causes(fault))
    for cause in causes:
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if isinstance(status, int):
            return _explain_status(status, what)
    if any(isinstance(cause, (*_http_errors(), ConnectionError, TimeoutError)) for cause in causes):
        return RemoteError(f"the Hub broke off while sending {what}", hint=_AGAIN)
    return _explain_content(fault, what)


def _explain_status(status: int, what: str) -> EmbedctlError:
    if status in (401, 403):
        return AuthError(f"the Hub refuses {what} (HTTP {status})", hint="check the name, then set HF_TOKEN")
    if status == 404:
        return NotFoundError(f"the Hub has no {what}, or not all of it", hint="check the name and data.revision")
    return RemoteError(f"the Hub broke off while sending {what} (HTTP {status})", hint=_AGAIN)


def _explain_content(fault: Exception, what: str) -> EmbedctlError | None:
    """A fault of the data set itself, or of this machine."""
    from datasets.data_files import EmptyDatasetError
    from datasets.exceptions import DataFilesNotFoundError

    message = str(fault)
    if isinstance(fault, ValueError) and ("BuilderConfig" in message or "Config name is missing" in message):
        have = re.search(r"\[(.*?)\]", message, re.DOTALL)
        names = have[1].replace("'", "") if have else "those on its page"
        missing = "needs a configuration" if "missing" in message else "has no such configuration"
        return NotFoundError(f"{what} {missing}", hint=f"set data.configuration to one of: {names}")
    if isinstance(fault, RuntimeError) and "scripts are no longer supported" in message:
        return RefusedError(f"{what} would run code of its own", hint=_PLAIN)
    if isinstance(fault, ValueError) and "don't belong to" in message:
        return RefusedError(f"{what} names files that are not its own", hint="choose another data set")
    if isinstance(fault, DataFilesNotFoundError | EmptyDatasetError):
        return RefusedError(f"{what} holds no files of plain data", hint=_PLAIN)
    if isinstance(fault, FileNotFoundError):
        return NotFoundError(f"the Hub has no {what}, or no data in it", hint="check the name and data.revision")
    if isinstance(fault, OSError) and fault.errno is not None:
        return None  # the disk of this machine
    reason = excerpt(message.splitlines()[0] if message else "")
    return DataError(f"{what} cannot be read: {type(fault).__name__}: {reason}", hint="choose another data.revision")


def _http_errors() -> tuple[type[Exception], ...]:
    """The one class above all errors of whichever HTTP libraries the Hub's own libraries have loaded."""
    return tuple(sys.modules[name].HTTPError for name in ("httpx", "httpx2") if name in sys.modules)


def _causes(fault: BaseException | None) -> Iterator[BaseException]:
    while fault is not None:
        yield fault
        fault = fault.__cause__ or fault.__context__


def _is_on(value: str) -> bool:
    return value.upper() in ("1", "ON", "YES", "TRUE")
