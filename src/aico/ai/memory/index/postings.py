"""Which documents hold which terms, and how often, in NumPy arrays.

Documents are numbered 0, 1, 2 … in order of arrival. Postings lie in a few sorted segments of growing size
and, for the newest documents, in small arrays per term. Only counts are stored: weights are computed when
asked (`index.bm25`), from the documents alive then, so scores never depend on the order of arrival or on what was removed.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from aico.ai.memory.index.parts import Parts, packed_names, unpacked_names

Ints: TypeAlias = npt.NDArray[np.int32]
Floats: TypeAlias = npt.NDArray[np.float32]
Mask: TypeAlias = npt.NDArray[np.bool_]
Places: TypeAlias = npt.NDArray[np.int64]

_RECENT_LIMIT = 10_000
"""Newest documents kept in arrays per term before they become a segment."""
_SEGMENT_GROWTH = 4
"""A segment joins the one before it unless that is more than this many times larger."""
_TERM_SHIFT = 32
_COUNT_BITS = 8
_BYTES_A_TERM, _BYTES_NEWEST = 120, 80
"""What a term takes in its dictionary, and a document among the newest for each of its terms, about."""
_MAX_COUNT = 255
"""More repeats than this do not change a score."""


@dataclass(frozen=True, slots=True)
class Postings:
    """The documents that hold one term, ascending, and how often each does."""

    documents: Ints
    counts: npt.NDArray[np.uint8]


class _Numbering(dict[str, int]):
    """Term to number, growing with every new term."""

    def __missing__(self, term: str) -> int:
        number = self[term] = len(self)
        return number


class _Segment:
    """Postings of a run of documents, sorted by term, then document."""

    def __init__(self, starts: Places, documents: Ints, counts: npt.NDArray[np.uint8]) -> None:
        self.starts, self.documents, self.counts = starts, documents, counts

    @classmethod
    def of_sorted(cls, terms: Ints, documents: Ints, counts: npt.NDArray[np.uint8]) -> "_Segment":
        """From the term of every posting, ascending."""
        term_count = int(terms[-1]) + 1 if len(terms) else 0
        return cls(np.searchsorted(terms, np.arange(term_count + 1)), documents, counts)

    def __len__(self) -> int:
        return len(self.documents)

    def find(self, term: int) -> Postings | None:
        if term + 1 >= len(self.starts):
            return None
        first, last = self.starts[term], self.starts[term + 1]
        return Postings(self.documents[first:last], self.counts[first:last]) if last > first else None


class InvertedIndex:
    """Term to documents, with counts. Thread rule: one thread at a time."""

    def __init__(self) -> None:
        self._numbering = _Numbering()
        self._segments: list[_Segment] = []
        self._recent: dict[int, array[int]] = {}
        """Per term, each document's number and count in one integer: half the work of two arrays."""
        self._recent_documents = 0

    def add(self, document: int, terms: Sequence[str]) -> None:
        """Take in one document; its number is higher than all before it."""
        recent, number, packed = self._recent, self._numbering, document << _COUNT_BITS
        for term, count in Counter(terms).items():
            entry = recent.get(number[term])
            if entry is None:
                entry = recent[number[term]] = array("q")
            entry.append(packed | (count if count < _MAX_COUNT else _MAX_COUNT))
        self._recent_documents += 1
        if self._recent_documents >= _RECENT_LIMIT:
            self._settle_recent()

    def add_many(self, documents: Iterable[tuple[int, Sequence[str]]]) -> None:
        """Take in many documents at once, numbered upwards: one integer sort instead of one step a word."""
        self._settle_recent()
        number = self._numbering.__getitem__
        flat = array("q")
        for document, terms in documents:
            flat.extend([term << _TERM_SHIFT | document for term in map(number, terms)])
        keys, counts = np.unique(np.frombuffer(flat, np.int64), return_counts=True)
        terms_of, documents_of = (keys >> _TERM_SHIFT).astype(np.int32), keys.astype(np.int32)
        self._push(_Segment.of_sorted(terms_of, documents_of, np.minimum(counts, _MAX_COUNT).astype(np.uint8)))

    def find(self, term: str) -> list[Postings]:
        """Where a term occurs: parts in ascending order of documents, dead ones included."""
        number = self._numbering.get(term)
        if number is None:
            return []
        parts = [part for segment in self._segments if (part := segment.find(number)) is not None]
        if (recent := self._recent.get(number)) is not None:
            parts.append(_unpacked([recent]))
        return parts

    def find_any(self, terms: Iterable[str]) -> list[Postings]:
        """Where any of some terms occurs; a document that holds several is in several parts."""
        return [part for term in terms for part in self.find(term)]

    def size_bytes(self) -> int:
        """About how much memory it takes."""
        segments = sum(len(segment) * 5 + segment.starts.nbytes for segment in self._segments)
        return segments + len(self._numbering) * _BYTES_A_TERM + self._recent_documents * _BYTES_NEWEST * 10

    def parts(self, renumbered: Ints | None = None) -> Parts:
        """All postings in one segment, with the names of their terms. With `renumbered` dead documents (-1) are dropped,
        the others get their new numbers, and terms that none of them holds are forgotten."""
        merged = _Segment(*_NOTHING)
        for segment in [*self._segments, *self._recent_segments()]:
            merged = _joined(merged, segment)
        starts, documents, counts, names = merged.starts, merged.documents, merged.counts, list(self._numbering)
        if renumbered is not None:
            documents = renumbered[merged.documents]
            alive = documents >= 0
            before = np.concatenate([[0], np.cumsum(alive)])  # how many postings stay before each place
            of_term = np.diff(before[starts])
            held = np.flatnonzero(of_term)
            names = [names[number] for number in held.tolist()]
            starts = np.concatenate([[0], np.cumsum(of_term[held])])
            documents, counts = documents[alive], counts[alive]
        return {"terms": packed_names(names), "starts": starts, "documents": documents, "counts": counts}

    @classmethod
    def of_parts(cls, parts: Parts) -> "InvertedIndex":
        """What `parts` gave."""
        made = cls()
        names = unpacked_names(parts["terms"])
        made._numbering = _Numbering(zip(names, range(len(names)), strict=True))
        segment = _Segment(parts["starts"], parts["documents"], parts["counts"])
        made._segments = [segment] if len(segment) else []
        return made

    def copy_for_parts(self) -> "InvertedIndex":
        """A copy of all that `parts` reads: what comes later does not change it."""
        copied = InvertedIndex()
        copied._numbering = _Numbering(self._numbering)
        copied._segments = [*self._segments, *self._recent_segments()]
        return copied

    def _settle_recent(self) -> None:
        for segment in self._recent_segments():
            self._push(segment)
        self._recent, self._recent_documents = {}, 0

    def _recent_segments(self) -> "list[_Segment]":
        """The newest documents as a segment, if there are any."""
        if not self._recent:
            return []
        numbers = sorted(self._recent)
        entries = [self._recent[number] for number in numbers]
        postings = _unpacked(entries)
        terms = np.repeat(np.array(numbers, np.int32), [len(entry) for entry in entries])
        return [_Segment.of_sorted(terms, postings.documents, postings.counts)]

    def _push(self, segment: _Segment) -> None:
        """Keep segments few: sizes fall by `_SEGMENT_GROWTH` or more, so each posting moves a few times only."""
        while self._segments and len(self._segments[-1]) <= _SEGMENT_GROWTH * len(segment):
            segment = _joined(self._segments.pop(), segment)
        self._segments.append(segment)


_NOTHING = (np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.uint8))


def _unpacked(entries: "list[array[int]]") -> Postings:
    """The postings of recent entries, copied: a view would keep an array from growing while anyone holds it."""
    packed = np.concatenate([np.frombuffer(entry, np.int64) for entry in entries])
    return Postings((packed >> _COUNT_BITS).astype(np.int32), (packed & _MAX_COUNT).astype(np.uint8))


def _joined(older: _Segment, newer: _Segment) -> _Segment:
    """Both in one. Every document of `newer` has a higher number, so within a term its postings follow the older ones."""
    if not len(older) or not len(newer):
        return older if len(older) else newer
    term_count = max(len(older.starts), len(newer.starts)) - 1
    old, new = (_up_to(segment.starts, term_count) for segment in (older, newer))
    at_old = np.arange(len(older)) + np.repeat(new[:-1], np.diff(old))
    at_new = np.arange(len(newer)) + np.repeat(old[1:], np.diff(new))
    documents, counts = np.empty(len(older) + len(newer), np.int32), np.empty(len(older) + len(newer), np.uint8)
    documents[at_old], documents[at_new] = older.documents, newer.documents
    counts[at_old], counts[at_new] = older.counts, newer.counts
    return _Segment(old + new, documents, counts)


def _up_to(starts: Places, term_count: int) -> Places:
    """The starts of so many terms: those that a segment does not have begin and end at its end."""
    return np.concatenate([starts, np.full(term_count + 1 - len(starts), starts[-1])])
