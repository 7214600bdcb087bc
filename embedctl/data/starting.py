"""The processes that judge a corpus, started before the one that asks for them has imported what it needs itself."""

from embedctl import workers
from embedctl.artifacts.layout import Layout

# To be imported by the processes that judge.
READY = "embedctl.data.ready"


def start(layout: Layout) -> None:
    """Start them if they will be needed: for a corpus of several parts that nobody has judged."""
    if len([*layout.corpus.glob("part-*.parquet")]) > 1 and not layout.validation.exists():
        workers.prepare(READY)
