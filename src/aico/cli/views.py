"""`aico views`: what is derived from the truth, how far behind it is, and what changes."""

from typing import TYPE_CHECKING

import click

from aico.cli._options import Call, common
from aico.cli._show import answer, number_of, print_json, say
from aico.cli._unlock import opened

if TYPE_CHECKING:
    from aico.data.change_feed import Changes


@click.group(invoke_without_command=True)
@click.pass_context
def views(context: click.Context) -> None:
    """See what is derived from the truth.

    A view may lag; it reads on before it answers, and deleting it costs time, never a memory.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@views.command()
@common
def ls(call: Call) -> None:
    """List the views and how far behind each is."""
    from dataclasses import asdict

    with opened(call.home) as vault:
        found = vault.views.status()

    def show() -> None:
        for view in found:
            say(f"{view.name:<14}{view.trouble or number_of(view.lag, 'change') + ' behind'}")

    answer({"views": [asdict(view) for view in found]}, show, as_json=call.as_json)


@views.command()
@click.argument("name")
@common
def rebuild(call: Call, *, name: str) -> None:
    """Let a view go and make it anew from the truth."""
    with opened(call.home) as vault:
        vault.views.rebuild(name)
    answer({"name": name}, lambda: say(f"The view {name} is made anew."), as_json=call.as_json)


@views.command()
@click.option("--seconds", type=click.FloatRange(min=0), help="Stop after so long. Default: until you do.")
@common
def watch(call: Call, *, seconds: float | None) -> None:
    """Say what is written, by any program, as it happens.

    Which tables and how many rows, never their content. With --json one object a line.
    """
    with opened(call.home) as vault:
        for changes in vault.views.watch(timeout_s=seconds):
            _show(changes, as_json=call.as_json)


def _show(changes: "Changes", *, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        print_json(asdict(changes))
    elif changes.up_to < changes.after:
        say("An older copy of the vault took its place; every view begins anew.")
    else:
        say(f"{changes.up_to:>8}  " + ", ".join(f"{count} {table}" for table, count in sorted(changes.tables.items())))
