"""Puts values into a statement for the libSQL wheel, which gets some of them wrong without a word.

Found with 0.1.11: an integer beyond 32 bits arrives as a float, a text is cut at its first NUL when it is read, missing
values become NULL, surplus ones and everything behind the first statement are ignored, and there are no named values.
"""

from collections.abc import Mapping
from functools import lru_cache

from aico.data.libsql.statements import (
    Parameters,
    Value,
    is_blank,
    several_statements,
    slots_of,
    statements_of,
    words_of,
)
from aico.errors import InvalidInput

_AS_THEY_ARE = range(-(2**31), 2**31)
_INTEGERS = range(-(2**63), 2**63)
_READING_PRAGMAS = frozenset(
    {
        "APPLICATION_ID",
        "COMPILE_OPTIONS",
        "DATABASE_LIST",
        "FOREIGN_KEY_CHECK",
        "FOREIGN_KEY_LIST",
        "FREELIST_COUNT",
        "FUNCTION_LIST",
        "INDEX_INFO",
        "INDEX_LIST",
        "INDEX_XINFO",
        "INTEGRITY_CHECK",
        "OPTIMIZE",
        "QUICK_CHECK",
        "TABLE_INFO",
        "TABLE_LIST",
        "TABLE_XINFO",
        "WAL_CHECKPOINT",
    }
)
_MAY_BE_SET = frozenset(
    {"CACHE_SIZE", "QUERY_ONLY", "FOREIGN_KEYS", "CACHE_SPILL", "ANALYSIS_LIMIT", "AUTOMATIC_INDEX"}
)
_MAY_BE_SAID_AGAIN = {
    "JOURNAL_MODE": ("WAL",),
    "SYNCHRONOUS": ("FULL", "2"),
    "SECURE_DELETE": ("ON", "1", "TRUE", "YES"),
    "TRUSTED_SCHEMA": ("OFF", "0", "FALSE", "NO"),
    "CELL_SIZE_CHECK": ("ON", "1", "TRUE", "YES"),
    "MMAP_SIZE": ("0",),
    "WRITABLE_SCHEMA": ("OFF", "0", "FALSE", "NO"),
    "TEMP_STORE": ("MEMORY", "2"),
}
"""Settings that our promises rest on, each with the values that keep them."""


def bound(sql: str, parameters: Parameters) -> tuple[str, tuple[Value, ...]]:
    """The statement and its values as the wheel takes them. Raises InvalidInput for what would not arrive as it is."""
    slots = slots_of(sql)
    values = _in_order(slots.names, slots.count, parameters)
    long = {number for number, value in enumerate(values, 1) if type(value) is int and value not in _AS_THEY_ARE}
    if not long:
        return sql, values
    pieces, end = [], 0
    for begins, ends, number in slots.places:  # as digits in the text: nothing else of it comes from a value
        value = f"({values[number - 1]!r})" if number in long else f"?{number}"
        pieces += [sql[end:begins], value]
        end = ends
    return "".join([*pieces, sql[end:]]), tuple(None if n in long else v for n, v in enumerate(values, 1))


def _in_order(names: Mapping[str, int], count: int, parameters: Parameters) -> tuple[Value, ...]:
    if isinstance(parameters, Mapping):
        if len(names) != count:
            raise InvalidInput("named values were given, the statement wants others by position; nothing was done")
        try:
            found = tuple(parameters[name] for name in names)
        except KeyError as exc:
            raise InvalidInput(f"the statement wants a value named {exc}; nothing was done") from None
    else:
        try:
            found = tuple(parameters)
        except TypeError:
            raise InvalidInput(f"values are a sequence or go by name, not {type(parameters).__name__}") from None
        if len(found) != count:
            raise InvalidInput(f"the statement wants {count} values, {len(found)} were given; nothing was done")
    return tuple(_checked(value) for value in found)


def _checked(value: Value) -> Value:
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        if value not in _INTEGERS:
            raise InvalidInput("a number is too large for the database; nothing was written")
        return int(value)
    if isinstance(value, float):
        return value
    if isinstance(value, str):
        return _whole_text(value)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    raise InvalidInput(f"a value of type {type(value).__name__} cannot be kept; nothing was written")


def _whole_text(text: str) -> str:
    if "\0" in text:
        raise InvalidInput(
            "a text holds a NUL character, at which libSQL would cut it; nothing was written",
            hint="take the character out; the engine sqlite keeps it",
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInput(
            "a text is not whole: it holds half of a character and cannot be kept or shown faithfully; nothing was written",
            hint="repair the text where it was cut, then try again",
        ) from None
    return text


@lru_cache(maxsize=512)
def is_runnable(sql: str, *, encrypted: bool) -> bool:
    """Whether there is something to run. Raises InvalidInput for several statements, and for a way out of the cipher."""
    _whole_text(sql)
    if is_blank(sql):
        return False
    if len(list(statements_of(sql))) > 1:
        raise several_statements()
    if encrypted:
        _refuse_ways_out(sql)
    return True


def _refuse_ways_out(sql: str) -> None:
    """What would write readable pages: another file, VACUUM INTO (which forgets the cipher), a setting of the cipher.

    Each of them is a statement of its own and can stand inside no other: its first words tell. (A PRAGMA works even
    behind EXPLAIN.)
    """
    words = [word for word in words_of(sql) if word != ";"]
    while words and words[0] in ("EXPLAIN", "QUERY", "PLAN"):
        words.pop(0)
    if words[:1] in (["ATTACH"], ["DETACH"]) or (words[:1] == ["VACUUM"] and "INTO" in words):
        raise InvalidInput(f"{words[0]} would write outside the encrypted database; nothing was done")
    if words[:1] == ["PRAGMA"] and not _keeps_promises(words[1:]):
        raise InvalidInput("this setting is not changed while the database is encrypted; nothing was done")


def _keeps_promises(words: list[str]) -> bool:
    if len(words) > 2 and words[1] == ".":
        words = words[2:]
    name, rest = words[0].strip("\"'`[]") if words else "", words[1:]
    if not rest or name in _READING_PRAGMAS or name in _MAY_BE_SET:
        return name not in ("KEY", "HEXKEY", "REKEY", "HEXREKEY")
    value = "".join(word for word in rest if word not in ("=", "(", ")")).strip("\"'`[]")
    return value in _MAY_BE_SAID_AGAIN.get(name, ())
