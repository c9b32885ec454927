"""The folder of a vault: made whole or not at all, finished after a crash, and nobody else's."""

import os
import secrets
import shutil
from pathlib import Path

from aico.data.libsql import EncryptedLibSQLConnection
from aico.data.libsql.registry import SchemaRegistry
from aico.data.libsql.sealed.page_cipher import DatabaseKeys
from aico.errors import InvalidInput, KeyslotMissing, UnlockError, storage_error
from aico.files import locked_folder, sync_folder
from aico.security import session_unlock
from aico.security.keys import Passphrase
from aico.security.keyslots import VaultFile
from aico.security.live_keys import OPEN_FOLDER
from aico.settings import CONFIG_FILE, Settings

VAULT_FILE, DATA_FOLDER, DATABASE = "vault.json", "data", "aico.db"
UNFINISHED = ".new-"


def check_ownership(folder: Path) -> None:
    """Raise UnlockError for what belongs to another user: it may be changed, or put back as it was, behind our back."""
    data = folder / DATA_FOLDER
    for place in (folder, folder / VAULT_FILE, folder / session_unlock.FILE, data, data / DATABASE, data / OPEN_FOLDER):
        if place.exists() and place.stat().st_uid != os.geteuid():
            raise UnlockError(
                f"{place} belongs to another user; nothing was changed",
                hint="open it as its owner, or change the owner",
            )


def check_may_become_a_vault(folder: Path) -> None:
    """Raise InvalidInput or KeyslotMissing for a folder that holds anything else."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder; nothing was made", hint="name another place")
    found = {entry.name for entry in folder.iterdir()}
    if DATA_FOLDER in found:
        raise KeyslotMissing(
            f"{folder} holds data but no vault.json, without which it cannot be opened; nothing was changed",
            hint="restore vault.json from a backup",
        )
    if any(name != CONFIG_FILE and not name.startswith(UNFINISHED) for name in found):
        raise InvalidInput(
            f"{folder} is not empty and is not a vault; nothing was made", hint="name a new or empty folder"
        )


def create_vault(folder: Path, passphrase: Passphrase, settings: Settings) -> None:
    """Make the whole vault aside, then move it into place: nobody ever opens half a vault.

    Beside the folder where there is none yet: one step. Inside it where there is: it may be a mount point, or its
    parent not ours to write to. Another process may be first, and that is fine: the caller opens its vault.
    """
    inside = folder.exists()
    fresh = folder / _unfinished_name() if inside else folder.with_name(folder.name + _unfinished_name())
    try:
        fresh.mkdir(mode=0o700, parents=True)
        try:
            _fill(fresh, passphrase, settings)
            _move_inside(fresh, folder) if inside else _move_beside(fresh, folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        sync_folder(folder if inside else folder.parent)
    except OSError as exc:
        raise storage_error(exc, folder, "no vault was made") from exc


def _unfinished_name() -> str:
    return f"{UNFINISHED}{secrets.token_hex(8)}"


def _fill(folder: Path, passphrase: Passphrase, settings: Settings) -> None:
    vault_file, unlocked = VaultFile.new(passphrase, cost=settings.kdf, engine=settings.engine)
    (folder / DATA_FOLDER).mkdir(mode=0o700)
    keys = DatabaseKeys(unlocked.for_pages())
    with EncryptedLibSQLConnection(folder / DATA_FOLDER / DATABASE, keys, engine=settings.engine) as connection:
        SchemaRegistry.apply_core_schemas(connection)
    vault_file.write(folder / VAULT_FILE)


def _move_beside(fresh: Path, folder: Path) -> None:
    try:
        fresh.rename(folder)
    except OSError:
        if not (folder / VAULT_FILE).exists():
            raise


def _move_inside(fresh: Path, folder: Path) -> None:
    """The data first: `finish_creation` mends a crash before vault.json follows."""
    with locked_folder(folder):
        if not (folder / VAULT_FILE).exists():
            folder.chmod(0o700)
            (fresh / DATA_FOLDER).rename(folder / DATA_FOLDER)
            (fresh / VAULT_FILE).rename(folder / VAULT_FILE)


def finish_creation(folder: Path) -> None:
    """Move the vault.json of a vault that was made here into place, if a crash came before that last step."""
    for fresh in folder.glob(f"{UNFINISHED}*"):
        with locked_folder(folder):
            if (fresh / VAULT_FILE).exists() and not (fresh / DATA_FOLDER).exists():
                (fresh / VAULT_FILE).rename(folder / VAULT_FILE)
                fresh.rmdir()
