"""`aico keys`: the ways to unlock the vault. A passphrase is typed, or comes from a file; it is never an argument."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aico.cli._options import Call, PathName, common
from aico.cli._progress import stage_progress
from aico.cli._show import answer, console, number_of, say, show_phrase
from aico.cli._unlock import ask_hidden, asked_twice, at_terminal, confirmed, opened, secret_in
from aico.errors import InvalidInput

if TYPE_CHECKING:
    from aico.vault import Vault
    from aico.vault_keys import RotationReport

PHRASE_WORDS = 24
_file_option = click.option("--new-passphrase-file", type=PathName(), help="Read the new passphrase from this file.")


@click.group()
def keys() -> None:
    """See and change the ways to unlock the vault.

    What it holds is not touched, but by `rotate`, which seals it anew.
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
@click.option("--old-passphrase-file", type=PathName(), help="Read the old passphrase from this file.")
@_file_option
@common
def change_passphrase(call: Call, *, old_passphrase_file: Path | None, new_passphrase_file: Path | None) -> None:
    """Put a new passphrase in the place of an old one.

    A copy of vault.json from before, in a backup say, still opens with the old one.
    """
    with opened(call.home) as vault:
        old = secret_in(old_passphrase_file) if old_passphrase_file else _asked("Old passphrase: ")
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
@click.option(
    "--secrets-file",
    type=PathName(),
    help="Read the passphrases that go on to open the vault, and the recovery phrase, from this file: one a line.",
)
@click.option("--remove", "removed", metavar="SLOT_ID", multiple=True, help="Do not take this keyslot along.")
@click.option(
    "--file-purpose",
    "purposes",
    metavar="NAME",
    multiple=True,
    default=["default"],
    show_default=True,
    help="A purpose that files in data/files were sealed for.",
)
@common
def rotate(call: Call, *, secrets_file: Path | None, removed: tuple[str, ...], purposes: tuple[str, ...]) -> None:
    """Replace the key above all others, and seal everything anew.

    For when somebody may have seen the vault's keys. Asks for the passphrase of each keyslot; one that you do not give
    is removed. Other programs go on reading; writing waits while the pages are rewritten. If it is interrupted nothing
    is lost: run it again. Backups elsewhere stay as they are, and open with the secrets of their day.
    """
    typed: list[str] = []
    with opened(call.home, typed=typed) as vault:
        secrets, leaving = _for_rotation(vault, secrets_file, list(removed), typed)
        with stage_progress() as moves:
            report = vault.keys.rotate(
                *secrets,
                remove=leaving,
                file_purposes=purposes,
                on_phrase=None if call.as_json else show_phrase,
                on_progress=moves,
            )
    shown = asdict(report)
    if report.recovery_phrase is None:
        del shown["recovery_phrase"]
    answer(shown, lambda: _show_rotation(report), as_json=call.as_json)


@keys.command()
@common
def keyring(call: Call) -> None:
    """Let this machine's keyring unlock the vault, so that you are not asked."""
    with opened(call.home) as vault:
        vault.keys.add_keyring()
        _answer_with_slots(vault, call, lambda: say("This machine's keyring opens the vault from now on."))


def _for_rotation(
    vault: "Vault", file: Path | None, leaving: list[str], typed: list[str]
) -> tuple[list[str], list[str]]:
    """The secrets that stay, and the keyslots that do not."""
    from aico.settings import passphrase_file

    if vault.keys.rotation_unfinished():
        return [], []
    if file is not None:
        return secret_in(file).splitlines(), leaving
    if (usual := passphrase_file()) is not None:
        return [secret_in(usual)], leaving
    if not at_terminal():
        _nobody_to_ask("--secrets-file")
    slots = [slot for slot in vault.keys.list_slots() if slot.kind != "keyring" and slot.id not in leaving]
    passphrases = [slot for slot in slots if slot.kind == "passphrase"]
    secrets = []
    for slot in slots:
        if len(passphrases) == 1 and slot in passphrases and typed and len(typed[-1].split()) != PHRASE_WORDS:
            secrets.append(typed[-1])  # it cannot have been another's
            continue
        what, otherwise = (
            (f"Passphrase of keyslot {slot.id}", "remove it")
            if slot in passphrases
            else ("Recovery phrase", "make a new one")
        )
        given = ask_hidden(f"{what} (nothing: {otherwise}): ")
        if given:
            secrets.append(given)
        elif slot in passphrases:
            if not confirmed(f"Whoever uses keyslot {slot.id} will be locked out. Remove it?"):
                raise click.Abort
            leaving.append(slot.id)
    return secrets, leaving


def _show_rotation(report: "RotationReport") -> None:
    done = [number_of(report.pages, "page"), number_of(report.files, "file"), number_of(report.backups, "backup")]
    say(f"Everything in the folder is sealed under new keys: {', '.join(done)}.")
    if report.resumed:
        say("This went on with a rotation that was interrupted. If it had made a recovery phrase that you did not see,")
        say("make another: `aico keys recovery`.")
    for slot in report.removed:
        say(f"Removed: {slot.id}  {slot.kind}")
    if report.files_left:
        say(f"{number_of(report.files_left, 'file')} left as before; name their purpose with --file-purpose.")
    say("Backups elsewhere open with the secrets of their day, and with the keys that you replaced: delete what")
    say("you do not need.")


def _answer_with_slots(vault: "Vault", call: Call, tell: Callable[[], object], **more: str) -> None:
    slots = vault.keys.list_slots()

    def show() -> None:
        tell()
        for slot in slots:
            console().print(f"{slot.id}  {slot.kind}")

    document = {"keyslots": [{"id": slot.id, "kind": slot.kind} for slot in slots], **more}
    answer(document, show, as_json=call.as_json)


def _new_passphrase(file: Path | None) -> str:
    return secret_in(file) if file else asked_twice() if at_terminal() else _nobody_to_ask("--new-passphrase-file")


def _asked(prompt: str) -> str:
    return ask_hidden(prompt) if at_terminal() else _nobody_to_ask("--old-passphrase-file")


def _nobody_to_ask(option: str) -> str:
    raise InvalidInput("there is no terminal to ask at; nothing was changed", hint=f"use {option}")
