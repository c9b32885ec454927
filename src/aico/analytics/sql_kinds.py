"""The kinds of expressions that SQLite and DuckDB compute with alike, and what comes of them: in doubt, InDoubt."""

import re
from collections.abc import Iterable
from datetime import datetime
from enum import Flag, auto
from functools import reduce
from operator import and_


class InDoubt(Exception):
    """The statement has something that is not known to mean the same."""


class SqlKind(Flag):
    """What an expression may be: a text that is written as instants are may stand beside one, NULL beside anything."""

    INTEGER = auto()
    PLACE = auto()
    """Of a message in its conversation: sums of these are beyond what both engines hold without rounding."""
    REAL = auto()
    DECIMAL = auto()
    """A literal with a point. DuckDB computes with it in tens, SQLite in twos: they agree about comparisons alone."""
    FLAG = auto()
    TEXT = auto()
    INSTANT = auto()
    ID = auto()


INTEGER, FLAG = SqlKind.INTEGER, SqlKind.FLAG
_PLACE, _REAL, _DECIMAL, _TEXT = SqlKind.PLACE, SqlKind.REAL, SqlKind.DECIMAL, SqlKind.TEXT
_NULL = ~SqlKind(0)
_COMPARABLE = (INTEGER | _PLACE, INTEGER | _REAL, INTEGER | _DECIMAL, _REAL | _DECIMAL, INTEGER | FLAG)
_WHOLE_NUMBER, _DECIMAL_NUMBER = re.compile(r"-?[0-9]{1,9}"), re.compile(r"[0-9]{1,9}\.[0-9]{1,6}")
_ID_DIGITS = re.compile(r"[0-9a-f]{32}")


def of_literal(kind: str, text: str = "") -> SqlKind:
    """A text is an instant or an id as well only where it is written as the personal tables write them."""
    match kind:
        case "STRING":
            instant = SqlKind.INSTANT if _is_instant(text) else _TEXT
            return _TEXT | instant | (SqlKind.ID if _ID_DIGITS.fullmatch(text) else _TEXT)
        case "NULL_LITERAL":
            return _NULL
        case "BOOLEAN":
            return FLAG
        case "INTEGER" if _WHOLE_NUMBER.fullmatch(text):
            return INTEGER
        case "NUMERIC" if _DECIMAL_NUMBER.fullmatch(text):
            return _DECIMAL
    raise InDoubt


def condition(kind: SqlKind) -> SqlKind:
    """What is neither true nor false, nor a whole number, is no condition to DuckDB."""
    if kind not in (INTEGER, FLAG, _NULL):
        raise InDoubt
    return FLAG


def compared(left: SqlKind, right: SqlKind) -> SqlKind:
    """By a sign such as `<`."""
    if not left & right and left | right not in _COMPARABLE:
        raise InDoubt
    return FLAG


def computed(operands: Iterable[SqlKind]) -> SqlKind:
    """By `+`, `-` or `*`."""
    kinds = set(operands)
    if not kinds <= {INTEGER, _REAL}:
        raise InDoubt
    return _REAL if _REAL in kinds else INTEGER


def one_of(branches: Iterable[SqlKind]) -> SqlKind:
    """What CASE gives, where all that it may give is of one kind."""
    common = reduce(and_, branches)
    if not common:
        raise InDoubt
    return _TEXT if _TEXT in common and common != _NULL else common


def aggregated(name: str, kind: SqlKind) -> SqlKind:
    """What an aggregate gives of many values of a kind."""
    match name, kind:
        case "count", _:
            return INTEGER
        case (("min" | "max"), _):
            return kind
        case "avg", SqlKind.INTEGER:
            return _REAL
        case "sum", (SqlKind.INTEGER | SqlKind.FLAG):
            return INTEGER
    raise InDoubt


def _is_instant(text: str) -> bool:
    try:
        return len(text) == 26 and datetime.fromisoformat(text).isoformat(" ", "microseconds") == text
    except ValueError:
        return False
