"""When is meant: the span of time that a question names, "last spring", "in May 2023", "two weeks before the wedding".

The phrases of a language stand in its file, as regular expressions: only what they find is given to `dateparser`, which
alone costs a hundred times as much and takes "we" for a weekday. Without the extra `dates` seasons alone are understood.
Days are those of UTC; seasons are those of the northern half of the earth.
"""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import MAXYEAR, date, datetime
from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from aico.ai.memory.index.languages import Language, language
from aico.clock import EPOCH, from_us

DAY_US = 86_400_000_000
KEPT = 256
_YEAR = r"(?:19|20)\d\d"
_DAY = r"(?:3[01]|[12]\d|0?[1-9])(?:st|nd|rd|th|er|\.)?"
_ISO_DATE = rf"(?<!\d){_YEAR}-(?:1[0-2]|0?[1-9])-(?:3[01]|[12]\d|0?[1-9])(?!\d)"
_MONTHS_OF_SEASON = 3
_UNITS = {"day": 1, "week": 7, "month": 30, "year": 365}
"""In days: near enough for a time that is told by another."""
_LAST_MONTH = 12
_FIRST_DAY, _LAST_DAY = (day.toordinal() - EPOCH.toordinal() for day in (date.min, date.max))
_parsing = threading.Lock()  # dateparser keeps what it learns of languages in globals


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time, half open, in microseconds of UTC."""

    since_us: int
    until_us: int

    def shares(self, at_us: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float32]:
        """How well moments fit, 0 to 1: 1 inside, falling to 0 at half the window's length outside, a day at least."""
        outside = np.maximum(np.maximum(self.since_us - at_us, at_us - (self.until_us - 1)), 0)
        return np.asarray(np.clip(1 - outside / max((self.until_us - self.since_us) / 2, DAY_US), 0, 1), np.float32)

    def __str__(self) -> str:
        """ "8 May 2023", "6–12 May 2024", "March–May 2023", "2023"."""
        first, last = from_us(self.since_us), from_us(self.until_us - 1)
        whole_months = first.day == 1 and from_us(self.until_us).day == 1
        if whole_months and (first.month, last.month, first.year) == (1, _LAST_MONTH, last.year):
            return str(first.year)
        style = "{0:%B} {0.year}" if whole_months else "{0.day} {0:%B} {0.year}"
        begins, ends = style.format(first), style.format(last)
        if begins == ends:
            return begins
        if first.year != last.year:
            return f"{begins}–{ends}"
        same_month = not whole_months and first.month == last.month
        return f"{first.day if same_month else begins.removesuffix(f' {first.year}')}–{ends}"


@dataclass(frozen=True, slots=True)
class Beside:
    """A time that is told by something that happened: "two weeks before the wedding"."""

    event: str = field(repr=False)
    days: int
    """How long after it; below 0 before."""
    unit_days: int

    def window(self, day: int) -> Window | None:
        """The time that is meant where it happened on that day since 1970: as long as what is counted in."""
        since = day + self.days - (self.unit_days - 1) // 2
        return _days(since, self.unit_days)


@dataclass(frozen=True, slots=True)
class _Phrases:
    """One language's ways to name a time."""

    time: re.Pattern[str]
    season: re.Pattern[str]
    beside: re.Pattern[str]
    numbers: dict[str, str] = field(repr=False)
    first_month: dict[str, int] = field(repr=False)


def window_meant(text: str, code: str, asked_at_us: int) -> Window | None:
    """The time that a question in a language means, asked at that moment; None where it names none.

    `text` is normalised and case-folded. "When did I move?" asks for a time and names none.
    """
    phrases = _phrases(code)
    if phrases is None:
        return None
    if season := phrases.season.search(text):
        return _season(season, phrases, from_us(asked_at_us))
    if found := phrases.time.search(text):
        said = next((group for group in found.groups() if group), found[0])
        return _parsed(_with_digits(said, phrases.numbers), code, asked_at_us // DAY_US)
    return None


def beside_meant(text: str, code: str) -> Beside | None:
    """What a question tells a time by, in a text as for `window_meant`; None where it does not."""
    phrases = _phrases(code)
    found = None if phrases is None else phrases.beside.search(text)
    if phrases is None or found is None or not language(code).time_words.isdisjoint(found["event"].split()[:1]):
        return None  # "the day after tomorrow" tells of nothing that happened
    number = found["number"]
    count = 1 if number is None else int(phrases.numbers.get(number, number))
    unit_days = next(days for unit, days in _UNITS.items() if found[unit])
    return Beside(found["event"], count * unit_days * (-1 if found["before"] else 1), unit_days)


def _season(found: re.Match[str], phrases: _Phrases, now: datetime) -> Window | None:
    parts = found.groupdict()
    month = phrases.first_month[parts["season"] or parts["season_"]]
    if year := parts["year"] or parts.get("year_"):
        return _months(int(year), month, _MONTHS_OF_SEASON)
    last = bool(parts.get("last"))
    years = range(now.year, max(now.year - 3, 0), -1)
    if last and parts["last"] == "去年":
        years = range(max(now.year - 1, 1), max(now.year - 2, 0), -1)
    today = _day_number(now.date())
    for year in years:
        begun = _day_number(date(year, month, 1)) <= today
        span = _months(year, month, _MONTHS_OF_SEASON) if begun else None
        if begun and not last:
            return span
        if span is not None and span.until_us <= today * DAY_US:
            return span
    return None


def _months(year: int, month: int, count: int) -> Window | None:
    end = year * 12 + month - 1 + count
    if end // 12 > MAXYEAR:
        return None
    first = _day_number(date(year, month, 1))
    return _days(first, _day_number(date(end // 12, end % 12 + 1, 1)) - first)


def _days(first: int, count: int) -> Window | None:
    """So many days from one since 1970 on; None for a time outside the calendar, which nobody means."""
    inside = first >= _FIRST_DAY and first + count <= _LAST_DAY
    return Window(first * DAY_US, (first + count) * DAY_US) if inside else None


def _day_number(day: date) -> int:
    return day.toordinal() - EPOCH.toordinal()


@lru_cache(maxsize=KEPT)
def _parsed(said: str, code: str, asked_on: int) -> Window | None:
    """What `dateparser` makes of a phrase, asked on that day since 1970."""
    parse, now = _parser(), from_us(asked_on * DAY_US)
    if parse is None:
        return None
    if re.fullmatch(_YEAR, said):
        return _months(int(said), 1, 12)
    found = parse(said, code, now.replace(tzinfo=None))
    if found is None:
        return None
    day, period = found[0].date(), found[1]
    if period == "year":
        return _months(day.year, 1, 12)
    if period == "month":
        return _months(day.year, day.month, 1)
    number = _day_number(day)
    return _days(number - day.weekday(), 7) if period == "week" else _days(number, 1)


@cache
def _parser() -> Callable[[str, str, datetime], tuple[datetime, str] | None] | None:
    """Reads one phrase; None without the extra."""
    try:
        from dateparser.date import DateDataParser
    except ImportError:
        return None

    def parse(said: str, code: str, now: datetime) -> tuple[datetime, str] | None:
        settings = {"RELATIVE_BASE": now, "PREFER_DATES_FROM": "past", "PREFER_DAY_OF_MONTH": "first"}
        with _parsing:
            try:
                found = DateDataParser(languages=[code], settings=settings).get_date_data(said)
            except (OverflowError, ValueError):  # before the year 1, or no day of any calendar
                return None
        return None if found.date_obj is None else (found.date_obj, found.period)

    return parse


@cache
def _phrases(code: str) -> _Phrases | None:
    known = language(code)
    if not known.time_phrases:
        return None
    spaced = known.script not in ("han", "kana")
    parts = {
        "year": _YEAR,
        "day": _DAY,
        "month": _any_of(known.months),
        "weekday": _any_of(known.weekdays),
        "number": _any_of(known.numbers, r"\d{1,2}"),
        "season": _any_of(known.seasons),
    }
    return _Phrases(
        time=_pattern([_ISO_DATE, *known.time_phrases], parts, spaced=spaced),
        season=_pattern([known.season_phrase], parts, spaced=spaced),
        beside=_pattern([known.beside_phrase], parts, spaced=False),
        numbers={word: str(number) for word, number in known.numbers.items()},
        first_month=_first_months(known),
    )


def _first_months(known: Language) -> dict[str, int]:
    return {word: _MONTHS_OF_SEASON * (number + 1) for word, number in known.seasons.items()}


def _any_of(words: Any, *more: str) -> str:
    return "(?:" + "|".join([*map(re.escape, sorted(words, key=lambda word: (-len(word), word))), *more]) + ")"


def _pattern(alternatives: list[str], parts: dict[str, str], *, spaced: bool) -> re.Pattern[str]:
    whole = "|".join(alternatives)
    for name, part in parts.items():
        whole = whole.replace(f"{{{name}}}", part)
    return re.compile(rf"\b(?:{whole})\b" if spaced else whole)


def _with_digits(said: str, numbers: dict[str, str]) -> str:
    """ "two weeks ago" as "2 weeks ago"; where words are not set apart, as "三天前", within them."""
    if said.isascii() or " " in said:
        return " ".join(numbers.get(word, word) for word in said.split())
    return "".join(numbers.get(letter, letter) for letter in said)
