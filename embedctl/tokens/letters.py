"""Where WordPiece tokens begin: they stand for the letters of the normalized text, one after the other.

White space, and what normalization drops, is no letter. N texts, T tokens, B bytes of all texts in UTF-8 with one
separator after each, L letters.
"""

from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from embedctl.tokens.characters import Bytes, Places, non_ascii
from embedctl.tokens.engines import Flat, is_plain

# Beyond the plain characters of `is_plain`.
_WIDEST = 0x2300

_DROPPED, _SPACE, _INNER, _ALONE, _DOUBTFUL = range(5)


class Letters:
    """Finds tokens of a vocabulary in the texts that they were made of."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._widths = _widths(tokenizer)
        # Bytes beyond ASCII are no characters.
        self._of_bytes = self._widths[:128].tobytes() + bytes(128)
        self._lengths = _token_lengths(tokenizer)
        self._unknown = tokenizer.token_to_id(tokenizer.model.unk_token)
        self._added = [added.content for added in tokenizer.get_added_tokens_decoder().values()]

    def places(
        self, texts: Sequence[str], blob: bytes, bases: Places, sizes: Places, flat: Flat
    ) -> tuple[Places, npt.NDArray[np.bool_]]:
        """(T,) the byte at which each token begins; (N,) the texts in which the tokens were not found."""
        data = np.frombuffer(blob, np.uint8)
        lengths = self._lengths.take(flat.ids)
        self._measure_unknown(texts, flat, lengths)
        held = np.frombuffer(bytearray(blob.translate(self._of_bytes)), np.uint8)
        leads, codes = non_ascii(data)
        held[leads] = self._widths[np.minimum(codes, _WIDEST - 1)]
        before = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=before[1:])
        bounds = before[flat.offsets]
        places, last = _unfolded(held, bases + sizes) if held.max(initial=0) > 1 else _shifted(held, bases + sizes)
        first = np.concatenate([[0], last[:-1]]) if len(last) else last
        failed = np.diff(bounds) != last - first
        letter = before[:-1]
        if failed.any():
            letter = letter + np.repeat(first - bounds[:-1], np.diff(flat.offsets))
        return places.take(letter, mode="clip"), failed

    def _measure_unknown(self, texts: Sequence[str], flat: Flat, lengths: npt.NDArray[np.int32]) -> None:
        """A token for what is not in the vocabulary stands for a word; one after the other, in each text."""
        tokens = np.flatnonzero(flat.ids == self._unknown)
        owners = np.searchsorted(flat.offsets, tokens, side="right") - 1
        for n in np.unique(owners).tolist():
            text = texts[n]
            if not is_plain(text) or any(added in text for added in self._added):
                continue
            ends = self._word_ends(text)
            begin, letter = int(flat.offsets[n]), 0
            for token in tokens[owners == n].tolist():
                letter += int(lengths[begin:token].sum())
                at = bisect_right(ends, letter)
                if at == len(ends) or letter != (ends[at - 1] if at else 0):
                    break
                lengths[token] = ends[at] - letter
                begin = token

    def _word_ends(self, text: str) -> list[int]:
        """The number of letters up to the end of each word of a plain text; none if that is not known."""
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        kinds = self._kinds[codes]
        if (kinds == _DOUBTFUL).any():
            return []
        alone = kinds == _ALONE
        words = np.cumsum((kinds == _SPACE) | alone)
        words[1:] += np.cumsum(alone[:-1])
        of_letters = np.repeat(words, self._widths[codes])
        ends = np.flatnonzero(of_letters[1:] != of_letters[:-1]) + 1
        return [*ends.tolist(), len(of_letters)]

    @cached_property
    def _kinds(self) -> npt.NDArray[np.uint8]:
        """What each character is to a word: part of one, one by itself, or what lies between them."""
        kinds = np.zeros(_WIDEST, dtype=np.uint8)
        for code in range(len(kinds)):
            normal = self._tokenizer.normalizer.normalize_str(chr(code))
            pieces = [piece for piece, _ in self._tokenizer.pre_tokenizer.pre_tokenize_str(f"a{normal}a")]
            if not normal:
                kinds[code] = _DROPPED
            elif normal.isspace():
                kinds[code] = _SPACE
            elif pieces == [f"a{normal}a"]:
                kinds[code] = _INNER
            else:
                kinds[code] = _ALONE if pieces == ["a", normal, "a"] else _DOUBTFUL
        return kinds


def _unfolded(held: Bytes, ends: Places) -> tuple[Places, Places]:
    """(L,) the byte of each letter, and one more; (N,) the letters up to the end of each text.

    held: (B,) the letters of each byte
    ends: (N,) where the separators are
    """
    letters = np.repeat(np.arange(len(held)), held)
    return np.append(letters, 0), np.searchsorted(letters, ends)


def _shifted(held: Bytes, ends: Places) -> tuple[Places, Places]:
    """The same where no byte holds more than one letter: all that lies between letters shifts those after it."""
    there = held.view(np.bool_)
    changes = np.flatnonzero(there[1:] != there[:-1]) + 1
    if len(there) and not there[0]:
        changes = np.append(0, changes)
    # The last separator ends the last gap.
    gap_begins, gap_ends = changes[0::2], np.append(changes[1::2], len(held))
    gaps = gap_ends - gap_begins
    skipped = np.cumsum(gaps)
    letter = gap_begins - (skipped - gaps)
    places = np.ones(len(held) - int(gaps.sum()) + 1, dtype=np.int64)
    places[0] = 0
    places[letter] += gaps
    np.cumsum(places, out=places)
    return places, letter[np.searchsorted(gap_begins, ends, side="right") - 1]


def _token_lengths(tokenizer: Tokenizer) -> npt.NDArray[np.int32]:
    """(V,) the letters that a token stands for; 0 for those that stand for anything."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    lengths = np.zeros(max(vocabulary.values()) + 1, dtype=np.int32)
    for token, number in vocabulary.items():
        lengths[number] = len(token.removeprefix("##"))
    lengths[[*tokenizer.get_added_tokens_decoder()]] = 0
    return lengths


def _widths(tokenizer: Tokenizer) -> npt.NDArray[np.uint8]:
    """For each character how many letters are left of it after normalization."""
    widths = np.zeros(_WIDEST, dtype=np.uint8)
    for code in range(len(widths)):
        normal: str = tokenizer.normalizer.normalize_str(chr(code))
        widths[code] = sum(not c.isspace() for c in normal)
    return widths
