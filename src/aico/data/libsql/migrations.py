"""Takes a schema from version to version: each step one transaction, written into the history, whole or not at all.

Whatever kills the process between two statements, the database has the old version or the new one.
"""

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass

from aico.data.libsql.connection import LibSQLConnection
from aico.data.libsql.definitions import PLUGIN, RegisteredSchema, SchemaVersion, owned_by
from aico.data.libsql.feed_triggers import drop_triggers, make_triggers
from aico.data.libsql.own_objects import check_name_is_free, execute_for, nothing_of_plugins, only_own_objects
from aico.errors import AicoError, FormatTooNew, InvalidInput, MigrationFailed, NotFound, PluginRefused, Tampered

_HISTORY = """CREATE TABLE IF NOT EXISTS schema_history (
    schema TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    PRIMARY KEY (schema, version)
) WITHOUT ROWID"""
_KIND = re.compile(r"(?:\s|;|--[^\n]*\n|/\*.*?\*/)*(?:((?:CREATE|DROP|ALTER)\s+[A-Z]+)|([A-Z]+))", re.I | re.S)


@dataclass(frozen=True, slots=True)
class AppliedStep:
    """A row of the history. `schema` is as the history writes it, `applied_at` microseconds since 1970 UTC."""

    schema: str
    version: int
    name: str
    checksum: str
    applied_at: int
    duration_us: int


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """What applying one version would run, in this order; the triggers of the change feed follow."""

    schema: str
    version: int
    name: str
    description: str
    statements: Sequence[str]
    can_be_undone: bool


def history(connection: LibSQLConnection) -> list[AppliedStep]:
    """Every step this database was made by, schema by schema, in order."""
    if not connection.fetch_one("SELECT 1 FROM sqlite_schema WHERE name = 'schema_history'"):
        return []
    rows = connection.fetch_all(
        "SELECT schema, version, name, checksum, applied_at, duration_us FROM schema_history ORDER BY schema, version"
    )
    return [AppliedStep(*row) for row in rows]


def current_version(connection: LibSQLConnection, schema: RegisteredSchema) -> int:
    """The version of `schema` in this database, 0 where it is not there."""
    return max((step.version for step in history(connection) if step.schema == schema.history_name), default=0)


def installed_plugins(connection: LibSQLConnection) -> list[str]:
    """The names of the plugins whose tables are in this database."""
    names = {step.schema for step in history(connection) if step.schema.startswith(PLUGIN)}
    return sorted(name.removeprefix(PLUGIN) for name in names)


def check_core_history(connection: LibSQLConnection, schemas: Sequence[RegisteredSchema]) -> None:
    """Raise FormatTooNew or Tampered unless this code knows every core step that the database was made by."""
    known = {schema.name for schema in schemas}
    for step in history(connection):
        if step.schema not in known and not step.schema.startswith(PLUGIN):
            raise FormatTooNew(
                f"the database has schema {step.schema!r}, which this release does not know; nothing was changed",
                hint="update aico",
            )
    for schema in schemas:
        check_history(connection, schema)


def check_history(connection: LibSQLConnection, schema: RegisteredSchema) -> None:
    """Raise FormatTooNew for a newer version of `schema`, Tampered for steps that are not ours or not in a row."""
    applied = [step for step in history(connection) if step.schema == schema.history_name]
    for number, step in enumerate(applied, 1):
        if step.version != number:
            raise Tampered(
                f"the history of {schema.title} has no version {number}; nothing was changed", hint="restore a backup"
            )
        known = schema.definitions.get(number)
        if known is None:
            raise FormatTooNew(
                f"the database has version {applied[-1].version} of {schema.title}, this release knows {schema.newest}; "
                "nothing was changed",
                hint="update aico" if schema.schema_type == "core" else "update the plugin's package",
            )
        if known.checksum() != step.checksum:
            raise Tampered(
                f"version {number} ({known.name}) of {schema.title} is not the one this database was made with; "
                "nothing was changed",
                hint="install the release that made it; a released version is never edited",
            )


def planned(connection: LibSQLConnection, schema: RegisteredSchema) -> list[PlannedStep]:
    """What `bring_up_to_date` would apply. Reads only; raises as `check_history`."""
    check_history(connection, schema)
    return [
        PlannedStep(
            schema.name,
            step.version,
            step.name,
            step.description,
            step.sql_statements,
            can_be_undone=step.rollback_statements is not None,
        )
        for step in _missing(connection, schema)
    ]


def bring_up_to_date(connection: LibSQLConnection, schema: RegisteredSchema, *, backed_up: bool = False) -> bool:
    """Apply what is missing of `schema`; whether there was anything. Several processes may do this at once.

    A step that cannot be undone is refused on tables in use unless the caller says that the database was `backed_up`
    (`connection.backup_to` makes a sealed copy). Raises as `check_history` before anything is changed; PluginRefused,
    or MigrationFailed for a step that cannot be applied, with all steps before it in place.
    """
    check_history(connection, schema)
    missing = _missing(connection, schema)
    for step in missing:
        if step.rollback_statements is None and missing[0].version > 1 and not backed_up:
            raise MigrationFailed(
                f"version {step.version} ({step.name}) of {schema.title} cannot be undone; nothing was changed",
                hint="let a sealed copy be made first: `aico db migrate --backup FILE`",
            )
    with _free_to_change(connection, schema):
        for step in missing:
            _apply(connection, schema, step)
    return bool(missing)


def roll_back(connection: LibSQLConnection, schema: RegisteredSchema, to_version: int) -> list[int]:
    """Undo the steps above `to_version`, newest first; their numbers.

    Rows and columns that those steps brought are gone. Raises InvalidInput, before anything is changed, for a version
    that is not below the current one, a step that cannot be undone, or version 0 of what other core schemas rest on;
    else as `bring_up_to_date`.
    """
    steps = _steps_to_undo(connection, schema, to_version)
    with _free_to_change(connection, schema):
        for step in steps:
            _undo(connection, schema, step)
    return [step.version for step in steps]


def losses(connection: LibSQLConnection, schema: RegisteredSchema, to_version: int) -> dict[str, int]:
    """What `roll_back` would take: rows by table, and values by table.column. Tries it and takes it back."""
    steps = _steps_to_undo(connection, schema, to_version)
    before = after = _columns_by_table(connection)
    with _free_to_change(connection, schema), suppress(_TakenBack), connection.transaction():
        for step in steps:
            _undo(connection, schema, step)
        after = _columns_by_table(connection)
        raise _TakenBack
    lost = {table: _count(connection, table) for table in before.keys() - after.keys()}
    for table in before.keys() & after.keys():
        for column in set(before[table]) - set(after[table]):
            lost[f"{table}.{column}"] = _count(connection, table, column)
    return dict(sorted(lost.items()))


def remove_plugin(connection: LibSQLConnection, name: str) -> None:
    """Drop everything that plugin `name` owns, and its history, and nothing else. Its package need not be installed.

    Raises NotFound if it is not in this database.
    """
    _check_installed(connection, name)
    connection.expect_schema(PLUGIN + name, None)
    with connection.transaction():
        _drop_owned(connection, name)


def losses_of_removal(connection: LibSQLConnection, name: str) -> dict[str, int]:
    """The rows that `remove_plugin` would take, by table. Raises NotFound."""
    _check_installed(connection, name)
    owned = [table for table in _columns_by_table(connection) if owned_by(name, table)]
    return {table: _count(connection, table) for table in owned}


def _missing(connection: LibSQLConnection, schema: RegisteredSchema) -> list[SchemaVersion]:
    current = current_version(connection, schema)
    return [step for number, step in sorted(schema.definitions.items()) if number > current]


@contextmanager
def _free_to_change(connection: LibSQLConnection, schema: RegisteredSchema) -> Iterator[None]:
    """Let this process change the schema; afterwards it is again held to the version that it knows."""
    before = connection.expect_schema(schema.history_name, None)
    try:
        yield
    finally:
        connection.expect_schema(schema.history_name, before)


def _apply(connection: LibSQLConnection, schema: RegisteredSchema, step: SchemaVersion) -> None:
    with _step_transaction(connection, schema, step, "applied", step.version - 1):
        connection.execute(_HISTORY)
        if current_version(connection, schema) >= step.version:
            return  # another process was first
        if schema.schema_type == "plugin" and step.version == 1:
            check_name_is_free(connection, schema.name)
        began = time.perf_counter_ns()
        with _within_bounds(connection, schema, step):
            _run(connection, schema, step, step.sql_statements)
            make_triggers(connection, schema.captured(step.version))
        connection.execute(
            "INSERT INTO schema_history VALUES (?, ?, ?, ?, ?, ?)",
            (
                schema.history_name,
                step.version,
                step.name,
                step.checksum(),
                time.time_ns() // 1000,
                (time.perf_counter_ns() - began) // 1000,
            ),
        )


def _undo(connection: LibSQLConnection, schema: RegisteredSchema, step: SchemaVersion) -> None:
    with _step_transaction(connection, schema, step, "undone", step.version):
        if current_version(connection, schema) != step.version:
            raise InvalidInput("another process has changed it meanwhile")
        with _within_bounds(connection, schema, step):
            drop_triggers(connection, schema.captured(step.version))
            _run(connection, schema, step, step.rollback_statements or ())
            make_triggers(connection, schema.captured(step.version - 1))
        connection.execute(
            "DELETE FROM schema_history WHERE schema = ? AND version = ?", (schema.history_name, step.version)
        )


@contextmanager
def _step_transaction(
    connection: LibSQLConnection, schema: RegisteredSchema, step: SchemaVersion, done: str, version: int
) -> Iterator[None]:
    try:
        with connection.transaction():
            yield
    except PluginRefused:
        raise
    except AicoError as exc:
        raise MigrationFailed(
            f"version {step.version} ({step.name}) of {schema.title} was not {done}: {exc}; "
            f"the database is as it was at version {version}",
            hint="report this with the message; the data can still be read by the release that wrote it",
        ) from exc


def _within_bounds(
    connection: LibSQLConnection, schema: RegisteredSchema, step: SchemaVersion
) -> AbstractContextManager[None]:
    """A plugin's step makes and changes only what is its own; a core step nothing that is a plugin's."""
    if schema.schema_type == "plugin":
        return only_own_objects(connection, schema.name, f"version {step.version} of {schema.title}")
    return nothing_of_plugins(connection, installed_plugins(connection))


def _run(
    connection: LibSQLConnection, schema: RegisteredSchema, step: SchemaVersion, statements: Sequence[str]
) -> None:
    """Run a step's statements; an error names the statement by number and kind, never by its values."""
    for number, statement in enumerate(statements, 1):
        found = _KIND.match(statement)
        kind = " ".join((found[1] or found[2]).upper().split()) if found else "?"
        execute_for(connection, schema, statement, f"statement {number} ({kind}) of version {step.version}")


def _steps_to_undo(connection: LibSQLConnection, schema: RegisteredSchema, to_version: int) -> list[SchemaVersion]:
    check_history(connection, schema)
    current = current_version(connection, schema)
    if not 0 <= to_version < current:
        raise InvalidInput(
            f"{schema.title} is at version {current} and cannot be rolled back to {to_version}; nothing was changed",
            hint=f"name a version from 0 to {current - 1}" if current else "it is not in this database",
        )
    if schema.schema_type == "core":
        _check_nothing_rests_on(connection, schema, to_version)
    steps = [schema.definitions[number] for number in range(current, to_version, -1)]
    for step in steps:
        if step.rollback_statements is None:
            raise InvalidInput(
                f"version {step.version} ({step.name}) of {schema.title} cannot be undone; nothing was changed",
                hint="use the sealed copy that was made before it was applied",
            )
    return steps


def _check_nothing_rests_on(connection: LibSQLConnection, schema: RegisteredSchema, to_version: int) -> None:
    """Refuse to take away what other core schemas say they rest on, and the tables of those applied before them.

    Indexes, triggers and what the feed keeps would go with them, while the others' history still says that all is there.
    """
    from aico.data.libsql.registry import SchemaRegistry  # which rests on this module

    resting = []
    for other in SchemaRegistry.get_core_schemas():
        there = [step for number, step in other.definitions.items() if number <= current_version(connection, other)]
        needed = max((step.rests_on.get(schema.name, 0) for step in there), default=0)
        if there and (needed > to_version or (to_version == 0 and other.priority > schema.priority)):
            resting.append(other.name)
    if resting:
        raise InvalidInput(
            f"on {schema.title} rest other schemas of the vault: {', '.join(resting)}; nothing was changed",
            hint=f"roll them back to 0 first, in this order: {', '.join(reversed(resting))}",
        )


class _TakenBack(Exception):
    """Ends a transaction that was only tried."""


def _columns_by_table(connection: LibSQLConnection) -> dict[str, list[str]]:
    rows = connection.fetch_all(
        "SELECT t.name, c.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c "
        "WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' AND t.name <> 'schema_history'"
    )
    found: dict[str, list[str]] = {}
    for table, column in rows:
        found.setdefault(table, []).append(column)
    return found


def _count(connection: LibSQLConnection, table: str, column: str | None = None) -> int:
    what = "*" if column is None else '"' + column.replace('"', '""') + '"'
    row = connection.fetch_one(f'SELECT count({what}) FROM "{table}"')
    return int(row[0]) if row else 0


def _check_installed(connection: LibSQLConnection, name: str) -> None:
    installed = installed_plugins(connection)
    if name not in installed:
        raise NotFound(
            f"plugin {name!r} is not in this vault; nothing was changed",
            hint=f"there are: {', '.join(installed)}" if installed else "there is no plugin in it",
        )


def _drop_owned(connection: LibSQLConnection, name: str) -> None:
    rows = connection.fetch_all(
        "SELECT type, name FROM sqlite_schema WHERE type IN ('view', 'table') ORDER BY type DESC"
    )
    for kind, thing in rows:  # views first; indexes and triggers go with their tables
        if owned_by(name, thing):
            connection.execute(f"DROP {kind.upper()} {thing}")
    connection.execute("DELETE FROM schema_history WHERE schema = ?", (PLUGIN + name,))
