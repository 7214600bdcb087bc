"""Which encoding a file is in: its mark, else UTF-8 if all of it is, else a guess that is said aloud."""

import codecs
import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from unicodedata import category

from embedctl.data.opening import Notes, TextFile
from embedctl.data.unpacking import open_bytes

_log = logging.getLogger(__name__)

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MAGIC = (
    *(b"%PDF-", b"PK\3\4", b"\x89PNG", b"GIF87a", b"GIF89a", b"\xff\xd8\xff", b"\x7fELF", b"\x1f\x8b\x08", b"BZh"),
    *(b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a", b"\xfd7zXZ", b"\xd0\xcf\x11\xe0", b"SQLite format 3"),
    *(b"ID3", b"OggS", b"fLaC", b"PAR1", b"ARROW1", b"wOFF", b"wOF2", b"\xca\xfe\xba\xbe"),
)
# Of these some are words, with which a text may begin: PAR1 is a receptor, ID3 a way to learn trees.
_WORDS = (b"BZh", b"ID3", b"OggS", b"fLaC", b"PAR1", b"ARROW1", b"wOFF", b"wOF2", b"SQLite format 3")
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f")) + b"\x7f"
_DECLARED = re.compile(rb"""<(?:meta|\?xml)[^>]{1,200}?(?:charset|encoding)\s{0,9}=\s{0,9}["']?([\w.:-]{2,40})""", re.I)
# Encodings in which files are met; the rarer ones of the library win by chance on short texts.
_CANDIDATES = (
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "koi8_r", "koi8_u"),
    *("cp932", "euc_jp", "gb18030", "big5", "cp949", "iso8859_2", "iso8859_5", "iso8859_7", "tis_620", "cp866"),
)

_NO_TEXT = ("Cc", "Cn", "Co")  # categories of Unicode: control, unassigned, private

_HEAD_BYTES = 8192
_CHUNK_BYTES = 2**20
_SAMPLE_BYTES = 2**17
_EVIDENCE_BYTES = 24  # fewer bytes above 127 than this do not tell one encoding from another


@contextmanager
def open_text(file: TextFile, encoding: str, *, newline: str = "") -> Iterator[io.TextIOWrapper]:
    """The characters of ``file``, streaming; bytes that make no sense are U+FFFD."""
    with (
        open_bytes(file) as stream,
        io.TextIOWrapper(stream, encoding=encoding, errors="replace", newline=newline) as text,
    ):
        yield text


def find_encoding(file: TextFile, notes: Notes) -> str | None:
    """The encoding of ``file``, noted; ``None`` if it holds no text (noted as well)."""
    found = _look(file)
    if found is None:
        notes.binary.append(file.name)
        _log.info("%s is a binary file; passed over", file.place)
        return None
    notes.encodings["utf-8" if found == "utf-8-sig" else found] += 1
    if not found.startswith("utf-8"):
        _log.info("%s is read as %s", file.place, found)
    return found


def _look(file: TextFile) -> str | None:
    with open_bytes(file) as stream:
        head = stream.read(_HEAD_BYTES)
        for mark, encoding in _MARKS:
            if head.startswith(mark):
                return encoding
        if head.startswith(_MAGIC) and not (head.startswith(_WORDS) and _is_plain(head)):
            return None
        if b"\0" in head:
            return _wide(head)
        decoder = codecs.getincrementaldecoder("utf-8")()
        chunk = head
        try:
            while chunk:
                decoder.decode(chunk)
                chunk = stream.read(_CHUNK_BYTES)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as fault:
            start = max(0, fault.start - _SAMPLE_BYTES // 2)
            sample = fault.object[fault.object.find(b"\n", start, fault.start) + 1 or start :]
            sample = (sample + stream.read(_SAMPLE_BYTES))[:_SAMPLE_BYTES]
        else:
            return "utf-8"
    if _is_damaged_utf8(file):
        return "utf-8"
    return _guess(sample, head if file.format in (".html", ".htm", ".xml") else b"")


def _is_plain(head: bytes) -> bool:
    """Whether the beginning of a file holds no byte that only binary files have."""
    return head == head.translate(None, _CONTROLS) and "\ufffd" not in head[:-4].decode(errors="replace")


def _is_damaged_utf8(file: TextFile) -> bool:
    """Whether a file that is not all UTF-8 was meant as it: other encodings look like it by chance only, and seldom.

    All of it counts, not what is around the fault: one odd byte must not make another encoding of a whole book.
    """
    whole = broken = 0
    with open_text(file, "utf-8") as stream:
        while text := stream.read(_CHUNK_BYTES):
            bad = text.count("\ufffd")
            broken += bad
            whole += len(text) - len(text.encode("ascii", "ignore")) - bad
    if whole < broken:
        return False
    _log.info("%s is UTF-8 with broken places, %s of them; U+FFFD stands there", file.place, f"{broken:,}")
    return True


def _wide(head: bytes) -> str | None:
    """UTF-16 without a mark: every other byte of its Latin letters is 0. Anything else with a 0 is no text."""
    pairs = len(head) // 2
    even, odd = head[: 2 * pairs : 2].count(0), head[1::2].count(0)
    for encoding, zeros, others in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
        if zeros and zeros >= 0.2 * pairs and others <= 0.01 * pairs:
            try:
                text = codecs.getincrementaldecoder(encoding)().decode(head)
            except UnicodeDecodeError:
                return None
            # The numbers in the head of a binary file have zeros too, but are no letters.
            odd_ones = sum(category(c) in _NO_TEXT and c not in "\t\n\f\r" for c in text)
            return encoding if odd_ones <= 0.01 * len(text) else None
    return None


def _guess(sample: bytes, head: bytes) -> str:
    declared = _DECLARED.search(head)
    if declared and (known := _known(declared[1].decode("ascii"))):
        return known
    high = sum(byte > 127 for byte in sample[:4096])
    if high < _EVIDENCE_BYTES:
        # Too little to tell: the encoding of most such files, if every byte has a meaning in it.
        return "cp1252" if _decodes(sample, "cp1252") else "utf-8"
    from charset_normalizer import from_bytes

    matches = from_bytes(sample, cp_isolation=[*_CANDIDATES])
    best = matches.best()
    if best is None:
        return "cp1252"
    # The Windows code pages of Europe look alike; where none is better, the most common one.
    alike = (m for m in matches if m.encoding == "cp1252" and m.percent_chaos <= best.percent_chaos)
    return "cp1252" if any(m.percent_coherence >= best.percent_coherence for m in alike) else best.encoding


def _known(label: str) -> str | None:
    """Python's name of a text encoding; as browsers do, Latin-1 is taken for the larger Windows-1252."""
    try:
        name = codecs.lookup(label).name
        b"a".decode(name)
    except (LookupError, UnicodeError):
        return None
    if name in ("iso8859-1", "ascii"):
        return "cp1252"
    return None if name.startswith(("utf", "idna", "punycode")) or "escape" in name else name


def _decodes(sample: bytes, encoding: str) -> bool:
    try:
        sample.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
