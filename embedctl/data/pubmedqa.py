"""PubMedQA: a question, the abstract that answers it, and how; the same from its files as from the Hub."""

from typing import Any

from embedctl.data.fields import plain, without_surrogates
from embedctl.data.records import Record
from embedctl.errors import DataError


def article(
    pubmed_id: str, question: Any, contexts: Any, *, where: str, answer: Any, conclusion: Any, meshes: Any
) -> Record:
    """The record of one article.

    where: how an error calls it; answer, conclusion, meshes: metadata, of which any may be missing
    """
    if not isinstance(question, str) or not isinstance(contexts, list):
        raise DataError(f"{where}: want a question and a list of contexts", hint="is this PubMedQA?")
    known = {"answer": answer, "conclusion": conclusion, "meshes": meshes}
    metadata = {name: plain(value) for name, value in known.items() if value}
    text = without_surrogates("\n".join(str(part) for part in contexts))
    return Record(without_surrogates(pubmed_id), text, without_surrogates(question), "pubmedqa", metadata)
