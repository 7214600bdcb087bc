"""What the tokens of a byte-level vocabulary are made of."""

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer


def byte_lengths(tokenizer: Tokenizer) -> npt.NDArray[np.int32]:
    """(V,) the bytes of each token; 0 for numbers that are none."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    lengths = np.zeros(max(vocabulary.values()) + 1, dtype=np.int32)
    # Each letter of a learnt token stands for a byte, as GPT-2 has it; those of added tokens for themselves.
    lengths[[*vocabulary.values()]] = [*map(len, vocabulary)]
    for number, token in tokenizer.get_added_tokens_decoder().items():
        lengths[number] = len(token.content.encode())
    return lengths
