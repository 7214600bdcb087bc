"""Engines give the ids of ``tokenizers`` for every text; places lead back to the text."""

import json
import random
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, normalizers, pre_tokenizers

from embedctl.errors import ArtifactError, ConfigError
from embedctl.settings import TokensSettings
from embedctl.tokens import engines, published, tokenizer
from embedctl.tokens.encoding import TextEncoder
from embedctl.tokens.engines import Flat, Gigatoken, Reference, Tokie
from tests.conftest import sentences

DATA = Path(__file__).parent / "data"


@cache
def tokenizers_at_hand() -> dict[str, Tokenizer]:
    texts = [text for _, text in sentences(300)] + udhr()[:20]
    lower = tokenizer.train(lambda: iter(texts), TokensSettings(vocabulary_size=2000, lowercase=True))
    nfc = Tokenizer.from_str(published.load(DATA / "gpt2").to_str())
    nfc.normalizer = normalizers.NFC()
    return {
        "gpt2": published.load(DATA / "gpt2"),
        "bert": published.load(DATA / "bert-base-uncased" / "vocab.txt.gz"),
        "lower-cased bpe": lower,
        "gpt2 with NFC": nfc,
    }


@cache
def udhr() -> list[str]:
    with zipfile.ZipFile(DATA / "udhr2.zip") as archive:
        return [archive.read(name).decode() for name in sorted(archive.namelist()) if name.endswith(".txt")]


def naughty() -> list[str]:
    return list(json.loads((DATA / "blns.json").read_text(encoding="utf-8")))


def random_unicode(count: int) -> list[str]:
    """Strings from growing parts of Unicode, with the specials of tokenizers among them."""
    chance = random.Random(20261124)
    pieces = ["[CLS]", "[SEP]", "<|endoftext|>", " ", "  ", "\n\n", "\t", "don't", "ΟΔΟΣ", "İ", "ẞ", "ﬁ", "e\u0301"]

    def text() -> str:
        top = chance.choice([0x80, 0x250, 0x600, 0x3000, 0x10FFFF])
        codes = (chance.randint(1, top) for _ in range(chance.randint(0, 24)))
        characters = [chr(code) for code in codes if not 0xD800 <= code < 0xE000]
        characters.insert(chance.randint(0, len(characters)), chance.choice(pieces))
        return "".join(characters)

    return [text() for _ in range(count)]


@cache
def encoder_of(name: str) -> TextEncoder:
    used = tokenizers_at_hand()[name]
    return TextEncoder(used, engines.fastest(used, sample=["A first text.", ""]))


def check(used: Tokenizer, texts: Sequence[str], *, sample: Sequence[str] | None = None) -> TextEncoder:
    """Ids are those of ``tokenizers``, and each token begins in its text where ``tokenizers`` says.

    The engine is chosen by ``sample``, or by the first of ``texts``.
    """
    encoder = TextEncoder(used, engines.fastest(used, sample=texts[:5] if sample is None else sample))
    for at in range(0, len(texts), 500):
        batch = texts[at : at + 500]
        encoded = encoder.encode(batch)
        assert (np.diff(encoded.starts) >= 0).all()
        for n, reference in enumerate(used.encode_batch(batch, add_special_tokens=False)):
            tokens = slice(encoded.offsets[n], encoded.offsets[n + 1])
            assert encoded.ids[tokens].tolist() == reference.ids, batch[n]
            # The number of the character in which a token begins.
            character = np.cumsum((np.frombuffer(batch[n].encode(), np.uint8) & 0xC0) != 0x80) - 1
            places = character[encoded.starts[tokens] - encoded.bases[n]].tolist()
            assert places == [start for start, _ in reference.offsets], batch[n]
    return encoder


@pytest.mark.parametrize(
    ("name", "engine"),
    [("gpt2", "gigatoken"), ("bert", "tokie"), ("lower-cased bpe", "gigatoken"), ("gpt2 with NFC", "gigatoken")],
)
def test_the_fast_engine_gives_the_ids_and_places_of_tokenizers_for_every_text(name: str, engine: str):
    texts = udhr() + naughty() + random_unicode(3000)

    assert check(tokenizers_at_hand()[name], texts).engine.name == engine


@given(texts=st.lists(st.text(max_size=30), max_size=6), name=st.sampled_from(["gpt2", "bert", "lower-cased bpe"]))
def test_texts_in_a_batch_do_not_touch_each_other(texts: list[str], name: str):
    encoder = encoder_of(name)

    together = encoder.encode(texts)

    for n, text in enumerate(texts):
        alone, tokens = encoder.encode([text]), slice(together.offsets[n], together.offsets[n + 1])
        assert together.ids[tokens].tolist() == alone.ids.tolist()
        assert (together.starts[tokens] - together.bases[n]).tolist() == alone.starts.tolist()


@pytest.mark.parametrize("name", ["gpt2", "lower-cased bpe"])
def test_a_text_may_hold_what_is_put_between_texts(name: str):
    between = engines._BETWEEN["content"]

    encoder = check(
        tokenizers_at_hand()[name],
        ["A text,", f"one {between} with it", between, "", f"{between}{between} and more"],
        sample=["A first text.", ""],
    )

    assert encoder.engine.name == "gigatoken"


def test_words_that_are_not_in_the_vocabulary_are_found_without_tokenizers(monkeypatch: pytest.MonkeyPatch):
    long = "x" * 101
    words = ["⅍", "ⅷ", "naïve", "≮", "½", "₿", "café", "a⅍b", "⅍⅍", "don't", "—", "§§", long, f"{long}⅍", "a\tb"]
    chance = random.Random(7)
    texts = ["", *words, *(chance.choice(["", " ", "\n "]).join(chance.choices(words, k=9)) for _ in range(600))]

    check(tokenizers_at_hand()["bert"], [*texts, "⅍ [UNK] ⅍", "[CLS] ⅍ and ⅍", "⅍ \x01 ⅍"])

    monkeypatch.setattr(TextEncoder, "_merged", None)
    encoded = encoder_of("bert").encode(texts)
    unknown = tokenizers_at_hand()["bert"].token_to_id("[UNK]")
    assert np.count_nonzero(encoded.ids == unknown) > 1000


def test_a_tokenizer_of_another_kind_is_left_to_tokenizers():
    used = Tokenizer.from_str(tokenizers_at_hand()["bert"].to_str())
    used.pre_tokenizer = pre_tokenizers.Whitespace()

    encoder = check(used, ["Some words, and more.", "ünder"])

    assert encoder.engine.name == "tokenizers"
    assert not encoder.cuts_between_words_are_exact


def test_an_engine_that_differs_is_found_out_and_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    used = tokenizers_at_hand()["gpt2"]
    right = Gigatoken.encode

    def wrong(self: Gigatoken, texts: Sequence[str], blob: bytes) -> Flat:
        flat = right(self, texts, blob)
        ids = flat.ids.copy()
        ids[-1] += 1
        return Flat(ids, flat.offsets)

    monkeypatch.setattr(Gigatoken, "encode", wrong)

    assert engines.fastest(used, ["One text.", "Another."]).name == "tokenizers"
    assert "gigatoken and tokenizers differ on 'Another.'" in caplog.text


def test_without_the_fastest_engine_the_next_one_serves(monkeypatch: pytest.MonkeyPatch):
    def missing(self: Gigatoken, tokenizer: Tokenizer) -> None:
        raise ImportError("no gigatoken here")

    monkeypatch.setattr(Gigatoken, "__init__", missing)
    used = tokenizers_at_hand()["gpt2"]

    assert engines.fastest(used, ["a text"]).name == Tokie.name
    assert check(used, ["One text.", "", "naïve  two"]).engine.name == "tokie"
    assert Reference(used).encode(["a text"], b"a text").ids.tolist() == used.encode("a text").ids


def test_published_vocabularies_load(tmp_path: Path):
    gpt2, bert = (tokenizers_at_hand()[name] for name in ("gpt2", "bert"))

    assert gpt2.encode("Hello, wörld! It's 2026.").tokens[:3] == ["Hello", ",", "Ġw"]
    assert bert.encode("Hello, Wörld!").ids == [101, 7592, 1010, 2088, 999, 102]
    cased = tmp_path / "vocab.txt"
    cased.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nHello\nhello\n", encoding="utf-8")
    assert published.load(cased).encode("Hello").ids == [2, 4, 3]
    assert published.load(tmp_path).to_str() == published.load(cased).to_str()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", "[]", "is not a tokenizer"),
        ("vocab.txt", "a\nb\n", "not a vocab.txt of BERT's kind"),
        ("vocab.json", "{}", "no merges.txt beside"),
        ("tokenizer.json.gz", "plain", "is not a tokenizer"),
    ],
)
def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path, name: str, content: str, message: str):
    (tmp_path / name).write_text(content, encoding="utf-8")

    with pytest.raises((ArtifactError, ConfigError), match=message) as caught:
        published.load(tmp_path / name)

    assert str(tmp_path / name) in caught.value.message
