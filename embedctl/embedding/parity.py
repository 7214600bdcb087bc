"""Whether a text gets the same vector alone and in company, in half precision and in float32, here and by ONNX."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import JsonValue

from embedctl.artifacts import manifest
from embedctl.artifacts.layout import Layout
from embedctl.checkpoint.files import Model
from embedctl.embedding import windows
from embedctl.embedding.passages import Passages, passages_for
from embedctl.embedding.source import model_of
from embedctl.embedding.windows import Window
from embedctl.model import graphs
from embedctl.model.encoding import Ids, Vectors, encode
from embedctl.model.nearest import unit
from embedctl.model.packed import packed
from embedctl.model.precision import pick_device, pick_dtype
from embedctl.progress import Tick, Watch, unwatched
from embedctl.settings import ComputeSettings, EmbeddingSettings

# Chunks are drawn from so many windows.
_WINDOWS = 4


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two ways to the vectors of the same texts.

    worst_cosine: the smallest between the two vectors of a text; nan where one is not finite
    equal_share:  texts whose vectors agree to the bit
    tokens:       length of the text with the worst cosine
    """

    worst_cosine: float
    equal_share: float
    tokens: int

    def to_json(self) -> dict[str, JsonValue]:
        return {"worst_cosine": self.worst_cosine, "equal_share": self.equal_share, "tokens": self.tokens}


def compare(
    settings: EmbeddingSettings,
    compute: ComputeSettings,
    layout: Layout,
    *,
    texts: int = 200,
    watch: Watch = unwatched,
) -> dict[str, Comparison]:
    """Compare on so many chunks, of all lengths; with onnxruntime too where it is installed."""
    tokens = manifest.read_verified(layout.tokens, "tokens")
    device = pick_device(compute.device)
    model = model_of(settings, layout, device)
    dtype = pick_dtype(compute.precision, device)
    passages = passages_for(model, layout.tokens, tokens, anew=settings.model is not None)
    chosen = _chosen(passages, windows.windows_of(layout.tokens, tokens), texts)
    encoder = packed(model.encoder, dtype)
    together = encode(encoder, chosen, dtype=dtype)
    alone = np.zeros_like(together)
    for number, text in enumerate(chosen):
        alone[number] = encode(encoder, [text], dtype=dtype)[0]
        watch(Tick(number + 1, len(chosen), "texts"))
    reference = encode(model.encoder, chosen, dtype=torch.float32)
    found = {
        "alone, and in a batch": _compared(alone, together, chosen),
        f"float32, and {str(dtype).removeprefix('torch.')} as used": _compared(reference, together, chosen),
    }
    if graphs.can_run_onnx():
        found["ONNX, and float32"] = _compared(_by_onnx(model, chosen), reference, chosen)
    return found


def _chosen(passages: Passages, parts: Sequence[Window], count: int) -> list[Ids]:
    """Texts evenly by length, out of a few windows from all over the corpus."""
    some = [parts[n] for n in np.unique(np.linspace(0, len(parts) - 1, num=_WINDOWS, dtype=np.int64))]
    found = [c for window in some for c in passages.contents(window.read([passages.column]))]
    found.sort(key=len)
    places = np.unique(np.linspace(0, len(found) - 1, num=count, dtype=np.int64))
    # A copy: what is mapped does not outlive its window.
    return [ids.copy() for ids in passages.ids([found[n] for n in places])[0]]


def _by_onnx(model: Model, texts: Sequence[Ids]) -> Vectors:
    with tempfile.TemporaryDirectory() as folder:
        graphs.write_onnx(model.encoder.cpu(), Path(folder))
        run = graphs.open_onnx(Path(folder))
        ids = [torch.from_numpy(text.astype(np.int64))[None] for text in texts]
        return np.concatenate([run(text, torch.ones_like(text)).numpy() for text in ids])


def _compared(one_ND: Vectors, other_ND: Vectors, texts: Sequence[Ids]) -> Comparison:
    cosines = (unit(one_ND) * unit(other_ND)).sum(axis=1)
    worst = int(np.argmin(cosines))  # the first that is not a number, if any
    equal = float((one_ND == other_ND).all(axis=1).mean())
    return Comparison(min(float(cosines[worst]), 1.0), equal, len(texts[worst]))
