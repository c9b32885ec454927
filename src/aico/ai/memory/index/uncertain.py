"""Words of messages whose language is not certain, findable by their stem in any language."""

from array import array
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from aico.ai.memory.index.analysis import Analyzer, default_language
from aico.ai.memory.index.parts import Parts, packed_names, unpacked_names
from aico.ai.memory.index.postings import Ints


class UncertainWords:
    """Which documents hold which words of uncertain language.

    Such a message is indexed by the default language of its script. "Katzen" alone is then no German word; `akin` finds
    it for a German stem. Counts make it pass over a word that its last message took along. Documents are numbered from
    0 on as they come. Thread rule: one thread at a time, `akin` included, which remembers stems.
    """

    def __init__(self, analyzer: Analyzer) -> None:
        self._analyzer = analyzer
        self._words: list[str] = []
        self._number: dict[str, int] = {}
        self._counts = array("i")
        """Of each word, how many living documents hold it."""
        self._held = array("i")
        """The words of one document after the other."""
        self._ends = array("q", [0])
        self._by_stem: dict[str, dict[str, list[int]]] = {}

    def add(self, words: Iterable[str]) -> None:
        """The words of the next document, each once; none where its language is certain."""
        for word in words:
            number = self._number.setdefault(word, len(self._words))
            if number == len(self._words):
                self._learn(word)
            self._counts[number] += 1
            self._held.append(number)
        self._ends.append(len(self._held))

    def remove(self, document: int) -> None:
        """The document is gone."""
        for number in self._held[self._ends[document] : self._ends[document + 1]]:
            self._counts[number] -= 1

    def akin(self, stem: str, code: str) -> Iterator[str]:
        """The terms under which words with this stem in language `code` are indexed."""
        if code not in self._by_stem:
            by_stem = self._by_stem[code] = {}
            for number, word in enumerate(self._words):
                by_stem.setdefault(self._analyzer.term(word, code), []).append(number)
        for number in self._by_stem[code].get(stem, ()):
            if self._counts[number] > 0:
                word = self._words[number]
                yield self._analyzer.term(word, default_language(word))

    def parts(self, renumbered: Ints) -> Parts:
        """What is left when documents get other numbers, in their order, and those that get none (-1) go."""
        ends = np.frombuffer(self._ends, np.int64)
        lengths = np.diff(ends)
        kept = renumbered >= 0
        held = np.array(self._held, np.int32)[np.repeat(kept, lengths)]
        used, numbers, counts = np.unique(held, return_inverse=True, return_counts=True)
        return {
            "words": packed_names([self._words[number] for number in used.tolist()]),
            "counts": counts.astype(np.int32),
            "held": numbers.astype(np.int32),
            "ends": np.concatenate([[0], np.cumsum(lengths[kept])]).astype(np.int64),
        }

    @classmethod
    def of_parts(cls, analyzer: Analyzer, parts: Parts) -> "UncertainWords":
        """What `parts` gave, as it was."""
        made = cls(analyzer)
        made._words = unpacked_names(parts["words"])
        made._number = {word: number for number, word in enumerate(made._words)}
        made._counts, made._held = array("i", parts["counts"].tobytes()), array("i", parts["held"].tobytes())
        made._ends = array("q", parts["ends"].tobytes())
        return made

    def copy_for_parts(self) -> "UncertainWords":
        """A copy of all that `parts` reads: what comes later does not change it."""
        copied = UncertainWords(self._analyzer)
        copied._words, copied._held, copied._ends = self._words[:], self._held[:], self._ends[:]
        return copied

    def _learn(self, word: str) -> None:
        self._words.append(word)
        self._counts.append(0)
        for code, by_stem in self._by_stem.items():
            by_stem.setdefault(self._analyzer.term(word, code), []).append(len(self._words) - 1)

    @property
    def words(self) -> Sequence[str]:
        """Every word that was seen since the last time documents were renumbered."""
        return self._words
