"""Schemas as history: every table comes from a registered version, applied once, in order, each step whole or not at all.

    CORE_SCHEMA = register_schema("core", "core", priority=1)({
        1: SchemaVersion(version=1, name="Core", sql_statements=[CREATE_LOGS]),
        2: SchemaVersion(version=2, name="Log trace ids", sql_statements=["ALTER TABLE logs ADD COLUMN trace_id TEXT"]),
    })

A released version is never edited: its checksum lies in the database and a different one is refused by name. Our own
schemas are the modules of `aico.data.schemas`; plugins are found by the entry points of installed packages.
"""

import importlib
import pkgutil
from collections.abc import Callable
from typing import ClassVar

from aico.data.libsql.connection import LibSQLConnection
from aico.data.libsql.definitions import (
    Definitions,
    RegisteredSchema,
    SchemaType,
    SchemaVersion,
    check_definitions,
)
from aico.data.libsql.migrations import bring_up_to_date, check_core_history, history
from aico.errors import InvalidInput, NotFound

__all__ = ["Definitions", "RegisteredSchema", "SchemaRegistry", "SchemaType", "SchemaVersion", "register_schema"]

ENTRY_POINTS = "aico.schemas"
"""The group under which a package names the module or object whose import registers its plugin schema."""


class SchemaRegistry:
    """All schemas of this process. Filled at import; holds no connection."""

    _schemas: ClassVar[dict[str, RegisteredSchema]] = {}
    _broken: ClassVar[dict[str, str] | None] = None  # None until entry points were looked for

    @classmethod
    def register(
        cls, name: str, schema_type: SchemaType = "core", priority: int = 0
    ) -> Callable[[Definitions], Definitions]:
        """A function that registers the definitions it is called with and returns them unchanged.

        Raises InvalidInput for a gap in the versions, a plugin's name that could be mistaken, or a second schema of
        the same name.
        """

        def registered(definitions: Definitions) -> Definitions:
            schema = RegisteredSchema(name, schema_type, definitions, priority)
            check_definitions(schema)
            known = cls._schemas.get(name)
            if known is not None and (known.definitions, known.schema_type) != (definitions, schema_type):
                raise InvalidInput(f"a schema named {name!r} is registered already; it was not replaced")
            cls._schemas[name] = schema
            return definitions

        return registered

    @classmethod
    def list_schemas(cls) -> dict[str, SchemaType]:
        """The registered schemas and their types."""
        return {name: schema.schema_type for name, schema in cls._schemas.items()}

    @classmethod
    def get_schema(cls, name: str) -> RegisteredSchema:
        """One schema by name, looked for among ours first, then among installed plugins. Raises NotFound."""
        _import_own_schemas()
        if name not in cls._schemas:
            cls.broken_plugins()
        try:
            return cls._schemas[name]
        except KeyError:
            raise NotFound(f"no schema is named {name!r}", hint=f"registered: {', '.join(cls._schemas)}") from None

    @classmethod
    def get_core_schemas(cls) -> list[RegisteredSchema]:
        """The core schemas in the order they are applied: by priority, then name. Imports `aico.data.schemas`."""
        _import_own_schemas()
        return cls._in_order("core")

    @classmethod
    def get_plugin_schemas(cls) -> list[RegisteredSchema]:
        """The schemas of installed plugins. Imports them, so not a vault that opens: somebody who asks for plugins."""
        cls.broken_plugins()
        return cls._in_order("plugin")

    @classmethod
    def broken_plugins(cls) -> dict[str, str]:
        """Entry point → why its plugin cannot be used. Looks for plugins the first time; a broken one breaks nothing else."""
        if cls._broken is None:
            _import_own_schemas()
            cls._broken = cls._import_plugins()
        return dict(cls._broken)

    @classmethod
    def apply_core_schemas(cls, connection: LibSQLConnection) -> list[str]:
        """Bring the core schemas to their newest version; returns the names of those that changed.

        Every step is one transaction, and several processes may do this at once. From then on the connection refuses
        to write once another process has changed a core schema. Raises FormatTooNew for a database of a newer release
        and Tampered for one whose steps are not ours, both before anything is changed; MigrationFailed for a step that
        cannot be applied, with all steps before it in place.
        """
        schemas = cls.check_core_schemas(connection)
        changed = [schema.name for schema in schemas if bring_up_to_date(connection, schema)]
        for schema in schemas:
            connection.expect_schema(schema.history_name, schema.newest)
        return changed

    @classmethod
    def check_core_schemas(cls, connection: LibSQLConnection) -> list[RegisteredSchema]:
        """The core schemas in order. Raises FormatTooNew or Tampered where the database is not one of theirs."""
        schemas = cls.get_core_schemas()
        check_core_history(connection, schemas)
        return schemas

    @classmethod
    def current_versions(cls, connection: LibSQLConnection) -> dict[str, int]:
        """The version each schema has in this database; plugins are called `plugin:name`."""
        return {step.schema: step.version for step in history(connection)}

    @classmethod
    def _in_order(cls, schema_type: SchemaType) -> list[RegisteredSchema]:
        found = [schema for schema in cls._schemas.values() if schema.schema_type == schema_type]
        return sorted(found, key=lambda schema: (schema.priority, schema.name))

    @classmethod
    def _import_plugins(cls) -> dict[str, str]:
        from importlib.metadata import entry_points

        broken = {}
        for entry_point in sorted(entry_points(group=ENTRY_POINTS), key=lambda found: (found.name, found.value)):
            before = dict(cls._schemas)
            try:
                entry_point.load()
                if any(cls._schemas[name].schema_type == "core" for name in cls._schemas.keys() - before.keys()):
                    raise InvalidInput("a plugin cannot register a core schema")
            except (Exception, SystemExit) as error:  # noqa: BLE001  # code of others: whatever it raises is its own
                cls._schemas.clear()
                cls._schemas.update(before)
                broken[entry_point.name] = f"{type(error).__name__}: {error}"
        return broken


register_schema = SchemaRegistry.register


def _import_own_schemas() -> None:
    package = importlib.import_module("aico.data.schemas")
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
