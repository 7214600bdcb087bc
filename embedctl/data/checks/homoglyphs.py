"""Letters that pass for others: words of mixed scripts, imitations of Latin words, ASCII in disguise.

The look-alikes are taken from confusables.txt of Unicode (UTS #39; Unicode License v3), only the letters
that are hard to tell from an ASCII letter.
"""

import re
import unicodedata
from collections.abc import Iterator

from embedctl.data.checks.kinds import HOMOGLYPHS, Match

_CYRILLIC = "\u0400-\u052f\u1c80-\u1c8f\u2de0-\u2dff\ua640-\ua69f"
_GREEK = "\u0370-\u03ff\u1f00-\u1fff"
_ARMENIAN = "\u0531-\u058f"
_OTHERS = (  # Georgian, Cherokee, Canadian syllabics, Runic, Tifinagh, Coptic, Lisu, Carian to Osage, Warang Citi
    "\u10a0-\u10ff\u13a0-\u13fd\u1400-\u167f\u16a0-\u16f8\u2c80-\u2cff\u2d30-\u2d7f\uab70-\uabbf\ua4d0-\ua4ff"
    "\U00010280-\U0001031f\U00010400-\U000104ff\U000118a0-\U000118ff"
)
_LATIN = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f"
_DISGUISED = (  # letter-like, enclosed, full-width, superscript and mathematical letters
    "\u2071\u207f\u2090-\u209c\u1d2c-\u1d61\u2102\u210a-\u2115\u2119-\u211d\u2124\u2128\u212a\u212c-\u2134\u2145-\u2149"
    "\u249c-\u24e9\uff21-\uff3a\uff41-\uff5a\U0001d400-\U0001d6a5\U0001f110-\U0001f12b\U0001f130-\U0001f149"
    "\U0001f150-\U0001f169\U0001f170-\U0001f189"
)
_ENCLOSED_OR_FULL_WIDTH = re.compile("[\u249c-\u24e9\uff21-\uff3a\uff41-\uff5a\U0001f110-\U0001f189]")

_LOOK_ALIKES = {
    "cyrillic": frozenset("аеорсухіјѕӏһԁԛԝѵѡҽгкмнтвпАВСЕНІЈКМОРЅТХУӀԌԚԜҮуүӕԍЗзЬьбПГ"),
    "greek": frozenset("οϲϳΑΒΕΖΗΙΚΜΝΟΡΤΥΧϹͿ"),
    "armenian": frozenset("օոսհզցքռյաՕՍԼՏոգ"),
}
_LATIN_LOOK_ALIKES = frozenset("acehijklmnoprstuxyABCEHIJKMOPSTXYbdgz")
_STRICT_CYRILLIC = frozenset("аеорсухіјѕӏһԁԛԝАВСЕНІЈКМОРЅТХУӀԌԚԜ")
_LOWER_GREEK = frozenset("ανρυικτεωγησ")

_WORD = re.compile(f"[{_LATIN}{_CYRILLIC}{_GREEK}{_ARMENIAN}{_OTHERS}\u0261\u0251]+")
_SCRIPTS = {
    "latin": re.compile(f"[{_LATIN}\u0261\u0251]"),
    "cyrillic": re.compile(f"[{_CYRILLIC}]"),
    "greek": re.compile(f"[{_GREEK}]"),
    "armenian": re.compile(f"[{_ARMENIAN}]"),
}
_DISGUISE = re.compile(f"[{_DISGUISED}](?:[{_DISGUISED} .'-]*[{_DISGUISED}])?")
_EAST_ASIAN = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]")
_INNER = re.compile("[a-z]{2}[\u0261\u0251][a-z]|[a-z][\u0261\u0251][a-z]{2}|\\b[\u0261\u0251][a-z]{4}")

_FOREIGN = f"[{_CYRILLIC}{_GREEK}{_ARMENIAN}{_OTHERS}]"
SCREEN = (
    f"[{_LATIN}]{_FOREIGN}|{_FOREIGN}[{_LATIN}]|[A-Za-z][ .,:/-]{{1,2}}[{''.join(sorted(_STRICT_CYRILLIC))}]{{3,}}"
    f"|[{''.join(sorted(_STRICT_CYRILLIC))}]{{3,}}[ .,:/-]{{1,2}}[A-Za-z]"
    f"|[{_DISGUISED}][ .'-]?[{_DISGUISED}][ .'-]?[{_DISGUISED}]|[a-z][\u0261\u0251]|[\u0261\u0251][a-z]"
)


def examine(text: str) -> Iterator[Match]:
    """Every word that is not what it looks like."""
    latin_text: bool | None = None
    for word in _WORD.finditer(text):
        if word.group().isascii():
            continue
        scripts = [_script(c) for c in word.group()]
        kinds = set(scripts)
        if len(kinds) > 1:
            found = _is_mixed(word.group(), scripts)
        elif kinds == {"cyrillic"} and len(word.group()) > 2 and set(word.group()) <= _STRICT_CYRILLIC:
            latin_text = _is_latin(text) if latin_text is None else latin_text
            found = latin_text
        else:
            found = (
                bool(_INNER.search(word.group())) and word.group().replace("\u0261", "").replace("\u0251", "").isascii()
            )
        if found:
            yield Match(HOMOGLYPHS, word.start(), word.end(), HOMOGLYPHS.severity)
    yield from _disguised(text)


def _disguised(text: str) -> Iterator[Match]:
    east_asian = bool(_EAST_ASIAN.search(text))
    for run in _DISGUISE.finditer(text):
        letters = [c for c in run.group() if c not in " .'-"]
        if len(letters) < 4 or (east_asian and all("\uff00" < c < "\uff5b" for c in letters)):
            continue
        plain = unicodedata.normalize("NFKC", "".join(letters))
        if plain.isascii() or _ENCLOSED_OR_FULL_WIDTH.match(letters[0]):
            yield Match(HOMOGLYPHS, run.start(), run.end(), HOMOGLYPHS.severity)


def _script(character: str) -> str:
    return next((name for name, pattern in _SCRIPTS.items() if pattern.match(character)), "other")


def _is_latin(text: str) -> bool:
    cyrillic = len(_SCRIPTS["cyrillic"].findall(text))
    return len(_SCRIPTS["latin"].findall(text)) > 4 * cyrillic


def _is_mixed(word: str, scripts: list[str]) -> bool:
    kinds = set(scripts)
    if "latin" not in kinds:
        return kinds == {"cyrillic", "greek"} and min(scripts.count("cyrillic"), scripts.count("greek")) > 0
    if "other" in kinds:
        return scripts.count("latin") > 1
    if kinds == {"latin", "greek"}:
        return _imitates_with_greek(word, scripts)
    foreign = next(iter(kinds - {"latin"}))
    # The rarer script is the intruder; a suffix in another alphabet, as in slang, is not made of look-alikes only.
    few = "latin" if scripts.count("latin") < scripts.count(foreign) else foreign
    intruders = [c for c, script in zip(word, scripts, strict=True) if script == few]
    look_alikes = _LATIN_LOOK_ALIKES if few == "latin" else _LOOK_ALIKES[foreign]
    return len(word) > 2 and all(c in look_alikes for c in intruders)


def _imitates_with_greek(word: str, scripts: list[str]) -> bool:
    """Greek letters are at home in science (TNFα, μm, ΔG): only those that hide in a Latin word count."""
    if scripts.count("greek") > scripts.count("latin"):
        return any(c in "oaeiuvpxkAEBHKMNOPTXZ" for c in word) and len(word) > 4
    for at, (character, script) in enumerate(zip(word, scripts, strict=True)):
        if script != "greek":
            continue
        around = word[max(0, at - 1) : at] + word[at + 1 : at + 2]
        if character in "ο\u03f2\u03f3":
            return True
        if character in _LOOK_ALIKES["greek"] and len(word) > 2 and character not in "ΒΧ":
            return True
        inside = len(around) == 2 and around.isascii() and around.islower()
        if character in _LOWER_GREEK and inside and sum(c.isascii() and c.islower() for c in word) > 3:
            return True
    return False
