"""Vectors in 4 bits for every two numbers: which rows are likely the nearest, for a fraction of what reading all costs.

Product quantisation (Jégou, Douze and Schmid, 2011) with the 4-bit fast scan of André, Kermarrec and Le Scouarnec (2015),
as `faiss` has it. What it names is compared again by the rows themselves, so no score depends on it.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

_TRAINED_ON = 10_000
"""Rows that the code book is made from; more made no difference."""
_ROUNDS = 10
_ROWS_AT_ONCE = 4096

Rows = npt.NDArray[np.int16]
Places = npt.NDArray[np.int64]
Packed = npt.NDArray[np.uint8]


class Codes:
    """The codes of the first rows of a table. Never changed once made, but `and_more` gives a longer one.

    Any thread may search. A row of n numbers takes n / 4 bytes.
    """

    def __init__(self, engine: Any) -> None:  # an index of faiss, which has no types
        self._engine = engine

    def __len__(self) -> int:
        return int(self._engine.ntotal)

    @classmethod
    def trained(cls, sample: Rows) -> "Codes":
        """A code book made from some rows, and no codes yet. Takes about a second; `faiss` must be there."""
        faiss, dimension = _faiss(), sample.shape[1]
        engine = faiss.IndexPQFastScan(dimension, dimension // 2, 4, faiss.METRIC_INNER_PRODUCT)
        engine.pq.cp.niter = _ROUNDS
        engine.train(sample[:_TRAINED_ON].astype(np.float32))
        return cls(engine)

    def and_more(self, blocks: Iterable[Rows]) -> "Codes":
        """These codes, and those of further rows."""
        longer = _faiss().clone_index(self._engine)
        for rows in blocks:
            for first in range(0, len(rows), _ROWS_AT_ONCE):
                longer.add(rows[first : first + _ROWS_AT_ONCE].astype(np.float32))
        return Codes(longer)

    def emptied(self) -> "Codes":
        """The code book alone."""
        book = _faiss().clone_index(self._engine)
        book.reset()
        return Codes(book)

    def likely(self, question: Rows, count: int) -> Places:
        """The numbers of about the `count` rows nearest to the question, in no order."""
        found: Places = self._engine.search(question.astype(np.float32)[None], min(count, len(self)))[1][0]
        return found[found >= 0]

    def packed(self) -> Packed:
        """As bytes that `unpacked` takes."""
        packed: Packed = _faiss().serialize_index(self._engine)
        return packed

    @classmethod
    def unpacked(cls, packed: Packed) -> "Codes | None":
        """What `packed` gave; None where `faiss` is missing. The bytes are trusted: hand in none that were not sealed."""
        return cls(_faiss().deserialize_index(packed)) if can_code(dimension=2) else None


def can_code(*, dimension: int) -> bool:
    """Whether vectors of this length can be coded here: the extra `embed` is installed."""
    return dimension % 2 == 0 and _installed()


@cache
def _installed() -> bool:
    try:
        _faiss()
    except ImportError:
        return False
    return True


def _faiss() -> Any:
    import faiss  # heavy, and only for many vectors

    return faiss
