"""What lies between a folder's path and its open database: the folder, what unlocks it, the connection."""

from pathlib import Path
from typing import NamedTuple

from aico.approval import Consent
from aico.data.libsql import EncryptedLibSQLConnection
from aico.data.libsql.sealed.page_cipher import DatabaseKeys
from aico.errors import KeyslotMissing, NotFound, storage_error
from aico.security import session_unlock
from aico.security.keys import Passphrase
from aico.security.keyslots import Unlocked, VaultFile
from aico.security.live_keys import LiveKeys
from aico.settings import Settings, load_settings, passphrase_file, vault_folder
from aico.vault_folder import (
    DATA_FOLDER,
    DATABASE,
    VAULT_FILE,
    check_may_become_a_vault,
    check_ownership,
    create_vault,
    finish_creation,
)


class Opening(NamedTuple):
    """A vault's folder with its keys, and how it is to be opened."""

    folder: Path
    keys: LiveKeys
    settings: Settings
    consent: Consent


def unlocked_folder(
    path: Path | str | None, passphrase: str | None, *, create: bool, settings: Settings | None
) -> Opening:
    """The vault's folder, made first if there is none and `create`, with its keys and settings. Raises as `open_vault`."""
    folder = vault_folder(path)
    secret, consent = given_secret(passphrase), Consent.ASKED_FOR if settings is None else Consent.NOT_NEEDED
    try:
        if not (folder / VAULT_FILE).exists():
            finish_creation(folder)
        if not (folder / VAULT_FILE).exists():
            if not create:
                raise NotFound(f"there is no vault in {folder}", hint="`aico init` makes one")
            check_may_become_a_vault(folder)
            if secret is None:
                raise KeyslotMissing(
                    "a new vault needs a passphrase; nothing was made",
                    hint="pass passphrase=…, or set AICO_PASSPHRASE_FILE",
                )
            create_vault(folder, secret, settings or load_settings(folder))
            consent = Consent.GIVEN if settings is None else consent
        check_ownership(folder)
        chosen = settings or load_settings(folder)
        keys = LiveKeys(
            folder / VAULT_FILE, folder / DATA_FOLDER, lambda vault_file: unlock(folder, vault_file, secret)
        )
    except OSError as exc:
        raise storage_error(exc, folder, "nothing was changed") from exc
    return Opening(folder, keys, chosen, consent)


def page_keys_of(keys: LiveKeys) -> DatabaseKeys:
    """The keys that seal the database's pages; they follow a rotation by another process."""
    return DatabaseKeys(keys.unlocked.for_pages(), look_again=keys.for_pages)


def connected(folder: Path, keys: DatabaseKeys, settings: Settings) -> EncryptedLibSQLConnection:
    """The database of the vault in `folder`."""
    return EncryptedLibSQLConnection(
        folder / DATA_FOLDER / DATABASE,
        keys,
        engine=VaultFile.read(folder / VAULT_FILE).engine,
        create=False,
        busy_wait_s=settings.busy_wait_s,
        page_cache_kib=settings.page_cache_kib,
    )


def given_secret(passphrase: str | None) -> Passphrase | None:
    """The passphrase that was passed, else the one in the file that AICO_PASSPHRASE_FILE names, else None."""
    if passphrase is not None:
        return Passphrase(passphrase)
    file = passphrase_file()
    if file is None:
        return None
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise KeyslotMissing(
            f"the file named by AICO_PASSPHRASE_FILE cannot be read: {type(exc).__name__}; nothing was changed",
            hint="check its path, owner and permissions",
        ) from exc
    return Passphrase(text.rstrip("\r\n"))


def unlock(folder: Path | None, vault_file: VaultFile, secret: Passphrase | None) -> Unlocked:
    """With the secret, else by the session that `aico unlock` began in the folder, else by this machine's keyring."""
    if secret is not None:
        return vault_file.unlock(secret)
    if folder is not None and (unlocked := session_unlock.unlock(folder, vault_file)) is not None:
        return unlocked
    if "keyring" not in vault_file.kinds():
        raise KeyslotMissing(
            "nothing was given to unlock the vault with, and it has no keyring slot; nothing was changed",
            hint="pass passphrase=…, set AICO_PASSPHRASE_FILE, or run `aico` at a terminal to be asked",
        )
    return vault_file.unlock_by_keyring()
