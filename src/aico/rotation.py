"""A new root key for an open vault, while other processes read and write; killed anywhere, it goes on where it stopped.

begin     each living process is handed the new root key; then vault.json is replaced: keyslots for the new key,
          the old key sealed under it. From here on every opener has both
go on     every page through the log, files and backups one by one; the hot tier, snapshots and Chroma's rows deleted
finish    an entry in the audit log, then vault.json once more, without the old key
"""

import fcntl
import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from aico.ai.memory.segments import SegmentView
from aico.backup import Backups
from aico.data.audit_log import Action, AuditLog
from aico.data.libsql import EncryptedLibSQLConnection
from aico.data.libsql.sealed.page_cipher import DatabaseKeys
from aico.data.lmdb import SealedStore
from aico.errors import (
    AicoError,
    Busy,
    InvalidInput,
    KeyringUnavailable,
    NotFound,
    StorageError,
    WrongPassphrase,
    storage_error,
)
from aico.files import locked_folder
from aico.security import keyring, session_unlock
from aico.security.encrypted_file import reseal_file
from aico.security.handover import hand_over
from aico.security.keys import Passphrase, RootKey
from aico.security.keyslots import Keyslot, Unlocked, VaultFile
from aico.security.live_keys import LiveKeys
from aico.settings import KdfCost
from aico.vault_folder import DATA_FOLDER

FILES_FOLDER = "files"
SNAPSHOT_FOLDERS = ("index", "duckdb")
"""Of `data/`: what can be rebuilt from the truth."""
_LOOK_EVERY_S = 0.2
_FRAME_HEADER_BYTES = 24

OnProgress = Callable[[str, int, int], object]
"""Called with what is sealed anew ("pages", "files", "backups"), how many are done and how many there are."""


class Begun(NamedTuple):
    """What became of the ways to unlock the vault."""

    removed: tuple[Keyslot, ...] = ()
    phrase: Passphrase | None = None
    """The new recovery phrase, where there was one and it was not given."""


class Resealed(NamedTuple):
    """What was sealed anew."""

    pages: int
    files: int
    files_left: int
    """Sealed for a purpose that was not named, or damaged: they open as before."""
    backups: int


class Rotation:
    """The steps of a rotation of one open vault. One process at a time takes them."""

    def __init__(
        self,
        folder: Path,
        *,
        keys: LiveKeys,
        page_keys: DatabaseKeys,
        connection: EncryptedLibSQLConnection,
        hot_tier: SealedStore,
        segments: SegmentView | None,
        backups: Backups,
        audit_log: AuditLog,
        cost: KdfCost,
    ) -> None:
        self._folder, self._data = folder, folder / DATA_FOLDER
        self._keys, self._page_keys, self._connection = keys, page_keys, connection
        self._hot_tier, self._segments, self._backups = hot_tier, segments, backups
        self._audit_log, self._cost = audit_log, cost

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the right to rotate. Raises Busy at once if another process does."""
        lock = self._data / "aico.db-rotation"
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise storage_error(exc, lock, "nothing was changed") from exc
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy("another process rotates the keys; nothing was changed", hint="wait for its end") from None
            yield
        finally:
            os.close(descriptor)

    def begin(self, secrets: Sequence[Passphrase], *, remove: Collection[str]) -> Begun:
        """Put a vault.json of both generations in place, and go on under the new one.

        Raises WrongPassphrase, InvalidInput, KeyringUnavailable, DiskFull or StorageError; nothing is changed then.
        """
        self._connection.check_keys_can_change()
        with self._connection.exclusive():
            before = VaultFile.read(self._keys.vault_json)
            self._keys.look_again()
            unlocked = before.verified(self._keys.root)
            after, root, begun = _next_file(before, unlocked, secrets, remove=frozenset(remove), cost=self._cost)
            try:
                self._replace(before, after, unlocked.root, root)
            except OSError as exc:
                raise storage_error(exc, self._data, "the keys are as they were") from exc
            finally:
                _forget_unused(before, after, VaultFile.read(self._keys.vault_json))
            self._use(after.verified(root))
        with suppress(StorageError):  # it opens nothing any more
            session_unlock.end(self._folder, before)
        return begun

    def go_on(self, *, file_purposes: Sequence[str], on_progress: OnProgress) -> Resealed:
        """Seal everything anew that is still under the older keys. Raises Busy, DiskFull or StorageError: call again."""
        self._keys.look_again()  # another process may have begun, and been killed
        self._use(self._keys.unlocked)
        pages = self._reseal_pages(on_progress)
        done, left = self._reseal_files(file_purposes, on_progress)
        backups = self._backups.reseal(on_progress=lambda done, total: on_progress("backups", done, total))
        with suppress(StorageError):  # what cannot be used is not used
            self._hot_tier.begin_anew()
        if self._segments is not None:
            with suppress(AicoError):  # away: whoever next uses it does so first
                self._segments.let_go_of_older_keys()
        self._delete_snapshots()
        return Resealed(pages, done, left, backups)

    def finish(self) -> None:
        """Drop the older generation from vault.json."""
        generation = self._keys.generation
        last = self._audit_log.entries(action=Action.KEYS_ROTATED)[-1:]
        if not last or last[0].counts.get("generation") != generation:  # else it was killed just behind this step
            slots = len(VaultFile.read(self._keys.vault_json).keyslots)
            self._audit_log.append(Action.KEYS_ROTATED, counts={"generation": generation, "keyslots": slots})
        with self._connection.exclusive(), locked_folder(self._folder):
            current = VaultFile.read(self._keys.vault_json)
            current.verified(self._keys.root)
            after = current.without_previous(self._keys.root)
            after.write(self._keys.vault_json)
            self._use(after.verified(self._keys.root))

    def _replace(self, before: VaultFile, after: VaultFile, old: RootKey, new: RootKey) -> None:
        with locked_folder(self._folder):  # nobody opens the vault between the handover and the new file
            if VaultFile.read(self._keys.vault_json) != before:
                raise Busy("vault.json was changed meanwhile; the keys are as they were", hint="try again")
            hand_over(self._keys.open_folder, vault_id=before.vault_id, generation=before.generation, old=old, new=new)
            after.write(self._keys.vault_json)

    def _use(self, unlocked: Unlocked) -> None:
        self._keys.adopt(unlocked)
        self._page_keys.replace(unlocked.for_pages())

    def _delete_snapshots(self) -> None:
        """What another process is just writing stays: it is under the newest keys."""
        for name in SNAPSHOT_FOLDERS:
            for path in (self._data / name).rglob("*"):
                try:
                    if path.is_file() and path.suffix != ".part":
                        path.unlink(missing_ok=True)
                except OSError as exc:
                    raise storage_error(exc, path, "it is still sealed under the older keys") from exc

    def _reseal_pages(self, on_progress: OnProgress) -> int:
        total, page_bytes = (int(self._connection.fetch_all(f"PRAGMA page_{what}")[0][0]) for what in ("count", "size"))
        with _watched(Path(f"{self._connection.db_path}-wal"), total, page_bytes + _FRAME_HEADER_BYTES, on_progress):
            self._connection.reseal()
        on_progress("pages", total, total)
        return total

    def _reseal_files(self, purposes: Sequence[str], on_progress: OnProgress) -> tuple[int, int]:
        found = sorted((self._data / FILES_FOLDER).rglob("*"))
        paths = [path for path in found if path.is_file() and ".new-" not in path.name]
        keys, done, left = self._keys.unlocked.for_files(), 0, 0
        for number, path in enumerate(paths):
            on_progress("files", number, len(paths))
            with suppress(NotFound):  # somebody removed it meanwhile
                resealed = reseal_file(path, keys, purposes=purposes)
                done, left = done + resealed, left + (not resealed)
        on_progress("files", len(paths), len(paths))
        return done, left


def _next_file(
    before: VaultFile,
    unlocked: Unlocked,
    secrets: Sequence[Passphrase],
    *,
    remove: frozenset[str],
    cost: KdfCost,
) -> tuple[VaultFile, RootKey, Begun]:
    """The file of the next generation, its root key, and what became of each way to unlock."""
    if unknown := remove - {slot.id for slot in before.keyslots}:
        raise InvalidInput(
            f"no keyslot has the id {min(unknown)}; nothing was changed", hint="`aico keys list` shows the ids"
        )
    given = {slot.id: secret for slot in before.keyslots for secret in secrets if _opens(before, slot, secret)}
    if any(secret not in given.values() for secret in secrets):
        raise WrongPassphrase(
            "one of the secrets opens no keyslot of this vault; nothing was changed", hint="try again"
        )
    if not given.keys() - remove:
        raise InvalidInput(
            "a rotation needs the passphrase or recovery phrase of one keyslot that stays; nothing was changed",
            hint="give one that you know",
        )
    unnamed = [slot.id for slot in before.keyslots if slot.kind == "passphrase" and slot.id not in {*given, *remove}]
    if unnamed:
        raise InvalidInput(
            f"the passphrase of keyslot {', '.join(unnamed)} was not given; nothing was changed",
            hint="give it, or name the keyslot to be removed",
        )
    after, root = before.with_next_root(unlocked)
    removed, phrase = [], None
    for slot in before.keyslots:
        if slot.id in remove:
            removed.append(slot)
        elif slot.kind == "keyring":
            if _is_here(before, slot):
                after = after.with_keyring(root)
            else:  # of another machine, or of a keyring that is gone
                removed.append(slot)
        elif slot.kind == "recovery":
            after, shown = after.with_recovery_phrase(root, given.get(slot.id))
            phrase = None if slot.id in given else shown
        else:
            after = after.with_passphrase(root, given[slot.id], cost=cost)
    return after, root, Begun(tuple(removed), phrase)


def _opens(vault_file: VaultFile, slot: Keyslot, secret: Passphrase) -> bool:
    try:
        return vault_file.opens(slot, secret)
    except InvalidInput:  # looks like a recovery phrase, and may be a passphrase of 24 words
        return False


def _is_here(vault_file: VaultFile, slot: Keyslot) -> bool:
    try:
        return keyring.find_secret(vault_file.keyring_entry(slot)) is not None
    except KeyringUnavailable:
        return False


def _forget_unused(before: VaultFile, after: VaultFile, current: VaultFile) -> None:
    """Take the keyring's secrets of the file that is not in place out again."""
    unused = after if current == before else before
    for entry in unused.keyring_entries():
        with suppress(KeyringUnavailable):
            keyring.forget_secret(entry)


@contextmanager
def _watched(log: Path, pages: int, frame_bytes: int, on_progress: OnProgress) -> Iterator[None]:
    """Tell how far a rewrite through the log is, by the log's length. Looks at it from outside, and never opens it."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK_EVERY_S):
            with suppress(OSError):
                on_progress("pages", min(pages, log.stat().st_size // frame_bytes), pages)

    thread = threading.Thread(target=watch, name="aico-rotation", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
