"""Copies a database table by table, where two engines share no pages: rows as they are, then indexes, triggers and views."""

from aico.data.libsql.engine import EngineConnection
from aico.errors import InvalidInput

_OBJECTS = (
    "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    " ORDER BY rowid"
)
_SEQUENCE = "SELECT name FROM sqlite_schema WHERE name = 'sqlite_sequence'"
_ROWS_AT_ONCE = 1000


def copy_database(source: EngineConnection, target: EngineConnection) -> None:
    """Everything of one committed moment of `source` into the empty `target`, in one transaction there.

    Row ids that no column shows are given anew, as VACUUM does. Raises InvalidInput for virtual tables.
    """
    source.command("BEGIN")
    try:
        target.command("BEGIN IMMEDIATE")
        copy_tables(source, target)
        for (name,) in source.rows("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY rowid"):
            if not name.startswith("sqlite_") or name == "sqlite_sequence":
                copy_rows(source, target, name)
        copy_the_rest(source, target)
        target.command("COMMIT")
    finally:
        source.command("ROLLBACK")


def copy_tables(source: EngineConnection, target: EngineConnection) -> None:
    """The tables alone, empty."""
    for kind, name, sql in source.rows(_OBJECTS):
        if kind == "table" and sql.upper().startswith("CREATE VIRTUAL"):
            raise InvalidInput(f"{name} is a virtual table, which cannot be copied; nothing was done")
        if kind == "table":
            target.rows(sql)


def copy_the_rest(source: EngineConnection, target: EngineConnection) -> None:
    """Indexes, views and triggers."""
    for kind, _, sql in source.rows(_OBJECTS):
        if kind != "table":
            target.rows(sql)


def copy_rows(source: EngineConnection, target: EngineConnection, table: str) -> None:
    """The rows of one table, without what is computed from its other columns."""
    found = source.rows(f"SELECT name, hidden FROM pragma_table_xinfo({_literal(table)})")
    columns = [_quoted(name) for name, hidden in found if hidden == 0]
    listed, values = ", ".join(columns), ", ".join("?" * len(columns))
    if table == "sqlite_sequence":
        target.rows("DELETE FROM sqlite_sequence")
    waiting = []
    for batch in source.batches(f"SELECT {listed} FROM {_quoted(table)}", ()):
        waiting += batch
        if len(waiting) >= _ROWS_AT_ONCE:
            target.run_many(f"INSERT INTO {_quoted(table)} ({listed}) VALUES ({values})", waiting)
            waiting = []
    target.run_many(f"INSERT INTO {_quoted(table)} ({listed}) VALUES ({values})", waiting)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
