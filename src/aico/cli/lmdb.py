"""`aico lmdb`: the hot tier, which holds the last turns of live conversations, their contexts and session state."""

import click

from aico.cli._options import Call, Count, common
from aico.cli._show import answer, number_of, printable, say, size
from aico.cli._unlock import opened


@click.group(invoke_without_command=True)
@click.pass_context
def lmdb(context: click.Context) -> None:
    """Look into the hot tier.

    It is a cache: whatever is deleted there is read from the truth again, but for the state of sessions.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@lmdb.command()
@common
def status(call: Call) -> None:
    """Show how full it is, how far behind, and who is live."""
    with opened(call.home) as vault:
        found = vault.working.state()
        live = sum(len(vault.live_sessions.list_live(profile.name)) for profile in vault.users.list_profiles())
        trouble = vault.working.trouble
    entries = sum(count for count, _ in found.tables.values())
    document = {
        "file_bytes": found.file_bytes,
        "limit_bytes": found.limit_bytes,
        "lag": found.lag,
        "entries": entries,
        "live_sessions": live,
        "trouble": trouble,
    }

    def show() -> None:
        say(f"{size(found.file_bytes)} of {size(found.limit_bytes)}, {number_of(entries, 'value')}")
        say(trouble or f"{number_of(found.lag, 'change')} behind; it reads on before it answers")
        say(number_of(live, "live session"))

    answer(document, show, as_json=call.as_json)


@lmdb.command()
@common
def ls(call: Call) -> None:
    """List its tables."""
    with opened(call.home) as vault:
        found = vault.working.state().tables
    tables = [{"name": name, "entries": entries, "size_bytes": taken} for name, (entries, taken) in found.items()]

    def show() -> None:
        for name, (entries, taken) in found.items():
            say(f"{name:<18}{entries:>8,}  {size(taken)}")

    answer({"tables": tables}, show, as_json=call.as_json)


@lmdb.command()
@click.argument("table")
@click.option("--limit", type=Count(min=1), default=20, show_default=True, help="How many entries at most.")
@common
def dump(call: Call, *, table: str, limit: int) -> None:
    """Show some entries of a table, opened.

    This prints what people said.
    """
    import msgspec

    with opened(call.home) as vault:
        found = vault.working.dump(table, limit=limit)

    def show() -> None:
        for key, value in found:
            say(f"{key}  {printable(msgspec.json.encode(value).decode())}")

    answer({"entries": [{"key": key, "value": value} for key, value in found]}, show, as_json=call.as_json)


@lmdb.command()
@common
def cleanup(call: Call) -> None:
    """Delete what has expired."""
    with opened(call.home) as vault:
        vault.working.sweep(everything=True)
    answer({"cleaned": True}, lambda: say("What had expired is deleted."), as_json=call.as_json)


@lmdb.command()
@common
def clear(call: Call) -> None:
    """Delete the file with all it ever held; it is warm again once it is asked."""
    with opened(call.home) as vault:
        vault.working.drop()
    answer({"cleared": True}, lambda: say("The hot tier is empty."), as_json=call.as_json)
