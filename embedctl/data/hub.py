"""Records from data sets of the Hugging Face Hub, streamed at a revision that is recorded."""

import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from embedctl.data.fields import record_of
from embedctl.data.records import Record
from embedctl.data.streams import Position, fields_of
from embedctl.errors import AuthError, ConfigError, DataError, EmbedctlError, NotFoundError, RefusedError, RemoteError
from embedctl.settings import SourceSettings

_REACH_SECONDS = 3.0
_LOCAL = 'check the network, or set data.source = "local" and data.path to a copy on this machine'
# Builders of datasets that parse plain data. Others unpickle, or read media.
_SAFE_BUILDERS = ("parquet", "json", "csv", "text", "arrow")


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


class HubRows:
    """The rows of one split of a data set; stop asking and no more is downloaded.

    Reading raises RemoteError (unreachable, or lost on the way), NotFoundError (no such data set or revision),
    AuthError (gated), RefusedError (it would run code), DataError (other columns than expected).
    """

    def __init__(self, settings: SourceSettings, *, token: str | None) -> None:
        self._preset = PRESETS.get(settings.source)
        if self._preset is None and not settings.dataset:
            raise ConfigError("data.dataset is not set", hint="--set data.dataset=OWNER/NAME, as the Hub calls it")
        self._repository = self._preset.repository if self._preset else settings.dataset
        self._configuration = settings.configuration or (self._preset.configuration if self._preset else None)
        self._revision = settings.revision or (self._preset.revision if self._preset else "")
        self._settings, self._token = settings, token
        self._number = 0
        self._stream: Any = None

    def position(self) -> Position:
        state = json.loads(json.dumps(self._stream.state_dict())) if self._stream is not None else None
        return {"revision": self._revision, "row": self._number, "state": state}

    def read(self, position: Position | None) -> Iterator[Record]:
        if position:
            self._revision, self._number = str(position["revision"]), int(str(position["row"]))
        # Read when the libraries are imported, so set before that.
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        _reach()
        import datasets
        import httpx

        datasets.disable_progress_bars()
        datasets.logging.set_verbosity_error()
        try:
            self._revision = self._revision or self._newest()
            self._stream = self._open()
            if position and position["state"]:
                self._stream.load_state_dict(position["state"])
            for row in self._stream:
                self._number += 1
                yield self._record(row)
        except (OSError, ValueError, RuntimeError, httpx.HTTPError) as fault:
            known = _explain(fault, f"{self._repository} at revision {self._revision or 'newest'}")
            if known is None:
                raise
            raise known from None

    def _newest(self) -> str:
        from huggingface_hub import HfApi

        return str(HfApi().dataset_info(self._repository, token=self._token).sha)

    def _open(self) -> Any:
        import datasets

        builder = datasets.load_dataset_builder(
            self._repository, self._configuration, revision=self._revision, token=self._token
        )
        kind = type(builder).__module__.split(".")[-1]
        if kind not in _SAFE_BUILDERS:
            raise RefusedError(
                f"{self._repository} holds {kind} files", hint=f"embedctl reads {', '.join(_SAFE_BUILDERS)} alone"
            )
        splits = builder.as_streaming_dataset()
        if self._settings.split not in splits:
            raise DataError(
                f"{self._repository} has no split {self._settings.split!r}", hint=f"it has {', '.join(splits)}"
            )
        return splits[self._settings.split]

    def _record(self, row: Mapping[str, Any]) -> Record:
        if self._preset is not None:
            if self._number == 1:
                _require_columns(self._preset, row)
            return self._preset.record(self._number - 1, row)
        where = f"{self._repository}: row {self._number}"
        name = self._repository.rsplit("/", 1)[-1]
        return record_of(
            row, fields_of(self._settings), where=where, fallback_id=f"{name}:{self._number}", source=self._repository
        )


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
    if isinstance(fault, ValueError) and "BuilderConfig" in str(fault):
        return NotFoundError(f"{what}: {fault}", hint="set data.configuration to one of them")
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
