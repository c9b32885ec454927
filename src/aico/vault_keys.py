"""The ways to unlock an open vault: add, change and remove them. The data is never touched."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from aico.data.audit_log import Action, AuditLog
from aico.data.libsql import LibSQLConnection
from aico.data.row_ids import NaturalIds
from aico.errors import DiskFull, KeyringUnavailable, StorageError
from aico.rotation import Begun, OnProgress, Rotation
from aico.security import keyring, session_unlock
from aico.security.keys import NaturalKey, Passphrase, RootKey
from aico.security.keyslots import Keyslot, SlotKind, VaultFile
from aico.security.live_keys import LiveKeys
from aico.settings import KdfCost


@dataclass(frozen=True, slots=True)
class SlotInfo:
    """One way to unlock the vault. `id` names it for `remove`; it is public."""

    id: str
    kind: SlotKind


@dataclass(frozen=True, slots=True)
class RotationReport:
    """What a rotation did."""

    resumed: bool
    """It went on with one that was interrupted; the secrets given were not looked at."""
    generation: int
    keyslots: list[SlotInfo]
    removed: list[SlotInfo]
    """The ways to unlock that are gone: named to be removed, or of a keyring that is not here."""
    pages: int
    files: int
    files_left: int
    """Files in `data/files` that were left as they are, since they open under no purpose that was named."""
    backups: int
    recovery_phrase: str | None = field(repr=False)
    """The new recovery phrase, where there was one and it was not given. Show it once, keep it nowhere."""


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
        keys: LiveKeys,
        connection: LibSQLConnection,
        *,
        natural_ids: NaturalIds,
        audit_log: AuditLog,
        rotation: Rotation,
        cost: KdfCost,
    ) -> None:
        self._path, self._keys, self._connection = keys.vault_json, keys, connection
        self._natural_ids, self._audit_log, self._cost = natural_ids, audit_log, cost
        self._rotation = rotation

    @property
    def _root(self) -> RootKey:
        return self._keys.root

    def list_slots(self) -> list[SlotInfo]:
        """Every keyslot, in the order they were made.

        >>> [slot.kind for slot in vault.keys.list_slots()]
        ['passphrase']
        """
        return _infos(VaultFile.read(self._path).keyslots)

    def slots(self) -> list[SlotKind]:
        """The kinds of keyslot there are, in the order they were made.

        >>> vault.keys.slots()
        ['passphrase']
        """
        return [slot.kind for slot in self.list_slots()]

    def add_passphrase(self, passphrase: str) -> None:
        """Let one more passphrase unlock the vault. Takes one key derivation. Raises InvalidInput.

        >>> vault.keys.add_passphrase("what Mia's sister knows")
        >>> with aico.open(vault.folder, passphrase="what Mia's sister knows") as again:
        ...     again.facts.count("mia")
        1
        """
        new = Passphrase(passphrase)
        with self._changing() as current:
            changed = current.before.with_passphrase(self._root, new, cost=self._cost)
            self._replace(current, changed, Action.PASSPHRASE_ADDED, changed.keyslots[-1])

    def change_passphrase(self, old: str, new: str) -> None:
        """Put `new` in the place of `old`, which opens nothing afterwards. Other ways to unlock stay.

        A copy of vault.json from before the change, in a backup say, still opens with `old`. Raises WrongPassphrase
        if `old` opens no passphrase slot, InvalidInput; nothing is changed then.

        >>> vault.keys.change_passphrase(passphrase, "a longer one than before")
        >>> aico.open(vault.folder, passphrase=passphrase)
        Traceback (most recent call last):
        aico.errors.WrongPassphrase: ...
        """
        leaving, arriving = Passphrase(old), Passphrase(new)
        with self._changing() as current:
            changed = current.before.with_changed_passphrase(self._root, leaving, arriving, cost=self._cost)
            self._replace(current, changed, Action.PASSPHRASE_CHANGED, changed.keyslots[-1])

    def add_recovery_phrase(self) -> str:
        """Make a recovery phrase of 24 words, which takes the place of an older one. Show it once, keep it nowhere.

        >>> words = vault.keys.add_recovery_phrase()
        >>> len(words.split())
        24
        >>> with aico.open(vault.folder, passphrase=words) as again:
        ...     again.facts.count("mia")
        1
        """
        with self._changing() as current:
            changed, phrase = current.before.with_recovery_phrase(self._root)
            self._replace(current, changed, Action.RECOVERY_PHRASE_MADE, changed.keyslots[-1])
        return phrase.reveal()

    def add_keyring(self) -> None:
        """Let this machine's keyring unlock the vault. Raises KeyringUnavailable; nothing is changed then.

        >>> vault.keys.add_keyring()
        >>> with aico.open(vault.folder) as again:  # nobody is asked
        ...     again.facts.count("mia")
        1
        """
        with self._changing() as current:
            changed = current.before.with_keyring(self._root)
            self._replace(current, changed, Action.KEYRING_ADDED, changed.keyslots[-1])
        for entry in current.before.keyring_entries():
            _let_go_of(entry)

    def remove(self, slot_id: str) -> None:
        """Take one way to unlock away. Raises NotFound, or InvalidInput for the last passphrase or recovery phrase.

        A keyring alone is not enough to stay: it is lost with its machine.

        >>> vault.keys.add_passphrase("for a while")
        >>> vault.keys.remove(vault.keys.list_slots()[-1].id)
        >>> vault.keys.slots()
        ['passphrase']
        """
        with self._changing() as current:
            left, removed = current.before.with_slot_removed(self._root, slot_id)
            self._replace(current, left, Action.KEYSLOT_REMOVED, removed)
        if removed.kind == "keyring":
            _let_go_of(current.before.keyring_entry(removed))

    def rotate(
        self,
        *secrets: str,
        remove: Collection[str] = (),
        file_purposes: Sequence[str] = ("default",),
        on_phrase: Callable[[str], object] | None = None,
        on_progress: OnProgress | None = None,
    ) -> RotationReport:
        """Replace the root key, and seal everything in the folder anew, while other processes read and write.

        `secrets` are the passphrases that go on to open the vault, and the recovery phrase: where it is not given, a new
        one is made, which `on_phrase` gets as soon as it is good: what follows may fail, and nobody is told it again.
        Each passphrase's keyslot that is left out is named in `remove` by its id. The keyring gets a new secret by
        itself, and a session of `aico unlock` ends. Whoever wants to write waits while the pages are rewritten; it
        needs as much free disk as the database is large.

        If it is interrupted the vault opens with the new secrets and nothing is lost; call it again, without secrets.
        Backups elsewhere stay as they are: they open with the secrets of their day.

        Raises WrongPassphrase or InvalidInput, and nothing is changed then; Busy if another process rotates or a
        reader keeps the log, DiskFull or StorageError: call it again.

        >>> report = vault.keys.rotate(passphrase)
        >>> report.generation, report.recovery_phrase
        (2, None)
        """
        tell = on_progress or _silent
        with self._rotation.alone():
            resumed = self.rotation_unfinished()
            begun = Begun() if resumed else self._rotation.begin([Passphrase(one) for one in secrets], remove=remove)
            if begun.phrase is not None and on_phrase is not None:
                on_phrase(begun.phrase.reveal())
            done = self._rotation.go_on(file_purposes=file_purposes, on_progress=tell)
            self._rotation.finish()
        return RotationReport(
            resumed=resumed,
            generation=self._keys.generation,
            keyslots=self.list_slots(),
            removed=_infos(begun.removed),
            pages=done.pages,
            files=done.files,
            files_left=done.files_left,
            backups=done.backups,
            recovery_phrase=None if begun.phrase is None else begun.phrase.reveal(),
        )

    def rotation_unfinished(self) -> bool:
        """Whether a rotation was interrupted: something may still be sealed under the older keys.

        >>> vault.keys.rotation_unfinished()
        False
        """
        return bool(VaultFile.read(self._path).previous)

    def leave_unlocked(self, ttl_s: int) -> None:
        """Let this machine's keyring open the vault for `ttl_s` seconds, 12 hours at most; `lock` ends it.

        Never in a backup, on no other machine. Raises InvalidInput, KeyringUnavailable, DiskFull or StorageError.

        >>> vault.keys.leave_unlocked(ttl_s=3600)
        >>> with aico.open(vault.folder) as again:  # nobody is asked for an hour
        ...     again.facts.count("mia")
        1
        """
        folder = self._path.parent
        try:
            with self._changing() as current:
                self._audit_log.append(Action.VAULT_LEFT_UNLOCKED, counts={"seconds": ttl_s})
                session_unlock.begin(folder, current.before, self._root, ttl_s=ttl_s)
        except DiskFull:  # the entry's
            session_unlock.end(folder, VaultFile.read(self._path))
            raise

    def lock(self) -> bool:
        """End what `leave_unlocked` began; whether there was anything to end. This open vault stays open.

        >>> vault.keys.leave_unlocked(ttl_s=3600)
        >>> vault.keys.lock()
        True
        """
        return session_unlock.end(self._path.parent, VaultFile.read(self._path))

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
                self._keys.look_again()
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


def _infos(slots: Iterable[Keyslot]) -> list[SlotInfo]:
    return [SlotInfo(slot.id, slot.kind) for slot in slots]


def _let_go_of(entry: str) -> None:
    """Take a secret that opens nothing any more out of the keyring; without one, as on another machine, it stays there."""
    with suppress(KeyringUnavailable):
        keyring.forget_secret(entry)


def _silent(_what: str, _done: int, _total: int) -> None:
    return None


@dataclass(slots=True)
class _Change:
    """The file before a change, and after it, once there is one."""

    before: VaultFile
    after: VaultFile | None = None
