"""One search: from the words of a question to ranked documents, each with the reasons why."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from aico.ai.memory import ranking
from aico.ai.memory.candidates import Candidates
from aico.ai.memory.index.bm25 import Scorer, added_up, best_by_words
from aico.ai.memory.index.documents import EVERYTHING, FACT, MESSAGE, DocumentTable, Filter, Scored
from aico.ai.memory.index.postings import Floats, Ints, Mask, Places
from aico.ai.memory.index.query import Query, QueryReader
from aico.ai.memory.index.vectors import Apart, Meaning, VectorTable
from aico.ai.memory.index.when import Window
from aico.ai.memory.weights import FITTED

CANDIDATES = 100
"""Best documents by words, and as many by meaning, that are looked at closer; a higher limit looks at as many."""
_WORDS_WEIGHED = 256
"""A whole text put as a question is answered by its first words; more would only cost time."""
_NEIGHBOURS_SHOWN = 2


LIFTED = 50
"""How many of the best are looked at again by what is thought of them."""
Lift = Callable[[list[bytes], Floats], Floats]
"""Gives documents, by id, other scores than they have."""


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
        self._asked, self._speakers = question.asked, question.speakers
        self._when = question.when
        self._filter = None if where == EVERYTHING and state.everything else _mask(table, state, question, where)
        self._found = [state.scorer.weigh(word.terms) for word in self._asked.words[:_WORDS_WEIGHED]]
        self._seen: dict[frozenset[int], tuple[str, ...]] = {}
        meaning = question.meaning
        self._apart = None if meaning is None else vectors.set_apart(meaning, common=FITTED.common)

    def hits(self, limit: int, lift: Lift | None = None) -> list[Scored]:
        """The best of the pool, explained. `lift` has a say on those that would be among the first `LIFTED`."""
        found = self.candidates(max(limit, CANDIDATES))
        if not len(found):
            return []
        scores = ranking.rank(found)
        if lift is not None:
            first = ranking.best(scores, max(limit, LIFTED))
            scores[first] = lift(self._table.ids_of(found.documents[first]), scores[first])
        best = ranking.best(scores, limit)
        best = best[self._table.order_by_score(found.documents[best], scores[best])[:limit]]
        return self._explained(found, best, scores[best])

    def candidates(self, count: int) -> Candidates:
        """The `count` best by words and as many by meaning, with their neighbours, and what is known of each."""
        pool = self._pool(count)
        previous, following, episode = self._state.links
        allowed = self._table.current if self._filter is None else self._filter
        around, lending = ranking.neighbourhood(pool, previous, following, allowed)
        near = _Surroundings(self._table.size, pool, around)
        by_word = np.empty((len(self._found), len(near.documents)), np.float32)
        for word, found in enumerate(self._found):
            by_word[word] = found.at(near.documents)
        of_words = by_word.take(near.of_pool, axis=1)
        likeness = None if self._apart is None else self._likeness(self._apart, near.documents)
        column, places = self._table.column, pool.astype(np.intp)  # NumPy would convert them at every use
        return Candidates(
            documents=pool,
            around=around,
            lending=lending,
            idf=np.array([found.idf for found in self._found], np.float32),
            by_word=of_words,
            near_by_word=by_word.take(near.of_around, axis=1),
            likeness=None if likeness is None else likeness[near.of_pool],
            near_likeness=None if likeness is None else likeness[near.of_around],
            bm25=added_up(self._found, list(of_words), len(pool)),
            episode=episode[places],
            about=self._about(places),
            is_fact=column("is_fact")[places],
            asks=column("asks")[places],
            after_question=(around[0] >= 0) & column("asks")[around[0]],
            tells=self._tells(places),
            from_user=column("from_user")[places],
            lengths=column("length")[places],
            at_us=column("at")[places],
            in_time=None if self._when is None else self._when.shares(column("at")[places]),
        )

    def _explained(self, found: Candidates, best: Ints, scores: Floats) -> list[Scored]:
        """Some places of the pool, with their scores and the reasons why: arrays are taken apart once for all of them."""
        numbers, shares = found.documents[best], np.zeros(len(best), np.float32)
        if found.likeness is not None:
            shares = ranking.meaning_shares(found.likeness[best])
        lent = found.near_by_word[:, :, best] * found.lending[:, best]
        rows, are_facts = self._table.column("row")[numbers].tolist(), found.is_fact[best].tolist()
        words, neighbours = found.by_word[:, best].T.tolist(), self._lenders(found.around[:, best], lent)
        about, values = found.about[best].tolist(), scores.tolist()
        in_time = [False] * len(best) if found.in_time is None else (found.in_time[best] == 1).tolist()
        return [
            Scored(
                id=id_,
                row=rows[place],
                kind=FACT if are_facts[place] else MESSAGE,
                score=values[place],
                words=self._shown(words[place]),
                neighbours=neighbours[place],
                same_speaker=about[place],
                meaning=share,
                when=str(self._when) if in_time[place] else "",
            )
            for place, (id_, share) in enumerate(zip(self._table.ids_of(numbers), shares.tolist(), strict=True))
        ]

    def _pool(self, count: int) -> Ints:
        """The best by words and the best by meaning, ties settled, with their neighbours."""
        seeds, scores = best_by_words(self._found, count, size=self._table.size, allowed=self._filter)
        first = ranking.best(scores, count)
        seeds, scores = seeds[first], scores[first]
        seeds = seeds[self._table.order_by_score(seeds, scores)[:count]]
        if self._apart is not None:
            alike, cosines = self._vectors.nearest(self._apart.direction, count, self._filter)
            likeness = ranking.beyond_chance(cosines, chance=self._apart.chance, spread=self._apart.spread)
            likeness[likeness < FITTED.like_from] = 0
            best = ranking.best(likeness, count)
            alike, likeness = alike[best], likeness[best]
            seeds = np.concatenate([seeds, alike[self._table.order_by_score(alike, likeness)[:count]]])
        previous, following, _ = self._state.links
        allowed = self._table.current if self._filter is None else self._filter
        return ranking.widen(seeds, previous, following, allowed)

    def _likeness(self, apart: Apart, documents: Ints) -> Floats:
        """How like the question some documents are beyond chance; far below 0 without a vector."""
        cosines = self._vectors.cosines(apart.direction, documents)
        return ranking.beyond_chance(cosines, chance=apart.chance, spread=apart.spread)

    def _tells(self, pool: Places) -> Mask | None:
        """Which of the pool name the kind of thing that is asked for, a time or an amount; None where it is another."""
        kinds = {"tells_time": self._asked.asks_when, "tells_amount": self._asked.asks_how_many}
        asked_for = [self._table.column(name)[pool] for name, asked in kinds.items() if asked]
        return np.logical_or.reduce(asked_for) if asked_for else None

    def _about(self, pool: Places) -> Mask:
        """Which of the pool were said by whom the question is about."""
        about = np.zeros(len(pool), np.bool_)
        if self._speakers:
            about |= np.isin(self._table.column("speaker")[pool], self._speakers)
        if self._asked.first_person:
            about |= self._table.column("from_user")[pool] & ~self._table.column("is_fact")[pool]
        return about

    def _lenders(self, around: Ints, lent: Floats) -> list[tuple[tuple[bytes, tuple[str, ...]], ...]]:
        """For each hit the neighbours that lent most, given (neighbour, hit) who they are and (word, neighbour, hit) what
        each lends."""
        ids, words = self._table.ids_of(around.T.reshape(-1)), lent.transpose(2, 1, 0).tolist()
        lenders = []
        for hit, amounts in enumerate(lent.sum(axis=0).T.tolist()):
            some = [place for place, amount in enumerate(amounts) if amount > 0]
            most = sorted(some, key=amounts.__getitem__, reverse=True)[:_NEIGHBOURS_SHOWN]
            lenders.append(tuple((ids[hit * len(amounts) + place], self._shown(words[hit][place])) for place in most))
        return lenders

    def _shown(self, scores: list[float]) -> tuple[str, ...]:
        """The question's words that score above zero; hits and their neighbours mostly share them."""
        found = frozenset(word for word, score in enumerate(scores) if score > 0)
        if found not in self._seen:
            self._seen[found] = self._asked.shown(found)
        return self._seen[found]


class _Surroundings:
    """The pool and those around it, each document once: what signals are gathered for."""

    def __init__(self, size: int, pool: Ints, around: Ints) -> None:
        wanted = np.zeros(size, np.bool_)
        wanted[pool] = wanted[around] = True
        self.documents = np.flatnonzero(wanted).astype(np.int32)
        place_of = _places.of(size)
        place_of[self.documents] = np.arange(len(self.documents))
        self.of_pool, self.of_around = place_of[pool], place_of[around]


class _Places(threading.local):
    """An array of one thread to note places in, never cleared: only what was noted a moment ago is read."""

    def __init__(self) -> None:
        self._places = np.empty(0, np.intp)

    def of(self, size: int) -> Places:
        """With room for so many documents."""
        if not size <= len(self._places) <= 2 * size:
            self._places = np.empty(size, np.intp)
        return self._places[:size]


_places = _Places()


def _mask(table: DocumentTable, state: IndexState, question: Question, where: Filter) -> Mask:
    if where == EVERYTHING:
        return table.current
    mask = table.matching(where)
    if where.episode_of is not None:
        episode, number = state.links[2], question.episode_of
        mask &= episode == episode[number] if number is not None else np.False_
    return mask
