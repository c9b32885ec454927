"""What the index knows of each language: its stemmer, function words, words for "I" and "you", and months.

One TOML file a language in `languages/`, read when a message in that language first appears. The lists
are ours and hold function words only: a function word dropped from a question costs nothing, a content
word dropped from it ("work", "world") loses the memory.
"""

import tomllib
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).with_name("languages")

LANGUAGE_FILES = tuple(sorted(_FOLDER.glob("*.toml")))

KNOWN_LANGUAGES = frozenset(path.stem for path in LANGUAGE_FILES)
"""The codes (ISO 639-1) of the languages that have a file."""

DEFAULT_OF_SCRIPT: Mapping[str, str] = {
    "latin": "en", "cyrillic": "ru", "greek": "el", "arabic": "ar", "devanagari": "hi",
    "han": "zh", "kana": "ja", "hangul": "ko",
}  # fmt: skip
"""The language taken for words of a script when nothing better is known; others are left as they are."""

_SAME_AS = {"no": "nb", "nn": "nb", "ms": "id"}
"""Detector codes of close relatives that share a file."""


@dataclass(frozen=True, slots=True)
class Language:
    """One language's grammar, as far as recall needs it. All words are case-folded."""

    code: str
    script: str
    stemmer: str | None
    """The Snowball algorithm, None where words are left as they are."""
    stop_words: frozenset[str]
    first_person: frozenset[str]
    second_person: frozenset[str]
    months: Mapping[str, int]
    """Every form of every month's name, to 1..12."""
    ordinals: frozenset[str]
    """What may follow a day's number: 8th, 1er."""
    irregular: Mapping[str, str] = field(default_factory=dict)
    """Forms that no stemmer knows, to the word they are of: "went" to "go"."""
    time_phrases: tuple[str, ...] = ()
    """Regular expressions for times a question may name (`index.when`), over {number}, {day}, {weekday}, {month}, {year};
    a group in one is what names the time."""
    season_phrase: str = ""
    """One for seasons; its groups: season, last, year."""
    beside_phrase: str = ""
    """One for times told by what happened; its groups: number, day, week, month, year, before, event."""
    numbers: Mapping[str, int] = field(default_factory=dict)
    asks_when: str = ""
    """A regular expression for a question that asks for a time."""
    asks_how_many: str = ""
    """And for one that asks for an amount."""
    time_words: frozenset[str] = frozenset()
    """Words that tell when something was, years aside: "yesterday", "May"."""
    weekdays: frozenset[str] = frozenset()
    seasons: Mapping[str, int] = field(default_factory=dict)
    """Spring 0 to winter 3."""


NO_LANGUAGE = Language("", "", None, frozenset(), frozenset(), frozenset(), {}, frozenset())
"""Stands in for a script we have no language for."""


@cache
def language(code: str) -> Language:
    """The language of one of `KNOWN_LANGUAGES`; an unknown code gives `NO_LANGUAGE`. Read once a process."""
    if code not in KNOWN_LANGUAGES:
        return NO_LANGUAGE
    with (_FOLDER / f"{code}.toml").open("rb") as file:
        entry = tomllib.load(file)
    months = enumerate(entry.get("months", []), start=1)
    when = entry.get("when", {})
    numbers = (pair.split(":") for pair in when.get("numbers", "").split())
    return Language(
        code=code,
        script=entry["script"],
        stemmer=entry.get("stemmer"),
        stop_words=_word_set(entry.get("stop_words", "")),
        first_person=_word_set(entry["first_person"]),
        second_person=_word_set(entry["second_person"]),
        months={form: number for number, forms in months for form in _word_set(forms)},
        ordinals=_word_set(entry.get("ordinals", "")),
        irregular=dict(_irregular_forms(entry.get("irregular", ""))),
        time_phrases=tuple(when.get("phrases", ())),
        season_phrase=when.get("season", ""),
        beside_phrase=when.get("beside", ""),
        numbers={word: int(number) for word, number in numbers},
        asks_when=when.get("asks_when", ""),
        asks_how_many=when.get("asks_how_many", ""),
        time_words=_word_set(
            " ".join([*entry.get("months", []), *(when.get(key, "") for key in ("told_by", "weekdays"))])
        ),
        weekdays=_word_set(when.get("weekdays", "")),
        seasons={form: number for number, forms in enumerate(when.get("seasons", [])) for form in _word_set(forms)},
    )


def known_code(detected: str) -> str | None:
    """Our code for a detector's (`zh-Hant`, `no`), or None for a language without a file."""
    base = detected.partition("-")[0]
    code = _SAME_AS.get(base, base)
    return code if code in KNOWN_LANGUAGES else None


def _irregular_forms(lines: str) -> Iterator[tuple[str, str]]:
    """From "go went gone; buy bought"."""
    for entry in lines.replace("\n", ";").split(";"):
        word, *forms = unicodedata.normalize("NFKC", entry).casefold().split() or [""]
        yield from ((form, word) for form in forms)


def _word_set(words: str) -> frozenset[str]:
    return frozenset(unicodedata.normalize("NFKC", words).casefold().split())
