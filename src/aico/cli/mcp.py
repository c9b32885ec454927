"""`aico mcp`: the memory as tools for an assistant; and its entry in the configuration of the program that starts it."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aico.cli._options import Call, PathName, common, standard_input
from aico.cli._show import answer, console, say
from aico.cli._unlock import FIRST_USER, can_confirm, chosen_user, confirmed
from aico.errors import AicoError, InvalidInput, NotFound
from aico.mcp.clients import CLIENTS, Entry

if TYPE_CHECKING:
    from aico.mcp.clients import Change
    from aico.mcp.tools import Scope


def _scope_options(command: Any) -> Any:  # whatever Click decorates
    for option in (
        click.option("--read-only", is_flag=True, help="Offer no tool that records or forgets."),
        click.option("--conversation", metavar="NAME", help="Hold the client to this one conversation."),
        click.option("--user", metavar="NAME", help='Whose memory. Default: the only user, or "me" in an empty vault.'),
    ):
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@_scope_options
@common
def mcp(call: Call, *, user: str | None, conversation: str | None, read_only: bool) -> None:
    """Serve the memory to an assistant (Model Context Protocol).

    An assistant's program starts this and speaks to it over standard input and output; `aico mcp install CLIENT` makes
    its entry. The vault is unlocked by the machine's keyring, or the file that AICO_PASSPHRASE_FILE names. Any number
    of clients may run at once.
    """
    context = click.get_current_context()
    if context.invoked_subcommand is not None:
        if user is not None or conversation is not None or read_only:  # would be taken for the entry's, and lost
            raise InvalidInput("the options belong behind `install`; nothing was changed")
        return
    if call.as_json:
        raise InvalidInput("standard output belongs to the protocol; nothing was served", hint="leave --json out")
    standard_input()  # a client's requests come by it
    if can_confirm():  # a person, not a program
        say(context.get_help())
        return
    import aico
    from aico.mcp.server import Door, serve
    from aico.mcp.tools import Scope

    offering = _scope(user, conversation, read_only=read_only)

    def scope_of(vault: aico.Vault) -> Scope:
        return Scope(chosen_user(vault, user, first=FIRST_USER), conversation, read_only)

    serve(Door(partial(aico.open, call.home, create=False), scope_of), offering)


@mcp.command("install")
@click.argument("client", type=click.Choice(sorted(CLIENTS)))
@_scope_options
@click.option("--name", default="aico", show_default=True, help="What the entry is called.")
@click.option("--file", type=PathName(), help="Another configuration file of the same client.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
def install(
    call: Call,
    *,
    client: str,
    user: str | None,
    conversation: str | None,
    read_only: bool,
    name: str,
    file: Path | None,
    yes: bool,
) -> None:
    """Add the memory to a client's configuration.

    Shows the change first and asks, unless --yes. All else in the file stays as it is, comments too. No passphrase is
    written there: the vault needs a keyring slot (`aico keys keyring`), or AICO_PASSPHRASE_FILE where the client runs.
    """
    from aico.mcp.clients import planned

    if not (yes or can_confirm()):
        raise InvalidInput("the change was not confirmed; nothing was changed", hint="add --yes")
    _scope(user, conversation, read_only=read_only)
    entry = Entry(name, _arguments(call.home, user, conversation, read_only=read_only))
    change = planned(CLIENTS[client], entry, file)
    missing = _missing_slot(call.home)
    if change.before != change.after and not yes:
        _show_change(change, missing)
        if not confirmed(f"Write this to {change.file}?"):
            raise AicoError("not confirmed; nothing was changed")
    change.write()
    document = {
        "client": client,
        "file": str(change.file),
        "changed": change.before != change.after,
        "warning": missing,
    }
    answer(document, lambda: _show_done(change, missing), as_json=call.as_json)


def _scope(user: str | None, conversation: str | None, *, read_only: bool) -> "Scope":
    """What the options offer, before the vault says who is meant by no name. Raises InvalidInput for an empty one."""
    from aico.mcp.tools import Scope

    return Scope(FIRST_USER if user is None else user, conversation, read_only)


def _arguments(home: Path | None, user: str | None, conversation: str | None, *, read_only: bool) -> list[str]:
    """How the client starts us: by absolute paths, since it has another working directory and PATH."""
    from aico.settings import vault_folder

    given = [("--user", user), ("--conversation", conversation)]
    options = [part for option, value in given if value is not None for part in (option, value)]
    place = ["--home", str(vault_folder(home).absolute())]
    return [sys.executable, "-m", "aico", *place, "mcp", *options, *(["--read-only"] if read_only else [])]


def _missing_slot(home: Path | None) -> str | None:
    """What stands in the way of unlocking without a person, None if nothing does. Raises NotFound without a vault."""
    from aico.security.keyslots import VaultFile
    from aico.settings import passphrase_file, vault_folder
    from aico.vault_folder import VAULT_FILE

    folder = vault_folder(home)
    if not (folder / VAULT_FILE).exists():
        raise NotFound(f"there is no vault in {folder}; nothing was changed", hint="`aico init` makes one")
    if "keyring" in VaultFile.read(folder / VAULT_FILE).kinds():
        return None
    if passphrase_file() is not None:
        return (
            "The vault has no keyring slot. AICO_PASSPHRASE_FILE is set here, but the client may be started without it: "
            "`aico keys keyring` is safer."
        )
    return "The vault has no keyring slot yet, so the client cannot unlock it: run `aico keys keyring`."


def _show_change(change: "Change", missing: str | None) -> None:
    screen = console(err=True)
    screen.print(f"{change.file}{'' if change.before else ' (a new file)'}:", style="bold")
    for line in change.diff():
        screen.print(line, style={"+": "green", "-": "red"}.get(line[:1], "dim"))
    if missing:
        screen.print(missing, style="yellow")


def _show_done(change: "Change", missing: str | None) -> None:
    said = "Written to" if change.before != change.after else "Nothing to change in"
    say(f"{said} {change.file}. Start the client again to use it.")
    if missing:
        say(missing, err=True)
