"""SQLite in memory with the tables of a libSQL database: what its authorizer, its limits and its clock are needed for.

The libSQL wheel has none of these. A statement that a guard must judge is first run here, where there are no rows; what the
guard lets through runs on the database itself. Both are SQLite's parser and its rules for names, and what libSQL has beyond
SQLite (`readfile`, `fsdir`, `vector…`) is unknown here and so refused. A person's own SQL runs here alone, on a copy of the
tables it may read.
"""

from collections.abc import Sequence
from contextlib import suppress

import apsw

from aico.data.libsql.copying import copy_rows, copy_tables, copy_the_rest
from aico.data.libsql.engine import EngineConnection
from aico.data.libsql.guard import Guard
from aico.data.libsql.sqlite_engine import SqliteConnection
from aico.data.libsql.statements import Parameters


class Twin:
    """The tables without their rows. Thread rule: that of the connection it was made from."""

    def __init__(self, original: EngineConnection) -> None:
        self._sqlite = _in_memory()
        copy_tables(original, self._sqlite)
        copy_the_rest(original, self._sqlite)

    def try_out(self, guard: Guard, sql: str, parameters: Parameters, *, only_read: bool) -> None:
        """Run the statement under the guard and take it back. Raises what SQLite raises; `guard.refused` says why."""
        self._sqlite.pragma("query_only", only_read)
        self._sqlite.command("SAVEPOINT tried")
        try:
            self._sqlite.run_under(guard, sql, parameters)
        finally:
            with suppress(apsw.SQLError):  # an error may have taken everything back by itself
                self._sqlite.command("ROLLBACK TO tried")
                self._sqlite.command("RELEASE tried")

    def close(self) -> None:
        """Give the memory back."""
        self._sqlite.close()


def filled_twin(original: EngineConnection, selects: Sequence[str]) -> SqliteConnection:
    """All tables, and the rows of those that the statements read. Whoever asks closes it."""
    sqlite = _in_memory()
    try:
        copy_tables(original, sqlite)
        for table in sorted(_tables_of(sqlite, selects)):
            copy_rows(original, sqlite, table)
        sqlite.only_read()
    except BaseException:
        sqlite.close()
        raise
    return sqlite


def _in_memory() -> SqliteConnection:
    connection = SqliteConnection(":memory:")
    for name, value in (("temp_store", "memory"), ("trusted_schema", "off"), ("foreign_keys", "off")):
        connection.pragma(name, value)
    return connection


def _tables_of(sqlite: apsw.Connection, selects: Sequence[str]) -> set[str]:
    """What SQLite, compiling the statements, asks to read."""
    tables, own = (
        set[str](),
        {name for (name,) in sqlite.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")},
    )

    def note(operation: int, first: str | None, _second: str | None, _database: str | None, _inner: str | None) -> int:
        if operation == apsw.SQLITE_READ and first in own:
            tables.add(str(first))
        return apsw.SQLITE_OK

    sqlite.authorizer = note
    try:
        for select in selects:
            sqlite.execute(f"EXPLAIN {select}").close()  # its rows may hold what is no text
    finally:
        sqlite.authorizer = None
    return tables
