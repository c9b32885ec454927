"""Which of SQLite's own words may be passed on: those about a statement, its tables and columns, never about a value.

While SQLite compiles a statement it knows no row. While it runs one, a function may quote what it was given ("bad JSON
path: '…'"), and by the text alone the two are told apart only by how it begins. A beginning that is not known is kept back.
"""

import re

WITHHELD = "it failed while it ran; what the engine says of it may quote a value and is not repeated"

_OF_THE_STATEMENT = (
    "Cannot add ", "DISTINCT ", "ESCAPE expression ", "Expression tree ", "FILTER ", "HAVING ", "JSON cannot hold ",
    "LIKE or GLOB pattern ", "LIMIT ", "ORDER BY ", "RAISE()", "SELECTs to the ", "SQL logic error", "a GROUP BY ", "access to ",
    "aggregate ", "all VALUES ", "ambiguous ", "attempt to write", "cannot ", "circular ", "datatype mismatch", "default value ",
    "duplicate ", "error in ", "foreign key mismatch", "frame ", "generated column ", "incomplete input", "index ",
    "integer overflow", "malformed JSON", "misuse of ", "multiple re", 'near "', "no such ", "not authorized", "parser stack ",
    "recursive ", "row value ", "string or blob too big", "sub-select returns ", "table ", "the audit log ", "there is already ",
    "too many ", "trigger ", "unable to use function ", "unknown database", "unknown function", "unknown join", "unrecognized token",
    "unsafe use of ", "use DROP ", "view ", "wrong number of ",
)  # fmt: skip
_COUNTED = re.compile(r"\d+(st|nd|rd|th|) |[A-Z ]+ constraint failed")


def repeatable(said: str) -> bool:
    """Whether these words of SQLite hold no value of a row."""
    return said.startswith(_OF_THE_STATEMENT) or _COUNTED.match(said) is not None


def repeated(said: str) -> str:
    """SQLite's words where they may be passed on, ours where not."""
    return said if repeatable(said) else WITHHELD
