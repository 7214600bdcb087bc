"""Text of web pages, and question-answer pairs of XML in MedQuAD's layout."""

import html
import logging
import re
from collections import Counter
from collections.abc import Iterator
from xml.parsers import expat

from embedctl.data.encodings import open_text
from embedctl.data.fields import MOST_CHARACTERS, Fields
from embedctl.data.opening import TextFile
from embedctl.data.records import Record
from embedctl.errors import DataError, RefusedError

_log = logging.getLogger(__name__)

# Possessive repetition (`*+`) gives nothing back, so no page takes longer than in proportion to its length.
_TOKEN = re.compile(
    r"<!--(?:>|->|(?s:.)*?(?:--!?>|\Z))"
    r"|<[!?][^>]*+>?"
    r"|<(?P<end>/?)(?P<tag>[a-zA-Z][^\s/>]*+)(?P<attributes>(?:[^>\"']++|\"[^\"]*+\"|'[^']*+'|[\"'])*+)>?"
)
_ATTRIBUTE = re.compile(r"([^\s/>=]++)(?:\s*+=\s*+(\"[^\"]*+\"|'[^']*+'|[^\s>]*+))?+")
_UNSHOWN = re.compile(r"display\s{0,9}:\s{0,9}none|visibility\s{0,9}:\s{0,9}hidden", re.IGNORECASE)


def _words(words: str) -> frozenset[str]:
    return frozenset(words.split())


_UNSEEN = _words("script style template noscript head iframe object canvas audio video noembed")
_RAW = frozenset(("script", "style", "textarea", "title", "iframe", "noembed", "noscript"))
_VOID = _words("area base br col embed hr img input link meta param source track wbr")
_BLOCKS = _words(
    "address article aside blockquote body br center dd details dialog dir div dl dt fieldset figcaption figure footer "
    "form h1 h2 h3 h4 h5 h6 header hgroup hr html legend li main menu nav ol option p pre search section select "
    "summary table tbody textarea tfoot thead title tr ul caption"
)
_CELLS = frozenset(("td", "th"))
# An element whose end tag may be left out ends where one of these begins.
_ENDS = {
    "p": _BLOCKS - {"br", "option", "body", "html"},
    "li": {"li"},
    "dt": {"dt", "dd"},
    "dd": {"dt", "dd"},
    "td": {"td", "th", "tr", "tbody"},
    "th": {"td", "th", "tr", "tbody"},
    "tr": {"tr", "tbody", "tfoot"},
    "option": {"option", "optgroup"},
    "head": _BLOCKS - {"title"},
}
_RAW_ENDS = {tag: re.compile(rf"</{tag}(?=[\s/>])", re.IGNORECASE) for tag in _RAW}
_BREAK = "\x1f"  # a separator of no other meaning; were it in a page, it would only break a line


def read_html(file: TextFile, encoding: str, fields: Fields) -> Iterator[Record]:
    """A page is one text: what a browser would show, a line per block; its title is metadata."""
    with open_text(file, encoding) as stream:
        page = stream.read(MOST_CHARACTERS + 1)
    if len(page) > MOST_CHARACTERS:
        raise DataError(f"{file.place} has more than {MOST_CHARACTERS:,} characters, the limit of one text")
    seen = _Page()
    seen.read(page)
    yield Record(file.name, seen.text(), source=file.name, metadata={"title": seen.title} if seen.title else {})


class _Page:
    """What is seen of a page. Not a tree: a tree of hostile nesting costs minutes, this is linear."""

    def __init__(self) -> None:
        self.title = ""
        self._pieces: list[str] = []
        self._hidden: list[str] = []  # the open elements from the hidden one inwards
        self._counts: Counter[str] = Counter()  # of the tags in _hidden
        self._pre = 0

    def text(self) -> str:
        lines = (" ".join(line.split()) for line in "".join(self._pieces).split(_BREAK))
        return "\n".join(line for line in lines if line)

    def read(self, page: str) -> None:
        at = 0
        while token := _TOKEN.search(page, at):
            self._say(page[at : token.start()])
            at = token.end()
            if token["tag"] is None:
                continue
            tag = token["tag"].lower()
            if token["end"]:
                self._end(tag)
                continue
            self._start(tag, token["attributes"])
            if tag in _RAW:
                ended = _RAW_ENDS[tag].search(page, at)
                inside = page[at : ended.start() if ended else len(page)]
                at = ended.start() if ended else len(page)
                self._say_raw(tag, inside)
        self._say(page[at:])

    def _say(self, text: str) -> None:
        if text and not self._hidden:
            text = html.unescape(text) if "&" in text else text
            self._pieces.append(text.replace("\n", _BREAK) if self._pre else text)

    def _say_raw(self, tag: str, text: str) -> None:
        if tag == "title":
            self.title = self.title or " ".join(html.unescape(text).split())
        elif tag == "textarea":
            self._say(text)

    def _start(self, tag: str, attributes: str) -> None:
        if self._hidden:
            if len(self._hidden) > 1 or tag not in _ENDS.get(self._hidden[0], ()):
                if tag not in _VOID:
                    self._hide(tag)
                return
            self._show()
        if tag in _BLOCKS:
            self._pieces.append(_BREAK)
        elif tag in _CELLS:
            self._pieces.append(" ")
        if tag in _UNSEEN or tag == "title" or (attributes and _hides(attributes)):
            if tag not in _VOID:
                self._hide(tag)
        elif tag == "pre":
            self._pre += 1

    def _end(self, tag: str) -> None:
        if self._hidden:
            if self._counts[tag]:
                while (inner := self._hidden.pop()) != tag:
                    self._counts[inner] -= 1
                self._counts[tag] -= 1
                return
            if self._hidden[0] not in _ENDS and tag not in _BLOCKS:
                return
            self._show()  # the end of what holds the hidden element
        if tag in _BLOCKS:
            self._pieces.append(_BREAK)
        if tag == "pre":
            self._pre = max(0, self._pre - 1)

    def _hide(self, tag: str) -> None:
        self._hidden.append(tag)
        self._counts[tag] += 1

    def _show(self) -> None:
        self._hidden.clear()
        self._counts.clear()


def _hides(attributes: str) -> bool:
    """Whether an element with these attributes is not shown."""
    for found in _ATTRIBUTE.finditer(attributes):
        name = found[1].lower()
        if name == "hidden" or (name == "style" and found[2] and _UNSHOWN.search(found[2])):
            return True
    return False


_LAYOUT = "<Document source= url=><Focus/><QAPairs><QAPair><Question qid= qtype=/><Answer/>"
_CHUNK = 2**16


def read_xml(file: TextFile, encoding: str, fields: Fields) -> Iterator[Record]:
    """MedQuAD: each question with its answer; pairs without an answer are passed over and counted in the log."""
    pairs = _Pairs(file)
    with open_text(file, encoding) as stream:
        ended = False
        while not ended:
            chunk = stream.read(_CHUNK)
            ended = not chunk
            pairs.feed(chunk, final=ended)
            yield from pairs.take()
    if pairs.empty:
        _log.info("%s: %d questions without an answer were passed over", file.place, pairs.empty)


class _Pairs:
    """Listens to a parser; holds one question and answer at a time."""

    def __init__(self, file: TextFile) -> None:
        self._file = file
        self._parser = expat.ParserCreate("utf-8")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.EntityDeclHandler = self._entity
        self._made: list[Record] = []
        self._document: dict[str, str] | None = None
        self._question: dict[str, str] = {}
        self._texts: dict[str, list[str]] = {}
        self._within = ""
        self._length = 0
        self._fed = 0
        self._number = 0
        self.empty = 0

    def feed(self, text: str, *, final: bool) -> None:
        data = text.encode("utf-8", "replace")
        self._fed += len(data)
        try:
            self._parser.Parse(data, final)
        except expat.ExpatError as fault:
            raise DataError(f"{self._place()}: not XML: {expat.ErrorString(fault.code)}") from None
        if self._fed - max(0, self._parser.CurrentByteIndex) > MOST_CHARACTERS:
            raise DataError(f"{self._place()}: a tag of more than {MOST_CHARACTERS:,} bytes")

    def take(self) -> list[Record]:
        made, self._made = self._made, []
        return made

    def _place(self) -> str:
        return f"{self._file.place}:{self._parser.CurrentLineNumber}"

    def _entity(self, name: str, *_: object) -> None:
        raise RefusedError(f"{self._place()}: the entity {name} is declared", hint="write its text in its place")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if self._document is None:
            if tag != "Document":
                raise DataError(
                    f"{self._place()}: XML with the root <{tag:.40}>; it is read in MedQuAD's layout alone",
                    hint=f"want {_LAYOUT}, or text in another format",
                )
            self._document = attributes
        elif tag == "QAPair":
            self._question, self._number = {}, self._number + 1
            self._texts.pop("Question", None)
            self._texts.pop("Answer", None)
        elif tag in ("Focus", "Question", "Answer"):
            self._within, self._length = tag, 0
            self._texts[tag] = []
            if tag == "Question":
                self._question = attributes

    def _characters(self, text: str) -> None:
        if self._within:
            self._texts[self._within].append(text)
            self._length += len(text)
            if self._length > MOST_CHARACTERS:
                raise DataError(f"{self._place()}: a text of more than {MOST_CHARACTERS:,} characters")

    def _end(self, tag: str) -> None:
        if tag == self._within:
            self._within = ""
        elif tag == "QAPair":
            self._finish()

    def _finish(self) -> None:
        text = "".join(self._texts.get("Answer", ())).strip()
        if not text:
            self.empty += 1
            return
        query = "".join(self._texts.get("Question", ())).strip()
        about = self._document or {}
        facts = {
            "focus": "".join(self._texts.get("Focus", ())).strip(),
            "qtype": self._question.get("qtype"),
            "source": about.get("source"),
            "url": about.get("url"),
        }
        own_id = self._question.get("qid") or f"{self._file.name}:{self._number}"
        known = {name: value for name, value in facts.items() if value}
        self._made.append(Record(own_id, text, query or None, self._file.name, known))
