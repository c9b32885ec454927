"""From text to terms: find the language, stem its words, fold their accents.

The same text always gives the same terms, whatever was analysed before it; the index can then be rebuilt
in any order and rank alike. Terms that do not come from the text itself carry a mark no word can hold
(`day:`, `month:`, `year:`, `name:`), so that "May" said and said in May stay apart.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from hashlib import blake2b
from itertools import chain

import pycld2
import Stemmer

from aico.ai.memory.index.languages import DEFAULT_OF_SCRIPT, known_code, language
from aico.ai.memory.index.scripts import (
    fold_accents,
    fold_case,
    folded_words,
    has_cut_up,
    has_kana,
    is_cut_up,
    normalise,
    pieces,
    script_of,
    words_with_places,
)
from aico.clock import EPOCH

_DIGIT = re.compile(r"\d")
_YEARS = frozenset(map(str, range(1900, 2100)))
_UNDETECTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")

_MINUTE_US = 60_000_000
_DAY_US = 24 * 60 * _MINUTE_US
_UNCERTAIN_WORDS = 64
"""A longer text that the detector is not sure of is hardly in a language at all."""
_LONGEST_WORD = 100
_QUESTION_MARKS = ("?", "؟")

_DETECTED_CHARACTERS = 2_000
"""A message's beginning tells its language; detecting 10 MB would only cost time."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the index keeps of one text."""

    language: str
    certain: bool
    """The detector was sure; otherwise `language` is the default of the text's script."""
    terms: list[str]
    asks: bool
    """It holds a question."""
    tells_time: bool = False
    """It holds a word for a time: "yesterday", "May", "2023"."""
    tells_amount: bool = False
    """It holds a number."""
    uncertain_words: tuple[str, ...] = ()
    """The distinct words of a text whose language is not certain, as they are written but case-folded."""


class Analyzer:
    """Reads texts. Every distinct word is stemmed once a language. Thread rule: one thread at a time."""

    def __init__(self) -> None:
        self._caches: dict[str, _TermCache] = {}
        self._names: dict[tuple[str, str], tuple[str, ...]] = {}
        self._telling: dict[str, tuple[frozenset[str], frozenset[str]]] = {}

    def read(self, text: str) -> Reading:
        """The text's language and terms, repeats included, in order."""
        normalised = normalise(text)
        detected = detect_language(normalised)
        code = detected or default_language(normalised)
        words = folded_words(normalised)
        terms = self._terms(words, normalised, code)
        asks = any(mark in normalised for mark in _QUESTION_MARKS)
        uncertain = () if detected or len(words) > _UNCERTAIN_WORDS else tuple(dict.fromkeys(words))
        times, numbers = self._telling_terms(code)
        tells_amount = _DIGIT.search(normalised) is not None or not numbers.isdisjoint(terms)
        return Reading(code, detected is not None, terms, asks, not times.isdisjoint(terms), tells_amount, uncertain)

    def name_terms(self, name: str, code: str) -> tuple[str, ...]:
        """The marked terms of who spoke: the words of the name, as they are and stemmed."""
        known = self._names.get((name, code))
        if known is None:
            normalised = normalise(name)
            words = folded_words(normalised)
            terms = {*map(fold_accents, words), *self._terms(words, normalised, code)}
            known = tuple(sorted(f"name:{term}" for term in terms))
            self._names[name, code] = known
        return known

    def term(self, word: str, code: str) -> str:
        """The term of one case-folded word in a language."""
        return self._cache(code)[word]

    def forget_words(self) -> None:
        """Drop every word seen so far; they are stemmed anew when they come again."""
        self._caches.clear()
        self._names.clear()

    def _telling_terms(self, code: str) -> tuple[frozenset[str], frozenset[str]]:
        """The terms that tell a time in a language, and those of its number words; "a" is none."""
        known = self._telling.get(code)
        if known is None:
            entry = language(code)
            numbers = entry.numbers.keys() - entry.stop_words
            times, amounts = (
                frozenset(self.term(word, code) for word in words) for words in (entry.time_words, numbers)
            )
            known = self._telling[code] = (times | _YEARS, amounts)
        return known

    def _cache(self, code: str) -> "_TermCache":
        cache = self._caches.get(code)
        if cache is None:
            cache = self._caches[code] = _TermCache(code)
        return cache

    def _terms(self, words: list[str], normalised: str, code: str) -> list[str]:
        parts: Iterable[str] = words
        if has_cut_up(normalised):
            parts = chain.from_iterable(_kept_pieces(word) if is_cut_up(word) else (word,) for word in words)
        return list(map(self._cache(code).__getitem__, parts))


def _kept_pieces(word: str) -> Iterator[str]:
    return (piece for piece, _ in pieces(word, asked=False))


class _TermCache(dict[str, str]):
    """Case-folded word to term in one language; a word in another script is stemmed by that script's default."""

    def __init__(self, code: str) -> None:
        super().__init__()
        self._irregular = language(code).irregular
        self._stem_of_script = {language(code).script: _stemmer(code)}

    def __missing__(self, word: str) -> str:
        if len(word) > _LONGEST_WORD:
            # No word of a language: its beginning and a digest say as much, and are not worth keeping.
            return f"{word[:32]}-{blake2b(word.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"
        script = script_of(word)
        stem = self._stem_of_script.get(script)
        if stem is None:
            stem = self._stem_of_script[script] = _stemmer(DEFAULT_OF_SCRIPT.get(script, ""))
        term = self[word] = fold_accents(stem(self._irregular.get(word, word))) or word
        return term


def _stemmer(code: str) -> Callable[[str], str]:
    """A stemmer of its own for the caller, as Snowball's are not made for several threads."""
    algorithm = language(code).stemmer
    if algorithm not in Stemmer.algorithms():
        return str
    stem: Callable[[str], str] = Stemmer.Stemmer(algorithm, 0).stemWord
    return stem


def detect_language(normalised: str) -> str | None:
    """The code of the text's language when the detector is sure of it and we know the language."""
    head = normalised[:_DETECTED_CHARACTERS]
    try:
        reliable, _, found = pycld2.detect(head, isPlainText=True)
    except (pycld2.error, UnicodeEncodeError):
        return _detect_cleaned(head)
    return known_code(found[0][1]) if reliable else None


def _detect_cleaned(head: str) -> str | None:
    try:
        reliable, _, found = pycld2.detect(_UNDETECTABLE.sub(" ", head), isPlainText=True)
    except pycld2.error:
        return None
    return known_code(found[0][1]) if reliable else None


def default_language(normalised: str) -> str:
    """The language taken for a text whose language is not certain: its script's, English for no script."""
    if normalised.isascii():
        return "en"
    if has_kana(normalised):
        return "ja"
    found = (DEFAULT_OF_SCRIPT.get(script_of(word)) for word, _ in words_with_places(fold_case(normalised)))
    return next(filter(None, found), "en")


@lru_cache(maxsize=4096)
def _calendar_terms(days: int) -> tuple[str, ...]:
    day = EPOCH + timedelta(days=days)
    return (f"day:{day.day}", f"month:{day.month}", f"year:{day.year}")


def date_terms(at_us: int, utc_offset_min: int) -> tuple[str, ...]:
    """The day, month and year a text was said in, on its author's clock; nothing for an instant no calendar has."""
    try:
        return _calendar_terms((at_us + utc_offset_min * _MINUTE_US) // _DAY_US)
    except OverflowError:
        return ()


def said_terms(terms: Iterable[str]) -> list[str]:
    """Those of the terms that a text itself holds, without its date and speaker."""
    return [term for term in terms if ":" not in term]
