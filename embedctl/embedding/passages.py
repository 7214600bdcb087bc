"""The chunks as a model takes them: by the ids on disk, or, for a model with another vocabulary, by their text."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from embedctl.artifacts.manifest import Manifest
from embedctl.checkpoint.files import Model
from embedctl.embedding import windows
from embedctl.embedding.repeats import Content
from embedctl.errors import DataError
from embedctl.tokens import engines, published
from embedctl.tokens.encoding import TextEncoder
from embedctl.tokens.shards import TOKENIZER, Ids
from embedctl.tokens.tokenizer import Frame, frame_of


@dataclass(slots=True)
class Passages:
    """How to get from rows of the tokens artifact to what is embedded.

    encoder: encodes the texts anew; ``None``: the ids on disk are those that the model would make
    """

    frame: Frame
    max_tokens: int
    encoder: TextEncoder | None = None
    column: str = field(init=False)

    def __post_init__(self) -> None:
        self.column = "input_ids" if self.encoder is None else "text"

    def contents(self, rows: pa.Table) -> Sequence[Content]:
        """What decides the vector of each row."""
        found = rows.column(self.column)
        return windows.lists(found) if self.encoder is None else windows.texts(found)

    def ids(self, contents: Sequence[Content]) -> tuple[list[Ids], int]:
        """Token ids with the special ones, of some of the :meth:`contents`; and how many texts were cut for them."""
        if self.encoder is None:
            return list(contents), 0  # type: ignore[arg-type]
        bare = self.frame.bare
        room = self.max_tokens - bare.count
        # The prompt is tokenized with the text: its last white space may belong to the first word.
        encoded = self.encoder.encode([self.frame.prompt + bytes(text).decode() for text in contents])
        cut = int((np.diff(encoded.offsets) > room).sum())
        spans = zip(encoded.offsets[:-1].tolist(), encoded.offsets[1:].tolist(), strict=True)
        return [bare.around(encoded.ids[a : min(b, a + room)]) for a, b in spans], cut


def passages_for(model: Model, tokens: Path, manifest: Manifest, *, anew: bool) -> Passages:
    """Raises :class:`DataError` where the ids on disk are not the model's.

    anew: encode the texts in that case
    """
    frame = frame_of(model.tokenizer, model.passage_prompt)
    if _are_its_own(model, tokens, manifest):
        return Passages(frame, model.max_tokens)
    if anew:
        return Passages(
            frame, model.max_tokens, TextEncoder(model.tokenizer, engines.fastest(model.tokenizer, _SAMPLE))
        )
    raise DataError(
        f"{tokens} was made with another tokenizer or prompt than the model's",
        hint="run `embedctl train` on these tokens, or make the tokens again with the model's tokenizer",
    )


def _are_its_own(model: Model, tokens: Path, manifest: Manifest) -> bool:
    settings: dict[str, Any] = dict(manifest.settings)
    same = published.load(tokens / TOKENIZER).get_vocab() == model.tokenizer.get_vocab()
    prompt = str(settings.get("passage_prompt") or "") == model.passage_prompt
    return same and prompt and int(settings["max_tokens"]) <= model.encoder.shape.max_tokens


# The engine is proven on these before it is trusted with texts.
_SAMPLE = (
    "Dose: 5 mg/kg, twice a day.",
    "naïve café – 東京 2020?",
    "http://example.org/a_b?c=1",
    "tabs\tand\nlines",
    "",
)
