"""Tokenizers as others publish them, read into ``tokenizers``."""

import gzip
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from embedctl.artifacts import manifest
from embedctl.errors import ArtifactError, ConfigError
from embedctl.settings import TokensSettings

if TYPE_CHECKING:
    from embedctl.data.report import Plan

_WANTED = "a tokenizer.json, a vocab.txt, or a vocab.json beside its merges.txt"


def load(path: Path) -> Tokenizer:
    """Read the tokenizer at ``path``; cutting and padding are switched off, for chunks and batches see to both.

    path: a tokenizer.json, a vocab.txt (WordPiece as in BERT), a vocab.json beside its merges.txt (byte-level
          BPE as in GPT-2), each plain or gzip; or a folder that holds one of them
    """
    files = files_of(path)
    where = str(files[0])
    try:
        contents = [_content(file) for file in files]
        if len(files) == 2:
            return _byte_level(*contents)
        if files[0].name.removesuffix(".gz").endswith(".txt"):
            return _wordpiece(contents[0], where)
        return parse(contents[0], where)
    except (UnicodeDecodeError, ValueError, OSError, EOFError, zlib.error) as fault:
        raise ArtifactError(f"{where} is not a tokenizer: {fault}") from None


def plan(settings: TokensSettings) -> "Plan":
    """How texts will be tokenized; by the given tokenizer, if one is given."""
    from embedctl.data.report import Plan

    if settings.tokenizer is None:
        return Plan(settings)
    tokenizer = load(settings.tokenizer)

    def count(texts: list[str]) -> list[int]:
        return [len(encoding) for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    return Plan(settings, count)


def parse(content: bytes, where: str) -> Tokenizer:
    """Read the content of a tokenizer.json; ``where`` is named if it is none."""
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except ValueError as fault:
        raise ArtifactError(f"{where} is not a tokenizer.json: {fault}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def file_of(tokenizer: Tokenizer) -> tuple[bytes, int]:
    """The tokenizer.json of an artifact, and the size of its vocabulary."""
    return (tokenizer.to_str(pretty=True) + "\n").encode(), tokenizer.get_vocab_size()


def digest_of(path: Path) -> str:
    """The SHA-256 of what :func:`load` reads."""
    entries = [manifest.entry_of(file).sha256 for file in files_of(path)]
    return entries[0] if len(entries) == 1 else manifest.digest(list(entries))


def files_of(path: Path) -> list[Path]:
    """The one or two files that make up the tokenizer at ``path``."""
    if path.is_dir():
        for name in ("tokenizer.json", "vocab.json", "vocab.txt"):
            found = [path / f"{name}{end}" for end in ("", ".gz") if (path / f"{name}{end}").is_file()]
            if found:
                return files_of(found[0])
    if not path.is_file():
        raise ConfigError(f"no tokenizer at {path}", hint=f"set tokens.tokenizer to {_WANTED}; or unset it")
    if path.name.removesuffix(".gz") != "vocab.json":
        return [path]
    merges = [path.with_name(f"merges.txt{end}") for end in ("", ".gz")]
    beside = [file for file in merges if file.is_file()]
    if not beside:
        raise ConfigError(f"no merges.txt beside {path}", hint=f"set tokens.tokenizer to {_WANTED}")
    return [path, beside[0]]


def _content(file: Path) -> bytes:
    return gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()


def _byte_level(vocabulary: bytes, merges: bytes) -> Tokenizer:
    pairs = [line.split(" ") for line in merges.decode().splitlines() if line and not line.startswith("#version")]
    known = json.loads(vocabulary)
    tokenizer = Tokenizer(models.BPE(known, [(left, right) for left, right in pairs]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([name for name in ("<|endoftext|>",) if name in known])
    return tokenizer


def _wordpiece(content: bytes, where: str) -> Tokenizer:
    pieces = content.decode().splitlines()
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    special = [name for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if name in vocabulary]
    if not {"[UNK]", "[CLS]", "[SEP]"} <= set(special):
        raise ArtifactError(f"{where} is not a vocab.txt of BERT's kind: [UNK], [CLS] or [SEP] is missing")
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    # A vocabulary without capitals was learnt from lower-cased text.
    lowercase = not any(
        piece != piece.lower() for piece in pieces if piece not in special and not piece.startswith("[unused")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(special)
    ids = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    return tokenizer
