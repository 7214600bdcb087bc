"""The beginnings of chunks, tokenized together with the white space at the end of a prompt.

In byte-level vocabularies white space belongs to the word after it, so that the first word of a text has other tokens
after ``search_document: `` than alone. K chunks, T tokens.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from embedctl.tokens.boundaries import NO_BOUNDARY, token_boundaries
from embedctl.tokens.chunks import Cuts
from embedctl.tokens.encoding import Encoded, TextEncoder
from embedctl.tokens.engines import Ids, Offsets
from embedctl.tokens.tokenizer import Frame


@dataclass(frozen=True, slots=True)
class Beginnings:
    """What takes the place of the first tokens of K chunks.

    ids:   (K) the ids of the prompt's last white space and the first word
    first: (K,) the first of the chunk's own tokens after them
    apart: (K,) whether both were tokenized apart, since together they have more tokens than there is room for
    """

    ids: list[Ids]
    first: Offsets
    apart: npt.NDArray[np.bool_]

    @property
    def lengths(self) -> Offsets:
        """(K,) how many ids there are."""
        return np.array([len(ids) for ids in self.ids], dtype=np.int64)


def beginnings(
    encoder: TextEncoder, encoded: Encoded, cuts: Cuts, begins: Offsets, ends: Offsets, *, frame: Frame, room: int
) -> Beginnings:
    """The first word of each chunk after ``frame.lead``; the whole chunk where cuts between words are not exact.

    begins, ends: (K,) the bytes of each chunk
    room:         for so many ids of a chunk, the lead among them
    """
    first = cuts.last
    if encoder.cuts_between_words_are_exact:
        words = np.append(
            np.flatnonzero(token_boundaries(encoded.data, encoded.starts) > NO_BOUNDARY), len(encoded.ids)
        )
        first = np.minimum(words[np.searchsorted(words, cuts.first + 1)], cuts.last)
    stops = np.where(first < cuts.last, np.append(encoded.starts, 0)[first], ends)
    spans = zip(begins.tolist(), stops.tolist(), strict=True)
    found = encoder.encode([frame.lead + encoded.blob[a:b].decode() for a, b in spans])
    ids = [found.ids[a:b] for a, b in pairwise(found.offsets.tolist())]
    apart = np.diff(found.offsets) + cuts.last - first > room
    for row in np.flatnonzero(apart).tolist():
        own = encoded.ids[cuts.first[row] : first[row]]
        ids[row] = np.concatenate([np.array(frame.lead_ids, dtype=own.dtype), own])
    return Beginnings(ids, first, apart)
