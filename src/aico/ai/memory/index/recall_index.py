"""The in-memory index of one user's messages and facts, found by their words and by what they mean.

Derived from the truth and never written to disk as it is. What it answers depends only on the documents it
holds, not on how they came: adding in another order, editing and removing lead to the same ranking, to the bit.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from aico.ai.memory.candidates import Candidates
from aico.ai.memory.index.analysis import Analyzer, date_terms, said_terms
from aico.ai.memory.index.bm25 import Scorer
from aico.ai.memory.index.documents import EVERYTHING, Document, DocumentTable, Filter, Scored
from aico.ai.memory.index.episodes import Episodes
from aico.ai.memory.index.ids import NumbersById
from aico.ai.memory.index.languages import language
from aico.ai.memory.index.parts import inside
from aico.ai.memory.index.postings import InvertedIndex, Mask
from aico.ai.memory.index.query import Query, QueryReader, QueryWord
from aico.ai.memory.index.scripts import fold_case, normalise
from aico.ai.memory.index.search import CANDIDATES, IndexState, Lift, Question, Search
from aico.ai.memory.index.sharing import SharedLock
from aico.ai.memory.index.snapshot import Frozen, Head, Source, read_parts, vectors_of
from aico.ai.memory.index.uncertain import UncertainWords
from aico.ai.memory.index.vectors import Meaning, VectorTable, fixed_point
from aico.ai.memory.index.when import DAY_US, Window, beside_meant, window_meant
from aico.errors import IndexOutOfStep

_MANY = 500
"""From so many documents on, a call is sorted at once instead of word by word."""
_CHUNK = 50_000
"""Documents taken in under one hold of the lock."""
_COMPACT_FROM = 1_000
"""Dead documents that may lie about in any case; beyond, as many as a quarter of all."""

_BYTES_A_DOCUMENT = 60
"""Links, places and ids, beside what the parts of an index tell of themselves."""


class RecallIndex:
    """Finds messages and facts by their words, and by their vectors as far as it has them.

    Thread rule: any thread may call any method. Searches run side by side; a change waits for those that began before
    it. A search sees every `add` and `remove` that returned before it began.
    """

    def __init__(self, *, episode_gap_s: int = 10_800) -> None:
        self._lock = SharedLock()
        self._reading = threading.Lock()
        """Around what remembers words while it reads a question, inside the other."""
        self._gap_us = episode_gap_s * 1_000_000
        self._table = DocumentTable()
        self._numbers = NumbersById(self._table)
        self._inverted = InvertedIndex()
        self._episodes = Episodes(self._table, gap_us=self._gap_us)
        self._analyzer = Analyzer()
        self._uncertain = UncertainWords(self._analyzer)
        self._vectors = VectorTable()
        self._state: IndexState | None = None

    def __len__(self) -> int:
        return self._table.alive_count

    def __contains__(self, document: object) -> bool:
        with self._lock.shared():
            return isinstance(document, bytes) and self._numbers.find(document) is not None

    def add(self, documents: Iterable[Document]) -> None:
        """Take in documents; one whose id is there already replaces it. Bulk is several times faster a document."""
        arriving = iter(documents)
        while chunk := list(islice(arriving, _CHUNK)):
            with self._lock.alone():
                self._take_in(list({entry.id: entry for entry in chunk}.values()))

    def remove(self, ids: Iterable[bytes]) -> None:
        """Let go of documents; no search finds them from now on. Ids that are not there are ignored.

        Their words stay in memory, unreachable, until dead documents are dropped together.
        """
        leaving = list(ids)
        with self._lock.alone():
            for document in leaving:
                self._let_go(document)
            self._compact_when_worth_it()

    def add_vectors(self, ids: Sequence[bytes], vectors: npt.NDArray[np.floating]) -> None:
        """Give documents unit vectors, a row each, all of one model; several where a text has several passages.

        Ids that are not there are ignored. A document keeps its vectors when it is replaced: whoever changes what it
        says drops them.
        """
        rows = fixed_point(vectors)
        with self._lock.alone():
            numbers = [self._numbers.find(document) for document in ids]
            known = [place for place, number in enumerate(numbers) if number is not None]
            self._vectors.add([number for number in numbers if number is not None], rows[known])

    def drop_vectors(self, ids: Iterable[bytes] | None = None) -> None:
        """Let go of the vectors of some documents, or of all; the documents are then found by their words."""
        leaving = None if ids is None else list(ids)
        with self._lock.alone():
            if leaving is None:
                self._vectors = VectorTable()
                return
            for document in leaving:
                if (number := self._numbers.find(document)) is not None:
                    self._vectors.drop(number)

    @property
    def vector_count(self) -> int:
        """How many vectors it has."""
        return len(self._vectors)

    @property
    def dimension(self) -> int:
        """The length of its vectors, 0 while it never had one."""
        return self._vectors.dimension

    @property
    def coded_count(self) -> int:
        """How many rows of vectors are found by their codes; the others are all compared."""
        return self._vectors.coded

    def worth_coding(self) -> bool:
        """Whether `code_vectors` has something to do."""
        return self._vectors.worth_coding()

    def code_vectors(self) -> None:
        """Code the vectors that have come, when they are many: takes seconds for 100,000. Searches and changes go on.

        Does nothing while another thread is at it. Without the extra `embed` all vectors are compared each time.
        """
        with self._lock.alone():
            vectors = self._vectors
            work = vectors.coding()
        if work is None:
            return
        codes = None
        try:
            codes = work.run()
        finally:
            with self._lock.alone():
                vectors.take_codes(work, codes)

    def size_bytes(self) -> int:
        """About how much memory it takes."""
        with self._lock.shared():
            parts = (self._table, self._inverted, self._vectors)
            return sum(part.size_bytes() for part in parts) + _BYTES_A_DOCUMENT * self._table.size

    def freeze(self) -> Frozen:
        """The index as it is now, to be written to a snapshot while it goes on. Takes milliseconds."""
        with self._lock.alone():
            return Frozen(
                self._table.copy_for_parts(),
                self._inverted.copy_for_parts(),
                self._episodes.copy_for_parts(),
                self._uncertain.copy_for_parts(),
                self._vectors.copy_for_parts(),
            )

    @classmethod
    def of_snapshot(cls, source: Source, head: Head) -> "RecallIndex":
        """The index that was written to a snapshot. Raises what `source` raises, or IndexOutOfStep."""
        try:
            parts, blocks = read_parts(source, head)
            made = cls(episode_gap_s=head.gap_us // 1_000_000)
            made._table = DocumentTable.of_parts(inside("documents", parts))
            made._numbers = NumbersById(made._table)
            made._numbers.settle(at_once=True)
            made._inverted = InvertedIndex.of_parts(inside("postings", parts))
            made._episodes = Episodes.of_parts(made._table, inside("episodes", parts), gap_us=made._gap_us)
            made._uncertain = UncertainWords.of_parts(made._analyzer, inside("uncertain", parts))
            made._vectors = vectors_of(parts, blocks, document_count=made._table.size)
        except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as exc:
            raise IndexOutOfStep("a snapshot's arrays are not those that this release writes") from exc
        return made

    def search(
        self,
        query: str,
        *,
        limit: int = 10,
        where: Filter = EVERYTHING,
        meaning: Meaning | None = None,
        asked_at_us: int | None = None,
        lift: Lift | None = None,
    ) -> list[Scored]:
        """The documents that answer best, best first, by their words and, where `meaning` is given, by their vectors.

        Where `asked_at_us` is given, a time that the question names, as "yesterday", lifts what is of that time; `lift` may
        change the scores of the best.

        None when no word of the question is found and nothing is like it (`Weights.like_from`).
        """
        with self._ready() as state:
            found = self._search(state, query, where, meaning, asked_at_us)
            return found.hits(limit, lift) if limit > 0 else []

    def candidates(
        self, query: str, *, where: Filter = EVERYTHING, meaning: Meaning | None = None
    ) -> tuple[Candidates, list[bytes]]:
        """What a search looks at closer, before it is ranked, and the ids: for whoever fits the weights of the ranking."""
        with self._ready() as state:
            found = self._search(state, query, where, meaning).candidates(CANDIDATES)
            return found, self._table.ids_of(found.documents)

    def _search(
        self, state: IndexState, query: str, where: Filter, meaning: Meaning | None, asked_at_us: int | None = None
    ) -> Search:
        with self._reading:
            asked = state.reader.read(query)
            question = Question(
                asked,
                state.speakers_named(asked),
                meaning if len(self._vectors) else None,
                None if where.episode_of is None else self._numbers.find(where.episode_of),
            )
        if asked_at_us is not None:
            folded = fold_case(normalise(query))
            when = window_meant(folded, asked.language, asked_at_us)
            question = replace(question, when=when or self._told_by_an_event(state, folded, asked.language))
        return Search(self._table, state, self._vectors, question, where)

    def _told_by_an_event(self, state: IndexState, folded: str, code: str) -> Window | None:
        """The window of "two weeks before the wedding": counted from the day on which most was said with all words of it.

        Of several such days from the last; of words that nobody said together from as many of the first as were.
        """
        beside = beside_meant(folded, code)
        asked = None if beside is None else self._read(state, beside.event)
        if beside is None or asked is None or not asked.content:
            return None
        for count in range(len(asked.words), 0, -1):
            numbers = np.flatnonzero(self._holding_all(asked.words[:count], self._table.current))
            if len(numbers):
                days, often = np.unique(self._table.column("at")[numbers] // DAY_US, return_counts=True)
                return beside.window(int(days[often == often.max()][-1]))
        return None

    def containing_all(self, text: str, where: Filter = EVERYTHING) -> list[bytes]:
        """The ids of every document whose own text holds every content word of `text`, without limit, oldest first.

        What is only true of a document, its date or its speaker, is not contained in it. Facts no longer
        believed are contained too unless `where.as_of_us` is given. A text without content words is
        contained nowhere; `content_words` tells.
        """
        with self._ready() as state:
            asked = self._read(state, text)
            if not asked.content:
                return []
            numbers = np.flatnonzero(self._holding_all(asked.words, self._table.matching(where, believed_only=False)))
            return self._table.ids_of(numbers[self._table.order_in_time(numbers)])

    def _holding_all(self, words: Sequence[QueryWord], among: Mask) -> Mask:
        """Which of some documents hold every one of these words in their own text."""
        held = among.copy()
        for word in words:
            holders = np.zeros(len(held), np.bool_)
            for part in self._inverted.find_any(said_terms(word.terms)):
                holders[part.documents] = True
            held &= holders
        return held

    def holds_all(self, text: str) -> Callable[[str], bool]:
        """Whether another text, which need not be in the index, holds every content word of `text`: as `containing_all`."""
        with self._ready() as state:
            reader, asked = state.reader, self._read(state, text)
        wanted = [said_terms(word.terms) for word in asked.words]

        def holds(candidate: str) -> bool:
            with self._lock.shared(), self._reading:
                held = reader.terms_of(candidate)
            return asked.content and not any(held.isdisjoint(terms) for terms in wanted)

        return holds

    def content_words(self, text: str) -> tuple[str, ...]:
        """The words of `text` that are not function words, as it writes them; empty when it has none."""
        with self._ready() as state:
            asked = self._read(state, text)
            return asked.shown(range(len(asked.words))) if asked.content else ()

    def _read(self, state: IndexState, text: str) -> Query:
        with self._reading:
            return state.reader.read(text)

    def _take_in(self, documents: Sequence[Document]) -> None:
        readings = [self._analyzer.read(entry.text) for entry in documents]
        first = self._table.size
        self._table.append(documents, readings)  # the last step that can refuse a document; nothing is changed then
        self._vectors.reserve(self._table.size)
        for number, entry in enumerate(documents, first):
            self._let_go(entry.id, to=number)
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
            self._numbers.put(entry.id, number)
            self._uncertain.add(reading.uncertain_words)
        self._numbers.settle()
        self._state = None
        self._compact_when_worth_it()

    def _name_terms(self, speaker: str | None, code: str) -> Sequence[str]:
        return self._analyzer.name_terms(speaker, code) if speaker else ()

    def _let_go(self, document: bytes, *, to: int | None = None) -> None:
        """The document is gone, or in another row, which keeps its vectors."""
        number = self._numbers.find(document)
        if number is None or number == to:
            return
        if to is None:
            self._vectors.drop(number)
        else:
            self._vectors.move(number, to)
        self._numbers.drop(document)
        self._episodes.remove(number)
        self._table.kill(number)
        self._uncertain.remove(number)
        self._state = None

    def _compact_when_worth_it(self) -> None:
        dead = self._table.size - self._table.alive_count
        if dead <= max(_COMPACT_FROM, self._table.size // 4):
            return
        renumbered = self._table.renumbering()
        self._table = DocumentTable.of_parts(self._table.parts())
        self._inverted = InvertedIndex.of_parts(self._inverted.parts(renumbered))
        self._analyzer.forget_words()
        self._uncertain = UncertainWords.of_parts(self._analyzer, self._uncertain.parts(renumbered))
        self._vectors.renumber(renumbered)
        self._episodes = Episodes(self._table, gap_us=self._gap_us)
        self._episodes.rebuild()
        self._numbers = NumbersById(self._table)
        self._numbers.settle(at_once=True)
        self._state = None

    @contextmanager
    def _ready(self) -> Iterator[IndexState]:
        """Share the lock with other searches, the state being made."""
        while True:
            with self._lock.shared():
                if (state := self._state) is not None:
                    yield state
                    return
            with self._lock.alone():
                self._ensure_state()

    def _ensure_state(self) -> None:
        if self._state is not None:
            return
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
            everything=bool(self._table.current.all()),
            speakers=self._table.speakers(),
        )
