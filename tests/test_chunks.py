"""Chunks: every token covered, cut where a reader would, and the text of a chunk encodes to its ids."""

import itertools
import random
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedctl.data.corpus import SCHEMA
from embedctl.errors import ConfigError
from embedctl.settings import TokensSettings
from embedctl.tokens import chunks, engines, native, shards
from embedctl.tokens.boundaries import INSIDE, NO_BOUNDARY, PARAGRAPH, SENTENCE, WORD, token_boundaries
from embedctl.tokens.rows import ChunkRows, Counts
from embedctl.tokens.texts import SEPARATOR, Column, in_one
from embedctl.tokens.tokenizer import encode_texts, frame_of
from tests.test_encoding import encoder_of, naughty, random_unicode, tokenizers_at_hand, udhr

TEXT = """First sentence. Second one, by J. Smith! A third (with a bracket.) Here we go… and on.

A new paragraph
with two lines. "Quoted." 这是第一句。这是第二句。


The end"""


def boundaries(text: str) -> dict[str, int]:
    """What begins at each place where something ends, read off tokens of one character."""
    starts = [len(text[:at].encode()) for at in range(len(text))]
    kinds = token_boundaries(np.frombuffer(engines.in_one([text]), np.uint8), np.array(starts))
    return {text[at:].split()[0]: int(kind) for at, kind in enumerate(kinds) if kind != NO_BOUNDARY}


def test_ends_of_paragraphs_sentences_and_words_are_told_apart():
    found = boundaries(TEXT)

    assert {word for word, kind in found.items() if kind == PARAGRAPH} == {"A", "The"}
    sentences = {"Second", "A", "Here", '"Quoted."', "这是第一句。这是第二句。", "这是第二句。"}
    assert {word for word, kind in found.items() if kind == SENTENCE} == sentences - {"A"}
    assert {found[word] for word in ("sentence.", "Smith!", "and", "with", "(with")} == {WORD}


@pytest.fixture
def without_c(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], object]:
    """Has numpy and Python do what else is done in C."""

    def ask(call: Callable[[], object]) -> object:
        with monkeypatch.context() as patch:
            patch.setattr(native, "library", lambda: None)
            return call()

    return ask


PIECES = ["A.", "b", "J.", "é", "É", "日", "。", "」", "…", "”", '."', "!)", "?", " ", "  ", "\n", "\r\n", "\u3000"]
PIECES += [
    " \n\t\n ",
    " \x00",
    "\x1c",
    "\u0e01",
    "؟",
    "।",
    "𝒳",
    "<|endoftext|>",
    " " * 30,
    "\n" * 20,
    " " * 9 + "\n" * 2,
]


@pytest.mark.parametrize("name", ["gpt2", "bert", "lower-cased bpe", "gpt2 with NFC"])
def test_c_and_numpy_see_the_same_tokens_ends_and_cuts(name: str, without_c: Callable[[Callable[[], object]], object]):
    encoder, chance, seen = encoder_of(name), random.Random(3), set[int]()
    made = ["".join(chance.choices(PIECES, k=chance.randint(0, 12))) for _ in range(3000)]
    texts = [TEXT, *made, *udhr()[::7], *naughty(), *random_unicode(500)]
    assert native.library() is not None
    for first in range(0, len(texts), 40):
        some = texts[first : first + 40]
        encoded = encoder.encode(some)
        plain = without_c(lambda some=some: encoder.encode(some))
        for field in ("starts", "bases", "sizes", "inner"):
            np.testing.assert_array_equal(getattr(encoded, field), getattr(plain, field))
        assert encoded.by_engine == plain.by_engine

        kinds = token_boundaries(encoded.data, encoded.starts)
        expected = without_c(lambda e=encoded: token_boundaries(e.data, e.starts))
        inner = np.ones(len(kinds), dtype=bool)
        inner[encoded.offsets[:-1][np.diff(encoded.offsets) > 0]] = False
        np.testing.assert_array_equal(kinds[inner], expected[inner])
        seen |= {*kinds[inner].tolist()}

        for size, overlap in ((4, 0), (5, 2), (16, 8), (64, 10)):
            how = {"size": size, "overlap": overlap}
            cuts = chunks.cut(encoded.data, encoded.starts, encoded.offsets, **how)
            other = chunks.cut_at(expected, encoded.offsets, **how)
            for field in ("text", "number", "first", "last", "begins", "ends"):
                np.testing.assert_array_equal(getattr(cuts, field), getattr(other, field))
    assert seen >= {NO_BOUNDARY, WORD, SENTENCE, PARAGRAPH}
    assert (INSIDE in seen) == (name != "bert")


def test_ids_of_no_token_are_a_failure_and_no_place_outside():
    library = native.library()
    assert library is not None
    ids, lengths = np.array([1, 2**32 - 1, 1], np.uint32), np.array([0, 3], np.int32)

    starts, failed = native.starts_of(library, ids, np.array([0, 1, 3]), lengths, np.array([0, 4]), np.array([3, 3]))

    assert failed.tolist() == [False, True]
    assert starts[:2].tolist() == [0, 4]


@given(
    kinds=st.lists(st.lists(st.integers(INSIDE, PARAGRAPH), max_size=120), max_size=4),
    size=st.integers(4, 40),
    data=st.data(),
)
def test_chunks_cover_every_token_and_stay_within_size(kinds: list[list[int]], size: int, data: st.DataObject):
    overlap = data.draw(st.integers(0, size // 2))
    flat = np.array([kind for text in kinds for kind in text], dtype=np.uint8)
    offsets = np.cumsum([0, *map(len, kinds)])

    cuts = chunks.cut_at(flat, offsets, size=size, overlap=overlap)

    assert sorted(set(cuts.text.tolist())) == [n for n, text in enumerate(kinds) if text]
    for n, text in enumerate(kinds):
        mine = [(a, b) for t, a, b in zip(cuts.text, cuts.first, cuts.last, strict=True) if t == n]
        covered = {token for a, b in mine for token in range(a, b)}
        assert covered == set(range(offsets[n], offsets[n] + len(text)))
        assert all(0 < b - a <= size for a, b in mine)
        assert all(a < c <= b <= c + overlap for (a, b), (c, _) in itertools.pairwise(mine))


@given(
    kinds=st.lists(st.lists(st.sampled_from([0, 1, 1, 1, 2, 2, 3, 4]), min_size=1, max_size=90), max_size=24),
    size=st.integers(4, 24),
    data=st.data(),
)
def test_cutting_many_texts_at_once_is_cutting_each(kinds: list[list[int]], size: int, data: st.DataObject):
    overlap = data.draw(st.integers(0, size // 2))
    flat = np.array([kind for text in kinds for kind in text], dtype=np.uint8)
    offsets = np.cumsum([0, *map(len, kinds)])

    def cut(n: int, m: int) -> list[tuple[int, int]]:
        of = flat[offsets[n] : offsets[m]]
        cuts = chunks.cut_at(of, offsets[n : m + 1] - offsets[n], size=size, overlap=overlap)
        return [(a + offsets[n], b + offsets[n]) for a, b in zip(cuts.first, cuts.last, strict=True)]

    together = cut(0, len(kinds))

    assert together == [chunk for n in range(len(kinds)) for chunk in cut(n, n + 1)]


def test_a_chunk_ends_with_a_paragraph_or_a_sentence_if_it_is_full_enough():
    kinds = np.full(100, WORD, dtype=np.uint8)
    kinds[[10, 35]] = SENTENCE
    kinds[28] = PARAGRAPH

    cuts = chunks.cut_at(kinds, np.array([0, 100]), size=40, overlap=8)

    # At the paragraph, without overlap as no sentence is short enough; then between words, with overlap.
    assert cuts.first.tolist() == [0, 28, 60]
    assert cuts.last.tolist() == [28, 68, 100]


def rows(
    name: str, texts: list[str], *, max_tokens: int, overlap: int, prompt: str = ""
) -> tuple[list[dict[str, object]], Counts]:
    """The chunks of ``texts``, each of which is its own query as well."""
    used, encoder = tokenizers_at_hand()[name], encoder_of(name)
    settings = TokensSettings(max_tokens=max_tokens, overlap_tokens=overlap)
    frame = frame_of(used, prompt)
    maker = ChunkRows(encoder, frame, frame, settings, 10.0, shards.schema(used.get_vocab_size()), Counts())
    columns = {"id": [f"r{n}" for n in range(len(texts))], "text": texts, "query": texts}
    constant = {"source": ["s"] * len(texts), "metadata": ["{}"] * len(texts)}
    records = pa.table(columns | constant, schema=SCHEMA)
    # None stands in a part of a corpus, so that all of their texts are in the rows.
    elsewhere = records.append_column("row", pa.nulls(len(texts), pa.int32()))
    return maker.of(elsewhere).to_pylist(), maker.counts


@pytest.mark.parametrize("prompt", ["", "passage: "])
@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_the_rows_of_a_shard_are_the_same_without_c(
    name: str, prompt: str, without_c: Callable[[Callable[[], object]], object]
):
    texts = ["", TEXT, *udhr()[::40], *naughty()[::10], ""]
    made = rows(name, texts, max_tokens=24, overlap=4, prompt=prompt)

    plain = without_c(lambda: rows(name, texts, max_tokens=24, overlap=4, prompt=prompt))

    assert len(made[0]) > len(texts)
    assert made == plain
    # What the counts say of characters is what Python counts.
    assert made[1].characters == sum(map(len, texts))


@given(st.lists(st.text(), max_size=8))
def test_a_column_in_one_is_its_texts_in_one(texts: list[str]):
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    column = Column(pa.array(texts, pa.string()))

    assert in_one(column) == in_one(texts) == b"".join(text.encode() + SEPARATOR for text in texts)
    assert [*column] == texts
    assert column[:2] == texts[:2]


@pytest.mark.parametrize("name", ["gpt2", "bert", "lower-cased bpe", "gpt2 with NFC"])
def test_the_text_of_a_chunk_encodes_to_its_ids_or_the_chunk_says_why_not(name: str):
    used = tokenizers_at_hand()[name]
    frame = frame_of(used)
    texts = [
        TEXT * 3,
        *udhr()[::17],
        *naughty(),
        *random_unicode(400),
        "".join(random.Random(1).choices("abcdefgh", k=300)),
        "a  b\n\n\n" * 50,
    ]

    found, counts = rows(name, texts, max_tokens=24, overlap=6)

    alone = used.encode_batch([str(row["text"]) for row in found], add_special_tokens=False)
    for row, encoding in zip(found, alone, strict=True):
        ids = row["input_ids"][len(frame.prefix) : len(row["input_ids"]) - len(frame.suffix)]
        assert (encoding.ids == ids) == (row["inexact"] is None), row
        text = texts[int(str(row["record"])[1:])]
        assert row["text"] == text[row["start"] : row["end"]]
    english = [row for row in found if row["record"] == "r0"]
    assert not any(row["inexact"] for row in english)
    assert counts.inexact_chunks == sum(row["inexact"] is not None for row in found)
    # A piece of a word is another word to WordPiece; byte-level merges mostly come out the same.
    assert counts.inexact_chunks or name != "bert"


@pytest.mark.parametrize("prompt", ["search_document: ", "Represent this text:\n", "passage:"])
@pytest.mark.parametrize("name", ["gpt2", "bert", "lower-cased bpe", "gpt2 with NFC"])
def test_a_chunk_has_the_ids_of_its_prompt_and_text_together(name: str, prompt: str):
    used = tokenizers_at_hand()[name]
    texts = [f"{TEXT} " * 3, *udhr()[::60], *naughty()[::3], *random_unicode(200), " Two", "  three.", "\n\nfour"]
    texts += ["".join(random.Random(1).choices("abcdefgh", k=300)), "a  b\n\n\n" * 50]

    found, _ = rows(name, texts, max_tokens=32, overlap=4, prompt=prompt)

    if not prompt[-1].isspace() and name != "bert":
        # Of a byte-level vocabulary a sign after a colon may be one token with it.
        found = [row for row in found if (str(row["text"])[0].isalnum() or str(row["text"])[0] == " ")]

    together = used.encode_batch([prompt + str(row["text"]) for row in found], add_special_tokens=False)
    frame, exact = frame_of(used), 0
    for row, encoding in zip(found, together, strict=True):
        ids = row["input_ids"][len(frame.special) : len(row["input_ids"]) - len(frame.suffix)]
        assert len(row["input_ids"]) <= 32
        assert (encoding.ids == ids) == (row["inexact"] is None), row
        exact += row["inexact"] is None
    assert exact > 0.7 * len(found)
    # Where there is no room for one token more.
    assert sum(row["inexact"] == "encodes otherwise alone" for row in found) <= 0.01 * len(found)
    firsts = [row for row in found if row["chunk"] == 0 and row["query"]]
    together = used.encode_batch([prompt + str(row["query"]) for row in firsts], add_special_tokens=False)
    room = 64 - len(frame.special) - len(frame.suffix)
    for row, encoding in zip(firsts, together, strict=True):
        assert row["query_ids"] == [*frame.special, *encoding.ids[:room], *frame.suffix]


@given(text=st.text(max_size=20), name=st.sampled_from(["gpt2", "bert", "lower-cased bpe"]))
def test_a_text_is_tokenized_together_with_its_prompt(text: str, name: str):
    used = tokenizers_at_hand()[name]

    for prompt in ("search_query: ", "query:", ""):
        frame = frame_of(used, prompt)
        ids = encode_texts(used, [text], frame, 1000).ids[0].tolist()
        assert ids == [*frame.special, *used.encode(prompt + text, add_special_tokens=False).ids, *frame.suffix]


@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_a_prompt_that_grows_together_with_any_text_is_refused(name: str):
    with pytest.raises(ConfigError, match="becomes other tokens before a text than alone"):
        frame_of(tokenizers_at_hand()[name], "search_qu")


@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_the_chunks_of_a_record_do_not_depend_on_its_neighbours(name: str):
    endings = ["", " ", ".", ". ", ".\n", "\n\n", "A. ", '."\n \n', "。", " and"]
    starts = ["", "a ", " ", "\n\n", ". ", '" ', "A. ", "A", "\n a"]
    texts = [f"{start}One two. Three four five six{end}" for end in endings for start in starts]

    together, _ = rows(name, texts, max_tokens=8, overlap=2)

    alone = [row for text in texts for row in rows(name, [text], max_tokens=8, overlap=2)[0]]
    assert [row["text"] for row in together] == [row["text"] for row in alone]


@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_chunks_of_prose_begin_and_end_with_sentences(name: str):
    text = " ".join(f"Sentence number {n} is about as long as this." for n in range(60))

    found, _ = rows(name, [text], max_tokens=64, overlap=16)

    assert all(str(row["text"]).rstrip().endswith(".") for row in found)
    assert all(str(row["text"]).lstrip().startswith("Sentence") for row in found)
    assert all(a["end"] > b["start"] + 20 for a, b in itertools.pairwise(found))


@pytest.mark.parametrize(
    ("max_tokens", "overlap", "setting"), [(16, 0, "tokens.max_tokens"), (30, 14, "tokens.max_tokens")]
)
def test_a_prompt_that_leaves_little_room_is_refused_rather_than_cut_into_nothing(
    max_tokens: int, overlap: int, setting: str
):
    prompt = "Represent this long passage of medical text for the retrieval of answers to questions: "

    with pytest.raises(ConfigError, match=rf"{setting} = {max_tokens} leaves \d+ tokens to a text"):
        rows("gpt2", [TEXT], max_tokens=max_tokens, overlap=overlap, prompt=prompt)


def test_a_prompt_that_leaves_nothing_of_a_query_is_refused():
    used = tokenizers_at_hand()["gpt2"]

    with pytest.raises(ConfigError, match=r"tokens\.query_max_tokens = 8 leaves 0 tokens"):
        frame_of(used, "What would you say of all these questions: ").room(
            8, least=1, setting="tokens.query_max_tokens"
        )
