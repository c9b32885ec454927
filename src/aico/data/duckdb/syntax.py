"""How DuckDB reads a statement, as a tree: its own parser says it, and nothing is run."""

from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from aico.data.duckdb.engine import locked_down

if TYPE_CHECKING:
    import duckdb

_MEMORY_MIB = 64
_TREE = "SELECT json_serialize_sql(?, skip_null := true, skip_empty := true, skip_default := true)"


def syntax_tree(sql: str) -> dict[str, Any] | None:
    """The tree of one SELECT, without what is empty or as it is by default. None for anything else.

    Any thread may ask. Raises MissingExtra without DuckDB.
    """
    cursor = _parser().cursor()
    import duckdb

    try:
        [[text]] = cursor.execute(_TREE, [sql]).fetchall()
        read = msgspec.json.decode(text)
    except (duckdb.Error, UnicodeEncodeError, RecursionError):  # too deep, or no text at all
        return None
    finally:
        cursor.close()
    statements = read.get("statements", ())
    return statements[0]["node"] if len(statements) == 1 else None


@cache
def _parser() -> "duckdb.DuckDBPyConnection":
    """A DuckDB without a table, made when it is first asked: it never sees data."""
    return locked_down(_MEMORY_MIB)
