"""JSON values as they are kept: what comes back equals what was given, or it is refused before anything is written."""

from typing import Any

import msgspec

from aico.data.limits import NAME_MAX_BYTES
from aico.errors import InvalidInput

JSON_MAX_BYTES = 16 * NAME_MAX_BYTES
"""64 KiB: settings and small answers; texts belong into messages and facts."""

JsonObject = dict[str, Any]  # any JSON


def checked_json(value: Any, *, field: str, most_bytes: int = JSON_MAX_BYTES) -> str:  # any JSON
    """The value as JSON text. Raises InvalidInput for what JSON cannot keep (NaN, tuples, keys that are no text)."""
    try:
        encoded = msgspec.json.encode(value)
        kept = msgspec.json.decode(encoded) == value
    except (TypeError, ValueError, OverflowError, RecursionError):
        kept = False
    if not kept:
        raise InvalidInput(
            f"{field} cannot be kept as JSON; nothing was written",
            hint="use text, finite numbers, true, false, null, lists, and objects whose keys are text",
            field=field,
        )
    if len(encoded) > most_bytes:
        problem = (
            f"{field} has {len(encoded):,} bytes as JSON, more than the {most_bytes:,} that fit; nothing was written"
        )
        raise InvalidInput(problem, field=field)
    return encoded.decode()


def checked_json_object(value: JsonObject | None, *, field: str) -> str:
    """Like `checked_json` for an object; None is the empty one."""
    if value is not None and not isinstance(value, dict):
        raise InvalidInput(f"{field} is not a dictionary; nothing was written", field=field)
    return checked_json(value or {}, field=field)


def checked_json_text(text: str, *, field: str, kind: Any = Any) -> str:  # any type that msgspec knows
    """JSON that comes as text, as `checked_json` would keep its value. Raises InvalidInput for what is no such `kind`.

    A key that stands there twice is kept once: what nobody can read could not be forgotten either.
    """
    try:
        return msgspec.json.encode(msgspec.json.decode(text, type=kind)).decode()
    except (ValueError, OverflowError, RecursionError):  # its own message may show the text
        raise InvalidInput("it is not the JSON that belongs there", field=field) from None


def read_json(text: str) -> Any:  # any JSON
    """A value as it was given to `checked_json`."""
    return msgspec.json.decode(text)


def json_or_text(text: str) -> Any:  # any JSON
    """What a person typed: the JSON value if it is one, else the text itself."""
    try:
        return read_json(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return text
