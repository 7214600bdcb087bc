"""Markup: of a page what is seen of it, of XML its pairs, and no page takes long."""

from collections.abc import Callable
from time import process_time

import pytest

from embedctl.errors import DataError, RefusedError
from tests.sources import read, said, write
from tests.test_linear_time import is_linear

__all__ = ["said"]  # a fixture

PAGE = """<!DOCTYPE html><html><head><title>A &amp; B</title><style>p{}</style><script>var x = "</p>";</script></head>
<body><!-- not <p>this</p> --><h1>Head
line</h1><p>One <b>bo</b>ld &eacute; 1 &lt; 2<p>Two<br>three <span style="color:red; display: none">no</span>
<div hidden>no<div>no</div>no</div><ul><li>a<li hidden>no<li>b</ul><noscript>no</noscript><template>no</template>
<table><tr><td>c<td>d</table><pre>x
  y</pre><a title="1 > 0" href='x'>link</a> 2 <3 </body></html>"""


def test_the_text_of_a_page_is_what_is_seen():
    write("a.html", PAGE)

    (record,) = read()

    lines = ["Head line", "One bold é 1 < 2", "Two", "three", "a", "b", "c d", "x", "y", "link 2 <3"]
    assert record.text.split("\n") == lines
    assert (record.id, record.metadata) == ("a.html", {"title": "A & B"})


TAGS = ("<div>", "<b><p>", "<table>", "<p hidden>", "<!--", "<a x='", '<a "', "</p", "<p a ")
ATTRIBUTES = (" style=", " style='", " hidden2", "\ta", " ", " a=\n", " a='\" ", "=", " style='display: ")


@pytest.mark.parametrize(
    ("before", "piece"), [*(("", tag) for tag in TAGS), *(("<p", attribute) for attribute in ATTRIBUTES)]
)
def test_a_hostile_page_costs_time_in_proportion_and_no_more_than_others(before: str, piece: str):
    assert is_linear(lambda text: read_page(before + text), piece, 100_000)

    ordinary = quickest(lambda: read_page("<p a='b' c=d>words " * 5_000))
    assert quickest(lambda: read_page(before + piece * (100_000 // len(piece)))) < 20 * ordinary


def quickest(work: Callable[[], None]) -> float:
    """Seconds of the processor, of three tries."""
    seconds = []
    for _ in range(3):
        began = process_time()
        work()
        seconds.append(process_time() - began)
    return min(seconds)


def test_a_page_of_hostile_nesting_costs_time_in_proportion():
    assert is_linear(lambda text: read_page("<div hidden>" + text + text.replace("<a>", "</b>")), "<a>", 150_000)


def read_page(page: str) -> None:
    write("a.html", page)
    read()


@pytest.mark.parametrize(
    ("attributes", "seen"),
    [
        ("title='a hidden door'", True),
        ("data-hidden", True),
        ("x=hidden", True),
        ("style='color: red' title='display: none'", True),
        ("HIDDEN", False),
        ("hidden=hidden", False),
        ("a=b hidden/", False),
        ("class=x style=display:none", False),
        ("STYLE = 'color: red; Visibility : hidden'", False),
        ('title=">" style="color: red;\n display: none"', False),
    ],
)
def test_an_element_is_hidden_by_its_attributes_and_not_by_words_in_them(attributes: str, seen: bool):
    write("a.html", f"<p {attributes}>words</p>")

    assert [r.text for r in read()] == ["words" if seen else ""]


XML = """<?xml version="1.0" encoding="UTF-8"?>
<Document id="0000001_1" source="CancerGov" url="https://example.org/1"><Focus>Some Illness</Focus>
<FocusAnnotations><UMLS><CUIs><CUI>C1</CUI></CUIs></UMLS></FocusAnnotations><QAPairs>
<QAPair pid="1"><Question qid="0000001_1-1" qtype="information">What is it?</Question><Answer>  An &lt;illness&gt;.
Rare. </Answer></QAPair>
<QAPair pid="2"><Question qid="0000001_1-2" qtype="causes">Why?</Question><Answer></Answer></QAPair>
</QAPairs></Document>"""


def test_medquad_gives_a_pair_per_answer(said: pytest.LogCaptureFixture):
    write("a.xml", XML)

    (record,) = read()

    assert (record.id, record.query, record.text) == ("0000001_1-1", "What is it?", "An <illness>.\nRare.")
    about = {"source": "CancerGov", "url": "https://example.org/1"}
    assert record.metadata == {"focus": "Some Illness", "qtype": "information", **about}
    assert "1 questions without an answer were passed over" in said.text


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (
            "<rss><item/></rss>",
            DataError,
            "text/a.xml:1: XML with the root <rss>; it is read in MedQuAD's",
        ),
        ("<Document><Focus>", DataError, "text/a.xml:1: not XML: no element found"),
        ('<!DOCTYPE d [<!ENTITY a "b">]><Document/>', RefusedError, "text/a.xml:1: the entity a is declared"),
        ('<!DOCTYPE d [<!ENTITY a SYSTEM "/etc/passwd">]><Document/>', RefusedError, "text/a.xml:1: the entity a"),
    ],
)
def test_other_xml_is_refused_with_its_reason(content: str, error: type[Exception], message: str):
    write("a.xml", content)

    with pytest.raises(error) as caught:
        read()

    assert str(caught.value).startswith(message)
