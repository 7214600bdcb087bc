"""BM25, the lexical baseline that a trained model has to be compared with (Robertson and Zaragoza 2009)."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

K1 = 1.2
B = 0.75

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Lower-cased runs of letters, digits and underscores. No stemming, no stop words."""
    return _WORD.findall(text.lower())


@dataclass(frozen=True, slots=True)
class Collection:
    """What BM25 has to know of all texts to score any of them.

    texts: how many there are;  mean_words: their mean length;  holding: word -> texts that hold it
    """

    texts: int
    mean_words: float
    holding: Counter[str]

    @classmethod
    def of(cls, texts: Iterable[str], asked: set[str]) -> "Collection":
        """Count in one pass; only the words ``asked`` for are in ``holding``."""
        count = total = 0
        holding: Counter[str] = Counter()
        for text in texts:
            found = words(text)
            count, total = count + 1, total + len(found)
            holding.update(asked.intersection(found))
        return cls(count, total / max(count, 1), holding)


class Bm25:
    """An inverted index over N texts, with Lucene's idf, which is never negative.

    within: what is known of the collection of which the texts are a part; unset: they are all there is
    """

    def __init__(self, texts: Iterable[str], within: Collection | None = None) -> None:
        postings: dict[str, tuple[list[int], list[int]]] = {}
        lengths = []
        for number, text in enumerate(texts):
            counts = Counter(words(text))
            lengths.append(counts.total())
            for word in counts if within is None else counts.keys() & within.holding.keys():
                numbers, frequencies = postings.setdefault(word, ([], []))
                numbers.append(number)
                frequencies.append(counts[word])
        if within is None:
            holding = Counter({word: len(numbers) for word, (numbers, _) in postings.items()})
            within = Collection(len(lengths), sum(lengths) / max(len(lengths), 1), holding)
        self._within = within
        self._norm = K1 * (1 - B + B * np.asarray(lengths, dtype=np.float64) / max(within.mean_words, 1e-9))
        self._postings = {
            word: (np.asarray(numbers), np.asarray(frequencies, dtype=np.float64))
            for word, (numbers, frequencies) in postings.items()
        }

    def scores(self, query: str) -> npt.NDArray[np.float64]:
        """(N,) score of every text, 0 where it has no word of the query; a word asked for twice counts twice."""
        total = np.zeros(len(self._norm))
        # In order of the words, for sums of floats depend on it.
        for word, times in sorted(Counter(words(query)).items()):
            if word in self._postings:
                numbers, frequency = self._postings[word]
                holding = self._within.holding[word]
                idf = np.log1p((self._within.texts - holding + 0.5) / (holding + 0.5))
                total[numbers] += times * idf * frequency / (frequency + self._norm[numbers])
        return total

    def score_all(self, queries: Sequence[str]) -> npt.NDArray[np.float64]:
        """(Q, N) scores."""
        return np.stack([self.scores(query) for query in queries]) if queries else np.zeros((0, len(self._norm)))
