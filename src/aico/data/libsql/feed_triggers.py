"""The triggers that write every change of a captured table to the change feed, in the transaction that makes it."""

from collections.abc import Iterable

from aico.data.libsql.connection import LibSQLConnection
from aico.data.libsql.guard import FEED_EVENTS


def make_triggers(connection: LibSQLConnection, tables: Iterable[str]) -> None:
    """Make the triggers of these tables, or make them anew: a step may have added columns.

    The column mask has bit i for column i of the table: all bits for an insert, the changed ones for an update,
    none for a delete. Columns are only ever appended, so a bit keeps its meaning.
    """
    for table in tables:
        _make(connection, table)


def drop_triggers(connection: LibSQLConnection, tables: Iterable[str]) -> None:
    """Take them away, so that a column may go which they name."""
    for table in tables:
        for event in FEED_EVENTS:
            connection.execute(f"DROP TRIGGER IF EXISTS {table}_feeds_{event}")


def _make(connection: LibSQLConnection, table: str) -> None:
    columns = [_quoted(row["name"]) for row in connection.fetch_all(f"PRAGMA table_info({table})")]
    changed = " + ".join(f"((old.{name} IS NOT new.{name}) << {bit})" for bit, name in enumerate(columns))
    drop_triggers(connection, [table])
    for event, when, key, mask in (
        ("INSERT", "", "new.id", str((1 << len(columns)) - 1)),
        ("UPDATE", f"WHEN ({changed}) <> 0", "new.id", changed),
        ("DELETE", "", "old.id", "0"),
    ):
        connection.execute(
            f"CREATE TRIGGER {table}_feeds_{event.lower()} AFTER {event} ON {table} {when} BEGIN "
            f"INSERT INTO change_feed (table_name, key, column_mask, at) "
            f"VALUES ('{table}', {key}, {mask}, CAST(unixepoch('subsec') * 1000000 AS INTEGER)); END"
        )


def _quoted(name: str) -> str:
    """A column's name as it stands in SQL: plain where it may, because those of released vaults are."""
    return name if name.isidentifier() and name.isascii() else '"' + name.replace('"', '""') + '"'
