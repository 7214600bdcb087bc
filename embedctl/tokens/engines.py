"""The fastest way to the same ids. ``tokenizers`` defines them; other engines have to prove that theirs are equal."""

import json
import logging
import os
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

_log = logging.getLogger(__name__)

Ids = npt.NDArray[np.uint32]
Offsets = npt.NDArray[np.int64]
# No UTF-8 text holds this byte.
SEPARATOR = b"\xff"

Family = Literal["byte-level", "wordpiece", "other"]


@dataclass(frozen=True, slots=True)
class Flat:
    """Token ids of N texts in one run: text n has ``ids[offsets[n] : offsets[n + 1]]``; offsets (N + 1,)."""

    ids: Ids
    offsets: Offsets


class Engine(Protocol):
    """Something that encodes many texts at once, without special tokens before and after them."""

    name: str
    picky: bool  # whether there are texts of which it is not sure

    def sure(self, text: str) -> bool:
        """Whether the ids of this text are known to be those of ``tokenizers``."""

    def encode(self, texts: Sequence[str], blob: bytes) -> Flat:
        """The ids of all texts; ``blob`` is all of them in UTF-8, joined by ``SEPARATOR``."""


class Reference:
    """``tokenizers`` itself: about 4 MB/s on a core."""

    name = "tokenizers"
    picky = False

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def sure(self, text: str) -> bool:
        return True

    def encode(self, texts: Sequence[str], blob: bytes) -> Flat:
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return joined([np.array(encoding.ids, dtype=np.uint32) for encoding in encodings])


class Gigatoken:
    """gigatoken: byte-level BPE at hundreds of MB/s."""

    name = "gigatoken"

    def __init__(self, tokenizer: Tokenizer) -> None:
        import gigatoken

        self._module = gigatoken
        described = json.loads(tokenizer.to_str())
        # It does not know this normalizer, so it gets what comes out of it.
        lowers = (described.get("normalizer") or {}).get("type") == "Lowercase"
        self._normalizer = tokenizer.normalizer if lowers else None
        self._added = [added["content"] for added in described.get("added_tokens", [])] if lowers else []
        # Its tables of Unicode may be of another year.
        self._forms = bool(described.get("normalizer")) and not lowers
        definition = {**described, "normalizer": None} if lowers else described
        self.picky = self._forms or bool(self._added)
        self._tokenizer = gigatoken.Tokenizer.from_json(json.dumps(definition).encode())

    def sure(self, text: str) -> bool:
        if self._forms and not text.isascii() and not is_assigned(text):
            return False
        # Special tokens are looked for before the text is normalized.
        return not any(added in text for added in self._added)

    def encode(self, texts: Sequence[str], blob: bytes) -> Flat:
        if self._normalizer is not None:
            blob = SEPARATOR.join([lowered(text, self._normalizer).encode() for text in texts])
        # It passes over empty documents.
        filled = np.array([bool(text) for text in texts], dtype=bool)
        source = self._module.BytesSource([blob], separator=SEPARATOR)
        layout: Any = self._tokenizer.encode_batch(source, parallel=False).layout
        found = np.asarray(layout.offsets.data)
        if len(found) != filled.sum() + 1:
            raise ValueError(f"gigatoken gave {len(found) - 1} results for {filled.sum()} texts")
        return Flat(np.asarray(layout.content.data), found[np.concatenate([[0], np.cumsum(filled)])])


class Tokie:
    """tokie: WordPiece at about 50 MB/s on a core, byte-level BPE somewhat faster."""

    name = "tokie"

    def __init__(self, tokenizer: Tokenizer) -> None:
        import tokie

        definition = tokenizer.to_str()
        self.picky = family_of(definition) == "wordpiece"
        with TemporaryDirectory() as folder:
            path = Path(folder, "tokenizer.json")
            path.write_text(definition, encoding="utf-8")
            self._engine: Any = tokie.Tokenizer.from_json(str(path))

    def sure(self, text: str) -> bool:
        return not self.picky or is_plain(text)

    def encode(self, texts: Sequence[str], blob: bytes) -> Flat:
        ids, lengths = self._engine.encode_batch_flat(list(texts), False)
        return Flat(ids, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))


def is_assigned(text: str) -> bool:
    """Whether all characters are letters, marks, numbers or signs that Python's Unicode knows, or white space."""
    return is_plain(text) or "".join(text.split()).isprintable()


def lowered(text: str, normalizer: Any) -> str:
    """What the normalizer ``Lowercase`` makes of ``text``; by Python where that is the same and faster."""
    if text.isascii() or ("Σ" not in text and is_assigned(text)):
        return text.lower()
    return str(normalizer.normalize_str(text))


def is_plain(text: str) -> bool:
    """Whether tokie's WordPiece is known to agree on all characters of ``text``.

    It differs at unassigned, control, format and combining characters and at punctuation of some scripts; on
    assigned letters of European scripts and ordinary signs it did not in 65,000 tried combinations.
    """
    if text.isascii():
        return "\x7f" not in text
    return _plain().fullmatch(text) is not None


@cache
def _plain() -> re.Pattern[str]:
    codes = [*range(0xA0, 0x250), *range(0x391, 0x3CA), *range(0x400, 0x460), *range(0x2000, 0x2300)]
    kinds = {chr(code): unicodedata.category(chr(code)) for code in codes}
    # A capital sigma is lowered to one of two letters, by its place in the word.
    chosen = [c for c, kind in kinds.items() if (kind[0] in "LNPS" or kind == "Zs") and c != "Σ"]
    return re.compile(f"[\t\n\r -~{re.escape(''.join(chosen))}]*")


def joined(rows: Sequence[npt.NDArray[np.uint32]]) -> Flat:
    """One run of ids from those of each text."""
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return Flat(np.concatenate(rows) if rows else np.zeros(0, np.uint32), offsets)


def family_of(definition: str) -> Family:
    """What kind of tokenizer a ``tokenizer.json`` defines, as far as it matters to engines and spans."""
    described = json.loads(definition)
    model, splitter = described["model"], described.get("pre_tokenizer") or {}
    if model["type"] == "BPE" and _is_byte_level(splitter) and not model.get("byte_fallback"):
        return "byte-level"
    normalizer = described.get("normalizer") or {}
    bert = splitter.get("type") == "BertPreTokenizer" and normalizer.get("type") == "BertNormalizer"
    if model["type"] == "WordPiece" and bert and model.get("continuing_subword_prefix") == "##":
        return "wordpiece"
    return "other"


def _is_byte_level(splitter: dict[str, Any]) -> bool:
    parts = splitter.get("pretokenizers", [splitter])
    last = parts[-1] if parts else {}
    kinds = {part.get("type") for part in parts}
    return (
        last.get("type") == "ByteLevel"
        and not last.get("add_prefix_space")
        and kinds <= {"ByteLevel", "Split", "Digits"}
    )


def fastest(tokenizer: Tokenizer, sample: Sequence[str]) -> Engine:
    """The fastest engine that can be had and gives, for ``sample``, the ids of ``tokenizers``."""
    reference = Reference(tokenizer)
    candidates: dict[Family, tuple[Callable[[Tokenizer], Engine], ...]] = {
        "byte-level": (Gigatoken, Tokie),
        "wordpiece": (Tokie,),
        "other": (),
    }
    for make in candidates[family_of(tokenizer.to_str())]:
        try:
            engine = make(tokenizer)
        except (ImportError, ValueError, RuntimeError, OSError, KeyError) as fault:
            _log.info("%s cannot take this tokenizer: %s", make.__name__, fault)
            continue
        differs = first_difference(engine, reference, sample)
        if differs is None:
            return engine
        _log.warning("%s and tokenizers differ on %r; going on with tokenizers alone", engine.name, differs[:60])
        break
    return reference


def first_difference(engine: Engine, reference: Engine, texts: Sequence[str]) -> str | None:
    """The first of ``texts`` for which ``engine`` does not give the ids of ``reference``."""
    texts = [text for text in texts if engine.sure(text)]
    blob = SEPARATOR.join([text.encode() for text in texts])
    one, other = engine.encode(texts, blob), reference.encode(texts, blob)
    for n, text in enumerate(texts):
        ours = one.ids[one.offsets[n] : one.offsets[n + 1]]
        if not np.array_equal(ours, other.ids[other.offsets[n] : other.offsets[n + 1]]):
            return text
    return None


def quiet_threads() -> None:
    """One process, one thread: parallelism is over shards."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["RAYON_NUM_THREADS"] = "1"
