"""The processes that work on the parts of a corpus, started before the one that asks for them has imported its own."""

from pathlib import Path

from embedctl import workers
from embedctl.artifacts.layout import Layout

# To be imported by the processes that judge, and by those that tokenize.
JUDGING = "embedctl.data.ready"
TOKENIZING = "embedctl.tokens.shard"


def start(module: str, layout: Layout, missing: Path) -> None:
    """Start them if they will be needed: for a corpus of several parts, where the artifact ``missing`` is not made."""
    if len([*layout.corpus.glob("part-*.parquet")]) > 1 and not missing.exists():
        workers.prepare(module)
