"""From a question to the words looked for: each with every term it may be indexed under.

A short message may have been taken for the wrong language. So a question's word is looked for under its
stem in every language in use, under its own bare form, and under the terms of words of uncertain
language that share a stem with it. The terms of one word count as one word when it is weighed.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from aico.ai.memory.index.analysis import Analyzer, default_language, detect_language
from aico.ai.memory.index.languages import Language, language
from aico.ai.memory.index.scripts import fold_accents, fold_case, is_cut_up, normalise, pieces, words_with_places
from aico.ai.memory.index.uncertain import UncertainWords

_NUMBERED_MONTH = re.compile(r"(?<!\d)(1[0-2]|0?[1-9])\s?[月월]")
_ISO_DATE = re.compile(r"(?<!\d)(\d{4})-(1[0-2]|0?[1-9])-(3[01]|[12]\d|0?[1-9])(?!\d)")


@dataclass(frozen=True, slots=True)
class QueryWord:
    """One word, or one piece of a run without spaces, that a question looks for."""

    written: str
    place: int
    """Where it begins in the normalised question."""
    run: int
    """Pieces of one run share this number, so that what was found can be shown in one piece."""
    terms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """A question, analysed."""

    words: tuple[QueryWord, ...]
    content: bool
    """False when it has function words only, which are then looked for after all."""
    first_person: bool
    """It speaks of the person who asks, and not of the companion that is asked."""
    asks_when: bool = False
    """It asks for a time."""
    asks_how_many: bool = False
    """It asks for an amount."""
    language: str = ""
    """The code of the one it was read in."""

    def shown(self, found: Collection[int]) -> tuple[str, ...]:
        """The words at the indices `found` as the question wrote them; overlapping pieces are joined."""
        joined: list[tuple[int, int, str]] = []
        kept = [word for number, word in enumerate(self.words) if number in found]
        for word in sorted(kept, key=lambda word: (word.run, word.place)):
            end = word.place + len(word.written)
            if joined and joined[-1][0] == word.run and word.place < joined[-1][1]:
                overlap = joined[-1][1] - word.place
                joined[-1] = (word.run, max(end, joined[-1][1]), joined[-1][2] + word.written[overlap:])
            else:
                joined.append((word.run, end, word.written))
        return tuple(dict.fromkeys(text for _, _, text in joined))


@dataclass(frozen=True, slots=True)
class QueryReader:
    """Reads questions for an index as it stands: its languages, and its words of uncertain language."""

    analyzer: Analyzer
    uncertain: UncertainWords
    languages: tuple[Language, ...]
    """Those in use, by code."""
    prevailing: str
    """The code of the one most messages are in."""

    def read(self, text: str) -> Query:
        """The question's content words, or all its words when it has no other."""
        normalised = normalise(text)
        asked_in = self._language_of(normalised)
        found = [(word, place, fold_case(word)) for word, place in words_with_places(normalised)]
        content = [entry for entry in found if entry[2] not in asked_in.stop_words]
        dates = _date_places(normalised)
        words: dict[tuple[str, ...], QueryWord] = {}
        for run, (word, place, _) in enumerate(content or found):
            for written, offset in pieces(word, asked=True) if is_cut_up(word) else [(word, 0)]:
                terms = self._terms(written, asked_in, dates.get(place + offset))
                words.setdefault(terms, QueryWord(written, place + offset, run, terms))
        folded = [entry[2] for entry in found]
        return Query(
            tuple(words.values()),
            content=bool(content),
            first_person=_holds_any(asked_in.first_person, folded, asked_in)
            and not _holds_any(asked_in.second_person, folded, asked_in),
            asks_when=_asks(asked_in.asks_when, normalised),
            asks_how_many=_asks(asked_in.asks_how_many, normalised),
            language=asked_in.code,
        )

    def terms_of(self, text: str) -> set[str]:
        """Every term under which a question would find this text, were it a message of the index."""
        reading = self.analyzer.read(text)
        stems = (self.analyzer.term(word, entry.code) for word in reading.uncertain_words for entry in self.languages)
        return {*reading.terms, *stems}

    def name_terms(self, name: str) -> frozenset[str]:
        """Every term that a question with a word of this name would look for."""
        words = words_with_places(normalise(name))
        return frozenset(term for word, _ in words for term in self._stems(word))

    def _language_of(self, normalised: str) -> Language:
        """The language that knows most of the words as its function words; detection is unsure of short questions."""
        detected = detect_language(normalised)
        known = {entry.code: entry for entry in self.languages} | ({detected: language(detected)} if detected else {})
        folded = [fold_case(word) for word, _ in words_with_places(normalised)]
        votes = {code: sum(word in entry.stop_words for word in folded) for code, entry in known.items()}
        fallback = detected or self.prevailing
        return language(max(votes, key=lambda code: (votes[code], code == fallback, code), default=fallback))

    def _terms(self, written: str, asked_in: Language, date_term: str | None) -> tuple[str, ...]:
        terms = self._stems(written)
        terms |= {f"name:{term}" for term in terms}
        terms.update([date_term] if date_term else self._date_terms(fold_case(written), asked_in))
        return tuple(sorted(terms))

    def _stems(self, written: str) -> set[str]:
        word = fold_case(written)
        terms = {fold_accents(word), self.analyzer.term(word, default_language(word))}
        for entry in self.languages:
            stem = self.analyzer.term(word, entry.code)
            terms.add(stem)
            terms.update(self.uncertain.akin(stem, entry.code))
        return terms

    def _date_terms(self, word: str, asked_in: Language) -> Iterator[str]:
        number = word if word.isdecimal() else _without_ordinal(word, asked_in)
        if number and len(number) <= 2:
            yield f"day:{int(number)}"
        elif number and len(number) == 4:
            yield f"year:{int(number)}"
        for entry in {asked_in.code: asked_in, **{entry.code: entry for entry in self.languages}}.values():
            if word in entry.months:
                yield f"month:{entry.months[word]}"


def _asks(pattern: str, normalised: str) -> bool:
    return bool(pattern) and re.search(pattern, fold_case(normalised)) is not None


def _without_ordinal(word: str, asked_in: Language) -> str:
    digits = word.rstrip("".join(asked_in.ordinals)) if asked_in.ordinals else ""
    return digits if digits.isdecimal() and word[len(digits) :] in asked_in.ordinals else ""


def _date_places(normalised: str) -> dict[int, str]:
    """Where a number means a month, as in 2023-05-08 and 5月."""
    months = [(match.start(1), match[1]) for match in _NUMBERED_MONTH.finditer(normalised)]
    months += [(match.start(2), match[2]) for match in _ISO_DATE.finditer(normalised)]
    return {place: f"month:{int(number)}" for place, number in months}


def _holds_any(sought: frozenset[str], words: Collection[str], asked_in: Language) -> bool:
    if asked_in.script in ("han", "kana"):  # no spaces: a word stands somewhere in a run
        return any(one in word for one in sought for word in words)
    return not sought.isdisjoint(words)
