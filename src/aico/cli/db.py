"""`aico db`: look at the database, and take its schemas up and down. Opening it here applies nothing by itself."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from aico.cli._options import Call, common, text_argument
from aico.cli._show import answer, console, number_of, printable, say, size
from aico.cli._unlock import can_confirm, confirmed, opened_database
from aico.errors import AicoError, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aico.data.libsql import EncryptedLibSQLConnection
    from aico.data.libsql.registry import RegisteredSchema

_INSTANT_US = range(10**14, 4 * 10**15)  # the years 1973 to 2096: what a number in a column of instants is shown as
_INSTANT_COLUMNS = ("at", "timestamp", "valid_from", "valid_until")


@click.group(invoke_without_command=True)
@click.pass_context
def db(context: click.Context) -> None:
    """Look at the database, and take its schemas up and down.

    These commands open the database as it is: only `migrate` and `rollback` change its tables, only
    `query --write` its rows.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@db.command()
@common
def status(call: Call) -> None:
    """Show each schema's version here and in this release."""
    with opened_database(call.home) as connection:
        rows = _schema_rows(connection)
        document = {"engine": connection.engine, "size_bytes": _size_on_disk(connection), "schemas": rows}
    answer(document, lambda: _show_status(document), as_json=call.as_json)


@db.command()
@common
def schemas(call: Call) -> None:
    """List every schema and plugin that this release and the installed packages know."""
    from aico.data.libsql.registry import SchemaRegistry

    known = [*SchemaRegistry.get_core_schemas(), *SchemaRegistry.get_plugin_schemas()]
    document = {
        "schemas": [
            {
                "name": schema.name,
                "type": schema.schema_type,
                "newest": schema.newest,
                "versions": [
                    {"version": step.version, "name": step.name, "description": step.description}
                    for _, step in sorted(schema.definitions.items())
                ],
            }
            for schema in known
        ],
        "broken": SchemaRegistry.broken_plugins(),
    }
    answer(document, lambda: _show_schemas(document), as_json=call.as_json)


@db.command()
@common
def history(call: Call) -> None:
    """List every step by which this database was made, and when."""
    from dataclasses import asdict

    from aico.data.libsql.migrations import history

    with opened_database(call.home) as connection:
        steps = [asdict(step) for step in history(connection)]
    rows = [
        (s["schema"], s["version"], s["name"], _instant(s["applied_at"]), f"{s['duration_us']:,} µs") for s in steps
    ]
    answer(
        {"steps": steps},
        lambda: _show_table(("schema", "version", "name", "applied at", "took"), rows),
        as_json=call.as_json,
    )


@db.command()
@common
def tables(call: Call) -> None:
    """List the tables and how many rows they have."""
    from aico.data.libsql.catalogue import count_rows

    with opened_database(call.home) as connection:
        counts = count_rows(connection)
    shown = [(name, f"{count:,}") for name, count in counts.items()]
    answer({"tables": counts}, lambda: _show_table(("table", "rows"), shown), as_json=call.as_json)


@db.command()
@click.argument("table")
@common
def describe(call: Call, *, table: str) -> None:
    """Show a table's columns, indexes and triggers."""
    from dataclasses import asdict

    from aico.data.libsql.catalogue import describe

    with opened_database(call.home) as connection:
        document = asdict(describe(connection, table))
    answer(document, lambda: _show_described(document), as_json=call.as_json)


@db.command()
@text_argument("sql")
@click.option("--write", is_flag=True, help="Let the statement change rows. Tables are changed by schemas alone.")
@common
def query(call: Call, *, sql: str, write: bool) -> None:
    """Run one SQL statement, which may only read unless --write is given.

    With - it is read from standard input. In JSON a blob is its hexadecimal digits and an instant a number of microseconds.
    """
    from aico.data.libsql.catalogue import ask, change
    from aico.data.libsql.registry import SchemaRegistry

    with opened_database(call.home) as connection:
        if write:
            SchemaRegistry.check_core_schemas(connection)
        result = (change if write else ask)(connection, sql)
    columns = list(result[0].keys()) if result else []
    rows = [[_plain(value) for value in row] for row in result]
    document = {"columns": columns, "rows": rows, "changed": result.rowcount if write else 0}
    changed = result.rowcount if write else None
    answer(document, lambda: _show_rows(columns, rows, changed), as_json=call.as_json)


@db.command()
@common
def check(call: Call) -> None:
    """Read every page, and compare the schemas' history with this release. Takes time with the size of the vault."""
    from aico.data.libsql.registry import SchemaRegistry

    with opened_database(call.home) as connection:
        SchemaRegistry.check_core_schemas(connection)
        connection.verify()
    say_ok = "✓ Every page opens, the structure is sound, and the schemas are those of this release."
    answer({"ok": True}, lambda: say(say_ok), as_json=call.as_json)


@db.command()
@common
def vacuum(call: Call) -> None:
    """Give free pages back to the disk. Needs as much free disk as the database is large."""
    with opened_database(call.home) as connection:
        before = _size_on_disk(connection)
        connection.execute("VACUUM")
        connection.clear_log()
        after = _size_on_disk(connection)
    document = {"size_before_bytes": before, "size_bytes": after}
    answer(document, lambda: say(f"{size(before)} before, {size(after)} now."), as_json=call.as_json)


@db.command()
@click.argument("names", nargs=-1, metavar="[SCHEMA...]")
@click.option("--dry-run", is_flag=True, help="Show the statements that would run, and change nothing.")
@click.option("--backup", metavar="FILE", help="Write a sealed copy first; steps that cannot be undone need one.")
@common
def migrate(call: Call, *, names: tuple[str, ...], dry_run: bool, backup: str | None) -> None:
    """Bring schemas to the newest version this release and the installed packages know.

    Without names: the vault's own, and the plugins that are in this vault already. A plugin is put into the vault by
    naming it.
    """
    from aico.data.libsql.migrations import bring_up_to_date, planned
    from aico.data.libsql.plugins import Plugins

    with opened_database(call.home) as connection:
        chosen = _chosen_schemas(connection, names)
        steps = [step for schema in chosen for step in planned(connection, schema)]
        if not dry_run:
            if backup is not None and steps:
                connection.backup_to(backup)
            for schema in chosen:
                if schema.schema_type == "plugin":
                    Plugins(connection).install(schema.name, backed_up=backup is not None)
                else:
                    bring_up_to_date(connection, schema, backed_up=backup is not None)
    document = {
        "dry_run": dry_run,
        "steps": [
            {"schema": step.schema, "version": step.version, "name": step.name, "statements": list(step.statements)}
            for step in steps
        ],
    }
    answer(document, lambda: _show_migration(document), as_json=call.as_json)


@db.command()
@click.argument("schema")
@click.argument("version", type=click.IntRange(min=0))
@click.option("--backup", metavar="FILE", help="Write a sealed copy first.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
def rollback(call: Call, *, schema: str, version: int, backup: str | None, yes: bool) -> None:
    """Undo a schema's steps down to a version; 0 removes it.

    What those steps brought is gone with its rows: they are counted and you are asked, unless --yes. For a plugin, 0
    drops its tables and nothing else, also when its package is gone. The vault's own schemas are for going back to an
    older release: this release applies them again, empty, the next time it opens the vault.
    """
    from aico.data.libsql.migrations import losses, losses_of_removal, remove_plugin, roll_back
    from aico.data.libsql.registry import SchemaRegistry

    with opened_database(call.home) as connection:
        removes = version == 0 and _is_installed_plugin(connection, schema)
        known = None if removes else SchemaRegistry.get_schema(schema)
        if not (yes or can_confirm()):
            raise InvalidInput("rolling back was not confirmed; nothing was changed", hint="add --yes")
        lost = losses_of_removal(connection, schema) if known is None else losses(connection, known, version)
        if not yes:
            _ask(schema, version, lost)
        if backup is not None:
            connection.backup_to(backup)
        if known is None:
            remove_plugin(connection, schema)
        else:
            roll_back(connection, known, version)
        again = known is not None and known.schema_type == "core"
    document = {"schema": schema, "version": version, "lost": lost, "applied_at_next_open": again}
    answer(document, lambda: _show_rollback(document), as_json=call.as_json)


def _chosen_schemas(connection: "EncryptedLibSQLConnection", names: "Sequence[str]") -> "list[RegisteredSchema]":
    from aico.data.libsql.migrations import installed_plugins
    from aico.data.libsql.registry import SchemaRegistry

    core = SchemaRegistry.check_core_schemas(connection)
    if names:
        return [SchemaRegistry.get_schema(name) for name in names]
    installed = installed_plugins(connection)
    plugins = SchemaRegistry.get_plugin_schemas() if installed else []
    return [*core, *(plugin for plugin in plugins if plugin.name in installed)]


def _is_installed_plugin(connection: "EncryptedLibSQLConnection", name: str) -> bool:
    from aico.data.libsql.migrations import installed_plugins

    return name in installed_plugins(connection)


def _schema_rows(connection: "EncryptedLibSQLConnection") -> list[dict[str, Any]]:
    """Of each schema, here or in this release: its name, type, version here and newest known."""
    from aico.data.libsql.definitions import PLUGIN
    from aico.data.libsql.registry import SchemaRegistry

    here = SchemaRegistry.current_versions(connection)
    known = {schema.history_name: schema for schema in SchemaRegistry.get_core_schemas()}
    if any(name.startswith(PLUGIN) for name in here):
        known |= {plugin.history_name: plugin for plugin in SchemaRegistry.get_plugin_schemas()}
    rows = []
    for name in sorted({*known, *here}, key=lambda name: (name.startswith(PLUGIN), name)):
        version, newest = here.get(name, 0), known[name].newest if name in known else 0
        if name.startswith(PLUGIN) and not version:
            continue  # a package that this vault does not use: `schemas` lists it
        rows.append(
            {
                "name": name.removeprefix(PLUGIN),
                "type": "plugin" if name.startswith(PLUGIN) else "core",
                "version": version,
                "newest": newest,
                "state": _state(version, newest),
            }
        )
    return rows


def _state(version: int, newest: int) -> str:
    if newest == 0:
        return "unknown"
    return "up to date" if version == newest else "behind" if version < newest else "newer than this release"


def _ask(schema: str, version: int, lost: dict[str, int]) -> None:
    say(f"Rolling {schema} back to version {version} would take away: {_counted(lost)}.", err=True)
    if not confirmed("Roll it back?"):
        raise AicoError("not confirmed; nothing was changed")


def _counted(lost: dict[str, int]) -> str:
    found = [f"{name} ({number_of(count, 'value' if '.' in name else 'row')})" for name, count in lost.items() if count]
    return ", ".join(found) or "no row"


def _size_on_disk(connection: "EncryptedLibSQLConnection") -> int:
    return connection.db_path.stat().st_size


def _plain(value: Any) -> Any:  # a value of SQLite
    return value.hex() if isinstance(value, bytes) else value


def _instant(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _shown(column: str, value: Any) -> str:  # a value of SQLite
    if isinstance(value, int) and value in _INSTANT_US and (column in _INSTANT_COLUMNS or column.endswith("_at")):
        return _instant(value)
    return "–" if value is None else str(value)


def _show_status(document: dict[str, Any]) -> None:
    say(f"{document['engine']}, {size(document['size_bytes'])}")
    _show_table(
        ("schema", "type", "version", "newest", "state"),
        [tuple(str(value) for value in row.values()) for row in document["schemas"]],
    )


def _show_schemas(document: dict[str, Any]) -> None:
    rows = [
        (schema["name"], schema["type"], step["version"], step["name"])
        for schema in document["schemas"]
        for step in schema["versions"]
    ]
    _show_table(("schema", "type", "version", "name"), rows)
    for name, problem in document["broken"].items():
        say(f"✗ plugin {name} cannot be used: {problem}")


def _show_described(document: dict[str, Any]) -> None:
    say(f"{document['name']}: {number_of(document['rows'], 'row')}")
    _show_table(
        ("column", "type", "required", "key"),
        [
            (
                column["name"],
                column["type"] or "any",
                "yes" if column["required"] else "",
                "yes" if column["key"] else "",
            )
            for column in document["columns"]
        ],
    )
    for what in ("indexes", "triggers"):
        if document[what]:
            say(f"{what}: {', '.join(document[what])}")


def _show_rows(columns: list[str], rows: list[list[Any]], changed: int | None) -> None:
    if columns:
        shown = [[_shown(column, value) for column, value in zip(columns, row, strict=True)] for row in rows]
        _show_table(columns, shown)
    say(number_of(len(rows), "row") + "." if changed is None else f"{number_of(changed, 'row')} changed.")


def _show_migration(document: dict[str, Any]) -> None:
    if not document["steps"]:
        say("Everything is up to date.")
    for step in document["steps"]:
        say(f"{'Would apply' if document['dry_run'] else 'Applied'} {step['schema']} {step['version']}: {step['name']}")
        if document["dry_run"]:
            for statement in step["statements"]:
                say(f"{statement};")


def _show_rollback(document: dict[str, Any]) -> None:
    say(f"{document['schema']} is at version {document['version']} now. Gone: {_counted(document['lost'])}.")
    if document["applied_at_next_open"]:
        say(
            "! This release applies the missing steps again, empty, when it next opens the vault. Install the older one."
        )


def _show_table(columns: "Iterable[str]", rows: "Iterable[Iterable[object]]") -> None:
    from rich import box
    from rich.table import Table

    table = Table(*map(printable, columns), box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*(printable(str(value)) for value in row))
    console().print(table)
