"""The processes that tokenize, started before the one that asks for them has imported what it needs itself."""

from pathlib import Path

from embedctl import workers
from embedctl.artifacts.layout import Layout
from embedctl.settings import TokensSettings

# To be imported by the processes that tokenize.
READY = "embedctl.tokens.shard"


def due(settings: TokensSettings, layout: Layout) -> Path | None:
    """The tokenizer with which they have something to do at once: one that is given, for shards that are not there."""
    return None if layout.tokens.exists() else settings.tokenizer


def start(settings: TokensSettings, layout: Layout) -> None:
    """Start them if they will be needed soon, for a corpus of several parts."""
    if len([*layout.corpus.glob("part-*.parquet")]) > 1 and due(settings, layout):
        workers.prepare(READY)
