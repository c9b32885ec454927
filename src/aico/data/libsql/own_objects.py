"""Holds a plugin's migration to what is its own, by three means that see different things.

SQLite's authorizer sees each statement; the tables of the database, compared before and after, show what it never
sees (the new name of a rename); and the plugin's views and triggers, compiled once under the rule for plain use, show
what they would touch when somebody else sets them in motion.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from aico.data.libsql.connection import LibSQLConnection
from aico.data.libsql.definitions import RegisteredSchema, owned_by
from aico.data.libsql.guard import Guard, defining, using
from aico.errors import AicoError, InvalidInput, PluginRefused

_Objects = dict[tuple[str, str], tuple[str, str]]
"""(type, name) → (its table, its SQL)"""


def execute_for(connection: LibSQLConnection, schema: RegisteredSchema, sql: str, place: str) -> None:
    """Run one statement of a migration, a plugin's under its guard. Raises PluginRefused or InvalidInput, naming `place`."""
    guard = Guard(defining(schema.name))
    try:
        if schema.schema_type == "core":
            connection.execute(sql)
        else:
            connection.execute_under(guard, sql)
    except InvalidInput as exc:
        if guard.refused:
            raise _refused(f"{place} of {schema.title}", guard.refused) from exc
        raise InvalidInput(f"{place}: {exc}") from exc


@contextmanager
def only_own_objects(connection: LibSQLConnection, plugin: str, place: str) -> Iterator[None]:
    """Raise PluginRefused after the block if it made, changed or dropped anything that is not the plugin's."""
    before = _objects(connection)
    yield
    after = _objects(connection)
    for kind, name in sorted(before.keys() | after.keys()):
        was, is_ = before.get((kind, name)), after.get((kind, name))
        if was == is_:
            continue
        table = (is_ or was or ("", ""))[0]
        if not (owned_by(plugin, name.removeprefix("sqlite_autoindex_")) and owned_by(plugin, table)):
            raise _refused(place, f"change the {kind} {name}")
        if is_ and kind == "trigger" and ("view", table) in after:
            raise _refused(place, f"set the trigger {name} on a view")
    for kind, name in after:
        if kind in ("table", "view") and owned_by(plugin, name):
            _compile(connection, plugin, kind, name, place)


@contextmanager
def nothing_of_plugins(connection: LibSQLConnection, plugins: Sequence[str]) -> Iterator[None]:
    """Raise InvalidInput after a core step that gave something the name of an installed plugin: it would own it."""
    before = _objects(connection)
    yield
    for _, name in _objects(connection).keys() - before.keys():
        for plugin in plugins:
            if owned_by(plugin, name):
                raise InvalidInput(f"{name} would belong to the installed plugin {plugin!r}")


def check_name_is_free(connection: LibSQLConnection, plugin: str) -> None:
    """Raise PluginRefused if something in the database is called as the plugin's own tables would be."""
    taken = [name for _, name in _objects(connection) if name.lower().startswith(f"{plugin}_")]
    if taken:
        raise PluginRefused(
            f"plugin {plugin!r} was not installed: {taken[0]} is there already and is not the plugin's; nothing was done",
            hint="the plugin needs another name",
        )


def _objects(connection: LibSQLConnection) -> _Objects:
    rows = connection.fetch_all("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema")
    return {(kind, name): (table, sql) for kind, name, table, sql in rows}


def _compile(connection: LibSQLConnection, plugin: str, kind: str, name: str, place: str) -> None:
    """Let SQLite compile whatever reading and changing `name` sets in motion; EXPLAIN runs nothing of it."""
    statements = [f"SELECT * FROM {name}"]
    if kind == "table":
        columns = connection.fetch_all(f"PRAGMA table_xinfo({name})")
        stored = ['"' + row["name"].replace('"', '""') + '"' for row in columns if row["hidden"] == 0]
        same = ", ".join(f"{column} = {column}" for column in stored)
        statements += [f"INSERT INTO {name} DEFAULT VALUES", f"UPDATE {name} SET {same}", f"DELETE FROM {name}"]
        for row in connection.fetch_all(f"PRAGMA foreign_key_list({name})"):
            if not owned_by(plugin, row["table"].lower()):
                raise _refused(place, f"let {name} refer to {row['table']}")
    for statement in statements:
        guard = Guard(using(plugin))
        try:
            connection.execute_under(guard, f"EXPLAIN {statement}")
        except AicoError as exc:
            if guard.refused:
                raise _refused(f"a view or trigger of {place}", guard.refused) from exc
            raise InvalidInput(f"a view or trigger on {name} cannot be compiled: {exc}") from exc


def _refused(place: str, what: str) -> PluginRefused:
    return PluginRefused(
        f"{place} was refused: it would {what}; nothing of this version was done",
        hint="a plugin may use its own tables, named after it, and nothing else",
    )
