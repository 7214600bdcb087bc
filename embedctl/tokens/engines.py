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
from tokenizers import Tokenizer, models

from embedctl.tokens.texts import SEPARATOR, in_one

_log = logging.getLogger(__name__)

Ids = npt.NDArray[np.uint32]
Offsets = npt.NDArray[np.int64]
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
        """The ids of all texts; ``blob`` is what :func:`in_one` makes of them."""


class Reference:
    """``tokenizers`` itself: about 4 MB/s on a core."""

    name = "tokenizers"
    picky = False

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def sure(self, text: str) -> bool:
        return True

    def encode(self, texts: Sequence[str], blob: bytes) -> Flat:
        encodings = self._tokenizer.encode_batch_fast([*texts], add_special_tokens=False)
        return joined([np.array(encoding.ids, dtype=np.uint32) for encoding in encodings])


# No text is likely to hold it: two characters that Unicode will never assign.
_BETWEEN: dict[str, Any] = {
    "content": "\U0010fffe\U0010ffff",
    **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False),
    "special": True,
}


class Gigatoken:
    """gigatoken: byte-level BPE at hundreds of MB/s."""

    name = "gigatoken"

    def __init__(self, tokenizer: Tokenizer) -> None:
        described, model = _taken_apart(tokenizer)
        # It does not know this normalizer, so it gets what comes out of it.
        lowers = (described["normalizer"] or {}).get("type") == "Lowercase"
        self._normalizer = tokenizer.normalizer if lowers else None
        self._added = [added["content"] for added in described["added_tokens"]] if lowers else []
        # Its tables of Unicode may be of another year.
        self._forms = bool(described["normalizer"]) and not lowers
        self.picky = self._forms or bool(self._added)
        self._between = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        self._encode = _encoding(described, model, [{**_BETWEEN, "id": self._between}])
        # Made when it is needed, which is next to never.
        self._encode_alone = cache(lambda: _encoding(*_taken_apart(tokenizer), []))

    def sure(self, text: str) -> bool:
        if self._forms and not text.isascii() and not is_assigned(text):
            return False
        # Special tokens are looked for before the text is normalized.
        return not any(added in text for added in self._added)

    def encode(self, texts: Sequence[str], blob: bytes) -> Flat:
        # All texts as one, with a special token after each, which takes less time than its way for many texts.
        if self._normalizer is not None:
            texts = [lowered(text, self._normalizer) for text in texts]
            blob = in_one(texts)
        found = self._encode(blob.replace(SEPARATOR, _BETWEEN["content"].encode()))
        between = found == self._between
        ends = np.flatnonzero(between)
        if len(ends) != len(texts):
            # Some text holds what is put between texts.
            return joined([self._encode_alone()(text) for text in texts])
        offsets = np.zeros(len(texts) + 1, np.int64)
        offsets[1:] = ends - np.arange(len(ends))
        return Flat(found[~between], offsets)


def _taken_apart(tokenizer: Tokenizer) -> tuple[dict[str, Any], str]:
    """A definition without its model, and that, which is most of it, as it is written."""
    head, model = tokenizer.to_str().split('"model":', 1)
    return json.loads(head.rstrip(", ") + "}"), model


def _encoding(described: dict[str, Any], model: str, added: list[dict[str, Any]]) -> Any:
    """What gigatoken makes of a text, with some more special tokens."""
    import gigatoken

    lowers = (described["normalizer"] or {}).get("type") == "Lowercase"
    described = {
        **described,
        "normalizer": None if lowers else described["normalizer"],
        "added_tokens": described["added_tokens"] + added,
    }
    definition = f'{json.dumps(described)[:-1]}, "model":{model}'
    return gigatoken.Tokenizer.from_json(definition.encode()).encode


class Tokie:
    """tokie: WordPiece at about 50 MB/s on a core, byte-level BPE somewhat faster."""

    name = "tokie"

    def __init__(self, tokenizer: Tokenizer) -> None:
        import tokie

        self.picky = family_of(tokenizer) == "wordpiece"
        with TemporaryDirectory() as folder:
            path = Path(folder, "tokenizer.json")
            path.write_text(tokenizer.to_str(), encoding="utf-8")
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


def outline(tokenizer: Tokenizer) -> dict[str, Any]:
    """The normalizer and the pre-tokenizer as a ``tokenizer.json`` has them; the model would take a while to read."""
    bare = Tokenizer(models.BPE())
    if tokenizer.normalizer is not None:
        bare.normalizer = tokenizer.normalizer
    if tokenizer.pre_tokenizer is not None:
        bare.pre_tokenizer = tokenizer.pre_tokenizer
    described: dict[str, Any] = json.loads(bare.to_str())
    return {name: described[name] or {} for name in ("normalizer", "pre_tokenizer")}


def family_of(tokenizer: Tokenizer) -> Family:
    """What kind of tokenizer this is, as far as it matters to engines and spans."""
    described, model = outline(tokenizer), tokenizer.model
    normalizer, splitter = described["normalizer"], described["pre_tokenizer"]
    if isinstance(model, models.BPE) and _is_byte_level(splitter) and not model.byte_fallback:
        return "byte-level"
    bert = splitter.get("type") == "BertPreTokenizer" and normalizer.get("type") == "BertNormalizer"
    if isinstance(model, models.WordPiece) and bert and model.continuing_subword_prefix == "##":
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
    for make in candidates[family_of(tokenizer)]:
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
    blob = in_one(texts)
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
