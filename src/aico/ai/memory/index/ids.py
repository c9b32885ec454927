"""From the id of a document to its number: sorted arrays for most, a dictionary for the newest.

A dictionary of all would take some 150 bytes a document, and filling it is what opening a snapshot would wait for.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from aico.ai.memory.index.documents import DocumentTable

_NEWEST = 10_000
"""So many ids are kept in the dictionary before they join the others."""


class NumbersById:
    """Which living row of the table has which id. Thread rule: one thread changes it, and nobody looks meanwhile."""

    def __init__(self, table: DocumentTable) -> None:
        self._table = table
        self._newest: dict[bytes, int] = {}
        self._high: npt.NDArray[np.uint64] = np.empty(0, np.uint64)
        """The first halves of the older ids, ascending."""
        self._numbers = np.empty(0, np.int32)
        """The row of each. A row that died since is passed over."""

    def find(self, document: bytes) -> int | None:
        """The row of the document with this id, if it is there."""
        number = self._newest.get(document)
        return number if number is not None else self._find_older(document)

    def find_all(self, documents: Iterable[bytes]) -> list[int | None]:
        """The same for several."""
        return [self.find(document) for document in documents]

    def put(self, document: bytes, number: int) -> None:
        """The document is in this row now; the row it had before is dead."""
        self._newest[document] = number

    def drop(self, document: bytes) -> None:
        """The document is gone, and its row is dead."""
        self._newest.pop(document, None)

    def settle(self, *, at_once: bool = False) -> None:
        """Sort the newest in with the others, when they have become many."""
        if len(self._newest) <= _NEWEST and not at_once:
            return
        rows = np.flatnonzero(self._table.alive).astype(np.int32)
        order = np.argsort(self._table.column("id_high")[rows], kind="stable")
        self._numbers = rows[order]
        self._high = self._table.column("id_high")[self._numbers]
        self._newest = {}

    def _find_older(self, document: bytes) -> int | None:
        high = np.uint64(int.from_bytes(document[:8], "big"))
        place = int(np.searchsorted(self._high, high))
        while place < len(self._high) and self._high[place] == high:
            number = int(self._numbers[place])
            if self._table.alive[number] and self._table.id_of(number) == document:
                return number
            place += 1
        return None
