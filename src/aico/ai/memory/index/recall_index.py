"""The in-memory index of one user's messages and facts, found by their words and by what they mean.

Derived from the truth and never written to disk as it is. What it answers depends only on the documents it
holds, not on how they came: adding in another order, editing and removing lead to the same ranking, to the bit.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from aico.ai.memory.index.analysis import Analyzer, date_terms, said_terms
from aico.ai.memory.index.documents import EVERYTHING, Document, DocumentTable, Filter, Scored
from aico.ai.memory.index.episodes import Episodes
from aico.ai.memory.index.languages import language
from aico.ai.memory.index.postings import InvertedIndex, Scorer
from aico.ai.memory.index.query import QueryReader, UncertainWords
from aico.ai.memory.index.search import IndexState, Search
from aico.ai.memory.index.vectors import Meaning, VectorTable, fixed_point

_MANY = 500
"""From so many documents on, a call is sorted at once instead of word by word."""
_CHUNK = 50_000
"""Documents taken in under one hold of the lock."""
_COMPACT_FROM = 1_000
"""Dead documents that may lie about in any case; beyond, as many as a quarter of all."""


class RecallIndex:
    """Finds messages and facts by their words, and by their vectors as far as it has them.

    Thread rule: any thread may call any method; one lock inside. A search sees every `add` and `remove`
    that returned before it began.
    """

    def __init__(self, *, episode_gap_s: int = 10_800) -> None:
        self._lock = threading.Lock()
        self._number_of: dict[bytes, int] = {}
        self._table = DocumentTable()
        self._inverted = InvertedIndex()
        self._episodes = Episodes(self._table, gap_us=episode_gap_s * 1_000_000)
        self._analyzer = Analyzer()
        self._uncertain = UncertainWords(self._analyzer)
        self._uncertain_of: dict[int, tuple[str, ...]] = {}
        self._vectors = VectorTable()
        self._state: IndexState | None = None

    def __len__(self) -> int:
        return len(self._number_of)

    def __contains__(self, document: object) -> bool:
        return document in self._number_of

    def add(self, documents: Iterable[Document]) -> None:
        """Take in documents; one whose id is there already replaces it. Bulk is several times faster a document."""
        arriving = iter(documents)
        while chunk := list(islice(arriving, _CHUNK)):
            with self._lock:
                self._take_in(list({entry.id: entry for entry in chunk}.values()))

    def remove(self, ids: Iterable[bytes]) -> None:
        """Let go of documents; no search finds them from now on. Ids that are not there are ignored.

        Their words stay in memory, unreachable, until dead documents are dropped together.
        """
        leaving = list(ids)
        with self._lock:
            for document in leaving:
                self._let_go(document)
            self._compact_when_worth_it()

    def add_vectors(self, ids: Sequence[bytes], vectors: npt.NDArray[np.floating]) -> None:
        """Give documents unit vectors, a row each, all of one model; several where a text has several passages.

        Ids that are not there are ignored. A document keeps its vectors when it is replaced: whoever changes what it
        says drops them.
        """
        rows = fixed_point(vectors)
        with self._lock:
            known = [place for place, document in enumerate(ids) if document in self._number_of]
            self._vectors.add([self._number_of[ids[place]] for place in known], rows[known])

    def drop_vectors(self, ids: Iterable[bytes] | None = None) -> None:
        """Let go of the vectors of some documents, or of all; the documents are then found by their words."""
        with self._lock:
            if ids is None:
                self._vectors = VectorTable()
            else:
                for document in ids:
                    if document in self._number_of:
                        self._vectors.drop(self._number_of[document])

    @property
    def vector_count(self) -> int:
        """How many vectors it has."""
        return len(self._vectors)

    def search(
        self, query: str, *, limit: int = 10, where: Filter = EVERYTHING, meaning: Meaning | None = None
    ) -> list[Scored]:
        """The documents that answer best, best first, by their words and, where `meaning` is given, by their vectors.

        None when no word of the question is found and nothing is like it (`ranking.LIKE_FROM`).
        """
        with self._lock:
            state = self._ensure_state()
            asked = state.reader.read(query)
            found = Search(self._table, state, asked, where, vectors=self._vectors, meaning=meaning)
            return found.hits(limit) if limit > 0 else []

    def containing_all(self, text: str, where: Filter = EVERYTHING) -> list[bytes]:
        """The ids of every document whose own text holds every content word of `text`, without limit, oldest first.

        What is only true of a document, its date or its speaker, is not contained in it. Facts no longer
        believed are contained too unless `where.as_of_us` is given. A text without content words is
        contained nowhere; `content_words` tells.
        """
        with self._lock:
            state = self._ensure_state()
            asked = state.reader.read(text)
            if not asked.content:
                return []
            held = self._table.matching(where, believed_only=False)
            for word in asked.words:
                holders = np.zeros(len(held), np.bool_)
                for part in self._inverted.find_any(said_terms(word.terms)):
                    holders[part.documents] = True
                held &= holders
            numbers = np.flatnonzero(held)
            oldest_first = numbers[self._table.order_in_time(numbers)]
            return [self._table.id_of(number) for number in oldest_first.tolist()]

    def holds_all(self, text: str) -> Callable[[str], bool]:
        """Whether another text, which need not be in the index, holds every content word of `text`: as `containing_all`."""
        with self._lock:
            reader = self._ensure_state().reader
            asked = reader.read(text)
        wanted = [said_terms(word.terms) for word in asked.words]

        def holds(candidate: str) -> bool:
            with self._lock:
                held = reader.terms_of(candidate)
            return asked.content and not any(held.isdisjoint(terms) for terms in wanted)

        return holds

    def content_words(self, text: str) -> tuple[str, ...]:
        """The words of `text` that are not function words, as it writes them; empty when it has none."""
        with self._lock:
            asked = self._ensure_state().reader.read(text)
            return asked.shown(range(len(asked.words))) if asked.content else ()

    def _take_in(self, documents: Sequence[Document]) -> None:
        readings = [self._analyzer.read(entry.text) for entry in documents]
        first = self._table.size
        self._table.append(documents, readings)  # the last step that can refuse a document; nothing is changed then
        for number, entry in enumerate(documents, first):
            if entry.id in self._number_of:
                self._vectors.move(self._number_of[entry.id], number)
            self._let_go(entry.id)
        all_terms = (
            [
                *reading.terms,
                *date_terms(entry.at_us, entry.utc_offset_min),
                *self._name_terms(entry.speaker, reading.language),
            ]
            for entry, reading in zip(documents, readings, strict=True)
        )
        if len(documents) >= _MANY:
            self._inverted.add_many(enumerate(all_terms, first))
        else:
            for number, terms in enumerate(all_terms, first):
                self._inverted.add(number, terms)
        self._episodes.add(first, len(documents))
        for number, (entry, reading) in enumerate(zip(documents, readings, strict=True), first):
            self._number_of[entry.id] = number
            if reading.uncertain_words:
                self._uncertain_of[number] = reading.uncertain_words
                self._uncertain.add(reading.uncertain_words)
        self._state = None
        self._compact_when_worth_it()

    def _name_terms(self, speaker: str | None, code: str) -> Sequence[str]:
        return self._analyzer.name_terms(speaker, code) if speaker else ()

    def _let_go(self, document: bytes) -> None:
        number = self._number_of.pop(document, None)
        if number is not None:
            self._episodes.remove(number)
            self._table.kill(number)
            self._vectors.drop(number)
            self._uncertain.remove(self._uncertain_of.pop(number, ()))
            self._state = None

    def _compact_when_worth_it(self) -> None:
        dead = self._table.size - len(self._number_of)
        if dead <= max(_COMPACT_FROM, self._table.size // 4):
            return
        renumbered = self._table.compact()
        self._inverted.compact(renumbered)
        self._episodes.rebuild()
        self._vectors.renumber(renumbered)
        self._analyzer.forget_words()
        self._number_of = {document: int(renumbered[number]) for document, number in self._number_of.items()}
        self._uncertain_of = {int(renumbered[number]): words for number, words in self._uncertain_of.items()}
        self._state = None

    def _ensure_state(self) -> IndexState:
        if self._state is None:
            codes, prevailing = self._table.languages()
            self._state = IndexState(
                scorer=Scorer(
                    self._inverted,
                    lengths=self._table.column("length"),
                    alive=self._table.alive,
                    alive_count=self._table.alive_count,
                    total_length=self._table.total_length,
                ),
                reader=QueryReader(self._analyzer, self._uncertain, tuple(map(language, codes)), prevailing),
                links=self._episodes.links(),
                current=self._table.matching(EVERYTHING),
                speakers=self._table.speakers(),
            )
        return self._state
