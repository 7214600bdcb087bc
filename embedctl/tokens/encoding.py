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

from embedctl.tokens.engines import (
    SEPARATOR,
    Engine,
    Flat,
    Ids,
    Offsets,
    family_of,
    in_one,
    is_plain,
    joined,
    lowered,
    outline,
)

Bytes = npt.NDArray[np.uint8]

# Normalizers after which the tokens of a text can still be found in it: always, or where they change nothing.
_MILD: tuple[set[str], ...] = (set(), {"Lowercase"}, {"NFC"})
# Beyond the plain characters of `is_plain`, which WordPiece texts are confined to.
_WIDEST = 0x2300


@dataclass(frozen=True, slots=True)
class Encoded:
    """N texts as one run of T tokens.

    ids:       (T,) uint32, without special tokens around each text
    offsets:   (N + 1,) text n has the tokens ``offsets[n]`` to ``offsets[n + 1]``
    blob:      the N texts in UTF-8, each followed by ``SEPARATOR``
    data:      (B,) the same as numbers
    bases:     (N,) where each text begins in ``data``
    sizes:     (N,) the bytes of each text
    starts:    (T,) where in ``data`` each token begins; byte-level tokens may begin inside a character
    """

    ids: Ids
    offsets: Offsets
    blob: bytes
    data: Bytes
    bases: Offsets
    sizes: Offsets
    starts: Offsets


class TextEncoder:
    """Encodes by ``engine`` where its ids and places are sure to be right, and by ``tokenizers`` elsewhere."""

    def __init__(self, tokenizer: Tokenizer, engine: Engine) -> None:
        self._tokenizer = tokenizer
        self.engine = engine
        self._family = family_of(tokenizer)
        self._normalizer = _normalizer(outline(tokenizer)["normalizer"])
        self._picky = engine.picky or self._family == "wordpiece" or bool(self._normalizer)
        self._fast = self._family == "wordpiece" or (self._family == "byte-level" and self._normalizer in _MILD)
        self._lengths = _token_lengths(tokenizer, byte_level=self._family == "byte-level") if self._fast else None
        self._widths = _widths(tokenizer) if self._family == "wordpiece" else None

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
        ends = np.flatnonzero(data == SEPARATOR[0])
        bases = np.concatenate([[0], ends[:-1] + 1]) if len(texts) else _NO_PLACES
        sizes = ends - bases
        if self._lengths is None:
            nothing = Encoded(_NO_IDS, np.zeros(len(texts) + 1, np.int64), blob, data, bases, sizes, _NO_PLACES)
            return self._merged(texts, nothing, [*range(len(texts))])
        flat = self.engine.encode(texts, blob)
        lengths = self._lengths.take(flat.ids)
        if self._widths is None:
            starts, failed = _places_of_bytes(bases, sizes, flat, lengths)
        else:
            starts, failed = self._places_of_letters(data, bases, sizes, flat, lengths)
        encoded = Encoded(flat.ids, flat.offsets, blob, data, bases, sizes, starts)
        unsure = np.flatnonzero(failed).tolist()
        if self._picky:
            unsure = [n for n, text in enumerate(texts) if failed[n] or not self._sure(text)]
        return self._merged(texts, encoded, unsure) if unsure else encoded

    def _merged(self, texts: Sequence[str], fast: Encoded, unsure: list[int]) -> Encoded:
        """The result of the engine, with the texts that it is not sure of done by ``tokenizers``."""
        slices = list(zip(fast.offsets[:-1].tolist(), fast.offsets[1:].tolist(), strict=True))
        ids = [fast.ids[a:b] for a, b in slices]
        starts = [fast.starts[a:b] for a, b in slices]
        encodings = self._tokenizer.encode_batch([texts[n] for n in unsure], add_special_tokens=False)
        for n, encoding in zip(unsure, encodings, strict=True):
            places = np.array([start for start, _ in encoding.offsets], dtype=np.int64)
            ids[n] = np.array(encoding.ids, dtype=np.uint32)
            starts[n] = _to_bytes(texts[n].encode(), places) + fast.bases[n]
        flat = joined(ids)
        return replace(fast, ids=flat.ids, offsets=flat.offsets, starts=np.concatenate([_NO_PLACES, *starts]))

    def _sure(self, text: str) -> bool:
        """Whether the engine may have this text, and its tokens can be found again in it."""
        if not self.engine.sure(text):
            return False
        if self._widths is not None:
            return is_plain(text)
        if text.isascii() or not self._normalizer:
            return True
        if self._normalizer == {"Lowercase"}:
            normal, raw = lowered(text, self._tokenizer.normalizer).encode(), text.encode()
            return len(normal) == len(raw) and np.array_equal(_first_bytes(normal), _first_bytes(raw))
        return unicodedata.is_normalized("NFC", text)

    def _places_of_letters(
        self, data: Bytes, bases: Offsets, sizes: Offsets, flat: Flat, lengths: npt.NDArray[np.int32]
    ) -> tuple[Offsets, npt.NDArray[np.bool_]]:
        """WordPiece tokens stand for the letters of the normalized text, one after the other, without white space."""
        assert self._widths is not None
        widths = self._widths[:256][data]
        leads, codes = non_ascii(data)
        widths[leads] = self._widths[np.minimum(codes, _WIDEST - 1)]
        letters = np.repeat(np.arange(len(data)), widths) if widths.max(initial=0) > 1 else np.flatnonzero(widths)
        first, last = np.searchsorted(letters, bases), np.searchsorted(letters, bases + sizes)
        # A token for what is not in the vocabulary stands for an unknown number of letters.
        unknown = np.diff(_sums((lengths == 0).astype(np.int32), flat.offsets)[1]) > 0
        before, at_bounds = _sums(lengths, flat.offsets)
        failed = (np.diff(at_bounds) != last - first) | unknown
        letter = before + np.repeat(first - at_bounds[:-1], np.diff(flat.offsets))
        return np.append(letters, 0)[np.minimum(letter, len(letters))], failed


def _places_of_bytes(
    bases: Offsets, sizes: Offsets, flat: Flat, lengths: npt.NDArray[np.int32]
) -> tuple[Offsets, npt.NDArray[np.bool_]]:
    """Byte-level tokens stand for all bytes of a text, one after the other; a separator follows each text."""
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


def _sums(lengths: npt.NDArray[np.int32], offsets: Offsets) -> tuple[Offsets, Offsets]:
    """(T,) the sum of all lengths before each token; (N + 1,) the same at the bounds of the texts."""
    sums = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=sums[1:])
    return sums[:-1], sums[offsets]


_NO_IDS = np.zeros(0, np.uint32)
_NO_PLACES = np.zeros(0, np.int64)


def non_ascii(data: Bytes) -> tuple[Offsets, Offsets]:
    """Where in UTF-8 the characters beyond ASCII begin, and their code points; separators are none."""
    leads = np.flatnonzero((data >= 0xC2) & (data < 0xF8))
    return leads, code_points(data, leads)


def code_points(data: Bytes, leads: Offsets) -> Offsets:
    """The code points of the characters beyond ASCII that begin at ``leads``."""
    first = data[leads].astype(np.int64)
    more = [data[np.minimum(leads + step, len(data) - 1)].astype(np.int64) & 0x3F for step in (1, 2, 3)]
    two, three = (first & 0x1F) << 6 | more[0], (first & 0x0F) << 12 | more[0] << 6 | more[1]
    four = (first & 0x07) << 18 | more[0] << 12 | more[1] << 6 | more[2]
    return np.where(first < 0xE0, two, np.where(first < 0xF0, three, four))


def _to_bytes(document: bytes, places: Offsets) -> Offsets:
    """From places in characters to places in bytes."""
    firsts = np.append(np.flatnonzero(_first_bytes(document)), len(document))
    return firsts[places]


def _first_bytes(document: bytes) -> npt.NDArray[np.bool_]:
    """For each byte whether a character begins with it."""
    first: npt.NDArray[np.bool_] = (np.frombuffer(document, np.uint8) & 0xC0) != 0x80
    return first


def _normalizer(described: dict[str, Any]) -> set[str]:
    """The kinds of normalizers that a tokenizer applies."""
    return {part["type"] for part in described.get("normalizers", [described] if described else [])}


def _token_lengths(tokenizer: Tokenizer, *, byte_level: bool) -> npt.NDArray[np.int32]:
    """(V,) bytes, or letters, that a token stands for; 0 for those of WordPiece that stand for anything."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    lengths = np.zeros(max(vocabulary.values()) + 1, dtype=np.int32)
    for token, number in vocabulary.items():
        lengths[number] = len(token) if byte_level else len(token.removeprefix("##"))
    for number, added in tokenizer.get_added_tokens_decoder().items():
        lengths[number] = len(added.content.encode()) if byte_level else 0
    return lengths


def _widths(tokenizer: Tokenizer) -> npt.NDArray[np.uint8]:
    """For each character how many letters are left of it after normalization; 0 for bytes beyond ASCII."""
    widths = np.zeros(_WIDEST, dtype=np.uint8)
    for code in range(len(widths)):
        normal: str = tokenizer.normalizer.normalize_str(chr(code))
        widths[code] = sum(not c.isspace() for c in normal)
    return widths
