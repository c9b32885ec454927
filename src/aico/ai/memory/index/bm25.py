"""How well documents answer by their words: BM25, and the best of all without looking at every one that holds a frequent word."""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import log

import numpy as np
import numpy.typing as npt

from aico.ai.memory.index.postings import Floats, Ints, InvertedIndex, Mask, Places, Postings

SATURATION = 0.9
"""BM25's k1: how soon a repeated word stops counting. Chosen on conversation turns, with `LENGTH_SHARE`."""
LENGTH_SHARE = 0.4
"""BM25's b: how much a long document is held against it."""

_LISTED_SHARE = 8
"""Documents that hold a word are listed until their postings are more than one in so many documents; then all are looked at."""
_LOOKUP = 10
"""Looking up a document costs as much as adding what a word is worth to so many."""
_LISTED_FROM = 300_000
"""Of fewer documents all are looked at."""
_LOOK_PAYS_FROM = 20_000
"""Postings left: for fewer it is not worth finding out whether they could be passed over."""
_GROUPS = 8
"""Scores are looked at in so many groups for each place to be filled, and of each the best is compared."""
_ROUNDING = np.float32(1e-4)
"""Of a score: more than what adding in another order changes."""


class Scorer:
    """BM25 of one state of an index: which documents are alive, and how long they are.

    `tf·(k1+1) / (tf + k1·(1 - b + b·length/average)) · idf` summed over the words, with
    `idf = ln(1 + (N - n + ½) / (n + ½))` (Robertson and Zaragoza, "The probabilistic relevance framework:
    BM25 and beyond", 2009; the idf that cannot fall below zero is Lucene's).
    """

    def __init__(
        self, index: InvertedIndex, *, lengths: Ints, alive: Mask, alive_count: int, total_length: int
    ) -> None:
        self._index, self._lengths, self._alive, self._alive_count = index, lengths, alive, alive_count
        average = total_length / alive_count if total_length else 1.0
        self._by_length = np.float32(SATURATION * LENGTH_SHARE / average)
        self._least = np.float32(SATURATION * (1 - LENGTH_SHARE))

    def weigh(self, terms: Iterable[str]) -> "Found":
        """Where a word occurs, under any of its terms, dead documents included; the caller masks them."""
        by_term = [parts for term in terms if (parts := self._index.find(term))]
        parts = [part for parts in by_term for part in parts]
        holders = min(sum(self._count_alive(part.documents) for part in parts), self._alive_count)
        idf = log(1 + (self._alive_count - holders + 0.5) / (holders + 0.5))
        return Found(idf, parts, self, several=len(by_term) > 1)

    def worths(self, documents: Ints | Places, counts: npt.NDArray[np.uint8], idf: float) -> Floats:
        """What a word adds to documents that hold it so often."""
        worths: Floats = self._lengths[documents].astype(np.float32)
        worths *= self._by_length
        worths += self._least
        worths += counts
        np.divide(counts, worths, out=worths)
        worths *= np.float32(idf * (SATURATION + 1))
        return worths

    def most(self, counts: npt.NDArray[np.uint8], idf: float) -> float:
        """More than any of these counts is worth, however short the document."""
        count = float(counts.max())
        return idf * (SATURATION + 1) * count / (count + float(self._least)) * (1 + float(_ROUNDING))

    def _count_alive(self, documents: Ints) -> int:
        if self._alive_count == len(self._alive):
            return len(documents)
        if len(self._dead) < len(documents):
            return len(documents) - len(_common(self._dead, documents)[0])
        return int(np.count_nonzero(self._alive[documents]))

    @cached_property
    def _dead(self) -> Ints:
        return np.flatnonzero(~self._alive).astype(np.int32)


@dataclass(frozen=True, slots=True)
class Found:
    """One word of a question: how rare it is, and the documents that hold it."""

    idf: float
    parts: list[Postings] = field(repr=False)
    """One for each term and segment; a document may be in several."""
    scorer: Scorer = field(repr=False)
    several: bool = False
    """It occurs under several terms."""

    def __len__(self) -> int:
        return sum(len(part.documents) for part in self.parts)

    def most(self) -> float:
        """More than the word is worth to any document."""
        return sum(self.scorer.most(part.counts, self.idf) for part in self.parts)

    def worths(self) -> list[tuple[Places, Floats]]:
        """Documents, each in one part and once, and what the word adds to them."""
        places = [part.documents.astype(np.intp) for part in self.parts]  # NumPy would convert them at every use
        worths = [self.scorer.worths(at, part.counts, self.idf) for at, part in zip(places, self.parts, strict=True)]
        if not self.several:
            return list(zip(places, worths, strict=True))
        together = np.concatenate(places)
        order = np.argsort(together, kind="stable")
        together = together[order]
        firsts = np.flatnonzero(np.diff(together, prepend=-1))
        return [(together[firsts], np.add.reduceat(np.concatenate(worths)[order], firsts))]

    def at(self, documents: Ints) -> Floats:
        """What the word adds to some documents, ascending."""
        worths = np.zeros(len(documents), np.float32)
        for part in self.parts:
            if len(part.documents) > len(documents):
                asked, of_part = _common(documents, part.documents)
            else:
                of_part, asked = _common(part.documents, documents)
            worths[asked] += self.scorer.worths(documents[asked], part.counts[of_part], self.idf)
        return worths


def _common(sought: Ints, ascending: Ints) -> tuple[Places, Places]:
    """The numbers that occur in both: where each stands in the one and in the other."""
    places = ascending.searchsorted(sought)
    held = np.flatnonzero(ascending.take(places, mode="clip") == sought) if len(ascending) else places[:0]
    return held, places[held]


def best_by_words(words: Sequence[Found], count: int, *, size: int, allowed: Mask | None) -> tuple[Ints, Floats]:
    """Documents, ascending, and their scores: among them the `count` best of the `size` that are `allowed`, and all tied
    with the last of these.

    Rare words first. Once all the words that are left could not lift a document of none before them to the `count`-th
    place, the documents of these words are only looked up where they matter (Turtle and Flood, "Query evaluation:
    strategies and optimizations", 1995: MaxScore). Scores are those of `added_up`, to the bit.
    """
    tally = _scratch.take(size)
    found = _likely(_rarest_first(words), tally, count, allowed)
    _scratch.give_back(tally)
    return found


def added_up(words: Sequence[Found], worths: Sequence[Floats], size: int) -> Floats:
    """The sum of what each word adds to so many documents: in an order that does not tell how the documents came."""
    total, of_word = np.zeros(size, np.float32), dict(zip(map(id, words), worths, strict=True))
    for word in _rarest_first(words):
        total += of_word[id(word)]
    return total


def _rarest_first(words: Sequence[Found]) -> list[Found]:
    return sorted(words, key=lambda word: -word.idf)


def _likely(rising: Sequence[Found], tally: "_Tally", count: int, allowed: Mask | None) -> tuple[Ints, Floats]:
    bounds, sizes = [word.most() for word in rising], [len(word) for word in rising]
    for place, word in enumerate(rising, start=1):
        tally.add(word)
        left = np.float32(sum(bounds[place:]))
        if left >= sum(bounds[:place]) or sum(sizes[place:]) < _LOOK_PAYS_FROM:
            continue
        bar = tally.reached_by(count, allowed) * (1 - _ROUNDING)
        if left < bar:
            documents = tally.reaching(bar - left, allowed)
            if len(documents) * _LOOKUP * len(rising[place:]) < sum(sizes[place:]):
                scores = tally.scores[documents]
                for other in rising[place:]:
                    scores += other.at(documents)
                return documents, scores
    documents = tally.reaching(tally.reached_by(count, allowed), allowed)
    return documents, tally.scores[documents]


class _Tally:
    """Scores of documents so far: an array with one place each, and the list of those above zero while they are few."""

    def __init__(self, size: int) -> None:
        self.scores: Floats = np.zeros(size, np.float32)
        self.begin(size)

    def begin(self, size: int) -> None:
        """Begin anew, all scores being zero."""
        self._size, self._added = size, 0
        self._listed: list[Places] | None = [] if size >= _LISTED_FROM else None

    def add(self, word: Found) -> None:
        """Add what a word is worth, wherever it occurs."""
        self._added += len(word)
        if self._added * _LISTED_SHARE > self._size:
            self._listed = None
        for documents, worths in word.worths():
            if self._listed is None:
                self.scores[documents] += worths
            else:
                before = self.scores[documents]
                self._listed.append(documents[before == 0])
                before += worths
                self.scores[documents] = before

    def reached_by(self, count: int, allowed: Mask | None) -> np.float32:
        """What `count` of the allowed documents reach or pass; 0 where so few have a score."""
        _, scores = self._all(allowed)
        groups = _GROUPS * count
        if (
            len(scores) > 2 * groups
        ):  # the best of each group: there are as many documents as reach the `count`-th of these
            scores = scores[: len(scores) // groups * groups].reshape(-1, groups).max(axis=0)
        return np.float32(np.partition(scores, -count)[-count] if len(scores) > count else 0)

    def reaching(self, bar: np.float32, allowed: Mask | None) -> Ints:
        """The allowed documents with at least that score and above 0, ascending."""
        listed, scores = self._all(allowed)
        places = np.flatnonzero(scores >= bar if bar > 0 else scores > 0)
        if listed is None:
            return places.astype(np.int32)
        documents = listed[places].astype(np.int32)
        documents.sort()
        return documents

    def clear(self) -> None:
        """Make all scores zero."""
        if self._listed is None:
            self.scores[: self._size] = 0
        for documents in self._listed or ():
            self.scores[documents] = 0

    def _all(self, allowed: Mask | None) -> tuple[Places | None, Floats]:
        """The listed documents, None for all there are, and their scores, 0 where one is not allowed."""
        if self._listed is None:
            scores = self.scores[: self._size]
            return None, scores if allowed is None else scores * allowed
        self._listed = [np.concatenate(self._listed)] if len(self._listed) > 1 else self._listed
        documents = self._listed[0] if self._listed else np.empty(0, np.intp)
        scores = self.scores[documents]
        if allowed is not None:
            scores *= allowed[documents]
        return documents, scores


class _Scratch(threading.local):
    """The tally of one thread: an array as large as an index would cost more to make than most searches take."""

    def __init__(self) -> None:
        self._tally: _Tally | None = None

    def take(self, size: int) -> _Tally:
        """A tally of nothing. Whoever is interrupted never gives it back."""
        tally, self._tally = self._tally, None
        if tally is None or not size <= len(tally.scores) <= 2 * size:
            return _Tally(size)
        tally.begin(size)
        return tally

    def give_back(self, tally: _Tally) -> None:
        """Keep it for the next search."""
        tally.clear()
        self._tally = tally


_scratch = _Scratch()
