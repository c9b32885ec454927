"""`aico keys`: the ways to unlock the vault. A passphrase is typed, or comes from a file; it is never an argument."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aico.cli._options import Call, common
from aico.cli._show import answer, console, say, show_phrase
from aico.cli._unlock import ask_hidden, asked_twice, at_terminal, opened
from aico.errors import InvalidInput

if TYPE_CHECKING:
    from aico.vault import Vault

_file_option = click.option(
    "--new-passphrase-file", type=click.Path(path_type=Path), help="Read the new passphrase from this file."
)


@click.group()
def keys() -> None:
    """See and change the ways to unlock the vault.

    What it holds is not touched.
    """


@keys.command("list")
@common
def list_(call: Call) -> None:
    """Show every keyslot."""
    with opened(call.home) as vault:
        _answer_with_slots(vault, call, lambda: None)


@keys.command()
@_file_option
@common
def add_passphrase(call: Call, *, new_passphrase_file: Path | None) -> None:
    """Let one more passphrase unlock the vault."""
    with opened(call.home) as vault:
        vault.keys.add_passphrase(_new_passphrase(new_passphrase_file))
        _answer_with_slots(vault, call, lambda: say("The new passphrase opens the vault from now on."))


@keys.command()
@click.option("--old-passphrase-file", type=click.Path(path_type=Path), help="Read the old passphrase from this file.")
@_file_option
@common
def change_passphrase(call: Call, *, old_passphrase_file: Path | None, new_passphrase_file: Path | None) -> None:
    """Put a new passphrase in the place of an old one.

    A copy of vault.json from before, in a backup say, still opens with the old one.
    """
    with opened(call.home) as vault:
        old = _read(old_passphrase_file) if old_passphrase_file else _asked("Old passphrase: ")
        vault.keys.change_passphrase(old, _new_passphrase(new_passphrase_file))
        _answer_with_slots(vault, call, lambda: say("The new passphrase opens the vault, the old one no longer."))


@keys.command()
@click.argument("slot_id")
@common
def remove(call: Call, *, slot_id: str) -> None:
    """Take one way to unlock away: SLOT_ID as `aico keys list` shows it.

    The last passphrase or recovery phrase stays: a keyring is lost with its machine.
    """
    with opened(call.home) as vault:
        vault.keys.remove(slot_id)
        _answer_with_slots(vault, call, lambda: say("Removed."))


@keys.command()
@common
def recovery(call: Call) -> None:
    """Make a recovery phrase of 24 words, shown once. An older one stops working."""
    with opened(call.home) as vault:
        phrase = vault.keys.add_recovery_phrase()
        _answer_with_slots(vault, call, lambda: show_phrase(phrase), recovery_phrase=phrase)


@keys.command()
@common
def keyring(call: Call) -> None:
    """Let this machine's keyring unlock the vault, so that you are not asked."""
    with opened(call.home) as vault:
        vault.keys.add_keyring()
        _answer_with_slots(vault, call, lambda: say("This machine's keyring opens the vault from now on."))


def _answer_with_slots(vault: "Vault", call: Call, tell: Callable[[], object], **more: str) -> None:
    slots = vault.keys.list_slots()

    def show() -> None:
        tell()
        for slot in slots:
            console().print(f"{slot.id}  {slot.kind}")

    document = {"keyslots": [{"id": slot.id, "kind": slot.kind} for slot in slots], **more}
    answer(document, show, as_json=call.as_json)


def _new_passphrase(file: Path | None) -> str:
    return _read(file) if file else asked_twice() if at_terminal() else _nobody_to_ask("--new-passphrase-file")


def _asked(prompt: str) -> str:
    return ask_hidden(prompt) if at_terminal() else _nobody_to_ask("--old-passphrase-file")


def _nobody_to_ask(option: str) -> str:
    raise InvalidInput("there is no terminal to ask at; nothing was changed", hint=f"use {option}")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidInput(
            f"the passphrase's file cannot be read: {type(exc).__name__}; nothing was changed",
            hint="check its path and permissions",
        ) from None
