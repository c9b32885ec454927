"""The core tables: every change of a captured table is in the feed, once, with the right mask; numbers are never reused."""

import pytest

from aico.data.libsql.registry import SchemaRegistry
from aico.data.schemas.core import CORE_SCHEMA
from tests.data.libsql.cases import sealed

CAPTURED = [table for step in CORE_SCHEMA.values() for table in step.captures]
OURS = {"schema_history", "change_feed"}


@pytest.fixture
def connection(tmp_path):
    with sealed(tmp_path / "aico.db") as connection:
        SchemaRegistry.apply_core_schemas(connection)
        yield connection


def columns_of(connection, table):
    """(name, a value that fits) of each column."""
    fitting = {"INTEGER": 7, "REAL": 0.5, "TEXT": "x", "BLOB": b"\x01"}
    return [(row["name"], fitting[row["type"]]) for row in connection.fetch_all(f"PRAGMA table_info({table})")]


def insert(connection, table, row_id: bytes) -> None:
    columns = [
        (name, row_id if name == "id" else value) for name, value in columns_of(connection, table) if name != "row_id"
    ]
    names, values = zip(*columns, strict=True)
    connection.execute(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(values))})", values)


def feed(connection, after: int = 0):
    return connection.fetch_all(
        "SELECT table_name, key, column_mask FROM change_feed WHERE number > ? ORDER BY number", (after,)
    )


def newest(connection) -> int:
    return connection.fetch_one("SELECT max(number) FROM change_feed")[0] or 0


def test_all_tables_with_an_id_are_captured(connection):
    tables = [
        name
        for (name,) in connection.fetch_all(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )
    ]
    with_id = {
        table
        for table in tables
        if any(name == "id" and value == b"\x01" for name, value in columns_of(connection, table))
    }
    assert with_id - set(CAPTURED) == {"session_metadata"}  # live sessions are this device's own
    assert set(CAPTURED) <= with_id


@pytest.mark.parametrize("table", CAPTURED)
def test_an_insert_a_change_and_a_delete_are_each_one_row_of_the_feed(connection, table):
    row_id, columns = b"\x05" * 16, columns_of(connection, table)
    insert(connection, table, row_id)
    assert feed(connection) == [(table, row_id, (1 << len(columns)) - 1)]
    for bit, (name, value) in enumerate(columns):
        if name in ("id", "row_id"):
            continue
        before = newest(connection)
        changed = (
            value + b"y"
            if isinstance(value, bytes)
            else value + ("y" if isinstance(value, str) else 0.25 if isinstance(value, float) else 1)
        )
        connection.execute(f"UPDATE {table} SET {name} = ? WHERE id = ?", (changed, row_id))
        assert feed(connection, before) == [(table, row_id, 1 << bit)], name
        connection.execute(f"UPDATE {table} SET {name} = ? WHERE id = ?", (changed, row_id))
        assert feed(connection, before) == [(table, row_id, 1 << bit)], "a change to the same value is none"
    before = newest(connection)
    connection.execute(f"DELETE FROM {table} WHERE id = ?", (row_id,))
    assert feed(connection, before) == [(table, row_id, 0)]


@pytest.mark.parametrize("table", CAPTURED)
def test_several_columns_and_null_are_in_the_mask(connection, table):
    insert(connection, table, b"\x05" * 16)
    optional = {row["name"] for row in connection.fetch_all(f"PRAGMA table_info({table})") if not row["notnull"]} - {
        "row_id"
    }
    names = [name for name, _ in columns_of(connection, table)]
    before = newest(connection)
    if optional:
        connection.execute(f"UPDATE {table} SET " + ", ".join(f"{name} = NULL" for name in optional))
        assert feed(connection, before) == [(table, b"\x05" * 16, sum(1 << names.index(name) for name in optional))]


def test_what_was_taken_back_is_not_in_the_feed(connection):
    with pytest.raises(KeyError), connection.transaction():
        insert(connection, "facts", b"\x01" * 16)
        raise KeyError
    assert feed(connection) == []


def test_a_repeated_insert_that_does_nothing_adds_nothing(connection):
    insert(connection, "users", b"\x01" * 16)
    before = newest(connection)
    connection.execute(
        "INSERT INTO users (id, name, generation, user_type, is_active, created_at, updated_at) "
        "VALUES (?, 'x', 0, 'person', 1, 0, 0) ON CONFLICT (id) DO NOTHING",
        (b"\x01" * 16,),
    )
    assert feed(connection, before) == []


def test_numbers_are_never_reused_after_pruning(connection):
    for number in range(10):
        insert(connection, "facts", bytes([number]) * 16)
    last = newest(connection)
    connection.execute("DELETE FROM change_feed WHERE number < ?", (last,))
    assert connection.fetch_all("SELECT number FROM change_feed") == [(last,)]
    insert(connection, "facts", b"\xff" * 16)
    assert newest(connection) == last + 1
    with pytest.raises(KeyError), connection.transaction():
        insert(connection, "facts", b"\xfe" * 16)
        raise KeyError
    insert(connection, "facts", b"\xfd" * 16)
    assert newest(connection) == last + 2


def test_an_id_is_there_once(connection):
    from aico.errors import InvalidInput

    for table in CAPTURED:
        insert(connection, table, b"\x01" * 16)
        with pytest.raises(InvalidInput):
            insert(connection, table, b"\x01" * 16)


def test_rolling_every_version_back_leaves_only_the_history_and_forward_works_again(connection):
    forward = everything(connection)
    for schema in reversed(SchemaRegistry.get_core_schemas()):
        for number in sorted(schema.definitions, reverse=True):
            with connection.transaction():
                for statement in schema.definitions[number].rollback_statements:
                    connection.execute(statement)
                connection.execute("DELETE FROM schema_history WHERE schema = ? AND version = ?", (schema.name, number))
    assert {name for _, name, _ in everything(connection)} <= OURS
    SchemaRegistry.apply_core_schemas(connection)
    assert everything(connection) == forward
    connection.verify()


def everything(connection):
    return connection.fetch_all(
        "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY name"
    )
