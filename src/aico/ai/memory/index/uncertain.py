"""Words of messages whose language is not certain, findable by their stem in any language."""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence

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
        self._number = _Numbers(self._learn)
        self._counts = np.zeros(0, np.int32)
        """Of each word, how many living documents hold it, as far as they are counted."""
        self._held = array("i")
        """The words of one document after the other."""
        self._counted = 0
        """So many of `_held` are in the counts: counting many at once is several times faster."""
        self._ends = array("q", [0])
        self._by_stem: dict[str, dict[str, list[int]]] = {}

    def add(self, words: Iterable[str]) -> None:
        """The words of the next document, each once; none where its language is certain."""
        self._held.extend(map(self._number.__getitem__, words))
        self._ends.append(len(self._held))

    def remove(self, document: int) -> None:
        """The document is gone."""
        self._count()
        self._counts[self._held[self._ends[document] : self._ends[document + 1]]] -= 1

    def akin(self, stem: str, code: str) -> Iterator[str]:
        """The terms under which words with this stem in language `code` are indexed."""
        if code not in self._by_stem:
            by_stem = self._by_stem[code] = {}
            for number, word in enumerate(self._words):
                by_stem.setdefault(self._analyzer.term(word, code), []).append(number)
        self._count()
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
        made._number.update(zip(made._words, range(len(made._words)), strict=True))
        made._counts, made._held = parts["counts"].astype(np.int32), array("i", parts["held"].tobytes())
        made._counted = len(made._held)
        made._ends = array("q", parts["ends"].tobytes())
        return made

    def copy_for_parts(self) -> "UncertainWords":
        """A copy of all that `parts` reads: what comes later does not change it."""
        copied = UncertainWords(self._analyzer)
        copied._words, copied._held, copied._ends = self._words[:], self._held[:], self._ends[:]
        return copied

    def _learn(self, word: str) -> int:
        number = len(self._words)
        self._words.append(word)
        for code, by_stem in self._by_stem.items():
            by_stem.setdefault(self._analyzer.term(word, code), []).append(number)
        return number

    def _count(self) -> None:
        """Count the documents that have come since it was last done."""
        if self._counted == len(self._held):
            return
        if (missing := len(self._words) - len(self._counts)) > 0:
            self._counts = np.concatenate([self._counts, np.zeros(max(missing, len(self._words) // 8), np.int32)])
        held = np.array(self._held[self._counted :], np.intp)
        if len(held) > len(self._counts):
            self._counts += np.bincount(held, minlength=len(self._counts)).astype(np.int32)
        else:
            np.add.at(self._counts, held, np.int32(1))
        self._counted = len(self._held)

    @property
    def words(self) -> Sequence[str]:
        """Every word that was seen since the last time documents were renumbered."""
        return self._words


class _Numbers(dict[str, int]):
    """Word to number; a word that is not there yet is learnt."""

    def __init__(self, learn: Callable[[str], int]) -> None:
        super().__init__()
        self._learn = learn

    def __missing__(self, word: str) -> int:
        number = self[word] = self._learn(word)
        return number
