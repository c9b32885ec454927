"""Every registered schema goes from every version to every other with data in its tables, and through kill -9 between statements."""

import os
import shutil
import signal
from itertools import pairwise
from pathlib import Path

import apsw
import pytest

from aico.data.libsql.migrations import bring_up_to_date, current_version, history, losses, planned, roll_back
from aico.data.libsql.registry import RegisteredSchema, SchemaRegistry, SchemaVersion, register_schema
from aico.errors import FormatTooNew, InvalidInput, MigrationFailed, SchemaChanged, Tampered
from tests.children import run, started
from tests.data.libsql.cases import sealed

NAMES = [schema.name for schema in SchemaRegistry.get_core_schemas()]
FITTING = {"INTEGER": 7, "REAL": 0.5, "TEXT": "x", "BLOB": b"\x01" * 16}
FEED = "CREATE TABLE change_feed (number INTEGER PRIMARY KEY, table_name, key, column_mask, at)"
SAMPLE = RegisteredSchema(
    "sample",
    "core",
    {
        1: SchemaVersion(
            version=1,
            name="One",
            sql_statements=[FEED, "CREATE TABLE things (row_id INTEGER PRIMARY KEY, id BLOB UNIQUE, x TEXT)"],
            rollback_statements=["DROP TABLE things", "DROP TABLE change_feed"],
            captures=["things"],
        ),
        2: SchemaVersion(
            version=2,
            name="Two",
            sql_statements=["ALTER TABLE things ADD COLUMN y TEXT", "UPDATE things SET y = x", "CREATE INDEX i ON things (y)"],
            rollback_statements=["DROP INDEX i", "ALTER TABLE things DROP COLUMN y"],
        ),
        3: SchemaVersion(
            version=3,
            name="Three",
            sql_statements=["CREATE TABLE more (id BLOB UNIQUE, z TEXT)", "INSERT INTO more SELECT id, y FROM things"],
            rollback_statements=["DROP TABLE more"],
            captures=["more"],
        ),
    },
    priority=1,
)  # fmt: skip


@pytest.fixture
def connection(tmp_path):
    with sealed(tmp_path / "aico.db") as connection:
        yield connection


@pytest.fixture
def schemas():
    """The registry as it was, put back after the test."""
    SchemaRegistry.get_core_schemas()
    before = dict(SchemaRegistry._schemas)
    yield SchemaRegistry
    SchemaRegistry._schemas.clear()
    SchemaRegistry._schemas.update(before)


def with_all_but_above(connection, schema: RegisteredSchema) -> None:
    """Everything that `schema` may rest on, and itself."""
    below = [other for other in SchemaRegistry.get_core_schemas() if other.priority < schema.priority]
    for one in [*([] if schema is SAMPLE else below), schema]:
        bring_up_to_date(connection, one)


def go_to(connection, schema: RegisteredSchema, version: int) -> None:
    """Up or down."""
    if version < current_version(connection, schema):
        roll_back(connection, schema, version)
    else:
        up_to = {number: step for number, step in schema.definitions.items() if number <= version}
        bring_up_to_date(connection, RegisteredSchema(schema.name, schema.schema_type, up_to, schema.priority))
    assert current_version(connection, schema) == version


def structure(connection) -> dict:
    """Tables, columns, indexes and triggers, however they came about."""
    found = {}
    for kind, name, table, sql in connection.fetch_all("SELECT type, name, tbl_name, sql FROM sqlite_schema"):
        if name.startswith("sqlite_stat"):
            continue
        if kind == "table":
            found[name] = [tuple(row)[1:] for row in connection.fetch_all(f'PRAGMA table_xinfo("{name}")')]
        elif kind == "index":
            found[name] = table, [tuple(row)[2:] for row in connection.fetch_all(f'PRAGMA index_xinfo("{name}")')]
        else:
            found[name] = table, sql
    return found


def fill(connection) -> dict[str, int]:
    """A row with its defaults in every table that takes a plain one; how many rows each table has."""
    tables = [
        name for name, kind in structure(connection).items() if isinstance(kind, list) and name != "schema_history"
    ]
    for table in tables:
        columns = [
            row
            for row in connection.fetch_all(f'PRAGMA table_xinfo("{table}")')
            if row["hidden"] == 0 and not row["pk"] and row["dflt_value"] is None
        ]
        values = [os.urandom(16) if row["name"] == "id" else FITTING.get(row["type"], "x") for row in columns]
        names = ", ".join('"' + row["name"] + '"' for row in columns)
        try:
            connection.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(values))})", values)
        except InvalidInput:
            continue  # a table with rules of its own: its repository's tests fill it
    return {table: connection.fetch_one(f"SELECT count(*) FROM {table}")[0] for table in tables}


def schema_named(name: str) -> RegisteredSchema:
    return SAMPLE if name == "sample" else SchemaRegistry.get_schema(name)


@pytest.mark.parametrize("name", NAMES)
def test_every_step_of_ours_can_be_undone(name):
    for step in SchemaRegistry.get_schema(name).definitions.values():
        assert step.rollback_statements is not None, f"version {step.version} of {name} has no way back"


@pytest.mark.parametrize("name", ["sample", *NAMES])
def test_every_version_leads_to_every_other_with_data_in_the_tables(tmp_path, name):
    schema = schema_named(name)
    made = {}
    for version in range(schema.newest + 1):
        with sealed(tmp_path / f"{version}.db") as connection:
            with_all_but_above(connection, schema)
            go_to(connection, schema, 0)
            go_to(connection, schema, version)
            made[version] = structure(connection)
    with sealed(tmp_path / "aico.db") as connection:
        with_all_but_above(connection, schema)
        for start in range(schema.newest + 1):
            for end in range(schema.newest + 1):
                if start == end:
                    continue
                go_to(connection, schema, start)
                counts = fill(connection)
                lowest = {table for table in made[min(start, end)] if table in counts}
                expected = losses(connection, schema, end) if end < start else {}
                go_to(connection, schema, end)
                assert structure(connection) == made[end], (start, end)
                kept = {
                    table: connection.fetch_one(f"SELECT count(*) FROM {table}")[0] for table in lowest & set(made[end])
                }
                for table in kept.keys() - {"change_feed"}:
                    assert kept[table] == counts[table], (start, end, table)
                gone = set(made[start]) - set(made[end])
                assert {table for table in expected if "." not in table} == gone & set(counts)
                assert all(counts[table] == rows for table, rows in expected.items() if table in counts)
        connection.verify()


def test_after_a_roll_back_the_feed_still_has_every_change_with_its_columns(connection):
    bring_up_to_date(connection, SAMPLE)
    connection.execute("INSERT INTO things (id, x, y) VALUES (x'01', 'a', 'b')")
    roll_back(connection, SAMPLE, 1)
    connection.execute("UPDATE things SET x = 'c'")
    masks = connection.fetch_all("SELECT column_mask FROM change_feed ORDER BY number")
    assert masks == [(0b1111,), (0b0100,)]


def test_a_dry_run_names_the_statements_and_changes_nothing(connection):
    go_to(connection, SAMPLE, 1)
    before = structure(connection), history(connection)
    steps = planned(connection, SAMPLE)
    assert [(step.version, list(step.statements)) for step in steps] == [
        (number, list(SAMPLE.definitions[number].sql_statements)) for number in (2, 3)
    ]
    assert losses(connection, SAMPLE, 0) == {"change_feed": 0, "things": 0}
    assert (structure(connection), history(connection)) == before


@pytest.mark.parametrize("version", [-1, 3, 4])
def test_rolling_back_to_where_one_is_or_further_on_is_refused(connection, version):
    bring_up_to_date(connection, SAMPLE)
    with pytest.raises(InvalidInput, match="version 3"):
        roll_back(connection, SAMPLE, version)


def test_a_step_that_cannot_be_undone_stops_a_roll_back_before_anything_changes(connection):
    steps = dict(SAMPLE.definitions)
    steps[2] = SchemaVersion(version=2, name="Two", sql_statements=steps[2].sql_statements)
    final = RegisteredSchema("sample", "core", steps, 1)
    bring_up_to_date(connection, final)
    before = structure(connection)
    with pytest.raises(InvalidInput, match="version 2"):
        roll_back(connection, final, 0)
    assert structure(connection) == before


def test_what_other_core_schemas_rest_on_stays_until_they_are_rolled_back(connection):
    schemas = SchemaRegistry.get_core_schemas()
    for schema in schemas:
        bring_up_to_date(connection, schema)
    before = structure(connection), history(connection)
    for call in (roll_back, losses):
        with pytest.raises(InvalidInput, match="access, activity, items, meaning"):
            call(connection, schemas[0], 0)
    assert (structure(connection), history(connection)) == before
    with pytest.raises(InvalidInput, match="activity, meaning"):  # they were made on its version 2
        roll_back(connection, schemas[0], 1)
    assert roll_back(connection, schemas[0], 2) == [3]  # which they do not need
    for schema in reversed(schemas):
        roll_back(connection, schema, 0)
    assert set(structure(connection)) <= {"schema_history", "sqlite_sequence"}
    SchemaRegistry.apply_core_schemas(connection)
    assert structure(connection) == before[0]


def test_a_failing_roll_back_leaves_the_version_as_it_was(connection):
    steps = dict(SAMPLE.definitions)
    steps[3] = SchemaVersion(
        version=3, name="Three", sql_statements=steps[3].sql_statements, captures=["more"],
        rollback_statements=["DROP TABLE more", "bogus"],
    )  # fmt: skip
    wrong = RegisteredSchema("sample", "core", steps, 1)
    bring_up_to_date(connection, wrong)
    before = structure(connection), history(connection)
    with pytest.raises(MigrationFailed, match=r"statement 2 \(BOGUS\)"):
        roll_back(connection, wrong, 0)
    assert (structure(connection), history(connection)) == before


def test_a_core_schema_of_a_newer_release_is_refused_though_its_name_is_unknown(connection, schemas):
    register_schema("future", "core", priority=99)(
        {1: SchemaVersion(version=1, name="F", sql_statements=["CREATE TABLE future (x)"], rollback_statements=[])}
    )
    schemas.apply_core_schemas(connection)
    del schemas._schemas["future"]
    with pytest.raises(FormatTooNew, match="'future'"):
        schemas.apply_core_schemas(connection)


def test_a_history_with_a_hole_is_not_believed(connection):
    bring_up_to_date(connection, SAMPLE)
    connection.execute("DELETE FROM schema_history WHERE version = 2")
    for call in (lambda: bring_up_to_date(connection, SAMPLE), lambda: roll_back(connection, SAMPLE, 0)):
        with pytest.raises(Tampered):
            call()


def kill_between_statements(folder: str, name: str, every: int) -> dict:
    """For a child: die before statements of every step up and down in turn, with data in the tables; what was found."""
    schema, kills = schema_named(name), 0
    versions = range(schema.newest + 1)
    made = {version: _prepared(f"{folder}/{version}.db", schema, version) for version in versions}
    steps = [(*two,) for one in pairwise(versions) for two in (one, one[::-1])]
    for start, end in steps:
        for at in range((start + end) % every, 10_000, every):
            place = f"{folder}/killed.db"
            for file in (place, f"{place}-wal", f"{place}-shm", f"{place}-map"):
                Path(file).unlink(missing_ok=True)
            for file in Path(folder).glob(f"{start}.db*"):
                shutil.copy(file, f"{place}{file.name.removeprefix(f'{start}.db')}")
            ended = _in_fork(lambda place=place, at=at, end=end: _die_at(place, schema, at, end))
            verdict = _in_fork(lambda place=place, start=start, end=end: _judge(place, schema, made, start, end))
            if verdict != 0:
                return {"wrong": (start, end, at, verdict)}
            if ended == 0:
                break
            kills += 1
    return {"wrong": None, "kills": kills}


def _prepared(path: str, schema: RegisteredSchema, version: int) -> tuple[dict, dict[str, int]]:
    """A database in which the schema has this version, with rows; its structure, and how many rows each table has."""
    with sealed(path) as connection:
        with_all_but_above(connection, schema)
        go_to(connection, schema, 0)
        go_to(connection, schema, version)
        return structure(connection), fill(connection)


def _in_fork(work) -> int:
    child = os.fork()
    if child == 0:
        try:
            os._exit(work() or 0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _die_at(path: str, schema: RegisteredSchema, at: int, end: int) -> None:
    connection = sealed(path)
    countdown = iter(range(at, -1, -1))

    def before_each(_cursor: apsw.Cursor, _sql: str, _bindings: object) -> bool:
        if next(countdown, None) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return True

    connection._writing.connection.exec_trace = before_each
    go_to(connection, schema, end)
    connection._writing.connection.exec_trace = None
    connection.close()


def _judge(path: str, schema: RegisteredSchema, made: dict, start: int, end: int) -> int:
    with sealed(path) as connection:
        version = current_version(connection, schema)
        if version not in (start, end):
            return 1
        if structure(connection) != made[version][0]:
            return 2
        kept = made[start][1].keys() & made[end][1].keys() & structure(connection).keys() - {"change_feed"}
        if [t for t in kept if connection.fetch_one(f"SELECT count(*) FROM {t}")[0] != made[start][1][t]]:
            return 3
        connection.verify()
    return 0


def killed_between_statements(folder, name: str, every: int) -> int:
    done = run(kill_between_statements, str(folder), name, every, patience_s=900)
    assert done.error is None, done
    assert done.value["wrong"] is None, done.value
    return done.value["kills"]


def test_kill_9_between_any_two_statements_leaves_the_old_version_or_the_new_one(tmp_path):
    assert killed_between_statements(tmp_path, "sample", 1) > 40


@pytest.mark.parametrize("name", NAMES)
def test_kill_9_amid_a_step_of_ours_leaves_the_old_version_or_the_new_one(tmp_path, name):
    assert killed_between_statements(tmp_path, name, 10) > 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", NAMES)
def test_kill_9_between_any_two_statements_of_ours_leaves_the_old_version_or_the_new_one(tmp_path, name):
    print(f"\n{name}: {killed_between_statements(tmp_path, name, 1)} kills")


def write_when_told(path: str) -> list[str]:
    """For a child: have the database open, and try to write after each line."""
    with sealed(path) as connection:
        SchemaRegistry.apply_core_schemas(connection)
        outcomes = []
        while print("ready", flush=True) or input() != "end":
            for write in (
                lambda: connection.execute("DELETE FROM devices"),
                lambda: connection.write(lambda: connection.execute("DELETE FROM devices")),
                lambda: connection.execute_many("DELETE FROM devices WHERE id = ?", [(b"x",)]),
            ):
                try:
                    write()
                    outcomes.append("written")
                except SchemaChanged:
                    outcomes.append("SchemaChanged")
        return outcomes


def test_a_process_that_has_the_vault_open_while_another_migrates_stops_writing(tmp_path, schemas):
    path = tmp_path / "aico.db"
    with sealed(path) as connection:
        schemas.apply_core_schemas(connection)
    with started(write_when_told, str(path)) as child, sealed(path) as connection:

        def told_to_write() -> None:
            child.tell("write")
            assert child.line() == "ready"

        assert child.line() == "ready"
        for name in NAMES:
            schema = schemas.get_schema(name)
            following = next_release(schema)
            bring_up_to_date(connection, following)
            told_to_write()
            roll_back(connection, following, schema.newest)
            told_to_write()
        connection.execute("CREATE INDEX by_hand ON devices (name)")  # no schema has changed
        told_to_write()
        child.tell("end")
        assert child.end().value == (["SchemaChanged"] * 3 + ["written"] * 3) * len(NAMES) + ["written"] * 3


def next_release(schema: RegisteredSchema) -> RegisteredSchema:
    """The schema with one more version."""
    number = schema.newest + 1
    step = SchemaVersion(
        version=number,
        name="Next",
        sql_statements=["CREATE TABLE come_later (x TEXT)"],
        rollback_statements=["DROP TABLE come_later"],
    )
    return RegisteredSchema(schema.name, "core", {**schema.definitions, number: step}, schema.priority)


def test_a_process_stops_writing_where_it_rolled_its_own_schema_back(connection):
    SchemaRegistry.apply_core_schemas(connection)
    core = SchemaRegistry.get_schema("core")
    roll_back(connection, core, core.newest - 1)
    with pytest.raises(SchemaChanged):
        connection.execute("CREATE TABLE x (y)")
    assert SchemaRegistry.apply_core_schemas(connection) == ["core"]
    connection.execute("DELETE FROM devices")


def test_reading_a_table_that_another_process_took_away_says_what_happened(tmp_path):
    with sealed(tmp_path / "aico.db") as connection, sealed(tmp_path / "aico.db") as other:
        SchemaRegistry.apply_core_schemas(connection)
        for schema in reversed(SchemaRegistry.get_core_schemas()):
            roll_back(other, schema, 0)
        with pytest.raises(SchemaChanged):
            connection.fetch_all("SELECT * FROM messages")
        with pytest.raises(InvalidInput):
            other.fetch_all("SELECT * FROM messages")
