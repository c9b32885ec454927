"""What a text or a name may be: kept to the byte, or refused with the field's name before anything is written."""

import unicodedata

from aico.errors import InvalidInput

TEXT_MAX_BYTES = 16 * 1024 * 1024
NAME_MAX_BYTES = 4096


def checked_text(text: str, *, field: str = "text", consequence: str = "nothing was written") -> str:
    """The text itself. Any character is kept, NUL too; raises InvalidInput for none, half a one, or over 16 MiB."""
    _check(text, field, TEXT_MAX_BYTES, consequence)
    if not text.strip():
        raise InvalidInput(f"{field} is empty; {consequence}", hint="give at least one word", field=field)
    return text


def checked_name(name: str, *, field: str) -> str:
    """A name in Unicode's NFC. Raises InvalidInput if it is empty, over 4,096 bytes or holds control characters."""
    _check(name, field, NAME_MAX_BYTES)
    if not name.strip() or (not name.isprintable() and any(unicodedata.category(letter) == "Cc" for letter in name)):
        problem = f"{field} is empty or holds control characters; nothing was written"
        raise InvalidInput(problem, hint="use a printable name", field=field)
    return unicodedata.normalize("NFC", name)


def checked_label(label: str | None, *, field: str) -> str | None:
    """Like `checked_text` for what is shown beside a text and may be missing: kept to the byte, 4,096 at most."""
    if label is not None:
        _check(label, field, NAME_MAX_BYTES)
    return label or None


def checked_word(word: str | None, *, field: str) -> str | None:
    """Like `checked_label` for what is compared, such as who spoke or a category: in Unicode's NFC, as names are."""
    kept = checked_label(word, field=field)
    return None if kept is None else unicodedata.normalize("NFC", kept)


def checked_limit(limit: int, *, least: int = 1, field: str = "limit") -> int:
    """How many at most. Raises InvalidInput for what is no whole number from `least` on, or too large to count to."""
    if type(limit) is not int or not least <= limit < 1 << 63:
        raise InvalidInput(f"{field} is a whole number from {least} on", field=field)
    return limit


def checked_page(limit: int, offset: int) -> tuple[int, int]:
    """How many to show and how many to pass over. Raises InvalidInput."""
    return checked_limit(limit), checked_limit(offset, least=0, field="offset")


def _check(value: str, field: str, most_bytes: int, consequence: str = "nothing was written") -> None:
    if not isinstance(value, str):
        raise InvalidInput(f"{field} is not text but {type(value).__name__}; {consequence}", field=field)
    try:
        size = len(value.encode())
    except UnicodeEncodeError:  # its own message would show the text
        raise InvalidInput(
            f"{field} holds half of a character (a lone surrogate) and cannot be kept faithfully; {consequence}",
            hint="repair the text where it was cut, then try again",
            field=field,
        ) from None
    if size > most_bytes:
        problem = f"{field} has {size:,} bytes, more than the {most_bytes:,} that fit; {consequence}"
        raise InvalidInput(problem, field=field)
