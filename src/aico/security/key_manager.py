"""One person's keys without a database: for encrypted files, and for programs that open databases by themselves.

keys = AICOKeyManager("~/.aico")
keys.authenticate("six words that only you know")
with EncryptedFile("diary.aico", "w", keys) as file: ...
"""

from pathlib import Path
from typing import Any

from aico.errors import InvalidInput, KeysRotated, UnlockError
from aico.security.kdf import derive_key_encryption_key
from aico.security.keys import Passphrase, RootKey, ValueKey
from aico.security.keyslots import Unlocked, VaultFile
from aico.settings import KdfCost, vault_folder

VAULT_FILE = "vault.json"


class AICOKeyManager:
    """The keys that hang from the root key in a folder's vault.json. One thread at a time.

    A password is proved by opening a keyslot, never by trying it on data; a wrong one raises and leaves what was
    unlocked before as it was. The root key is kept wrapped in vault.json and nowhere else.
    """

    def __init__(self, folder: Path | str | None = None, *, cost: KdfCost | None = None) -> None:
        """Looks in `folder`, else AICO_HOME, else ~/.aico; reads nothing yet. `cost` is for a new password."""
        self.path = vault_folder(folder) / VAULT_FILE
        self._cost = cost or KdfCost()
        self._unlocked: Unlocked | None = None

    def has_stored_key(self) -> bool:
        """Whether there is a vault.json."""
        return self.path.exists()

    def setup_master_password(self, password: str) -> RootKey:
        """Make a vault.json for a folder that has none, opened by `password`, and unlock it.

        For a folder of files alone: `aico.open` makes a whole vault. Raises InvalidInput if there is one already,
        DiskFull or StorageError.
        """
        if self.has_stored_key():
            raise InvalidInput(f"{self.path} exists; nothing was changed", hint="authenticate, or change_password")
        vault_file, unlocked = VaultFile.new(Passphrase(password), cost=self._cost)
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        vault_file.write_new(self.path)
        self._unlocked = unlocked
        return unlocked.root

    def authenticate(self, password: str | None = None) -> RootKey:
        """Unlock with a password or recovery phrase, or without one by this machine's keyring.

        Raises NotFound, WrongPassphrase, KeyslotMissing, KeyringUnavailable, Tampered or FormatTooNew.
        """
        vault_file = VaultFile.read(self.path)
        found = vault_file.unlock_by_keyring() if password is None else vault_file.unlock(Passphrase(password))
        self._unlocked = found
        return found.root

    def change_password(self, old: str, new: str) -> None:
        """Put `new` in the place of `old`; no data is touched. Raises WrongPassphrase or InvalidInput.

        Not while a vault is open on the same folder: `vault.keys` waits for others, this does not.
        """
        arriving, leaving = Passphrase(new), Passphrase(old)
        before = VaultFile.read(self.path)
        root = before.unlock(leaving).root
        before.with_changed_passphrase(root, leaving, arriving, cost=self._cost).write(self.path)

    def derive_database_key(self, master_key: RootKey, database_type: str = "libsql") -> bytes:
        """32 bytes for `EncryptedLibSQLConnection(encryption_key=…)`: those of the vault's own database for "libsql".

        A rotation changes them, as those of `derive_purpose_key`.
        """
        if database_type == "libsql":
            return master_key.for_pages().reveal()
        return self.derive_purpose_key(master_key, f"database {database_type}")

    def derive_file_encryption_key(self, master_key: RootKey, purpose: str = "default") -> bytes:
        """32 bytes for a program that seals files by itself; `EncryptedFile` needs none."""
        return self.derive_purpose_key(master_key, f"file {purpose}")

    def derive_purpose_key(self, master_key: RootKey, purpose: str) -> bytes:
        """32 bytes for a purpose of the caller's own, apart from all of ours (HKDF-SHA256, RFC 5869).

        `aico keys rotate` gives the vault another root key, and this purpose another key: what the caller sealed with
        it must be opened before and sealed anew after.
        """
        if not purpose:
            raise InvalidInput("a key needs a purpose; nothing was derived", field="purpose")
        return master_key.derive(b"aico 1 of the caller's own: " + purpose.encode())

    def file_keys(self) -> dict[int, ValueKey]:
        """What seals files, by key generation.

        Raises UnlockError before `authenticate`, KeysRotated when the vault has newer keys since.
        """
        if self._unlocked is None:
            raise UnlockError("the keys are locked; nothing was opened", hint="call authenticate first")
        if VaultFile.read(self.path).generation != self._unlocked.generation:
            raise KeysRotated(
                "the vault's keys were rotated since; nothing was opened", hint="call authenticate once more"
            )
        return self._unlocked.for_files()

    def lock(self) -> None:
        """Forget what was unlocked."""
        self._unlocked = None

    def get_security_health_info(self) -> dict[str, Any]:  # for display
        """Whether there is a key, whether it is unlocked, and what kinds of keyslot there are. No secret."""
        slots = VaultFile.read(self.path).kinds() if self.has_stored_key() else []
        return {"has_stored_key": bool(slots), "unlocked": self._unlocked is not None, "keyslots": slots}

    def benchmark_key_derivation(self) -> float:
        """Seconds that one guess at a password costs on this machine."""
        import time

        began = time.perf_counter()
        derive_key_encryption_key(Passphrase("a guess"), salt=bytes(16), cost=self._cost)
        return time.perf_counter() - began

    def __repr__(self) -> str:
        return f"<AICOKeyManager {'unlocked' if self._unlocked else 'locked'}>"
