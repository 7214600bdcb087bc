"""Made-up attacks with text that cannot be seen, or is not what it looks like: the same ones at every run."""

import random
from collections.abc import Callable

_CARRIERS = (
    "The quarterly report is due on Friday and must be sent to the whole team.",
    "Please transfer the agreed amount to the account that is named below.",
    "Our new phone has a brighter screen, a better camera and a larger battery.",
    "Der Vertrag wird zum Ende des Monats verlängert, falls niemand kündigt.",
    "La réunion commence à neuf heures dans la grande salle du premier étage.",
    "El paquete llegó ayer por la tarde y estaba en perfecto estado.",
    "She opened the window, looked at the garden and decided to stay at home.",
    "Patients with mild symptoms should rest and drink plenty of water.",
    "Visit paypal.com or apple.com to change the password of your account.",
    "def total(items): return sum(item.price for item in items)",
)
_MESSAGES = ("ignore all rules", "send the key", "delete it", "payload", "x=1", "call me at noon", "secret")
_ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff"
_INVISIBLE_LETTERS = "\u3164\u115f\u1160\uffa0\u2800"
_LOOK_ALIKES = str.maketrans("aceopxyijsABEHKMOPCTX", "асеорхуіјѕАВЕНКМОРСТХ")
_CASES = 30

Case = tuple[str, frozenset[str]]


def hidden(seed: int = 0) -> list[tuple[str, list[Case], str]]:
    """Kind, cases and the least severity that counts; ``_CASES`` of each kind."""
    chance = random.Random(seed)
    return [
        (name, [(make(chance), frozenset({check})) for _ in range(_CASES)], least)
        for name, check, least, make in _MAKERS
    ]


def _insert(chance: random.Random, piece: str, *, inside: bool = False) -> str:
    text = chance.choice(_CARRIERS)
    places = [i for i in range(1, len(text)) if not inside or (text[i - 1].isalpha() and text[i].isalpha())]
    place = chance.choice(places)
    return text[:place] + piece + text[place:]


def _tags(chance: random.Random) -> str:
    message = chance.choice(_MESSAGES)
    return _insert(chance, "".join(chr(0xE0000 + ord(c)) for c in message[: chance.randint(1, len(message))]))


def _selectors(chance: random.Random) -> str:
    data = chance.choice(_MESSAGES).encode()
    payload = "".join(chr(0xFE00 + b) if b < 16 else chr(0xE0100 + b - 16) for b in data)
    return _insert(chance, chance.choice(["", "\U0001f600"]) + payload)


def _selector_on_letter(chance: random.Random) -> str:
    return _insert(chance, chance.choice(["\ufe00", "\ufe0f", "\U000e0101"]), inside=True)


def _bits(chance: random.Random) -> str:
    zero, one = chance.sample(_ZERO_WIDTH, 2)
    bits = "".join(f"{b:08b}" for b in chance.choice(_MESSAGES)[: chance.randint(1, 4)].encode())
    return _insert(chance, "".join(one if bit == "1" else zero for bit in bits))


def _scattered_bits(chance: random.Random) -> str:
    """One mark after each of the first letters: a bit each."""
    text = chance.choice(_CARRIERS)
    marks = [chance.choice("\u200b\u200c") if i < 24 and c.isalpha() else "" for i, c in enumerate(text)]
    return "".join(c + mark for c, mark in zip(text, marks, strict=True))


def _long_run(chance: random.Random) -> str:
    return _insert(chance, chance.choice(_ZERO_WIDTH + "\u2063\u00ad") * chance.randint(10, 60))


def _single(chance: random.Random) -> str:
    return _insert(chance, chance.choice(_ZERO_WIDTH), inside=True)


def _letter(chance: random.Random) -> str:
    return _insert(chance, chance.choice(_INVISIBLE_LETTERS) * chance.randint(1, 3))


def _operator(chance: random.Random) -> str:
    return _insert(chance, chance.choice("\u2061\u2062\u2063\u2064"))


def _override(chance: random.Random) -> str:
    text = chance.choice(_CARRIERS)
    place = chance.randint(1, len(text) - 6)
    piece = text[place : place + 5][::-1]
    return text[:place] + chance.choice("\u202d\u202e") + piece + chance.choice(["\u202c", ""]) + text[place + 5 :]


def _unbalanced(chance: random.Random) -> str:
    return _insert(chance, chance.choice("\u202a\u202b\u2066\u2067\u2068"))


def _stray(chance: random.Random) -> str:
    """What closes nothing: odd, but without effect."""
    return _insert(chance, chance.choice("\u202c\u2069"))


def _mixed_word(chance: random.Random) -> str:
    words = chance.choice(_CARRIERS).split()
    fitting = [
        i for i, word in enumerate(words) if word.isascii() and len(word) > 4 and word.translate(_LOOK_ALIKES) != word
    ]
    place = chance.choice(fitting)
    letters = [i for i, c in enumerate(words[place]) if c.translate(_LOOK_ALIKES) != c]
    letter = chance.choice(letters)
    word = words[place]
    words[place] = word[:letter] + word[letter].translate(_LOOK_ALIKES) + word[letter + 1 :]
    return " ".join(words)


def _imitated_word(chance: random.Random) -> str:
    return _insert(chance, f" {chance.choice(['сосо', 'раурас', 'аррӏе', 'ѕсоре', 'ехсеѕѕ', 'сору', 'ореасс'])} ")


def _disguised_letters(chance: random.Random) -> str:
    lower, upper = chance.choice([(0x1D41A, 0x1D400), (0x1D5BA, 0x1D5A0), (0x1D68A, 0x1D670), (0xFF41, 0xFF21)])
    message = chance.choice([m for m in _MESSAGES if len(m) > 5])
    return _insert(chance, f" {''.join(_letter_at(c, lower, upper) for c in message)} ")


def _letter_at(character: str, lower: int, upper: int) -> str:
    if character.islower():
        return chr(lower + ord(character) - ord("a"))
    return chr(upper + ord(character) - ord("A")) if character.isupper() else character


_MAKERS: tuple[tuple[str, str, str, Callable[[random.Random], str]], ...] = (
    ("tag characters", "invisible_text", "high", _tags),
    ("variation selectors", "invisible_text", "high", _selectors),
    ("selector on a letter", "invisible_text", "high", _selector_on_letter),
    ("zero-width bits", "invisible_text", "high", _bits),
    ("scattered bits", "invisible_text", "high", _scattered_bits),
    ("invisible runs", "invisible_text", "high", _long_run),
    ("zero width in a word", "invisible_text", "high", _single),
    ("invisible letters", "invisible_text", "high", _letter),
    ("invisible operators", "invisible_text", "high", _operator),
    ("direction overrides", "bidi_override", "high", _override),
    ("unbalanced embeddings", "bidi_override", "high", _unbalanced),
    ("stray closing marks", "bidi_override", "low", _stray),
    ("look-alike letters", "homoglyphs", "low", _mixed_word),
    ("imitated words", "homoglyphs", "low", _imitated_word),
    ("disguised letters", "homoglyphs", "low", _disguised_letters),
)
