"""Texts to token ids with the place of each token in its text.

N texts, T tokens, C characters of all texts with one separator between neighbours.
"""

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from embedctl.tokens.engines import Engine, Flat, Ids, Offsets, family_of, is_plain, joined, lowered

_SEPARATOR = "\n"
# Normalizers after which the tokens of a text can still be found in it: always, or where they change nothing.
_MILD: tuple[set[str], ...] = (set(), {"Lowercase"}, {"NFC"})


@dataclass(frozen=True, slots=True)
class Encoded:
    """N texts as one run of T tokens.

    ids:        (T,) uint32, without special tokens around each text
    offsets:    (N + 1,) text n has the tokens ``offsets[n]`` to ``offsets[n + 1]``
    characters: (C,) code points, uint8 if all are ASCII, else uint32
    bases:      (N,) where each text begins in ``characters``
    starts:     (T,) where in ``characters`` each token begins
    whole:      (T,) whether it begins with a whole character (byte-level tokens may not)
    """

    ids: Ids
    offsets: Offsets
    characters: npt.NDArray[np.unsignedinteger[Any]]
    bases: Offsets
    starts: Offsets
    whole: npt.NDArray[np.bool_]


class TextEncoder:
    """Encodes by ``engine`` where its ids and places are sure to be right, and by ``tokenizers`` elsewhere."""

    def __init__(self, tokenizer: Tokenizer, engine: Engine) -> None:
        definition = tokenizer.to_str()
        self._tokenizer = tokenizer
        self.engine = engine
        self._family = family_of(definition)
        described = json.loads(definition)
        self._normalizer = _normalizer(described)
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
        whole = _SEPARATOR.join(texts)
        ascii_only = whole.isascii()
        characters: npt.NDArray[np.unsignedinteger[Any]] = (
            np.frombuffer(whole.encode(), np.uint8) if ascii_only else np.frombuffer(whole.encode("utf-32-le"), "<u4")
        )
        lengths = np.array([len(text) for text in texts], dtype=np.int64)
        bases = np.cumsum(lengths + 1) - (lengths + 1)
        sure = [n for n, text in enumerate(texts) if self._sure(text)]
        chosen = [texts[n] for n in sure]
        flat = self.engine.encode(chosen)
        places, whole_tokens, failed = self._places(flat, chosen)
        unsure = sorted({*range(len(texts))} - {*sure} | {sure[n] for n in failed})
        if not unsure:
            starts = places + np.repeat(bases[sure], np.diff(flat.offsets))
            return Encoded(flat.ids, flat.offsets, characters, bases, starts, whole_tokens)
        return self._merged(texts, characters, bases, sure, flat, places, whole_tokens, unsure)

    def _merged(
        self,
        texts: Sequence[str],
        characters: npt.NDArray[np.unsignedinteger[Any]],
        bases: Offsets,
        sure: list[int],
        flat: Flat,
        places: Offsets,
        whole: npt.NDArray[np.bool_],
        unsure: list[int],
    ) -> Encoded:
        """The result of the engine, with the texts that it is not sure of done by ``tokenizers``."""
        rows: dict[int, tuple[Ids, Offsets, npt.NDArray[np.bool_]]] = {}
        for n, (a, b) in zip(sure, zip(flat.offsets[:-1], flat.offsets[1:], strict=True), strict=True):
            rows[n] = flat.ids[a:b], places[a:b], whole[a:b]
        encodings = self._tokenizer.encode_batch([texts[n] for n in unsure], add_special_tokens=False)
        for n, encoding in zip(unsure, encodings, strict=True):
            starts = np.array([start for start, _ in encoding.offsets], dtype=np.int64)
            first = np.ones(len(starts), dtype=bool)
            first[1:] = starts[1:] > starts[:-1]
            rows[n] = np.array(encoding.ids, dtype=np.uint32), starts, first
        ordered = [rows[n] for n in range(len(texts))]
        ids = joined([row[0] for row in ordered])
        starts = np.concatenate([row[1] + base for row, base in zip(ordered, bases, strict=True)])
        return Encoded(ids.ids, ids.offsets, characters, bases, starts, np.concatenate([row[2] for row in ordered]))

    def _sure(self, text: str) -> bool:
        """Whether the engine may have this text, and its tokens can be found again in it."""
        if not self._fast or not self.engine.sure(text):
            return False
        if self._widths is not None:
            return is_plain(text)
        if text.isascii() or not self._normalizer:
            return True
        if self._normalizer == {"Lowercase"}:
            normal = lowered(text, self._tokenizer.normalizer)
            return len(normal) == len(text) and np.array_equal(_first_bytes(normal), _first_bytes(text))
        return unicodedata.is_normalized("NFC", text)

    def _places(self, flat: Flat, texts: list[str]) -> tuple[Offsets, npt.NDArray[np.bool_], list[int]]:
        """(T,) the character of its text where each token begins, and whether at its first byte; texts that failed."""
        if self._lengths is None:
            return np.zeros(0, np.int64), np.zeros(0, bool), []
        lengths = self._lengths[flat.ids]
        ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        before = ends[flat.offsets]
        totals, per_text = np.diff(before), np.diff(flat.offsets)
        within = ends[:-1] - np.repeat(before[:-1], per_text)
        if self._widths is not None:
            return self._places_of_letters(texts, totals, within, flat)
        sizes = np.array([_bytes(text) for text in texts], dtype=np.int64)
        failed = np.flatnonzero(totals != sizes).tolist()
        if all(text.isascii() for text in texts):
            return within, np.ones(len(within), bool), failed
        # From bytes to characters.
        first = _first_bytes("".join(texts))
        character = np.cumsum(first) - 1
        bases = np.cumsum(sizes) - sizes
        at = np.minimum(within + np.repeat(bases, per_text), max(len(first) - 1, 0))
        return character[at] - np.repeat(character[np.minimum(bases, len(first) - 1)], per_text), first[at], failed

    def _places_of_letters(
        self, texts: list[str], totals: Offsets, within: Offsets, flat: Flat
    ) -> tuple[Offsets, npt.NDArray[np.bool_], list[int]]:
        """WordPiece tokens stand for the letters of the normalized text, one after the other, without white space."""
        assert self._widths is not None
        per_text = np.diff(flat.offsets)
        codes = np.frombuffer("".join(texts).encode("utf-32-le"), "<u4")
        widths = self._widths[np.minimum(codes, len(self._widths) - 1)]
        ends = np.cumsum([0, *map(len, texts)])
        letters = np.concatenate([[0], np.cumsum(widths, dtype=np.int64)])[ends]
        failed = np.flatnonzero((totals != np.diff(letters)) | _has_unknown(flat, self._lengths)).tolist()
        letter = within + np.repeat(letters[:-1], per_text)
        source = np.append(np.repeat(np.arange(len(codes)), widths), 0)
        places = source[np.minimum(letter, len(source) - 1)] - np.repeat(ends[:-1], per_text)
        return places, np.ones(len(places), bool), failed


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _has_unknown(flat: Flat, lengths: Any) -> npt.NDArray[np.bool_]:
    """(N,) whether a text holds a token that stands for an unknown number of letters."""
    unknown = np.concatenate([[0], np.cumsum(lengths[flat.ids] == 0)])
    return np.diff(unknown[flat.offsets]) > 0


def _normalizer(described: dict[str, Any]) -> set[str]:
    """The kinds of normalizers that a tokenizer applies."""
    found = described.get("normalizer")
    if not found:
        return set()
    return {part["type"] for part in found.get("normalizers", [found])}


def _token_lengths(tokenizer: Tokenizer, *, byte_level: bool) -> npt.NDArray[np.int64]:
    """(V,) bytes, or letters, that a token stands for; 0 for those of WordPiece that stand for anything."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    lengths = np.zeros(max(vocabulary.values()) + 1, dtype=np.int64)
    for token, number in vocabulary.items():
        lengths[number] = len(token) if byte_level else len(token.removeprefix("##"))
    for number, added in tokenizer.get_added_tokens_decoder().items():
        lengths[number] = len(added.content.encode()) if byte_level else 0
    return lengths


def _widths(tokenizer: Tokenizer) -> npt.NDArray[np.int64]:
    """For each character how many letters are left of it after normalization."""
    widths = np.zeros(0x2300, dtype=np.int64)
    for code in range(len(widths)):
        normal: str = tokenizer.normalizer.normalize_str(chr(code))
        widths[code] = sum(not c.isspace() for c in normal)
    return widths


def _first_bytes(text: str) -> npt.NDArray[np.bool_]:
    """For each byte of the text whether a character begins with it."""
    first: npt.NDArray[np.bool_] = (np.frombuffer(text.encode(), np.uint8) & 0xC0) != 0x80
    return first
