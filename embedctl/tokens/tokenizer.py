"""The tokenizer: trained on the corpus or given; ``tokenizer.json`` is its only truth."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from embedctl.errors import ArtifactError, ConfigError
from embedctl.settings import TokensSettings

PAD, UNKNOWN, CLS, SEP, MASK = SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


Ids = npt.NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, slots=True)
class Frame:
    """What is put before and after a text.

    special:  ids that the tokenizer puts before
    said:     ids of the prompt, but for ``lead``
    suffix:   ids that the tokenizer puts after
    prompt:   what a text is read after
    lead:     the white space at its end, where a vocabulary has it belong to the word after it: it has no ids of its
              own, but is tokenized together with the text
    lead_ids: what it would become alone
    """

    special: tuple[int, ...]
    said: tuple[int, ...]
    suffix: tuple[int, ...]
    prompt: str = ""
    lead: str = ""
    lead_ids: tuple[int, ...] = ()

    @property
    def prefix(self) -> tuple[int, ...]:
        """All ids that stand before a text."""
        return (*self.special, *self.said)

    @property
    def count(self) -> int:
        return len(self.prefix) + len(self.suffix)

    @property
    def bare(self) -> "Frame":
        """The special ids alone, for a text that has its prompt already."""
        return Frame(self.special, (), self.suffix)

    def room(self, max_tokens: int, *, least: int, setting: str) -> int:
        """How many of ``max_tokens`` are left to a text; ``ConfigError`` if fewer than ``least``."""
        room = max_tokens - self.count - len(self.lead_ids)
        if room < least:
            raise ConfigError(
                f"{setting} = {max_tokens} leaves {max(room, 0)} tokens to a text after the prompt {self.prompt!r} and "
                f"the special tokens; {least} are needed",
                hint=f"raise {setting}, or shorten the prompt",
            )
        return room

    def around(self, ids: Ids) -> Ids:
        """``ids`` of a text with those that stand before and after it."""
        return np.concatenate([self.prefix, ids, self.suffix]).astype(ids.dtype)


@dataclass(frozen=True, slots=True)
class Framed:
    """``ids`` of N texts, uint32, with their prompt and the special ones; ``cut``: how many texts were too long."""

    ids: list[Ids]
    cut: int


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
    """Find the special ids by looking at what encoding adds to a text, and the ids of the prompt."""
    bare, full = _ids(tokenizer, "a"), tokenizer.encode("a").ids
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            special, suffix = tuple(full[:start]), tuple(full[start + len(bare) :])
            break
    else:
        raise ArtifactError("this tokenizer changes a text when it adds its special tokens")
    said, lead = prompt.rstrip(), prompt[len(prompt.rstrip()) :]
    if _ids(tokenizer, said) == _ids(tokenizer, prompt):
        lead = ""  # white space has no tokens here
    if _ids(tokenizer, f"{prompt}a") != [*_ids(tokenizer, said), *_ids(tokenizer, f"{lead}a")]:
        raise ConfigError(
            f"the prompt {prompt!r} becomes other tokens before a text than alone",
            hint="end tokens.query_prompt and tokens.passage_prompt with ':' or a space",
        )
    return Frame(special, tuple(_ids(tokenizer, said)), suffix, prompt, lead, tuple(_ids(tokenizer, lead)))


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str], frame: Frame, max_tokens: int) -> Framed:
    """Texts after the frame's prompt, tokenized together with it, each cut to ``max_tokens`` in all."""
    bare = frame.bare
    room = max_tokens - bare.count
    encodings = tokenizer.encode_batch_fast([frame.prompt + text for text in texts], add_special_tokens=False)
    ids = [bare.around(np.asarray(encoding.ids[:room], dtype=np.uint32)) for encoding in encodings]
    return Framed(ids, sum(len(encoding) > room for encoding in encodings))


def encode_query(tokenizer: Tokenizer, text: str, frame: Frame, max_tokens: int) -> list[int]:
    """The same for one text."""
    return [int(number) for number in encode_texts(tokenizer, [text], frame, max_tokens).ids[0]]


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


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
