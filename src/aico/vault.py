"""One person's vault: opens its folder, builds every layer on the one below, and closes them in reverse."""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from aico.ai.embedding.choice import chosen_embedder
from aico.ai.memory.embedding import Embeddings
from aico.ai.memory.erasure import Eraser
from aico.ai.memory.manager import MemoryManager
from aico.ai.memory.semantic import SemanticMemoryStore
from aico.audit import AuditReport, sampled_content, search_for_leaks, used_temporary_places
from aico.clock import IdSource
from aico.data.change_feed import ChangeFeed
from aico.data.conversations import ConversationRepository
from aico.data.embeddings import EmbeddingRepository
from aico.data.facts import FactRepository
from aico.data.libsql import EncryptedLibSQLConnection
from aico.data.libsql.pages import DatabaseKeys
from aico.data.libsql.registry import SchemaRegistry
from aico.data.logs import LogRepository
from aico.data.row_ids import NaturalIds
from aico.data.user import UserService
from aico.errors import InvalidInput, KeyslotMissing, NotFound, UnlockError, storage_error
from aico.health import Finding, Status, examine, status_of
from aico.portability.jsonl import ImportReport, import_jsonl
from aico.security import keyring
from aico.security.keys import Passphrase, RootKey
from aico.security.keyslots import SlotKind, Unlocked, VaultFile, sync_folder
from aico.settings import CONFIG_FILE, Settings, load_settings, passphrase_file, vault_folder
from aico.views import Views

VAULT_FILE, DATA_FOLDER, DATABASE = "vault.json", "data", "aico.db"
UNFINISHED = ".new-"


def open_vault(
    path: Path | str | None = None,
    *,
    passphrase: str | None = None,
    create: bool = True,
    settings: Settings | None = None,
) -> "Vault":
    """Open the vault in `path` (default: AICO_HOME, else ~/.aico), or make one there if `create`.

    Without a passphrase it is unlocked by the machine's keyring or the file that AICO_PASSPHRASE_FILE names; a
    recovery phrase is accepted wherever a passphrase is. A new vault gets a passphrase slot and nothing else.

    Raises NotFound (no vault and not `create`), WrongPassphrase, KeyslotMissing (nothing to unlock it with),
    Tampered or FormatTooNew (vault.json), UnlockError (the folder is somebody else's), StorageError or Busy.
    Whatever is raised, nothing was changed.
    """
    folder = vault_folder(path)
    secret = Passphrase(passphrase) if passphrase is not None else _passphrase_from_file()
    try:
        if not (folder / VAULT_FILE).exists():
            _finish(folder)
        if not (folder / VAULT_FILE).exists():
            if not create:
                raise NotFound(f"there is no vault in {folder}", hint="`aico init` makes one")
            _check_may_become_a_vault(folder)
            if secret is None:
                raise KeyslotMissing(
                    "a new vault needs a passphrase; nothing was made",
                    hint="pass passphrase=…, or set AICO_PASSPHRASE_FILE",
                )
            _create(folder, secret, settings or load_settings(folder))
        _check_ownership(folder)
        vault_file = VaultFile.read(folder / VAULT_FILE)
        chosen = settings or load_settings(folder)
    except OSError as exc:
        raise storage_error(exc, folder, "nothing was changed") from exc
    return Vault(folder, vault_file, _unlock(vault_file, secret), chosen)


class Vault:
    """An open vault, and a context manager. Any thread may use it; a forked child must open its own.

    `memory` is the door; `users`, `conversations`, `facts` and `logs` are the repositories below it, `views` what is
    derived from them, `embeddings` what they mean to the chosen model, `keys` the ways to unlock it.
    """

    def __init__(self, folder: Path, vault_file: VaultFile, unlocked: Unlocked, settings: Settings) -> None:
        embedder = chosen_embedder(settings)
        self.folder, self.settings = folder, settings
        self.format, self.vault_id = vault_file.format, vault_file.vault_id
        keys = DatabaseKeys({vault_file.generation: unlocked.root.for_pages()})
        self.connection = EncryptedLibSQLConnection(
            folder / DATA_FOLDER / DATABASE,
            keys,
            create=False,
            busy_wait_s=settings.busy_wait_s,
            page_cache_kib=settings.page_cache_kib,
        )
        ids, natural_ids, feed = IdSource(settings.clock), NaturalIds(unlocked.natural), ChangeFeed(self.connection)
        vectors = EmbeddingRepository(self.connection, natural_ids=natural_ids, episode_gap_s=settings.episode_gap_s)
        self.embeddings = Embeddings(self.connection, repository=vectors, feed=feed, embedder=embedder)
        with self._closed_on_error():
            SchemaRegistry.apply_core_schemas(self.connection)
            self.keys = VaultKeys(folder / VAULT_FILE, unlocked.root, self.connection)
            self.users = UserService(self.connection, natural_ids=natural_ids, ids=ids)
            self.conversations = ConversationRepository(self.connection, natural_ids=natural_ids, ids=ids)
            self.facts = FactRepository(self.connection, ids=ids)
            self.logs = LogRepository(self.connection, clock=settings.clock)
            semantic = SemanticMemoryStore(
                self.connection,
                feed=feed,
                conversations=self.conversations,
                facts=self.facts,
                embeddings=self.embeddings,
                vectors=vectors,
                episode_gap_s=settings.episode_gap_s,
                users_in_memory=settings.users_in_memory,
            )
            views = [semantic]
            eraser = Eraser(
                self.connection,
                conversations=self.conversations,
                facts=self.facts,
                semantic=semantic,
                views=views,
                ids=ids,
            )
            self.memory = MemoryManager(
                self.connection,
                users=self.users,
                conversations=self.conversations,
                facts=self.facts,
                semantic=semantic,
                eraser=eraser,
                embeddings=self.embeddings,
                clock=settings.clock,
            )
            self.views = Views(views, embeddings=self.embeddings)
            self.embeddings.wake_if_behind()

    def audit(self, needles: Sequence[str] = (), *, samples: int = 40) -> AuditReport:
        """Search every file of the vault, and what it may have left in the temporary folder, as a stranger would.

        For the given phrases of at least 8 bytes and for pieces of `samples` random memories. Raises InvalidInput if
        there is nothing to search for, StorageError if the search could not run.
        """
        wanted = [*needles, *sampled_content(self.connection, samples)]
        return search_for_leaks([self.folder, *used_temporary_places()], wanted)

    def import_(
        self, file: Path | str, user: str, *, skip_bad: bool = False, return_forgotten: bool = False
    ) -> ImportReport:
        """Record the messages of a JSON Lines file (`aico.portability.jsonl`). Raises BadRecord, NotFound or as `record`."""
        try:
            with Path(file).open("rb") as opened:
                return import_jsonl(self.memory, user, opened, skip_bad=skip_bad, return_forgotten=return_forgotten)
        except FileNotFoundError:
            raise NotFound(f"there is no file {file}; nothing was imported") from None
        except OSError as exc:
            raise storage_error(
                exc, Path(file), "what was read before is imported, and is recognised next time"
            ) from exc

    def status(self) -> Status:
        """What the vault holds and how it is unlocked."""
        return status_of(
            self.folder,
            vault_format=self.format,
            keyslots=self.keys.slots(),
            connection=self.connection,
            embeddings=self.embeddings.status(),
        )

    def doctor(self) -> list[Finding]:
        """Examine folder, keys, every page and the views. Takes time with the size of the vault."""
        return examine(
            self.folder,
            keyslots=self.keys.slots(),
            connection=self.connection,
            views=self.views,
            embeddings=self.embeddings.status(),
        )

    def close(self) -> None:
        """Give everything back, after the batch of vectors at hand. May be called twice."""
        self.embeddings.close()
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Vault {self.folder}>"

    @contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise


class VaultKeys:
    """The ways to unlock a vault. Each change replaces vault.json whole; the data is not touched.

    Several processes may change it: each reads the file anew while it holds the turn to write.
    """

    def __init__(self, path: Path, root: RootKey, connection: EncryptedLibSQLConnection) -> None:
        self._path, self._root, self._connection = path, root, connection

    def slots(self) -> list[SlotKind]:
        """The kinds of keyslot there are."""
        return VaultFile.read(self._path).kinds()

    def add_recovery_phrase(self) -> str:
        """Make a recovery phrase of 24 words, which takes the place of an older one. Show it once, keep it nowhere."""
        with self._connection.exclusive():
            changed, phrase = self._current().with_recovery_phrase(self._root)
            changed.write(self._path)
        return phrase.reveal()

    def add_keyring(self) -> None:
        """Let this machine's keyring unlock the vault. Raises KeyringUnavailable; nothing is changed then."""
        with self._connection.exclusive():
            before = self._current()
            before.with_keyring(self._root).write(self._path)
            for entry in before.keyring_entries():
                keyring.forget_secret(entry)

    def _current(self) -> VaultFile:
        found = VaultFile.read(self._path)
        found.verified(self._root)
        return found


def _passphrase_from_file() -> Passphrase | None:
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


def _unlock(vault_file: VaultFile, secret: Passphrase | None) -> Unlocked:
    if secret is not None:
        return vault_file.unlock(secret)
    if "keyring" not in vault_file.kinds():
        raise KeyslotMissing(
            "nothing was given to unlock the vault with, and it has no keyring slot; nothing was changed",
            hint="pass passphrase=…, set AICO_PASSPHRASE_FILE, or run `aico` at a terminal to be asked",
        )
    return vault_file.unlock_by_keyring()


def _check_ownership(folder: Path) -> None:
    """What belongs to another user may be changed, or put back as it was, behind our back."""
    for place in (folder, folder / VAULT_FILE, folder / DATA_FOLDER, folder / DATA_FOLDER / DATABASE):
        if place.exists() and place.stat().st_uid != os.geteuid():
            raise UnlockError(
                f"{place} belongs to another user; nothing was changed",
                hint="open it as its owner, or change the owner",
            )


def _check_may_become_a_vault(folder: Path) -> None:
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


def _create(folder: Path, passphrase: Passphrase, settings: Settings) -> None:
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
    vault_file, unlocked = VaultFile.new(passphrase, cost=settings.kdf)
    (folder / DATA_FOLDER).mkdir(mode=0o700)
    keys = DatabaseKeys({vault_file.generation: unlocked.root.for_pages()})
    with EncryptedLibSQLConnection(folder / DATA_FOLDER / DATABASE, keys) as connection:
        SchemaRegistry.apply_core_schemas(connection)
    vault_file.write(folder / VAULT_FILE)


def _move_beside(fresh: Path, folder: Path) -> None:
    try:
        fresh.rename(folder)
    except OSError:
        if not (folder / VAULT_FILE).exists():
            raise


def _move_inside(fresh: Path, folder: Path) -> None:
    """The data first: `_finish` mends a crash before vault.json follows."""
    with _locked(folder):
        if not (folder / VAULT_FILE).exists():
            folder.chmod(0o700)
            (fresh / DATA_FOLDER).rename(folder / DATA_FOLDER)
            (fresh / VAULT_FILE).rename(folder / VAULT_FILE)


def _finish(folder: Path) -> None:
    """Move the vault.json of a vault that was made here into place, if a crash came before that last step."""
    for fresh in folder.glob(f"{UNFINISHED}*"):
        with _locked(folder):
            if (fresh / VAULT_FILE).exists() and not (fresh / DATA_FOLDER).exists():
                (fresh / VAULT_FILE).rename(folder / VAULT_FILE)
                fresh.rmdir()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
