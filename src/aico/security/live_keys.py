"""The keys of an open vault, which may be rotated by another process at any time.

Whoever meets bytes of a key generation that they do not know asks here to look again: vault.json says which generation
is the newest, and the handover (`aico.security.handover`) has its root key.
"""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from aico.errors import AicoError, KeysRotated, StorageError
from aico.files import locked_folder
from aico.security.handover import Announcement
from aico.security.keys import ChainKey, DatabaseKey, NaturalKey, Purpose, RootKey, ValueKey
from aico.security.keyslots import Unlocked, VaultFile

OPEN_FOLDER = "open"
_Identity = tuple[int, int, int]


class LiveKeys:
    """The root key of an open vault, and the one before it. Any thread may use it; `close` it with the vault."""

    def __init__(self, vault_json: Path, data_folder: Path, unlock: Callable[[VaultFile], Unlocked]) -> None:
        """Unlock vault.json and announce that this process has it open.

        Both under one lock with whoever rotates, so that no handover goes by: if the file changed while it was being
        unlocked, it is unlocked again. Raises what `unlock` does, NotFound, Tampered or FormatTooNew, and OSError.
        """
        self.vault_json, self.open_folder = vault_json, data_folder / OPEN_FOLDER
        self._lock = threading.RLock()
        self._announcement: Announcement | None = None
        while True:
            vault_file = VaultFile.read(vault_json)
            self._unlocked = unlock(vault_file)
            with locked_folder(vault_json.parent, shared=True):
                self._seen = _identity(vault_json)
                if VaultFile.read(vault_json) != vault_file:
                    continue
                self._announce(vault_file.vault_id, data_folder)
                return

    def _announce(self, vault_id: str, data_folder: Path) -> None:
        """Without room or permission it goes unannounced: after a rotation this process must open the vault again."""
        generation, root = self._unlocked.generation, self._unlocked.root
        if data_folder.exists():
            with suppress(StorageError):
                self._announcement = Announcement(self.open_folder, vault_id=vault_id, generation=generation, root=root)

    @property
    def unlocked(self) -> Unlocked:
        """What is known now."""
        return self._unlocked

    @property
    def generation(self) -> int:
        """The newest key generation that is known here."""
        return self._unlocked.generation

    @property
    def root(self) -> RootKey:
        """The newest root key that is known here."""
        return self._unlocked.root

    @property
    def natural(self) -> NaturalKey:
        """What rows are named by; no rotation changes it."""
        return self._unlocked.natural

    @property
    def chain(self) -> ChainKey:
        """The key of the audit log's chain; no rotation changes it."""
        return self._unlocked.chain

    def for_pages(self) -> dict[int, DatabaseKey]:
        """The keys of `aico.db` by generation, after another look at vault.json if it was replaced."""
        self.look_again()
        return self._unlocked.for_pages()

    def for_purpose(self, purpose: Purpose) -> dict[int, ValueKey]:
        """The keys of one purpose by generation, after another look at vault.json if it was replaced."""
        self.look_again()
        return self._unlocked.for_purpose(purpose)

    def newest(self) -> int:
        """The newest key generation, after another look at vault.json if it was replaced."""
        self.look_again()
        return self._unlocked.generation

    def look_again(self) -> None:
        """Take over a newer generation, if vault.json names one. Costs one look at the file's status otherwise.

        Raises KeysRotated where its root key was not handed over to this process.
        """
        with self._lock:
            try:
                seen = _identity(self.vault_json)
                if seen == self._seen:
                    return
                vault_file = VaultFile.read(self.vault_json)
            except (OSError, AicoError):
                return  # what is not there to be read tells nothing new
            if vault_file.generation != self._unlocked.generation:
                self._unlocked = self._followed(vault_file)
            self._seen = seen

    def adopt(self, unlocked: Unlocked) -> None:
        """Go on with these keys, of a generation that this process made itself."""
        with self._lock:
            self._unlocked = unlocked

    def close(self) -> None:
        """Take the announcement back. May be called twice."""
        if self._announcement is not None:
            self._announcement.close()

    def _followed(self, vault_file: VaultFile) -> Unlocked:
        """The keys of the generation that the file names, by way of all between. The one before the last stays known:
        a long read may still need it."""
        known = self._unlocked
        generation, root, previous = known.generation, known.root, known.previous
        while generation < vault_file.generation and self._announcement is not None:
            following = self._announcement.follow(generation, root)
            if following is None:
                break
            generation, root, previous = generation + 1, following, root
        if generation != vault_file.generation:
            raise _rotated()
        try:
            return vault_file.verified(root)._replace(previous=previous)
        except AicoError as exc:
            raise _rotated() from exc


def _identity(path: Path) -> _Identity:
    found = os.stat(path)  # noqa: PTH116  # on the path of every page of an unknown key
    return found.st_ino, found.st_mtime_ns, found.st_size


def _rotated() -> KeysRotated:
    return KeysRotated(
        "the vault's keys were rotated while it was open here, and the new ones were not handed over to this process; "
        "nothing was changed",
        hint="close the vault and open it again",
    )
