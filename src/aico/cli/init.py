"""`aico init`: a new vault and the ways to unlock it."""

from typing import TYPE_CHECKING, Any

import click

from aico.cli._options import Call, common
from aico.cli._show import answer, say, show_phrase
from aico.cli._unlock import asked_twice, at_terminal, can_confirm, confirmed
from aico.errors import InvalidInput, KeyringUnavailable

if TYPE_CHECKING:
    from aico.data.libsql import EngineName
    from aico.vault import Vault


@click.command()
@click.option("--keyring/--no-keyring", default=None, help="Let this machine's keyring unlock the vault.")
@click.option("--recovery/--no-recovery", default=None, help="Make a recovery phrase of 24 words, shown once.")
@click.option(
    "--engine",
    type=click.Choice(["sqlite", "libsql"]),
    help="What keeps the database; sqlite, which also notices changes, unless config.toml names another.",
)
@common
def init(call: Call, *, keyring: bool | None, recovery: bool | None, engine: "EngineName | None") -> None:
    """Make your vault.

    The passphrase is asked for twice, or read from the file that AICO_PASSPHRASE_FILE names. At a terminal you are
    then asked about keyring and recovery phrase, unless an option says it; elsewhere neither is made without one.
    """
    with _made(call, engine) as vault:
        # Both are asked before either is made, and the phrase is made last: no phrase goes by unseen.
        with_keyring = _wanted(keyring, "Let this machine's keyring unlock the vault, so that you are not asked?")
        with_phrase = _wanted(recovery, "Make a recovery phrase, for the day you forget the passphrase?")
        problem = _add_keyring(vault) if with_keyring else None
        phrase = vault.keys.add_recovery_phrase() if with_phrase else None
        slots = vault.keys.slots()
    document = {"folder": str(vault.folder), "keyslots": slots, "recovery_phrase": phrase, **_told(problem)}
    answer(document, lambda: _show(document), as_json=call.as_json)
    click.get_current_context().exit(problem.exit_code if problem else 0)


def _made(call: Call, engine: "EngineName | None") -> "Vault":
    from dataclasses import replace

    import aico
    from aico.settings import load_settings, passphrase_file, vault_folder
    from aico.vault_folder import VAULT_FILE

    folder = vault_folder(call.home)
    if (folder / VAULT_FILE).exists():
        raise InvalidInput(
            f"there is a vault in {folder} already; nothing was changed",
            hint="use it, or name another place with --home",
        )
    typed = asked_twice() if passphrase_file() is None and at_terminal() else None
    settings = None if engine is None else replace(load_settings(folder), engine=engine)
    return aico.open(folder, passphrase=typed, settings=settings, approve_settings=True)


def _wanted(flag: bool | None, question: str) -> bool:
    return flag if flag is not None else can_confirm() and confirmed(question)


def _add_keyring(vault: "Vault") -> KeyringUnavailable | None:
    """What kept the keyring from being used. The vault is there all the same."""
    try:
        vault.keys.add_keyring()
    except KeyringUnavailable as problem:
        return problem
    return None


def _told(problem: KeyringUnavailable | None) -> dict[str, str]:
    """The fields of an error, for the one that leaves a usable vault behind."""
    if problem is None:
        return {}
    message = f"the vault was made, but without a keyring slot: {problem}"
    return {"error": type(problem).__name__, "message": message, "hint": problem.hint}


def _show(document: dict[str, Any]) -> None:
    say(f"Your vault is in {document['folder']}, unlocked by: {', '.join(document['keyslots'])}.")
    if document["recovery_phrase"]:
        show_phrase(document["recovery_phrase"])
    elif "keyring" not in document["keyslots"]:
        say("Nobody can open it without the passphrase, we neither. Keep it well.")
    if "message" in document:
        say(f"aico: {document['message']}\n      {document['hint']}", err=True)
    say('\nTry: aico record "I moved to Lisbon in May." --conversation hello\n     aico recall "when did I move?"')
