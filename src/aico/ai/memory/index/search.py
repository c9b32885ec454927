"""One search: from the words of a question to ranked documents, each with the reasons why."""

from dataclasses import dataclass, field

import numpy as np

from aico.ai.memory import ranking
from aico.ai.memory.candidates import Candidates
from aico.ai.memory.index.documents import EVERYTHING, DocumentTable, Filter, Scored
from aico.ai.memory.index.postings import Floats, Ints, Mask, Scorer
from aico.ai.memory.index.query import Query, QueryReader
from aico.ai.memory.index.vectors import Meaning, VectorTable
from aico.ai.memory.index.when import Window
from aico.ai.memory.weights import FITTED

CANDIDATES = 100
"""Best documents by words, and as many by meaning, that are looked at closer; a higher limit looks at as many."""
_WORDS_WEIGHED = 256
"""A whole text put as a question is answered by its first words; more would only cost time."""
_NEIGHBOURS_SHOWN = 2


@dataclass(slots=True)
class IndexState:
    """What every search needs of the documents as they are; made anew after a change."""

    scorer: Scorer
    reader: QueryReader
    links: tuple[Ints, Ints, Ints]
    everything: bool
    """Whether a search without a filter may return every row there is."""
    speakers: dict[int, str]
    name_terms: dict[int, frozenset[str]] = field(default_factory=dict)

    def speakers_named(self, asked: Query) -> list[int]:
        """The speakers whose name the question holds, or a word of it."""
        if self.speakers and not self.name_terms:
            self.name_terms = {number: self.reader.name_terms(name) for number, name in self.speakers.items()}
        sought = {term for word in asked.words for term in word.terms} if asked.content else set()
        return [number for number, terms in self.name_terms.items() if not terms.isdisjoint(sought)]


@dataclass(frozen=True, slots=True)
class Question:
    """A question as it was read."""

    asked: Query
    speakers: list[int] = field(repr=False)
    """Those it names."""
    meaning: Meaning | None = field(repr=False)
    episode_of: int | None = None
    """The row of `Filter.episode_of`, None where it is not there."""
    when: Window | None = None
    """The time it names."""


class Search:
    """One question put to one state of the index."""

    def __init__(
        self, table: DocumentTable, state: IndexState, vectors: VectorTable, question: Question, where: Filter
    ) -> None:
        self._table, self._state, self._vectors = table, state, vectors
        self._asked, self._speakers, self._meaning = question.asked, question.speakers, question.meaning
        self._when = question.when
        self._filter = None if where == EVERYTHING and state.everything else _mask(table, state, question, where)
        self._found = [state.scorer.weigh(word.terms) for word in self._asked.words[:_WORDS_WEIGHED]]
        self._chance = 0.0 if self._meaning is None else vectors.chance(self._meaning)

    def hits(self, limit: int) -> list[Scored]:
        """The best of the pool, explained."""
        found = self.candidates(max(limit, CANDIDATES))
        if not len(found):
            return []
        scores = ranking.rank(found)
        best = ranking.best(scores, limit)
        best = best[self._table.order_by_score(found.documents[best], scores[best])[:limit]]
        return [self._explained(found, place, float(scores[place])) for place in best.tolist()]

    def candidates(self, count: int) -> Candidates:
        """The `count` best by words and as many by meaning, with their neighbours, and what is known of each."""
        scores = self._word_scores()
        pool = self._pool(scores, count)
        previous, following, episode = self._state.links
        allowed = self._table.current if self._filter is None else self._filter
        around, lending = ranking.neighbourhood(pool, previous, following, allowed)
        near = _Surroundings(self._table.size, pool, around)
        by_word = np.empty((len(self._found), len(near.documents)), np.float32)
        for word, found in enumerate(self._found):
            by_word[word] = found.at(near.wanted, near.place_of, len(near.documents))
        likeness = None if self._meaning is None else self._likeness(self._meaning, near.documents)
        column = self._table.column
        return Candidates(
            documents=pool,
            around=around,
            lending=lending,
            idf=np.array([found.idf for found in self._found], np.float32),
            by_word=by_word[:, near.of_pool],
            near_by_word=by_word[:, near.of_around],
            likeness=None if likeness is None else likeness[near.of_pool],
            near_likeness=None if likeness is None else likeness[near.of_around],
            bm25=scores[pool],
            episode=episode[pool],
            about=self._about(pool),
            is_fact=column("is_fact")[pool],
            asks=column("asks")[pool],
            from_user=column("from_user")[pool],
            lengths=column("length")[pool],
            at_us=column("at")[pool],
            in_time=None if self._when is None else self._when.shares(column("at")[pool]),
        )

    def _explained(self, found: Candidates, place: int, score: float) -> Scored:
        number = int(found.documents[place])
        return Scored(
            id=self._table.id_of(number),
            row=int(self._table.column("row")[number]),
            kind=self._table.kind_of(number),
            score=score,
            words=self._shown(found.by_word[:, place]),
            neighbours=self._lenders(found.around[:, place], found.near_by_word[:, :, place] * found.lending[:, place]),
            same_speaker=bool(found.about[place]),
            meaning=0.0 if found.likeness is None else float(ranking.meaning_shares(found.likeness[place])),
            when=str(self._when) if found.in_time is not None and found.in_time[place] == 1 else "",
        )

    def _word_scores(self) -> Floats:
        """Each document's BM25; 0 where the filter does not let it through."""
        scores = np.zeros(self._table.size, np.float32)
        for found in self._found:
            found.add_to(scores)
        if self._filter is not None:
            scores *= self._filter
        return scores

    def _pool(self, scores: Floats, count: int) -> Ints:
        """The best by words and the best by meaning, ties settled, with their neighbours."""
        seeds = ranking.best(scores, count)
        seeds = seeds[self._table.order_by_score(seeds, scores[seeds])[:count]]
        if self._meaning is not None:
            alike, cosines = self._vectors.nearest(self._meaning.question, count, self._filter)
            likeness = ranking.beyond_chance(cosines, chance=self._chance)
            likeness[likeness < FITTED.like_from] = 0
            best = ranking.best(likeness, count)
            alike, likeness = alike[best], likeness[best]
            seeds = np.concatenate([seeds, alike[self._table.order_by_score(alike, likeness)[:count]]])
        previous, following, _ = self._state.links
        allowed = self._table.current if self._filter is None else self._filter
        return ranking.widen(seeds, previous, following, allowed)

    def _likeness(self, meaning: Meaning, documents: Ints) -> Floats:
        """How like the question some documents are beyond chance; far below 0 without a vector."""
        return ranking.beyond_chance(self._vectors.cosines(meaning.question, documents), chance=self._chance)

    def _about(self, pool: Ints) -> Mask:
        """Which of the pool were said by whom the question is about."""
        about = np.isin(self._table.column("speaker")[pool], self._speakers)
        if self._asked.first_person:
            about |= self._table.column("from_user")[pool] & ~self._table.column("is_fact")[pool]
        return about

    def _lenders(self, around: Ints, lent: Floats) -> tuple[tuple[bytes, tuple[str, ...]], ...]:
        """The neighbours that lent most, given who stands around and what each lends of each word."""
        amounts = lent.sum(axis=0).tolist()
        most = sorted((place for place, amount in enumerate(amounts) if amount > 0), key=lambda place: -amounts[place])
        return tuple(
            (self._table.id_of(int(around[place])), self._shown(lent[:, place])) for place in most[:_NEIGHBOURS_SHOWN]
        )

    def _shown(self, scores: Floats) -> tuple[str, ...]:
        """The question's words that score above zero."""
        return self._asked.shown({word for word, score in enumerate(scores.tolist()) if score > 0})


class _Surroundings:
    """The pool and those around it, each document once: what signals are gathered for."""

    def __init__(self, size: int, pool: Ints, around: Ints) -> None:
        self.wanted = np.zeros(size, np.bool_)
        self.wanted[pool] = self.wanted[around] = True
        self.documents = np.flatnonzero(self.wanted).astype(np.int32)
        self.place_of = np.empty(size, np.int32)  # read where `wanted` is set only
        self.place_of[self.documents] = np.arange(len(self.documents), dtype=np.int32)
        self.of_pool, self.of_around = self.place_of[pool], self.place_of[around]


def _mask(table: DocumentTable, state: IndexState, question: Question, where: Filter) -> Mask:
    if where == EVERYTHING:
        return table.current
    mask = table.matching(where)
    if where.episode_of is not None:
        episode, number = state.links[2], question.episode_of
        mask &= episode == episode[number] if number is not None else np.False_
    return mask
