"""The ways to unlock an open vault: add, change and remove them. The data is never touched."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aico.data.audit_log import Action, AuditLog
from aico.data.libsql import LibSQLConnection
from aico.data.row_ids import NaturalIds
from aico.errors import StorageError
from aico.security import keyring
from aico.security.keys import NaturalKey, Passphrase, RootKey
from aico.security.keyslots import Keyslot, SlotKind, VaultFile
from aico.settings import KdfCost


@dataclass(frozen=True, slots=True)
class SlotInfo:
    """One way to unlock the vault. `id` names it for `remove`; it is public."""

    id: str
    kind: SlotKind


class VaultKeys:
    """The keyslots of a vault. Each change replaces vault.json whole: a crash leaves the old ways or the new ones.

    Several processes may change it: each reads the file anew while it holds the turn to write. The transaction holds
    the entry in the audit log and ends after the file was replaced: a change that failed has none.

    >>> vault.keys.add_passphrase("a second way in")
    >>> vault.keys.slots()
    ['passphrase', 'passphrase']
    """

    def __init__(
        self,
        path: Path,
        root: RootKey,
        connection: LibSQLConnection,
        *,
        natural_ids: NaturalIds,
        audit_log: AuditLog,
        cost: KdfCost,
    ) -> None:
        self._path, self._root, self._connection = path, root, connection
        self._natural_ids, self._audit_log, self._cost = natural_ids, audit_log, cost

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
            changed = current.before.with_passphrase(self._root, new, cost=self._cost)
            self._replace(current, changed, Action.PASSPHRASE_ADDED, changed.keyslots[-1])

    def change_passphrase(self, old: str, new: str) -> None:
        """Put `new` in the place of `old`, which opens nothing afterwards. Other ways to unlock stay.

        A copy of vault.json from before the change, in a backup say, still opens with `old`. Raises WrongPassphrase
        if `old` opens no passphrase slot, InvalidInput; nothing is changed then.
        """
        leaving, arriving = Passphrase(old), Passphrase(new)
        with self._changing() as current:
            changed = current.before.with_changed_passphrase(self._root, leaving, arriving, cost=self._cost)
            self._replace(current, changed, Action.PASSPHRASE_CHANGED, changed.keyslots[-1])

    def add_recovery_phrase(self) -> str:
        """Make a recovery phrase of 24 words, which takes the place of an older one. Show it once, keep it nowhere."""
        with self._changing() as current:
            changed, phrase = current.before.with_recovery_phrase(self._root)
            self._replace(current, changed, Action.RECOVERY_PHRASE_MADE, changed.keyslots[-1])
        return phrase.reveal()

    def add_keyring(self) -> None:
        """Let this machine's keyring unlock the vault. Raises KeyringUnavailable; nothing is changed then."""
        with self._changing() as current:
            changed = current.before.with_keyring(self._root)
            self._replace(current, changed, Action.KEYRING_ADDED, changed.keyslots[-1])
        for entry in current.before.keyring_entries():
            keyring.forget_secret(entry)

    def remove(self, slot_id: str) -> None:
        """Take one way to unlock away. Raises NotFound, or InvalidInput for the last passphrase or recovery phrase.

        A keyring alone is not enough to stay: it is lost with its machine.
        """
        with self._changing() as current:
            left, removed = current.before.with_slot_removed(self._root, slot_id)
            self._replace(current, left, Action.KEYSLOT_REMOVED, removed)
        if removed.kind == "keyring":
            keyring.forget_secret(current.before.keyring_entry(removed))

    def adopt(self, naming_key: NaturalKey) -> None:
        """Name rows by the key of another vault, whose export is read back, if nothing here has a name yet.

        Otherwise nothing happens. No other process may have the vault open: it would go on naming by the old key.
        """
        with self._changing() as current:
            if any(self._connection.fetch_one(f"SELECT 1 FROM {table}") for table in ("users", "erasures")):
                return
            current.after = current.before.with_natural_key(self._root, naming_key)
            current.after.write(self._path)
        self._natural_ids.adopt(naming_key)

    @contextmanager
    def _changing(self) -> Iterator["_Change"]:
        """The file as it is now, while nobody else may change it. Raises Tampered if somebody else did before.

        Where the entry cannot be committed, the file is put back: nobody has a recovery phrase that was never shown.
        """
        if self._connection.in_transaction:  # taken back with it, the entry would be missing
            raise StorageError("keys change in a transaction of their own; nothing was changed", hint="end yours first")
        change: _Change | None = None
        try:
            with self._connection.transaction():
                change = _Change(VaultFile.read(self._path))
                change.before.verified(self._root)
                yield change
        except BaseException:
            if change is not None and change.after is not None:
                self._take_back(change)
            raise

    def _replace(self, change: "_Change", changed: VaultFile, action: Action, slot: Keyslot) -> None:
        """Write the file last: whatever fails before it takes the entry back."""
        self._audit_log.append(action, subject_id=bytes.fromhex(slot.id))
        change.after = changed
        changed.write(self._path)

    def _take_back(self, change: "_Change") -> None:
        with self._connection.transaction():  # it writes nothing, and keeps others from the file
            if VaultFile.read(self._path) == change.after:
                change.before.write(self._path)


@dataclass(slots=True)
class _Change:
    """The file before a change, and after it, once there is one."""

    before: VaultFile
    after: VaultFile | None = None
