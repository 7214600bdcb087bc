"""Files of text for tests: written, read, and what is said of them."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedctl.data.fields import Fields
from embedctl.data.local import find_files, read_file
from embedctl.data.opening import Notes
from embedctl.data.records import Record


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What is logged, even after a test that ran the command, which takes the log for itself."""
    logger = logging.getLogger("embedctl.data")
    logger.addHandler(caplog.handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield caplog
    logger.removeHandler(caplog.handler)
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


def read(path: str | Path = "text", fields: Fields = Fields(), notes: Notes | None = None) -> list[Record]:  # noqa: B008
    found = find_files(Path(path))
    return [record for file in found for record in read_file(file, fields, Notes() if notes is None else notes)]


def write(name: str, content: str | bytes) -> Path:
    path = Path("text", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
