"""The ways to unlock an open vault: add, change and remove them. The data is never touched."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aico.data.libsql import LibSQLConnection
from aico.security import keyring
from aico.security.keys import Passphrase, RootKey
from aico.security.keyslots import SlotKind, VaultFile
from aico.settings import KdfCost


@dataclass(frozen=True, slots=True)
class SlotInfo:
    """One way to unlock the vault. `id` names it for `remove`; it is public."""

    id: str
    kind: SlotKind


class VaultKeys:
    """The keyslots of a vault. Each change replaces vault.json whole: a crash leaves the old ways or the new ones.

    Several processes may change it: each reads the file anew while it holds the turn to write.
    """

    def __init__(self, path: Path, root: RootKey, connection: LibSQLConnection, *, cost: KdfCost) -> None:
        self._path, self._root, self._connection, self._cost = path, root, connection, cost

    def list_slots(self) -> list[SlotInfo]:
        """Every keyslot, in the order they were made."""
        return [SlotInfo(slot.id, slot.kind) for slot in VaultFile.read(self._path).keyslots]

    def slots(self) -> list[SlotKind]:
        """The kinds of keyslot there are, in the order they were made."""
        return [slot.kind for slot in self.list_slots()]

    def add_passphrase(self, passphrase: str) -> None:
        """Let one more passphrase unlock the vault. Takes one key derivation. Raises InvalidInput."""
        new = Passphrase(passphrase)
        with self._changing() as current:
            current.with_passphrase(self._root, new, cost=self._cost).write(self._path)

    def change_passphrase(self, old: str, new: str) -> None:
        """Put `new` in the place of `old`, which opens nothing afterwards. Other ways to unlock stay.

        A copy of vault.json from before the change, in a backup say, still opens with `old`. Raises WrongPassphrase
        if `old` opens no passphrase slot, InvalidInput; nothing is changed then.
        """
        leaving, arriving = Passphrase(old), Passphrase(new)
        with self._changing() as current:
            current.with_changed_passphrase(self._root, leaving, arriving, cost=self._cost).write(self._path)

    def add_recovery_phrase(self) -> str:
        """Make a recovery phrase of 24 words, which takes the place of an older one. Show it once, keep it nowhere."""
        with self._changing() as current:
            changed, phrase = current.with_recovery_phrase(self._root)
            changed.write(self._path)
        return phrase.reveal()

    def add_keyring(self) -> None:
        """Let this machine's keyring unlock the vault. Raises KeyringUnavailable; nothing is changed then."""
        with self._changing() as before:
            before.with_keyring(self._root).write(self._path)
            for entry in before.keyring_entries():
                keyring.forget_secret(entry)

    def remove(self, slot_id: str) -> None:
        """Take one way to unlock away. Raises NotFound, or InvalidInput for the last passphrase or recovery phrase.

        A keyring alone is not enough to stay: it is lost with its machine.
        """
        with self._changing() as before:
            left, removed = before.with_slot_removed(self._root, slot_id)
            left.write(self._path)
            if removed.kind == "keyring":
                keyring.forget_secret(before.keyring_entry(removed))

    @contextmanager
    def _changing(self) -> Iterator[VaultFile]:
        """The file as it is now, while nobody else may change it. Raises Tampered if somebody else did before."""
        with self._connection.exclusive():
            found = VaultFile.read(self._path)
            found.verified(self._root)
            yield found
