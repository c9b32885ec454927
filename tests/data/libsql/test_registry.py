"""Schemas as history: steps whole or not at all, in order, never edited, and never run backwards by an older release."""

import pytest

from aico.data.libsql import EncryptedLibSQLConnection
from aico.data.libsql.registry import SchemaRegistry, SchemaVersion, register_schema
from aico.errors import FormatTooNew, InvalidInput, MigrationFailed, NotFound, Tampered
from tests.children import started
from tests.data.libsql.cases import files_of, sealed

FEED = """CREATE TABLE change_feed (number INTEGER PRIMARY KEY, table_name TEXT NOT NULL, key BLOB NOT NULL,
    column_mask INTEGER NOT NULL, at INTEGER NOT NULL)"""


@pytest.fixture
def schemas():
    """The registry as it was, put back after the test."""
    SchemaRegistry.get_core_schemas()
    before = dict(SchemaRegistry._schemas)
    yield SchemaRegistry
    SchemaRegistry._schemas.clear()
    SchemaRegistry._schemas.update(before)


@pytest.fixture
def connection(tmp_path):
    with sealed(tmp_path / "aico.db") as connection:
        yield connection


def version(number: int, *statements: str, **more) -> SchemaVersion:
    more = {"rollback_statements": (), **more}
    return SchemaVersion(version=number, name=f"Step {number}", sql_statements=list(statements), **more)


def define(schemas, name: str, *steps: SchemaVersion, priority: int = 50) -> None:
    """Register, taking the place of what this name had: as the next release would."""
    schemas._schemas.pop(name, None)
    register_schema(name, "core", priority=priority)({step.version: step for step in steps})


def tables(connection: EncryptedLibSQLConnection) -> set[str]:
    return {
        name
        for (name,) in connection.fetch_all(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )
    }


def test_a_new_database_gets_every_schema_once(connection):
    assert "core" in SchemaRegistry.apply_core_schemas(connection)
    assert SchemaRegistry.apply_core_schemas(connection) == []
    assert SchemaRegistry.current_versions(connection)["core"] == max(SchemaRegistry.get_schema("core").definitions)
    assert {"schema_history", "users", "messages", "change_feed"} <= tables(connection)


def test_a_database_without_schemas_has_no_versions(connection):
    assert SchemaRegistry.current_versions(connection) == {}


def test_schemas_have_their_own_versions(connection, schemas):
    define(schemas, "aa", version(1, "CREATE TABLE aa (x)"), version(2, "ALTER TABLE aa ADD COLUMN y"))
    define(schemas, "bb", version(1, "CREATE TABLE bb (x)"))
    schemas.apply_core_schemas(connection)
    define(schemas, "bb", version(1, "CREATE TABLE bb (x)"), version(2, "ALTER TABLE bb ADD COLUMN y"))
    assert schemas.apply_core_schemas(connection) == ["bb"]
    found = schemas.current_versions(connection)
    assert (found["aa"], found["bb"]) == (2, 2)


def test_priority_decides_the_order(connection, schemas):
    define(schemas, "aaa", version(1, "INSERT INTO first VALUES (1)"), priority=60)
    define(schemas, "zzz", version(1, "CREATE TABLE first (x)"), priority=55)
    schemas.apply_core_schemas(connection)
    assert connection.fetch_all("SELECT x FROM first") == [(1,)]


@pytest.mark.parametrize(
    "failing", ["CREATE TABLE aa (x)", "bogus", "INSERT INTO nowhere VALUES (1)", "COMMIT", "SELECT 1; COMMIT"]
)
def test_a_failing_statement_leaves_nothing_of_its_step(connection, schemas, failing):
    define(schemas, "aa", version(1, "CREATE TABLE aa (x)", "INSERT INTO aa VALUES (1)"))
    schemas.apply_core_schemas(connection)
    define(
        schemas,
        "aa",
        version(1, "CREATE TABLE aa (x)", "INSERT INTO aa VALUES (1)"),
        version(
            2,
            "CREATE TABLE second (x)",
            "INSERT INTO second VALUES (1)",
            "UPDATE aa SET x = 2",
            failing,
            "CREATE TABLE third (x)",
        ),
    )
    with pytest.raises(MigrationFailed, match="Step 2"):
        schemas.apply_core_schemas(connection)
    assert not {"second", "third"} & tables(connection)
    assert connection.fetch_all("SELECT x FROM aa") == [(1,)]
    assert schemas.current_versions(connection)["aa"] == 1
    define(
        schemas,
        "aa",
        version(1, "CREATE TABLE aa (x)", "INSERT INTO aa VALUES (1)"),
        version(2, "CREATE TABLE second (x)"),
    )
    assert schemas.apply_core_schemas(connection) == ["aa"]


def test_the_steps_before_a_failing_one_stay(connection, schemas):
    define(schemas, "aa", version(1, "CREATE TABLE aa (x)"), version(2, "CREATE TABLE bb (x)"), version(3, "bogus"))
    with pytest.raises(MigrationFailed):
        schemas.apply_core_schemas(connection)
    assert schemas.current_versions(connection)["aa"] == 2
    assert {"aa", "bb"} <= tables(connection)


def test_an_edited_version_is_refused_by_name_before_anything_changes(connection, schemas):
    define(schemas, "aa", version(1, "CREATE TABLE aa (x)"))
    schemas.apply_core_schemas(connection)
    define(schemas, "aa", version(1, "CREATE TABLE aa (x, y)"), version(2, "CREATE TABLE bb (x)"))
    define(schemas, "a", version(1, "CREATE TABLE early (x)"), priority=0)
    with pytest.raises(Tampered, match=r"version 1 \(Step 1\) of schema 'aa'"):
        schemas.apply_core_schemas(connection)
    assert not {"bb", "early"} & tables(connection)


@pytest.mark.parametrize(
    "change", [{"captures": ["aa"]}, {"sql_statements": []}, {"sql_statements": ["CREATE TABLE aa (x) "]}], ids=str
)
def test_the_checksum_covers_all_that_changes_the_database(change):
    one = {"version": 1, "name": "n", "sql_statements": ["CREATE TABLE aa (x)"]}
    assert SchemaVersion(**one).checksum() != SchemaVersion(**{**one, **change}).checksum()
    assert (
        SchemaVersion(**one).checksum()
        == SchemaVersion(**{**one, "sql_statements": ("CREATE TABLE aa (x)",), "description": "d"}).checksum()
    )


def test_a_newer_database_is_refused_and_every_byte_left_alone(tmp_path, schemas):
    define(schemas, "aa", version(1, "CREATE TABLE aa (x)"), version(2, "CREATE TABLE newer (x)"))
    with sealed(tmp_path / "aico.db") as connection:
        schemas.apply_core_schemas(connection)
    before = files_of(tmp_path)
    define(schemas, "aa", version(1, "CREATE TABLE aa (x)"))
    define(schemas, "a", version(1, "CREATE TABLE early (x)"), priority=0)
    with sealed(tmp_path / "aico.db") as connection, pytest.raises(FormatTooNew, match="version 2 of schema 'aa'"):
        schemas.apply_core_schemas(connection)
    assert files_of(tmp_path) == before


def test_a_history_with_a_hole_is_not_filled_in(connection, schemas):
    define(schemas, "aa", version(1, "CREATE TABLE aa (x)"), version(2, "CREATE TABLE bb (x)"))
    schemas.apply_core_schemas(connection)
    connection.execute("DELETE FROM schema_history WHERE schema = 'aa' AND version = 1")
    with pytest.raises((Tampered, MigrationFailed)):
        schemas.apply_core_schemas(connection)


@pytest.mark.parametrize("numbers", [[2], [1, 3], [0, 1], [1, 2, 4], [-1]])
def test_versions_with_a_gap_are_refused(schemas, numbers):
    with pytest.raises(InvalidInput):
        register_schema("gap", "core")({number: version(number) for number in numbers})
    assert "gap" not in schemas.list_schemas()


def test_a_version_under_anothers_number_is_refused(schemas):
    with pytest.raises(InvalidInput):
        register_schema("gap", "core")({1: version(2), 2: version(1)})


def test_a_name_is_taken_once(schemas):
    register_schema("mine", "core")({1: version(1)})
    register_schema("mine", "core")({1: version(1)})  # the same again, as a module loaded twice does
    with pytest.raises(InvalidInput):
        register_schema("mine", "core")({1: version(1, "CREATE TABLE x (y)")})
    with pytest.raises(NotFound):
        schemas.get_schema("nothing")


def apply_many(path: str, rounds: int) -> int:
    """For a child: apply to database after database; how many it was first at."""
    first = 0
    for number in range(rounds):
        print(number, flush=True)
        input()
        with sealed(f"{path}{number}.db") as connection:
            first += bool(SchemaRegistry.apply_core_schemas(connection))
    return first


def test_processes_that_apply_at_once_agree(tmp_path):
    rounds, children = 5, 3
    with (
        started(apply_many, str(tmp_path / "db"), rounds) as a,
        started(apply_many, str(tmp_path / "db"), rounds) as b,
        started(apply_many, str(tmp_path / "db"), rounds) as c,
    ):
        for _ in range(rounds):
            for child in (a, b, c):
                child.line()
            for child in (a, b, c):
                child.tell("go")
        done = [child.end() for child in (a, b, c)]
    assert [one.error for one in done] == [None] * children, done
    for number in range(rounds):
        with sealed(tmp_path / f"db{number}.db") as connection:
            assert SchemaRegistry.apply_core_schemas(connection) == []
            assert (
                connection.fetch_one(
                    "SELECT count(*), count(DISTINCT version) FROM schema_history WHERE schema = 'core'"
                )[0]
                >= 1
            )
            connection.verify()


def test_captured_columns_grow_with_the_table(connection, schemas):
    define(
        schemas,
        "own_feed",
        version(1, "CREATE TABLE things (row_id INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, x)", captures=["things"]),
        version(2, "ALTER TABLE things ADD COLUMN y"),
    )
    schemas.apply_core_schemas(connection)
    connection.execute("INSERT INTO things (id, x) VALUES (x'00', 1)")
    connection.execute("UPDATE things SET y = 5")
    masks = connection.fetch_all("SELECT column_mask FROM change_feed WHERE table_name = 'things' ORDER BY number")
    assert masks == [(0b1111,), (0b1000,)]
