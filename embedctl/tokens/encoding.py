"""Texts to token ids with the place of each token in its text.

N texts, T tokens, B bytes of all texts in UTF-8 with one separator after each.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from embedctl.tokens import native
from embedctl.tokens.characters import Bytes, first_bytes, to_bytes
from embedctl.tokens.engines import (
    Engine,
    Flat,
    Ids,
    Offsets,
    family_of,
    is_plain,
    joined,
    lowered,
    outline,
)
from embedctl.tokens.letters import Letters
from embedctl.tokens.spelling import byte_lengths
from embedctl.tokens.texts import SEPARATOR, in_one

# Normalizers after which the tokens of a text can still be found in it: always, or where they change nothing.
_MILD: tuple[set[str], ...] = (set(), {"Lowercase"}, {"NFC"})


@dataclass(frozen=True, slots=True)
class Encoded:
    """N texts as one run of T tokens.

    ids:       (T,) uint32, without special tokens around each text
    offsets:   (N + 1,) text n has the tokens ``offsets[n]`` to ``offsets[n + 1]``
    blob:      the N texts in UTF-8, each followed by ``SEPARATOR``
    data:      (B,) the same as numbers
    bases:     (N,) where each text begins in ``data``
    sizes:     (N,) the bytes of each text
    inner:     the bytes of ``data`` with which no character begins
    starts:    (T,) where in ``data`` each token begins; byte-level tokens may begin inside a character
    by_engine: whether all texts were encoded by the engine, none by ``tokenizers`` in its stead
    """

    ids: Ids
    offsets: Offsets
    blob: bytes
    data: Bytes
    bases: Offsets
    sizes: Offsets
    inner: Offsets
    starts: Offsets
    by_engine: bool


class TextEncoder:
    """Encodes by ``engine`` where its ids and places are sure to be right, and by ``tokenizers`` elsewhere."""

    def __init__(self, tokenizer: Tokenizer, engine: Engine) -> None:
        self._tokenizer = tokenizer
        self.engine = engine
        self._family = family_of(tokenizer)
        self._normalizer = _normalizer(outline(tokenizer)["normalizer"])
        self._picky = engine.picky or bool(self._normalizer)
        self._fast = self._family == "wordpiece" or (self._family == "byte-level" and self._normalizer in _MILD)
        self._letters = Letters(tokenizer) if self._family == "wordpiece" else None
        self._lengths = byte_lengths(tokenizer) if self._fast and self._letters is None else None

    @property
    def spans_hold_white_space(self) -> bool:
        """Whether white space belongs to the token after it, as in byte-level vocabularies."""
        return self._family != "wordpiece"

    @property
    def cuts_between_words_are_exact(self) -> bool:
        """Whether a text cut between words encodes to the same ids as it did within the whole."""
        return self._fast

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Token ids and places of all texts."""
        blob = in_one(texts)
        data = np.frombuffer(blob, np.uint8)
        ends, inner = _marks(data, len(texts))
        bases = np.concatenate([[0], ends[:-1] + 1]) if len(texts) else _NO_PLACES
        sizes = ends - bases
        if self._letters is None and self._lengths is None:
            offsets = np.zeros(len(texts) + 1, np.int64)
            nothing = Encoded(_NO_IDS, offsets, blob, data, bases, sizes, inner, _NO_PLACES, by_engine=False)
            return self._merged(texts, nothing, [*range(len(texts))])
        flat = self.engine.encode(texts, blob)
        if self._lengths is not None:
            starts, failed = _places_of_bytes(bases, sizes, flat, self._lengths)
            if self._picky:
                failed |= np.array([not self._sure(text) for text in texts], dtype=bool)
        elif self._letters is not None:
            starts, failed = self._letters.places(texts, blob, bases, sizes, flat)
            # Texts of ASCII are plain but for one character.
            strange = np.flatnonzero((data >= 0x7F) & (data != SEPARATOR[0]))
            doubtful = np.unique(np.searchsorted(ends, strange)).tolist()
            failed[[n for n in doubtful if not is_plain(texts[n])]] = True
        fine = not failed.any()
        encoded = Encoded(flat.ids, flat.offsets, blob, data, bases, sizes, inner, starts, by_engine=fine)
        return encoded if encoded.by_engine else self._merged(texts, encoded, np.flatnonzero(failed).tolist())

    def _merged(self, texts: Sequence[str], fast: Encoded, unsure: list[int]) -> Encoded:
        """The result of the engine, with the texts that it is not sure of done by ``tokenizers``."""
        slices = list(zip(fast.offsets[:-1].tolist(), fast.offsets[1:].tolist(), strict=True))
        ids = [fast.ids[a:b] for a, b in slices]
        starts = [fast.starts[a:b] for a, b in slices]
        encodings = self._tokenizer.encode_batch([texts[n] for n in unsure], add_special_tokens=False)
        for n, encoding in zip(unsure, encodings, strict=True):
            places = np.array([start for start, _ in encoding.offsets], dtype=np.int64)
            ids[n] = np.array(encoding.ids, dtype=np.uint32)
            starts[n] = to_bytes(texts[n].encode(), places) + fast.bases[n]
        flat = joined(ids)
        return replace(fast, ids=flat.ids, offsets=flat.offsets, starts=np.concatenate([_NO_PLACES, *starts]))

    def _sure(self, text: str) -> bool:
        """Whether the engine may have this text, and its tokens can be found again in it."""
        if not self.engine.sure(text):
            return False
        if text.isascii() or not self._normalizer:
            return True
        if self._normalizer == {"Lowercase"}:
            normal, raw = lowered(text, self._tokenizer.normalizer).encode(), text.encode()
            return len(normal) == len(raw) and np.array_equal(first_bytes(normal), first_bytes(raw))
        return unicodedata.is_normalized("NFC", text)


def _marks(data: Bytes, texts: int) -> tuple[Offsets, Offsets]:
    """(N,) where each text ends, and all bytes with which no character begins, 0x80 to 0xBF."""
    library = native.library()
    if library is not None:
        return native.marks(library, data, texts)
    return np.flatnonzero(data == SEPARATOR[0]), np.flatnonzero(data.view(np.int8) < -64)


def _places_of_bytes(
    bases: Offsets, sizes: Offsets, flat: Flat, lengths: npt.NDArray[np.int32]
) -> tuple[Offsets, npt.NDArray[np.bool_]]:
    """Byte-level tokens stand for all bytes of a text, one after the other; a separator follows each text.

    lengths: of each token of the vocabulary
    """
    library = native.library()
    if library is not None:
        return native.starts_of(library, flat.ids, flat.offsets, lengths, bases, sizes)
    # An id that is in no vocabulary makes the sum come out wrong.
    lengths = np.append(lengths, np.int32(2**24)).take(flat.ids, mode="clip")
    bounds = flat.offsets[1:-1]
    places = np.zeros(len(lengths) + 1, dtype=np.int64)
    places[1:] = lengths
    np.add.at(places, bounds, 1)
    np.cumsum(places, out=places)
    separators = np.searchsorted(bounds, flat.offsets, side="right")
    failed = np.diff(places[flat.offsets] - separators) != sizes
    starts = places[:-1]
    if failed.any():
        # The texts after one that failed are where they are all the same.
        starts += np.repeat(bases - places[flat.offsets[:-1]], np.diff(flat.offsets))
    return starts, failed


_NO_IDS = np.zeros(0, np.uint32)
_NO_PLACES = np.zeros(0, np.int64)


def _normalizer(described: dict[str, Any]) -> set[str]:
    """The kinds of normalizers that a tokenizer applies."""
    return {part["type"] for part in described.get("normalizers", [described] if described else [])}
