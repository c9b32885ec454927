"""`aico db`: looks without changing, reads without writing, takes schemas up and down and says what that costs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from aico.data.libsql.registry import SchemaRegistry, SchemaVersion, register_schema
from tests.cli.conftest import Terminal, run, run_json

NEWEST = SchemaRegistry.get_core_schemas()[0].newest


@pytest.fixture
def plugin() -> Iterator[None]:
    """A plugin "mood" whose package is installed; no other plugin of this machine is."""
    before, broken = dict(SchemaRegistry._schemas), SchemaRegistry._broken
    SchemaRegistry._broken = {"torn": "ModuleNotFoundError: no"}
    register_schema("mood", "plugin")(
        {
            1: SchemaVersion(
                version=1,
                name="Moods",
                sql_statements=["CREATE TABLE mood_entries (id BLOB, x TEXT)"],
                rollback_statements=["DROP TABLE mood_entries"],
            ),
            2: SchemaVersion(
                version=2,
                name="Reasons",
                sql_statements=["ALTER TABLE mood_entries ADD COLUMN because TEXT"],
                rollback_statements=["ALTER TABLE mood_entries DROP COLUMN because"],
            ),
        }
    )
    yield
    SchemaRegistry._schemas.clear()
    SchemaRegistry._schemas.update(before)
    SchemaRegistry._broken = broken


def core_version() -> object:
    return next(schema["version"] for schema in run_json("db", "status")["schemas"] if schema["name"] == "core")


def rows(sql: str) -> list[list[object]]:
    found = run_json("db", "query", sql)["rows"]
    assert isinstance(found, list)
    return found


def test_a_new_vault_is_up_to_date_and_its_history_says_so(home: Path) -> None:
    found = {schema["name"]: schema for schema in run_json("db", "status")["schemas"]}
    assert found["core"] == {
        "name": "core", "type": "core", "version": NEWEST, "newest": NEWEST, "state": "up to date",
    }  # fmt: skip
    assert [step["version"] for step in run_json("db", "history")["steps"] if step["schema"] == "core"] == [
        *range(1, NEWEST + 1)
    ]
    assert run_json("db", "migrate")["steps"] == []
    assert run_json("db", "check") == {"ok": True}
    for command in ("status", "history", "tables", "schemas", "check"):
        assert run("db", command).exit_code == 0
    assert "up to date" in run("db", "migrate").stdout


def test_tables_are_listed_counted_and_described(home: Path) -> None:
    run("record", "hello", "--conversation", "c")
    assert run_json("db", "tables")["tables"]["messages"] == 1
    found = run_json("db", "describe", "messages")
    assert {"name": "text", "type": "TEXT", "required": True, "key": False} in found["columns"]
    assert "messages_in_order" in found["indexes"]
    assert found["rows"] == 1
    assert "messages_in_order" in run("db", "describe", "messages").stdout
    assert run_json("db", "describe", "nothing", exit_code=6)["error"] == "NotFound"


def test_a_query_answers_in_json_and_to_people(home: Path) -> None:
    run("record", "hello \x1b[2J there", "--conversation", "c")
    [[text, id_, at]] = rows("SELECT text, id, at FROM messages")
    assert text == "hello \x1b[2J there"
    assert len(bytes.fromhex(str(id_))) == 16
    assert isinstance(at, int)
    shown = run("db", "query", 'SELECT text, at, speaker AS "who\x1b]0;is it\x07\x9b" FROM messages').stdout
    assert not set("\x07\x9b") & set(shown)
    assert "\x1b" not in shown
    assert str(at) not in shown
    assert "1 row." in shown
    assert run_json("db", "query", "-", input="SELECT count(*) AS n FROM messages")["columns"] == ["n"]


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM messages",
        "WITH m AS (SELECT 1) DELETE FROM messages",
        "/* SELECT */ UPDATE messages SET text = ''",
        "INSERT INTO messages SELECT * FROM messages",
        "EXPLAIN DELETE FROM messages",
        "DROP TABLE messages",
        "CREATE TABLE x (y)",
        "CREATE TEMP TABLE x (y)",
        "PRAGMA query_only = 0",
        "PRAGMA user_version = 5",
        "PRAGMA page_size = 8192",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "VACUUM",
        "VACUUM INTO 'x.db'",
        "ATTACH 'x.db' AS x",
        "ANALYZE",
        "REINDEX",
        "BEGIN",
        "SAVEPOINT x",
        "SELECT load_extension('x')",
        "SELECT 1; DELETE FROM messages",
        "COMMIT",
        "",
        "  ",
    ],
)
def test_a_query_only_reads(home: Path, sql: str) -> None:
    run("record", "hello", "--conversation", "c")
    before = run_json("db", "tables")["tables"], rows("SELECT * FROM messages")
    assert run_json("db", "query", sql, exit_code=2)["error"] == "InvalidInput"
    assert (run_json("db", "tables")["tables"], rows("SELECT * FROM messages")) == before


def test_with_write_rows_change_and_nothing_else_does(home: Path) -> None:
    run("record", "hello", "--conversation", "c")
    assert run_json("db", "query", "--write", "UPDATE conversations SET title = 'a'")["changed"] == 1
    assert "1 row changed." in run("db", "query", "--write", "UPDATE conversations SET title = 'b'").stdout
    assert rows("SELECT title FROM conversations") == [["b"]]
    for refused in (
        "DROP TABLE messages", "CREATE TABLE x (y)", "DELETE FROM schema_history", "VACUUM INTO 'x.db'",
        "PRAGMA journal_mode = delete", "DELETE FROM sqlite_schema",
    ):  # fmt: skip
        assert run_json("db", "query", "--write", refused, exit_code=2)["error"] == "InvalidInput", refused


def test_vacuum_keeps_everything(home: Path) -> None:
    run("record", "hello", "--conversation", "c")
    assert run_json("db", "vacuum")["size_bytes"] > 0
    assert rows("SELECT text FROM messages") == [["hello"]]
    assert "now" in run("db", "vacuum").stdout


@pytest.mark.usefixtures("plugin")
def test_a_plugin_is_migrated_when_named_then_remembered_and_removed(home: Path, tmp_path: Path) -> None:
    assert run_json("db", "migrate")["steps"] == []
    dry = run_json("db", "migrate", "mood", "--dry-run")
    assert [step["statements"] for step in dry["steps"]] == [
        ["CREATE TABLE mood_entries (id BLOB, x TEXT)"],
        ["ALTER TABLE mood_entries ADD COLUMN because TEXT"],
    ]
    assert "CREATE TABLE mood_entries" in run("db", "migrate", "mood", "--dry-run").stdout
    assert "mood_entries" not in run_json("db", "tables")["tables"]
    assert [step["version"] for step in run_json("db", "migrate", "mood")["steps"]] == [1, 2]
    run("db", "query", "--write", "INSERT INTO mood_entries VALUES (x'01', 'calm', 'rain')")
    assert run_json("db", "rollback", "mood", "1", "--yes")["lost"] == {"mood_entries.because": 1}
    assert [step["version"] for step in run_json("db", "migrate")["steps"]] == [2]
    copy = tmp_path / "copy.db"
    done = run_json("db", "rollback", "mood", "0", "--yes", "--backup", str(copy))
    assert done == {"schema": "mood", "version": 0, "lost": {"mood_entries": 1}, "applied_at_next_open": False}
    assert copy.exists()
    assert "mood_entries" not in run_json("db", "tables")["tables"]
    assert run_json("db", "migrate")["steps"] == []


@pytest.mark.usefixtures("plugin")
def test_what_is_installed_and_what_is_broken_is_listed(home: Path) -> None:
    run("db", "migrate", "mood")
    found = run_json("db", "schemas")
    assert [schema["newest"] for schema in found["schemas"] if schema["name"] == "mood"] == [2]
    assert found["broken"] == {"torn": "ModuleNotFoundError: no"}
    assert "✗ plugin torn" in run("db", "schemas").stdout
    SchemaRegistry._schemas.pop("mood")
    [left] = [schema for schema in run_json("db", "status")["schemas"] if schema["type"] == "plugin"]
    assert (left["name"], left["version"], left["state"]) == ("mood", 2, "unknown")
    assert run("db", "rollback", "mood", "0", "--yes").exit_code == 0


def test_a_roll_back_without_a_yes_is_refused(home: Path) -> None:
    assert run_json("db", "rollback", "core", "0", exit_code=2)["error"] == "InvalidInput"
    assert core_version() == NEWEST


def test_a_person_is_told_what_a_roll_back_takes_before_it_is_done(home: Path) -> None:
    run("tasks", "ls")
    for typed, code, left in (("n\n", 1, 1), ("y\n", 0, 0)):
        terminal = Terminal("db", "rollback", "activity", "0")
        terminal.wait_for("[y/N]")
        assert "tasks (8 rows)" in terminal.shown
        terminal.type(typed)
        assert terminal.finish() == code
        found = {schema["name"]: schema["version"] for schema in run_json("db", "status")["schemas"]}
        assert found["activity"] == left
    shown = run("db", "status").stdout
    assert "behind" in shown
    assert run("status").exit_code == 0  # opening the vault applies them again
    assert "behind" not in run("db", "status").stdout


def test_what_other_schemas_rest_on_is_not_rolled_back(home: Path) -> None:
    refused = run_json("db", "rollback", "core", "0", "--yes", exit_code=2)
    assert "access, activity, items, meaning" in refused["message"]
    assert refused["hint"].endswith("meaning, items, activity, access")
    assert core_version() == NEWEST


def test_an_unknown_schema_or_command_is_named(home: Path) -> None:
    assert run_json("db", "migrate", "nothing", exit_code=6)["error"] == "NotFound"
    for asked in ((), ("--yes",)):  # nobody is asked for a yes to what cannot be
        assert run_json("db", "rollback", "nothing", "0", *asked, exit_code=6)["error"] == "NotFound"
    assert run_json("db", "bogus", exit_code=2)["error"] == "UsageError"
    assert run("db").stdout == run("db", "--help").stdout


def test_a_vault_of_a_newer_release_can_be_looked_at_but_not_changed(home: Path) -> None:
    from aico.vault import open_database

    with open_database(home) as connection:
        connection.execute("INSERT INTO schema_history VALUES ('later', 1, 'L', 'x', 0, 0)")
    assert {"name": "later", "type": "core", "version": 1, "newest": 0, "state": "unknown"} in run_json("db", "status")[
        "schemas"
    ]
    assert rows("SELECT count(*) FROM messages") == [[0]]
    for args in (["query", "--write", "DELETE FROM messages"], ["migrate"], ["check"]):
        assert run_json("db", *args, exit_code=4)["error"] == "FormatTooNew"
    assert run_json("status", exit_code=4)["error"] == "FormatTooNew"
