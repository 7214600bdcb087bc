"""What the tokens of a byte-level vocabulary are made of, as tables. V tokens."""

import numpy as np
from tokenizers import Tokenizer

from embedctl.tokens import boundaries


class Spelling:
    """lengths: (V,) int32, the bytes of each token; marks: (V,) uint8, ``boundaries.LEADS`` … of each token."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        size = max(vocabulary.values()) + 1
        self.lengths = np.zeros(size, dtype=np.int32)
        self.marks = np.zeros(size, dtype=np.uint8)
        added = {number: token.content for number, token in tokenizer.get_added_tokens_decoder().items()}
        learnt = {number: token for token, number in vocabulary.items() if token and number not in added}
        # Their letters stand for bytes; those of added tokens for themselves.
        text = "".join(learnt.values()).translate(_BYTES)
        self._set([*learnt], [*map(len, learnt.values())], text.encode("latin-1", "replace"))
        contents = {number: content.encode() for number, content in added.items() if content}
        self._set([*contents], [*map(len, contents.values())], b"".join(contents.values()))

    def _set(self, numbers: list[int], lengths: list[int], joined: bytes) -> None:
        if numbers:
            self.lengths[numbers] = lengths
            self.marks[numbers] = boundaries.marks(np.frombuffer(joined, np.uint8), np.array(lengths))


def _letters() -> dict[int, int]:
    """The code point of the letter that stands for each byte, and the byte; as GPT-2 has it."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {**{byte: byte for byte in printable}, **{256 + n: byte for n, byte in enumerate(others)}}


_BYTES = _letters()
