"""Records from data sets of the Hugging Face Hub, streamed at a pinned revision."""

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from embedctl.data.records import Record
from embedctl.errors import AuthError, DataError, EmbedctlError, NotFoundError, RefusedError, RemoteError

_REACH_SECONDS = 3.0
_LOCAL = 'check the network, or set data.source = "local" and data.path to a copy on this machine'


@dataclass(frozen=True, slots=True)
class Preset:
    """A data set that embedctl knows how to read, at the commit that it was read at."""

    repository: str
    configuration: str
    revision: str
    columns: tuple[str, ...]
    record: Callable[[int, Mapping[str, Any]], Record]


def _web_page(number: int, row: Mapping[str, Any]) -> Record:
    return Record(f"openwebtext-{number:08d}", str(row["text"]), source="openwebtext")


def _article(number: int, row: Mapping[str, Any]) -> Record:
    context = row["context"]
    metadata = {
        name: value
        for name, value in (
            ("answer", row.get("final_decision")),
            ("conclusion", row.get("long_answer")),
            ("meshes", list(context.get("meshes") or [])),
        )
        if value
    }
    return Record(str(row["pubid"]), "\n".join(context["contexts"]), str(row["question"]), "pubmedqa", metadata)


PRESETS: dict[str, Preset] = {
    "openwebtext": Preset(
        "Skylion007/openwebtext", "plain_text", "b4325f019c648b1641a1784748667e8b74e5e064", ("text",), _web_page
    ),
    "pubmedqa": Preset(
        "qiaojin/PubMedQA",
        "pqa_labeled",
        "9001f2853fb87cab8d220904e0de81ac6973b318",
        ("pubid", "question", "context"),
        _article,
    ),
}


def read_hub(
    name: Literal["openwebtext", "pubmedqa"], *, revision: str = "", token: str | None = None
) -> Iterator[Record]:
    """Stream the records of a preset; stop asking and no more is downloaded.

    Raises RemoteError (unreachable, or lost on the way), NotFoundError (no such data set or revision),
    AuthError (gated), RefusedError (it would run code), DataError (other columns than expected).
    """
    preset = PRESETS[name]
    # Read when the libraries are imported, so set before that.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    _reach()
    import datasets
    import httpx

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    pinned = revision or preset.revision
    try:
        stream = datasets.load_dataset(
            preset.repository, preset.configuration, split="train", streaming=True, revision=pinned, token=token
        )
        for number, row in enumerate(stream):
            if number == 0:
                _require_columns(preset, row)
            yield preset.record(number, row)
    except (OSError, ValueError, RuntimeError, httpx.HTTPError) as fault:
        known = _explain(fault, f"{preset.repository} at revision {pinned}")
        if known is None:
            raise
        raise known from None


def _reach() -> None:
    """Say within seconds that there is no network: the libraries themselves try for half a minute."""
    import httpx
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise RemoteError("HF_HUB_OFFLINE is set, and this source is on the Hub", hint=f"unset it; or {_LOCAL}")
    try:
        httpx.head(constants.ENDPOINT, timeout=_REACH_SECONDS)
    except httpx.HTTPError as fault:
        reason = str(fault) or type(fault).__name__
        raise RemoteError(f"the Hub at {constants.ENDPOINT} cannot be reached: {reason}", hint=_LOCAL) from None


def _explain(fault: BaseException, what: str) -> EmbedctlError | None:
    import datasets
    import httpx
    from huggingface_hub import errors

    # datasets drops the cause of this one and keeps the sentence.
    if isinstance(fault, datasets.exceptions.DatasetNotFoundError) and "gated dataset" in str(fault):
        return AuthError(f"{what} needs permission", hint="ask for it on the Hub, then set HF_TOKEN")
    for cause in _causes(fault):
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if status in (401, 403):
            return AuthError(f"the Hub refuses {what} (HTTP {status})", hint="check the name, then set HF_TOKEN")
        if status == 404:
            return NotFoundError(f"the Hub has no {what}, or not all of it", hint="check data.revision")
    if isinstance(fault, datasets.exceptions.DatasetNotFoundError | FileNotFoundError | ValueError):
        return NotFoundError(f"the Hub has no {what}", hint="check data.revision")
    if isinstance(fault, RuntimeError) and "scripts are no longer supported" in str(fault):
        return RefusedError(f"{what} would run code of its own", hint="embedctl reads plain data files alone")
    if isinstance(fault, httpx.HTTPError | errors.HfHubHTTPError | OSError):
        return RemoteError(f"the Hub broke off while sending {what}", hint="run the same command again")
    return None


def _causes(fault: BaseException | None) -> Iterator[BaseException]:
    for _ in itertools.count():
        if fault is None:
            return
        yield fault
        fault = fault.__cause__ or fault.__context__


def _require_columns(preset: Preset, row: Mapping[str, Any]) -> None:
    missing = [name for name in preset.columns if name not in row]
    if missing:
        raise DataError(f"{preset.repository} has no column {missing[0]!r}; it has {', '.join(row)}")
