"""What can be told of a statement from its text alone: its first word, where it ends, which values it takes.

None of this decides what a statement may touch: that is the engine's (`guard.py`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import apsw

from aico.errors import InvalidInput

Value = None | int | float | str | bytes
Parameters = Sequence[Value] | Mapping[str, Value]

_TRANSACTION_CONTROL = frozenset({"BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE"})
_FIRST_WORD = re.compile(r"(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/|;)*([A-Za-z]*)", re.DOTALL)
_TOKEN = re.compile(
    r"""(?P<blank>\s+ | --[^\n]* | /\*.*?(?:\*/|\Z))
      | (?P<quoted>'(?:[^']|'')*' | "(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^\]]*\])
      | (?P<slot>\?\d* | [:@$][\w$]+)
      | (?P<word>[\w$]+)
      | (?P<end>;)
      | .""",
    re.DOTALL | re.VERBOSE,
)


@lru_cache(maxsize=512)
def first_word(sql: str) -> str:
    """The keyword of a statement, in capitals. Raises InvalidInput for those that begin or end transactions."""
    if not isinstance(sql, str):
        raise InvalidInput(f"a statement is text, not {type(sql).__name__}; nothing was done")
    found = _FIRST_WORD.match(sql)
    word = found[1].upper() if found else ""
    if word in _TRANSACTION_CONTROL:
        raise InvalidInput(f"{word} is not run by hand; nothing was done", hint="use `with connection.transaction():`")
    return word


def is_blank(sql: str) -> bool:
    """Whether there is nothing but white space, comments and semicolons."""
    found = _FIRST_WORD.match(sql)
    return found is not None and found.end() == len(sql) and not found[1]


def several_statements() -> InvalidInput:
    """What `execute` raises where it finds more than one."""
    return InvalidInput("execute runs one statement, here are several; nothing was done", hint="use execute_script")


@dataclass(frozen=True, slots=True)
class Slots:
    """Where a statement takes values: (from, to, number from 1 on) in its text, how many there are, and their names."""

    places: tuple[tuple[int, int, int], ...]
    count: int
    names: Mapping[str, int]


@lru_cache(maxsize=512)
def slots_of(sql: str) -> Slots:
    """Numbered as SQLite does (sqlite.org/lang_expr.html, section 3). Raises InvalidInput for Tcl's kind of names."""
    places, names, count = [], dict[str, int](), 0
    for found in _TOKEN.finditer(sql):
        text = found[0]
        if found.lastgroup != "slot":
            continue
        if text[0] != "?" and sql[found.end() : found.end() + 2].startswith(("(", "::")):
            raise InvalidInput("a value's name is letters, digits and underscores; nothing was done")
        if text == "?":
            number = count + 1
        elif text[0] == "?":
            number = int(text[1:])
        else:
            number = names.setdefault(text[1:], count + 1)
        count = max(count, number)
        places.append((found.start(), found.end(), number))
    return Slots(tuple(places), count, names)


@lru_cache(maxsize=512)
def words_of(sql: str) -> tuple[str, ...]:
    """The statement's tokens in capitals, without blanks and comments."""
    return tuple(found[0].upper() for found in _TOKEN.finditer(sql) if found.lastgroup != "blank")


def statements_of(sql: str) -> Iterator[str]:
    """The statements of a script, one after the other, without the blank ones.

    A semicolon inside a text, a comment or a trigger's body ends none (SQLite's own `sqlite3_complete`).
    """
    begin = 0
    for found in _TOKEN.finditer(sql):
        if found.lastgroup == "end" and apsw.complete(sql[begin : found.end()]):
            if not is_blank(sql[begin : found.end()]):
                yield sql[begin : found.end()]
            begin = found.end()
    if not is_blank(sql[begin:]):
        yield sql[begin:]
