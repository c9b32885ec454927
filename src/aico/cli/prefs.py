"""`aico prefs`: how a person wants it."""

import click

from aico.cli._options import Call, common, text_argument, user_option, writing_user_option
from aico.cli._show import answer, console, printable, say
from aico.cli._unlock import FIRST_USER, chosen_user, opened


@click.group(invoke_without_command=True)
@click.pass_context
def prefs(context: click.Context) -> None:
    """Say how you want it, for the companion and for programs.

    Keys that begin with companion. are told to the companion with every context; others are for programs.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@prefs.command()
@click.option("--prefix", default="", metavar="TEXT", help="Only keys that begin with this.")
@user_option
@common
def ls(call: Call, *, prefix: str, user: str | None) -> None:
    """List preferences and their values."""
    from dataclasses import asdict

    with opened(call.home) as vault:
        found = vault.preferences.list(chosen_user(vault, user), prefix=prefix)

    def show() -> None:
        if not found:
            say("There are no preferences yet.", err=True)
        for preference in found:
            console().print(printable(f"{preference.key} = {_as_json(preference.value)}"), soft_wrap=True)

    answer({"preferences": [asdict(preference) for preference in found]}, show, as_json=call.as_json)


@prefs.command()
@click.argument("key")
@user_option
@common
def get(call: Call, *, key: str, user: str | None) -> None:
    """Print the value under a key, as JSON."""
    with opened(call.home) as vault:
        value = vault.preferences.get(chosen_user(vault, user), key)
    answer({"key": key, "value": value}, lambda: say(_as_json(value)), as_json=call.as_json)


@prefs.command()
@click.argument("key")
@text_argument("value")
@writing_user_option
@common
def set(call: Call, *, key: str, value: str, user: str | None) -> None:
    """Keep a value under a key.

    VALUE is JSON, such as true, 3 or ["a", "b"]; what is no JSON is kept as text. - reads it from standard input.
    """
    from aico.data.json_values import json_or_text

    read = json_or_text(value)
    with opened(call.home) as vault:
        vault.preferences.set(chosen_user(vault, user, first=FIRST_USER), key, read)
    answer({"key": key, "value": read}, lambda: say(f"{key} = {_as_json(read)}"), as_json=call.as_json)


@prefs.command()
@click.argument("key")
@user_option
@common
def rm(call: Call, *, key: str, user: str | None) -> None:
    """Remove the value under a key."""
    with opened(call.home) as vault:
        vault.preferences.delete(chosen_user(vault, user), key)
    answer({"key": key}, lambda: say(f"{key} is removed."), as_json=call.as_json)


def _as_json(value: object) -> str:
    from aico.data.json_values import checked_json

    return checked_json(value, field="value")
