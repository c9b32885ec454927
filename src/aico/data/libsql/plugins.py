"""A plugin's tables in a vault: put there when asked for, used under a guard, removed without a trace.

vault.plugins.install("mood")
mood = vault.plugins.tables("mood")
with mood.transaction():
    mood.execute("INSERT INTO mood_entries (id, feeling, at) VALUES (?, ?, ?)", values)
mood.fetch_all("SELECT feeling FROM mood_entries ORDER BY at")
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass

from aico.data.libsql.connection import LibSQLConnection, Parameters
from aico.data.libsql.definitions import PLUGIN, RegisteredSchema
from aico.data.libsql.guard import Guard, using
from aico.data.libsql.migrations import (
    bring_up_to_date,
    check_history,
    current_version,
    installed_plugins,
    remove_plugin,
)
from aico.data.libsql.registry import SchemaRegistry
from aico.data.libsql.rows import Result, Row
from aico.errors import InvalidInput, MigrationFailed, NotFound, PluginRefused


@dataclass(frozen=True, slots=True)
class PluginState:
    """A plugin as vault and machine know it. `problem` says why its package cannot be used, empty if it can."""

    name: str
    version: int
    """In this vault; 0 where it is not installed."""
    newest: int
    """What its package brings; 0 where there is no package."""
    problem: str


class Plugins:
    """The plugins of one vault. Opening a vault neither imports nor applies any; whoever asks here does.

    >>> [plugin.name for plugin in vault.plugins.list_plugins() if plugin.version]
    []
    """

    def __init__(self, connection: LibSQLConnection) -> None:
        self._connection = connection

    def list_plugins(self) -> list[PluginState]:
        """Every plugin that is in this vault or whose package is on this machine.

        >>> [(plugin.name, plugin.version, plugin.newest) for plugin in vault.plugins.list_plugins()]
        [('mood', 0, 2)]
        """
        packages = {schema.name: schema for schema in SchemaRegistry.get_plugin_schemas()}
        versions = SchemaRegistry.current_versions(self._connection)
        found = [
            PluginState(
                name,
                versions.get(PLUGIN + name, 0),
                packages[name].newest if name in packages else 0,
                "" if name in packages else "its package is not installed",
            )
            for name in sorted({*packages, *installed_plugins(self._connection)})
        ]
        broken = SchemaRegistry.broken_plugins()
        return [*found, *(PluginState(name, 0, 0, problem) for name, problem in sorted(broken.items()))]

    def install(self, name: str, *, backed_up: bool = False) -> int:
        """Bring the plugin's tables to its newest version, which is returned. May be repeated.

        A step that cannot be undone is refused on tables in use unless the caller says that the database was `backed_up`.
        Raises NotFound, PluginRefused for SQL that reaches for what is not the plugin's, FormatTooNew, Tampered, or
        MigrationFailed; a refused or failed step is taken back whole.

        >>> vault.plugins.install("mood")
        2
        """
        schema = _plugin_schema(name)
        for core in SchemaRegistry.check_core_schemas(self._connection):
            if current_version(self._connection, core) < core.newest:
                raise MigrationFailed(
                    f"{core.title} is not up to date, so no plugin is installed; nothing was changed",
                    hint="run `aico db migrate` first",
                )
        bring_up_to_date(self._connection, schema, backed_up=backed_up)
        return schema.newest

    def remove(self, name: str) -> None:
        """Drop the plugin's tables with all their rows, and nothing else. Works without its package. Raises NotFound.

        >>> _ = vault.plugins.install("mood")
        >>> vault.plugins.remove("mood")
        >>> [plugin.version for plugin in vault.plugins.list_plugins()]
        [0]
        """
        remove_plugin(self._connection, name)

    def tables(self, name: str) -> "PluginTables":
        """The plugin's own view of the vault. Raises NotFound, or InvalidInput where its tables are of an older version.

        >>> _ = vault.plugins.install("mood")
        >>> vault.plugins.tables("mood").fetch_all("SELECT * FROM mood_entries")
        []
        """
        schema = _plugin_schema(name)
        check_history(self._connection, schema)
        version = current_version(self._connection, schema)
        if version != schema.newest:
            raise InvalidInput(
                f"plugin {name!r} is at version {version} in this vault, its package needs {schema.newest}",
                hint=f"run `aico db migrate {name}`, or vault.plugins.install({name!r})",
            )
        self._connection.expect_schema(schema.history_name, schema.newest)
        return PluginTables(self._connection, name)


class PluginTables:
    """Statements on one plugin's tables, and on nothing else. Thread rule: as the vault, any thread may use it.

    SQLite itself refuses the rest while it compiles a statement: tables of others (also through a view, a trigger or
    a subquery), tables that come or go, files, settings. It holds a plugin's *SQL* to its own; its Python code runs in
    this process and is held by nothing.
    """

    def __init__(self, connection: LibSQLConnection, plugin: str) -> None:
        self._connection, self._plugin, self._rule = connection, plugin, using(plugin)

    def execute(self, sql: str, parameters: Parameters = ()) -> Result:
        """Run one statement; outside a transaction it is durable when this returns.

        Raises PluginRefused, InvalidInput, SchemaChanged if another process migrated or removed the plugin, or as
        every write of the vault. The statement then changed nothing.

        >>> _ = vault.plugins.install("mood")
        >>> vault.plugins.tables("mood").execute("SELECT text FROM messages")
        Traceback (most recent call last):
        aico.errors.PluginRefused: ...
        """
        guard = Guard(self._rule)
        try:
            return self._connection.execute_under(guard, sql, parameters)
        except InvalidInput as exc:
            if not guard.refused:
                raise
            raise PluginRefused(
                f"plugin {self._plugin!r}: a statement was refused, it would {guard.refused}; nothing was done",
                hint=f"a plugin may use the tables named {self._plugin}_… and nothing else",
            ) from exc

    def fetch_one(self, sql: str, parameters: Parameters = ()) -> Row | None:
        """The first row, None if there is none. Raises as `execute`.

        >>> _ = vault.plugins.install("mood")
        >>> vault.plugins.tables("mood").fetch_one("SELECT count(*) FROM mood_entries")[0]
        0
        """
        return self.execute(sql, parameters).fetchone()

    def fetch_all(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """All rows, in memory. Raises as `execute`.

        >>> _ = vault.plugins.install("mood")
        >>> vault.plugins.tables("mood").fetch_all("SELECT feeling FROM mood_entries")
        []
        """
        return self.execute(sql, parameters).fetchall()

    def transaction(self) -> AbstractContextManager[None]:
        """Everything in the block is durable when it ends, or taken back whole and the error re-raised.

        >>> _ = vault.plugins.install("mood")
        >>> tables = vault.plugins.tables("mood")
        >>> with tables.transaction():
        ...     _ = tables.execute("DELETE FROM mood_entries")
        """
        return self._connection.transaction()


def _plugin_schema(name: str) -> RegisteredSchema:
    schema = SchemaRegistry.get_schema(name)
    if schema.schema_type != "plugin":
        raise NotFound(f"{name!r} is a schema of the vault itself, not a plugin; nothing was changed")
    return schema
