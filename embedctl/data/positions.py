"""Where a fetch stands in its sources: all that is needed to go on from there."""

from pydantic import BaseModel, ConfigDict, JsonValue


class RowsPosition(BaseModel):
    """Where the rows of one source stand: after row ``row``, of its file or of the whole data set.

    file:            of a source on this machine, which of its files
    revision, state: of one on the Hub, its commit, and what the library says of where it is
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: int
    file: int = 0
    revision: str = ""
    state: JsonValue = None


class SourcePosition(BaseModel):
    """What one source has given, where its rows stand (``None``: not begun), and what was noted on the way."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    records: int
    bytes: int
    rows: RowsPosition | None
    encodings: dict[str, int]
    binary: list[str]


class Positions(BaseModel):
    """All sources in the order of the settings, and which of them have ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ended: list[int]
    sources: list[SourcePosition]
