"""Put the figures of benchmarks/results into the README: python -m benchmarks.readme"""

import json
import re
from pathlib import Path

from benchmarks import (
    batch_memory,
    demo,
    embedding,
    kills,
    scratch,
    searching,
    tokenizing,
    training,
    upserting,
    validating,
    validation_quality,
)

README = Path(__file__).parent.parent / "README.md"
SHOWN = {
    demo.RESULT: demo.tables,
    validation_quality.RESULT: validation_quality.tables,
    validating.RESULT: validating.table,
    tokenizing.RESULT: tokenizing.table,
    kills.RESULT: kills.sentence,
    training.RESULT: training.tables,
    training.WITHOUT_HALF: training.tables,
    batch_memory.RESULT: batch_memory.table,
    scratch.RESULT: scratch.tables,
    embedding.RESULT: embedding.table,
    embedding.WITHOUT_AMX: embedding.table,
    embedding.WITHOUT_HALF: embedding.table,
    upserting.RESULT: upserting.tables,
    searching.RESULT: searching.tables,
}


def filled(text: str) -> str:
    """The README with the figures of today's result files between their marks."""
    for path, show in SHOWN.items():
        mark = f"<!-- benchmarks/results/{path.name} -->"
        block = f"{mark}\n\n{show(json.loads(path.read_text(encoding='utf-8')))}\n\n<!-- end -->"
        text, count = re.subn(f"{re.escape(mark)}.*?<!-- end -->", lambda _, block=block: block, text, flags=re.DOTALL)
        assert count == 1, mark
    return text


if __name__ == "__main__":
    README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8")
