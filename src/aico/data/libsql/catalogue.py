"""What is in a database, for people who look into it: tables, columns, and answers to their own questions."""

from dataclasses import dataclass

from aico.data.libsql.connection import LibSQLConnection
from aico.data.libsql.guard import Guard, Rule, changing_rows, reading
from aico.data.libsql.rows import Result
from aico.errors import InvalidInput, NotFound


@dataclass(frozen=True, slots=True)
class Column:
    """A column as it was declared."""

    name: str
    type: str
    required: bool
    key: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A table with what belongs to it; `sql` is the statement that makes it now."""

    name: str
    rows: int
    columns: tuple[Column, ...]
    indexes: tuple[str, ...]
    triggers: tuple[str, ...]
    sql: str


def count_rows(connection: LibSQLConnection) -> dict[str, int]:
    """Every table and how many rows it has."""
    names = connection.fetch_all(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
    )
    return {name: connection.fetch_all(f"SELECT count(*) FROM {_quoted(name)}")[0][0] for (name,) in names}


def describe(connection: LibSQLConnection, name: str) -> Table:
    """One table. Raises NotFound."""
    found = connection.fetch_one("SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name = ?", (name,))
    if found is None:
        raise NotFound(f"there is no table {name!r}", hint="`aico db tables` lists them")
    columns = connection.fetch_all('SELECT name, type, "notnull", pk FROM pragma_table_xinfo(?)', (name,))
    parts = connection.fetch_all(
        "SELECT type, name FROM sqlite_schema WHERE tbl_name = ? AND type <> 'table' ORDER BY name", (name,)
    )
    return Table(
        name,
        connection.fetch_all(f"SELECT count(*) FROM {_quoted(name)}")[0][0],
        tuple(Column(column, kind, bool(required), bool(key)) for column, kind, required, key in columns),
        tuple(part for kind, part in parts if kind == "index"),
        tuple(part for kind, part in parts if kind == "trigger"),
        found["sql"],
    )


def ask(connection: LibSQLConnection, sql: str) -> Result:
    """The rows that one statement reads. Raises InvalidInput if it would do anything else; the engine decides that."""
    hint = "it may read only; --write lets it change rows"
    return _run(connection, sql, reading, hint, read_only=True)


def change(connection: LibSQLConnection, sql: str) -> Result:
    """Run one statement that may change rows, but neither tables nor settings. Raises InvalidInput."""
    hint = "tables, settings and the history of schemas are not changed by hand"
    return _run(connection, sql, changing_rows, hint, read_only=False)


def _run(connection: LibSQLConnection, sql: str, rule: Rule, hint: str, *, read_only: bool) -> Result:
    if not sql.strip():
        raise InvalidInput("there is no statement; nothing was done", field="sql")
    guard = Guard(rule)
    try:
        return connection.execute_under(guard, sql, read_only=read_only)
    except InvalidInput as exc:
        if not guard.refused:
            raise
        raise InvalidInput(f"the statement was refused, it would {guard.refused}; nothing was done", hint=hint) from exc


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
