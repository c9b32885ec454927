"""Schemas as history: every table comes from a registered version, applied once, in order, each step whole or not at all.

    CORE_SCHEMA = register_schema("core", "core", priority=1)({
        1: SchemaVersion(version=1, name="Core", sql_statements=[CREATE_LOGS]),
        2: SchemaVersion(version=2, name="Log trace ids", sql_statements=["ALTER TABLE logs ADD COLUMN trace_id TEXT"]),
    })

A released version is never edited: its checksum lies in the database and a different one is refused by name.
"""

import hashlib
import importlib
import pkgutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import msgspec

from aico.data.libsql.connection import LibSQLConnection
from aico.errors import AicoError, FormatTooNew, InvalidInput, MigrationFailed, NotFound, Tampered

SchemaType = Literal["core", "plugin"]

_HISTORY = """CREATE TABLE IF NOT EXISTS schema_history (
    schema TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    PRIMARY KEY (schema, version)
) WITHOUT ROWID"""


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """One step of a schema.

    `captures` names the tables of which every change goes to the change feed, from this version on; each has a
    16-byte `id` column. Their triggers are generated, and made anew when a later version adds columns.
    """

    version: int
    name: str
    description: str = ""
    sql_statements: Sequence[str] = ()
    rollback_statements: Sequence[str] | None = None
    captures: Sequence[str] = ()

    def checksum(self) -> str:
        """SHA-256 over everything that changes the database."""
        return hashlib.sha256(msgspec.json.encode([self.version, self.sql_statements, self.captures])).hexdigest()


Definitions = dict[int, SchemaVersion]


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """A schema and its history, by version from 1 on without a gap."""

    name: str
    schema_type: SchemaType
    definitions: Definitions
    priority: int


class SchemaRegistry:
    """All schemas of this process. Filled at import; holds no connection."""

    _schemas: ClassVar[dict[str, RegisteredSchema]] = {}

    @classmethod
    def register(
        cls, name: str, schema_type: SchemaType = "core", priority: int = 0
    ) -> Callable[[Definitions], Definitions]:
        """A function that registers the definitions it is called with and returns them unchanged.

        Raises InvalidInput for a gap in the versions or a second schema of the same name.
        """

        def registered(definitions: Definitions) -> Definitions:
            numbers = list(range(1, len(definitions) + 1))
            if sorted(definitions) != numbers or any(step.version != number for number, step in definitions.items()):
                raise InvalidInput(f"schema {name!r} needs the versions 1, 2, 3 … without a gap; it was not registered")
            known = cls._schemas.get(name)
            if known is not None and known.definitions != definitions:
                raise InvalidInput(f"a schema named {name!r} is registered already; it was not replaced")
            cls._schemas[name] = RegisteredSchema(name, schema_type, definitions, priority)
            return definitions

        return registered

    @classmethod
    def list_schemas(cls) -> dict[str, SchemaType]:
        """The registered schemas and their types."""
        return {name: schema.schema_type for name, schema in cls._schemas.items()}

    @classmethod
    def get_schema(cls, name: str) -> RegisteredSchema:
        """One schema by name. Raises NotFound."""
        try:
            return cls._schemas[name]
        except KeyError:
            raise NotFound(f"no schema is named {name!r}", hint=f"registered: {', '.join(cls._schemas)}") from None

    @classmethod
    def get_core_schemas(cls) -> list[RegisteredSchema]:
        """The core schemas in the order they are applied: by priority, then name. Imports `aico.data.schemas`."""
        _import_own_schemas()
        core = [schema for schema in cls._schemas.values() if schema.schema_type == "core"]
        return sorted(core, key=lambda schema: (schema.priority, schema.name))

    @classmethod
    def apply_core_schemas(cls, connection: LibSQLConnection) -> list[str]:
        """Bring the core schemas to their newest version; returns the names of those that changed.

        Every step is one transaction, and several processes may do this at once. Raises FormatTooNew for a
        database of a newer release and Tampered for one whose steps are not ours, both before anything is
        changed; MigrationFailed for a step that cannot be applied, with all steps before it in place.
        """
        schemas = cls.get_core_schemas()
        applied = _applied_checksums(connection)
        for schema in schemas:
            _check_history(schema, applied.get(schema.name, {}))
        return [
            schema.name for schema in schemas if _bring_up_to_date(connection, schema, applied.get(schema.name, {}))
        ]

    @classmethod
    def current_versions(cls, connection: LibSQLConnection) -> dict[str, int]:
        """The version each schema has in this database."""
        return {name: max(steps) for name, steps in _applied_checksums(connection).items()}


register_schema = SchemaRegistry.register


def _import_own_schemas() -> None:
    package = importlib.import_module("aico.data.schemas")
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)


def _applied_checksums(connection: LibSQLConnection) -> dict[str, dict[int, str]]:
    """schema → version → checksum, as the database remembers it."""
    if not connection.fetch_one("SELECT 1 FROM sqlite_schema WHERE name = 'schema_history'"):
        return {}
    found: dict[str, dict[int, str]] = {}
    for schema, version, checksum in connection.fetch_all("SELECT schema, version, checksum FROM schema_history"):
        found.setdefault(schema, {})[version] = checksum
    return found


def _check_history(schema: RegisteredSchema, applied: dict[int, str]) -> None:
    for version, checksum in sorted(applied.items()):
        known = schema.definitions.get(version)
        if known is None:
            raise FormatTooNew(
                f"the database has version {version} of schema {schema.name!r}, this release knows {len(schema.definitions)}; "
                "nothing was changed",
                hint="update aico",
            )
        if known.checksum() != checksum:
            raise Tampered(
                f"version {version} ({known.name}) of schema {schema.name!r} is not the one this database was made with; "
                "nothing was changed",
                hint="install the release that made it; a released version is never edited",
            )


def _bring_up_to_date(connection: LibSQLConnection, schema: RegisteredSchema, applied: dict[int, str]) -> bool:
    missing = [step for number, step in sorted(schema.definitions.items()) if number not in applied]
    for step in missing:
        _apply(connection, schema, step)
    return bool(missing)


def _apply(connection: LibSQLConnection, schema: RegisteredSchema, step: SchemaVersion) -> None:
    try:
        with connection.transaction():
            connection.execute(_HISTORY)
            done = connection.fetch_one(
                "SELECT 1 FROM schema_history WHERE schema = ? AND version = ?", (schema.name, step.version)
            )
            if done:
                return  # another process was first
            began = time.perf_counter_ns()
            for statement in step.sql_statements:
                connection.execute(statement)
            for table in _captured_tables(schema, step.version):
                _generate_triggers(connection, table)
            connection.execute(
                "INSERT INTO schema_history VALUES (?, ?, ?, ?, ?, ?)",
                (
                    schema.name,
                    step.version,
                    step.name,
                    step.checksum(),
                    time.time_ns() // 1000,
                    (time.perf_counter_ns() - began) // 1000,
                ),
            )
    except AicoError as exc:
        raise MigrationFailed(
            f"version {step.version} ({step.name}) of schema {schema.name!r} was not applied: {exc}; "
            f"the database is as it was at version {step.version - 1}",
            hint="report this with the message; the data can still be read by the older release",
        ) from exc


def _captured_tables(schema: RegisteredSchema, version: int) -> list[str]:
    return [
        table for number, step in sorted(schema.definitions.items()) if number <= version for table in step.captures
    ]


def _generate_triggers(connection: LibSQLConnection, table: str) -> None:
    """Write every change of `table` to the change feed, in the transaction that makes it.

    The column mask has bit i for column i of the table: all bits for an insert, the changed ones for an update,
    none for a delete. Columns are only ever appended, so a bit keeps its meaning.
    """
    columns = [row["name"] for row in connection.fetch_all(f"PRAGMA table_info({table})")]
    changed = " + ".join(f"((old.{name} IS NOT new.{name}) << {bit})" for bit, name in enumerate(columns))
    for event, when, key, mask in (
        ("INSERT", "", "new.id", str((1 << len(columns)) - 1)),
        ("UPDATE", f"WHEN ({changed}) <> 0", "new.id", changed),
        ("DELETE", "", "old.id", "0"),
    ):
        name = f"{table}_feeds_{event.lower()}"
        connection.execute(f"DROP TRIGGER IF EXISTS {name}")
        connection.execute(
            f"CREATE TRIGGER {name} AFTER {event} ON {table} {when} BEGIN "
            f"INSERT INTO change_feed (table_name, key, column_mask, at) "
            f"VALUES ('{table}', {key}, {mask}, CAST(unixepoch('subsec') * 1000000 AS INTEGER)); END"
        )
