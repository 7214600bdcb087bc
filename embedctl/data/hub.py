"""Records from data sets of the Hugging Face Hub, streamed at a revision that is recorded."""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from embedctl.data.fields import record_of
from embedctl.data.hub_faults import explained, reach
from embedctl.data.positions import RowsPosition
from embedctl.data.pubmedqa import article
from embedctl.data.records import Record
from embedctl.data.streams import fields_of
from embedctl.errors import ConfigError, DataError, NotFoundError, RefusedError
from embedctl.settings import SourceSettings

# Builders of datasets that parse plain data. Others unpickle, or read media.
_SAFE_BUILDERS = ("parquet", "json", "csv", "text", "arrow")
_UNPACKING = ("zip://", "gzip://", "bz2://", "xz://", "zstd://")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Preset:
    """A data set that embedctl knows how to read, at the commit that it was read at."""

    repository: str
    configuration: str
    revision: str
    columns: tuple[str, ...]
    record: Callable[[int, Mapping[str, Any]], Record]


def _web_page(number: int, row: Mapping[str, Any]) -> Record:
    return Record(f"openwebtext-{number:08d}", str(row["text"] or ""), source="openwebtext")


def _article(number: int, row: Mapping[str, Any]) -> Record:
    context = row["context"] if isinstance(row["context"], dict) else {}
    return article(
        str(row["pubid"]),
        row["question"],
        context.get("contexts"),
        where=f"qiaojin/PubMedQA: row {number + 1}",
        answer=row.get("final_decision"),
        conclusion=row.get("long_answer"),
        meshes=context.get("meshes"),
    )


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

    Reading raises RemoteError (unreachable, or lost on the way), NotFoundError (no such data set, revision, or
    configuration), AuthError (gated), RefusedError (not plain data), DataError (other columns than expected, damage).
    """

    def __init__(self, settings: SourceSettings, *, token: str | None) -> None:
        self._preset = PRESETS.get(settings.source)
        require_name(settings)
        self._repository = self._preset.repository if self._preset else settings.dataset
        self._configuration = settings.configuration or (self._preset.configuration if self._preset else None)
        self._revision = settings.revision or (self._preset.revision if self._preset else "")
        self._settings, self._token = settings, token
        self._number = 0
        self._stream: Any = None

    def position(self) -> RowsPosition:
        state = json.loads(json.dumps(self._stream.state_dict())) if self._stream is not None else None
        return RowsPosition(row=self._number, revision=self._revision, state=state)

    def read(self, position: RowsPosition | None) -> Iterator[Record]:
        if position:
            self._revision, self._number = position.revision, position.row
        for row in self._rows(position.state if position else None):
            self._number += 1
            yield self._record(row)

    def _rows(self, state: Any) -> Iterator[Mapping[str, Any]]:
        # Read when the libraries are imported, so set before that.
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        reach()
        import datasets

        datasets.config.TORCH_AVAILABLE = False  # else it is loaded, for nothing: a second and 180 MB
        datasets.disable_progress_bars()
        datasets.logging.set_verbosity_error()
        with explained(f"{self._repository} at revision {self._revision or 'newest'}"):
            if not _COMMIT.fullmatch(self._revision):
                self._revision = self._commit()
        with explained(f"{self._repository} at revision {self._revision}"):
            self._stream = self._open()
            if state:
                self._stream.load_state_dict(state)
            yield from self._stream

    def _commit(self) -> str:
        """The commit that a branch or tag stands for now; without one the newest."""
        from huggingface_hub import HfApi

        found = HfApi().dataset_info(self._repository, revision=self._revision or None, token=self._token)
        return str(found.sha)

    def _open(self) -> Any:
        import datasets
        from datasets.features.features import require_decoding

        # With this prefix a folder of the same name on this machine is not looked at.
        builder = datasets.load_dataset_builder(
            f"hf://datasets/{self._repository}", self._configuration, revision=self._revision, token=self._token
        )
        kind = type(builder).__module__.split(".")[-1]
        if kind not in _SAFE_BUILDERS:
            raise RefusedError(
                f"{self._repository} holds {kind} files", hint=f"embedctl reads {', '.join(_SAFE_BUILDERS)} alone"
            )
        files = builder.config.data_files or {}
        split = self._settings.split
        if split not in files:
            raise NotFoundError(
                f"{self._repository} has no split {split!r}", hint=f"set data.split to one of: {', '.join(files)}"
            )
        self._refuse_elsewhere([str(file) for of_split in files.values() for file in of_split])
        stream = builder.as_streaming_dataset(split=split)
        # Pictures and sound stay the bytes that they are: nothing is decoded.
        return stream.decode(False) if require_decoding(stream.features or {}) else stream

    def _refuse_elsewhere(self, files: list[str]) -> None:
        """The card of a data set can name any file, also one of this machine."""
        own = f"hf://datasets/{self._repository}@{self._revision}/"
        for file in files:
            *packed, last = file.split("::")
            if not last.startswith(own) or ".." in last.split("/") or not all(p.startswith(_UNPACKING) for p in packed):
                raise RefusedError(
                    f"{self._repository} names files that are not its own: {file}", hint="choose another data set"
                )

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


def require_name(settings: SourceSettings) -> None:
    """That settings which are no preset name a data set."""
    if settings.source in PRESETS:
        return
    hint = "--set data.dataset=OWNER/NAME, as the Hub calls it"
    if not settings.dataset:
        raise ConfigError("data.dataset is not set", hint=hint)
    if not _NAME.fullmatch(settings.dataset):
        raise ConfigError(f"data.dataset is not the name of a data set: {settings.dataset!r}", hint=hint)


def _require_columns(preset: Preset, row: Mapping[str, Any]) -> None:
    missing = [name for name in preset.columns if name not in row]
    if missing:
        raise DataError(f"{preset.repository} has no column {missing[0]!r}; it has {', '.join(row)}")
