"""`aico config`: the vault's settings. They hold no secrets: only what lets memories out needs the keys, for a yes."""

import os

import click

from aico.cli._options import Call, common
from aico.cli._show import answer, console, printable, say


@click.group(invoke_without_command=True)
@click.pass_context
def config(context: click.Context) -> None:
    """Look at the vault's settings and change them."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@config.command()
@common
def list(call: Call) -> None:
    """List every setting: its value, unit, default and where it comes from."""
    from dataclasses import asdict

    from aico.configuration import current_settings
    from aico.settings import vault_folder

    found = current_settings(vault_folder(call.home), os.environ)

    def show() -> None:
        screen = console()
        for one in found:
            origin = one.source if one.source == "default" else f"{one.source}; default {_as_typed(one.default)}"
            screen.print(printable(f"{one.name} = {_as_typed(one.value)}  ({origin})"), style="bold", soft_wrap=True)
            screen.print(f"    in {one.unit}: {one.meaning}", soft_wrap=True)

    answer({"settings": [asdict(one) for one in found]}, show, as_json=call.as_json)


@config.command()
@click.argument("name")
@common
def get(call: Call, *, name: str) -> None:
    """Print one setting's value."""
    from dataclasses import asdict

    from aico.configuration import current_setting
    from aico.settings import vault_folder

    found = current_setting(vault_folder(call.home), name, os.environ)
    answer(asdict(found), lambda: say(_as_typed(found.value)), as_json=call.as_json)


@config.command()
@click.argument("name")
@click.argument("value")
@common
def set(call: Call, *, name: str, value: str) -> None:
    """Change one setting in config.toml.

    Every other line and comment stays as it is. A vault that is open keeps its settings until it is opened again.
    """
    from aico.cli._approval import needing_approval, tell_of_approval
    from aico.config_file import write_setting
    from aico.configuration import read_value
    from aico.settings import vault_folder
    from aico.vault_folder import VAULT_FILE

    folder, read = vault_folder(call.home), read_value(name, value)
    write_setting(folder, name, read, make_folder=True)
    needing, told = needing_approval(call.home), value if read is None or isinstance(read, dict) else read

    def show() -> None:
        say(f"{name} = {_as_typed(told)}")
        if not (folder / VAULT_FILE).exists():
            say(f"It waits in {folder} for the vault that `aico init` makes there.")
        tell_of_approval(needing)

    answer({"name": name, "value": told, "needs_approval": needing}, show, as_json=call.as_json)


@config.command()
@click.argument("name")
@common
def unset(call: Call, *, name: str) -> None:
    """Take one setting out of config.toml, so that its default holds."""
    from aico.cli._approval import needing_approval, tell_of_approval
    from aico.config_file import write_setting
    from aico.configuration import checked_name
    from aico.settings import vault_folder

    write_setting(vault_folder(call.home), checked_name(name), None)
    needing = needing_approval(call.home)

    def show() -> None:
        say(f"{name} has its default again.")
        tell_of_approval(needing)

    answer({"name": name, "needs_approval": needing}, show, as_json=call.as_json)


@config.command()
@common
def validate(call: Call) -> None:
    """Check config.toml as opening the vault would."""
    from aico.configuration import check_file
    from aico.settings import vault_folder

    file = check_file(vault_folder(call.home))
    answer({"file": str(file), "ok": True}, lambda: say(f"{file} is sound."), as_json=call.as_json)


@config.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
def approve(call: Call, *, yes: bool) -> None:
    """Say yes to settings that let memories out or guard them less.

    config.toml can be changed by whoever can write to the vault's folder. What it sends elsewhere holds only once
    somebody who can unlock the vault has said yes to it.
    """
    from aico.cli._approval import approve_settings

    weakened = approve_settings(call.home, yes=yes)
    answer(
        {"approved": weakened}, lambda: say("Approved." if weakened else "Nothing needs a yes."), as_json=call.as_json
    )


@config.command()
@common
def path(call: Call) -> None:
    """Print where config.toml lies, or would."""
    from aico.settings import CONFIG_FILE, vault_folder

    file = vault_folder(call.home) / CONFIG_FILE
    answer({"file": str(file), "exists": file.exists()}, lambda: say(str(file)), as_json=call.as_json)


def _as_typed(value: object) -> str:
    """A value as `aico config set` takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
