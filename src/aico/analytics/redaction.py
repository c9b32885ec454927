"""Names and contacts taken out of a text before it leaves for training.

Taken out are the names the vault knows (profiles, nicknames, relatives, speakers, and the words of their full names),
however they are spelled ("Weiß" as WEISS, "José" without its accent or with one that is a character of its own), e-mail
addresses, web addresses, and phone numbers as `phonenumbers` finds them. Somebody whom only a text names stays: no rule
finds every name, and we claim no more than this.
"""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import accumulate

from aico.errors import MissingExtra

_EMAIL = re.compile(r"[^\s@<>(),;:\"]+@[^\s@<>(),;:\"]+\.[^\W\d_]{2,}")
_ADDRESS = re.compile(r"\b(?:https?://|www\.)[^\s<>\"]+", re.IGNORECASE)
_DIGITS = re.compile(r"(?:\d\D{0,2}){6}\d")
_REGIONS = (None, "US", "GB", "DE", "FR", "ES", "IT", "PT", "BR", "NL", "PL", "SE", "RU", "TR", "IN", "CN", "JP", "KR")
"""A number without +49 or the like is looked for as these regions write it."""
_WORD_MIN = 3
_ALIKE = str.maketrans("ıʼ’", "i''")


class Redactor:
    """Takes names and contacts out of texts: the same name always becomes the same `[name 1]`. Raises MissingExtra."""

    def __init__(self, names: Iterable[str]) -> None:
        try:
            import phonenumbers
        except ImportError as exc:
            raise MissingExtra(
                "redaction needs phonenumbers; nothing was written", hint="pip install 'aico[analytics]'"
            ) from exc
        self._phones = phonenumbers
        self._numbers: dict[str, int] = {}
        known = dict.fromkeys(" ".join(_folded(name).split()) for name in names)
        for number, name in enumerate(filter(None, known), start=1):
            for part in (name, *(word for word in name.split() if len(word) >= _WORD_MIN)):
                self._numbers.setdefault(part, number)
        longest_first = sorted(self._numbers, key=len, reverse=True)
        any_of_them = "|".join(r"\s+".join(map(re.escape, name.split())) for name in longest_first)
        self._names = re.compile(rf"(?<!\w)(?:{any_of_them})(?!\w)") if longest_first else None

    def redact(self, text: str) -> str:
        """The text without them."""
        text = _EMAIL.sub("[e-mail]", text)
        text = _ADDRESS.sub("[address]", text)
        text = self._without_phone_numbers(text)
        return self._without_names(text)

    def _without_names(self, text: str) -> str:
        found = [] if self._names is None else list(self._names.finditer(_folded(text)))
        if not found:
            return text
        ends = list(accumulate(len(_folded(letter)) for letter in text))  # of each letter in the folded text
        left, kept_to = list[str](), 0
        for match in found:
            first, last = bisect_right(ends, match.start()), bisect_left(ends, match.end())
            left += (text[kept_to:first], f"[name {self._numbers[' '.join(match[0].split())]}]")
            kept_to = max(last + 1, bisect_right(ends, match.end()))  # with the accents that follow
        return "".join((*left, text[kept_to:]))

    def _without_phone_numbers(self, text: str) -> str:
        if not _DIGITS.search(text):
            return text
        places = {
            (match.start, match.end)
            for region in _REGIONS
            for match in self._phones.PhoneNumberMatcher(text, region, self._phones.Leniency.VALID)
        }
        for start, end in sorted(places, reverse=True):
            text = f"{text[:start]}[phone]{text[end:]}"
        return text


def _folded(text: str) -> str:
    """Letters without case, accents and the difference of two apostrophes: what two spellings of a name share. Each
    letter is folded by itself, so that a place in the one text can be found in the other."""
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).casefold())
    return "".join(letter for letter in apart if not unicodedata.combining(letter)).translate(_ALIKE)
