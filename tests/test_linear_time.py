"""No text makes the checks slow: eight times the text takes about eight times as long, and never sixty-four."""

import re
import time
from collections import deque
from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

import numpy as np
import pytest

from embedctl.data import checks
from embedctl.data.checks.repair import FIXABLE, repair
from embedctl.tokens import chunks, engines
from tests.test_checks import examiner

MODULES = [import_module(f"{checks.__name__}.{module.name}") for module in iter_modules(checks.__path__)]


def is_linear(work: Callable[[str], object], piece: str, characters: int) -> bool:
    """Whether eight times the text takes less than twenty-two times as long, at least once in eight tries.

    A busy machine slows single tries down, so they are repeated; what takes square time fails every one. The shorter
    text is taken before and after the longer one: slow by chance, it would make a square look like a line.

    characters: twice as many as the shorter text has
    """

    def seconds(length: int) -> float:
        text = (piece * (length // len(piece) + 1))[:length]
        started = time.process_time()
        work(text)
        return time.process_time() - started

    def once() -> bool:
        before, longer, after = (seconds(length) for length in (characters // 2, 4 * characters, characters // 2))
        return longer < 22 * min(before, after) + 0.005

    return any(once() for _ in range(8))


def test_the_measure_tells_a_square_from_a_line():
    assert is_linear(lambda text: [ord(c) for c in text], "ab", 100_000)
    assert not is_linear(lambda text: [text.count("a" * n) for n in range(0, len(text), 20)], "ab", 20_000)


SLOW = [
    "' or ", "union ", "; ", "<script ", "../", "\u200b", "a'", "or 1", "$( ", "\u202e", "`", "<", "{{", "password=",
    "://a:", "a@", "1.", "ignore the ", "you are ", "Ã", "AKIA", "%27", "&#x3c", "\\x3c", "/*", "4111 ", "+1 ", "eyJa.",
    "ab ", "pа", "\u2066", "-----BEGIN PRIVATE KEY-----", "    x\n", "```\n", "a\u200b", "n\0", "onerror=", "<a onx",
    "key: ", "\u0301",
]  # fmt: skip


@pytest.mark.parametrize(
    ("module", "name"),
    [(module, name) for module in MODULES for name, value in vars(module).items() if isinstance(value, re.Pattern)],
    ids=lambda value: value if isinstance(value, str) else value.__name__.rpartition(".")[2],
)
def test_no_pattern_is_slow(module: ModuleType, name: str):
    pattern = getattr(module, name)

    for piece in ("a", "`", "&#0", "-----BEGIN X", " \n    x", "/*", "\U000e0030", "1'\""):
        assert is_linear(lambda text: deque(pattern.finditer(text), maxlen=0), piece, 40_000), piece


@pytest.mark.parametrize("piece", SLOW)
def test_no_text_makes_the_checks_slow(piece: str):
    assert is_linear(lambda text: examiner().examine([text]), piece, 50_000)


def test_no_number_of_long_runs_makes_the_checks_slow():
    piece = "a" * 110 + "b" * 110

    assert is_linear(lambda text: examiner().examine([text]), piece, 400_000)
    assert len(examiner().examine([piece * 9000])[0]) <= 2000


@pytest.mark.parametrize(
    "piece", ["\u200b", "a\u200b", "\u202e", "Ã©", "a@b.example ", "key=aB3dE5gH7jK9mN1pQ3 ", "\u2066a\u2069"]
)
def test_no_text_makes_repair_slow(piece: str):
    assert is_linear(lambda text: repair(text, FIXABLE), piece, 25_000)


@pytest.mark.parametrize("white", [" ", "\n", " \n"])
def test_white_space_without_end_is_cut_in_linear_time(white: str):
    def cut(text: str) -> None:
        data = np.frombuffer(engines.in_one(["a" + text]), np.uint8)
        chunks.cut(data, np.arange(len(text) + 1), np.array([0, len(text) + 1]), size=256, overlap=0)

    assert is_linear(cut, white, 200_000)
