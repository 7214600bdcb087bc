"""The tokenizer: trained on the corpus or given; ``tokenizer.json`` is its only truth."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from embedctl.errors import ArtifactError, ConfigError
from embedctl.settings import TokensSettings

PAD, UNKNOWN, CLS, SEP, MASK = SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True, slots=True)
class Frame:
    """The special ids that the tokenizer puts before and after a text."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    @property
    def count(self) -> int:
        return len(self.prefix) + len(self.suffix)

    def around(self, ids: npt.NDArray[np.unsignedinteger[Any]]) -> npt.NDArray[np.unsignedinteger[Any]]:
        """``ids`` of a text with the special ones."""
        return np.concatenate([self.prefix, ids, self.suffix]).astype(ids.dtype)


def train(texts: Callable[[], Iterable[str]], settings: TokensSettings) -> Tokenizer:
    """Learn a vocabulary; the same texts in the same order give the same ids.

    texts: called once for each pass over them
    """
    tokenizer = _train_bpe(texts, settings) if settings.algorithm == "bpe" else _train_wordpiece(texts, settings)
    ids = {name: tokenizer.token_to_id(name) for name in (CLS, SEP)}
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{CLS} $A {SEP}", pair=f"{CLS} $A {SEP} $B:1 {SEP}:1", special_tokens=list(ids.items())
    )
    return tokenizer


def frame_of(tokenizer: Tokenizer, prompt: str = "") -> Frame:
    """Find the special ids by looking at what encoding adds to a text; those of a prompt go before the text."""
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    full = tokenizer.encode("a").ids
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            said = tokenizer.encode(prompt, add_special_tokens=False).ids
            if tokenizer.encode(f"{prompt}a", add_special_tokens=False).ids != [*said, *bare]:
                raise ConfigError(
                    f"the prompt {prompt!r} becomes other tokens before a text than alone",
                    hint="end tokens.query_prompt and tokens.passage_prompt with ':' and no space",
                )
            return Frame((*full[:start], *said), tuple(full[start + len(bare) :]))
    raise ArtifactError("this tokenizer changes a text when it adds its special tokens")


def encode_query(tokenizer: Tokenizer, text: str, frame: Frame, max_tokens: int) -> list[int]:
    """Ids of a query with its special tokens, cut to ``max_tokens``."""
    bare = tokenizer.encode(text, add_special_tokens=False).ids
    return [*frame.prefix, *bare[: max_tokens - frame.count], *frame.suffix]


def _train_bpe(texts: Callable[[], Iterable[str]], settings: TokensSettings) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    if settings.lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary_size,
        min_frequency=2,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    return tokenizer


def _train_wordpiece(texts: Callable[[], Iterable[str]], settings: TokensSettings) -> Tokenizer:
    normalizer = normalizers.BertNormalizer(lowercase=settings.lowercase)
    alphabet: set[str] = set()
    for text in texts():
        alphabet.update(normalizer.normalize_str(text))
    # The trainer numbers the letters inside words as it meets them, in another order each time, and breaks ties
    # between pieces by those numbers (tokenizers#1794). Named beforehand they have the same numbers every time.
    inner = [f"##{letter}" for letter in sorted(alphabet) if not letter.isspace()]
    trainer = trainers.WordPieceTrainer(
        vocab_size=settings.vocabulary_size, min_frequency=2, special_tokens=[*SPECIALS, *inner], show_progress=False
    )
    learner = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    learner.normalizer, learner.pre_tokenizer = normalizer, pre_tokenizers.BertPreTokenizer()
    learner.train_from_iterator(texts(), trainer)
    # A tokenizer of its own for the result, in which only the special tokens are special.
    pieces = sorted(set(learner.get_vocab()) - set(SPECIALS))
    vocabulary = {piece: number for number, piece in enumerate([*SPECIALS, *pieces])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(list(SPECIALS))
    return tokenizer
