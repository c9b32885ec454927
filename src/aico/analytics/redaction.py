"""Names and contacts taken out of a text before it leaves for training.

Taken out are the names the vault knows (profiles, nicknames, relatives, speakers, and the words of their full names),
e-mail addresses, web addresses, and phone numbers as `phonenumbers` finds them. Somebody whom only a text names stays:
no rule finds every name, and we claim no more than this.
"""

import re
from collections.abc import Iterable

from aico.errors import MissingExtra

_EMAIL = re.compile(r"[^\s@<>(),;:\"]+@[^\s@<>(),;:\"]+\.[^\W\d_]{2,}")
_ADDRESS = re.compile(r"\b(?:https?://|www\.)[^\s<>\"]+", re.IGNORECASE)
_DIGITS = re.compile(r"(?:\d\D{0,2}){6}\d")
_REGIONS = (None, "US", "GB", "DE", "FR", "ES", "IT", "PT", "BR", "NL", "PL", "SE", "RU", "TR", "IN", "CN", "JP", "KR")
"""A number without +49 or the like is looked for as these regions write it."""
_WORD_MIN = 3


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
        for number, name in enumerate(dict.fromkeys(one.strip().casefold() for one in names if one.strip()), start=1):
            for part in (name, *(word for word in name.split() if len(word) >= _WORD_MIN)):
                self._numbers.setdefault(part, number)
        known = sorted(self._numbers, key=len, reverse=True)
        self._names = (
            re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, known))})(?!\w)", re.IGNORECASE) if known else None
        )

    def redact(self, text: str) -> str:
        """The text without them."""
        text = _EMAIL.sub("[e-mail]", text)
        text = _ADDRESS.sub("[address]", text)
        text = self._without_phone_numbers(text)
        return text if self._names is None else self._names.sub(self._stand_in, text)

    def _stand_in(self, found: re.Match[str]) -> str:
        return f"[name {self._numbers.get(found[0].casefold(), 0)}]"

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
