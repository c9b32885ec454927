"""One person's vault: opens its folder, builds every layer on the one below, and closes them in reverse."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self

from aico.approval import Consent
from aico.audit import AuditReport, sampled_content, search_for_leaks, used_temporary_places
from aico.backup import BackupInfo, OnProgress, restore
from aico.data.audit_log import Action
from aico.data.libsql import EncryptedLibSQLConnection
from aico.errors import InvalidInput, NotFound
from aico.health import Finding, Status, examine, status_of
from aico.portability.export import ExportReport, export_jsonl, new_file
from aico.portability.importing import How, Importer, Kind, Progress
from aico.portability.markdown import export_markdown
from aico.portability.report import ImportReport
from aico.security import session_unlock
from aico.security.keys import Passphrase
from aico.security.keyslots import VaultFile
from aico.settings import Settings, vault_folder
from aico.user_erasure import UserErasure, erase_user
from aico.vault_folder import VAULT_FILE
from aico.vault_layers import Derived, Meaning, People, Records, Services, Store
from aico.vault_opening import Opening, connected, given_secret, page_keys_of, unlock, unlocked_folder


def open_vault(
    path: Path | str | None = None,
    *,
    passphrase: str | None = None,
    create: bool = True,
    settings: Settings | None = None,
    accept_older: bool = False,
    approve_settings: bool = False,
) -> "Vault":
    """Open the vault in `path` (default: AICO_HOME, else ~/.aico), or make one there if `create`.

    Without a passphrase it is unlocked by the machine's keyring or the file that AICO_PASSPHRASE_FILE names; a
    recovery phrase is accepted wherever a passphrase is. A new vault gets a passphrase slot and nothing else.
    `accept_older` is for a folder that you put back yourself, and that was further once: it counts from there on.
    `approve_settings` says yes to what its config.toml lets out or guards less than the defaults (`aico.approval`); later
    openings need no other yes until that changes. `settings` of your own need none.

    Raises NotFound (no vault and not `create`), WrongPassphrase, KeyslotMissing (nothing to unlock it with),
    Tampered or FormatTooNew (vault.json), OlderState (it was further once), AccessDenied (config.toml has
    settings that nobody said yes to), UnlockError (the folder is somebody else's), StorageError or Busy. Whatever is
    raised, nothing was changed.

    >>> with aico.open(folder / "mine", passphrase="correct horse battery staple") as mine:
    ...     _ = mine.memory.record("mia", "I moved to Lisbon in May.", conversation="c1")
    """
    opening = unlocked_folder(path, passphrase, create=create, settings=settings)
    if approve_settings:
        opening = opening._replace(consent=Consent.GIVEN)
    return Vault(opening, accept_older=accept_older)


def open_database(path: Path | str | None = None, *, passphrase: str | None = None) -> EncryptedLibSQLConnection:
    """The database of the vault in `path` as it is: no schema is applied, and one of a newer release is not refused.

    For looking at it and for taking schemas up and down; everything else wants `open_vault`. Raises as that does.
    """
    opening = unlocked_folder(path, passphrase, create=False, settings=None)
    return connected(opening.folder, page_keys_of(opening.keys), opening.settings)


def lock_vault(path: Path | str | None = None) -> bool:
    """End what `vault.keys.leave_unlocked` began; whether there was anything to end. Needs no key.

    Raises NotFound, Tampered, FormatTooNew or StorageError.
    """
    folder = vault_folder(path)
    return session_unlock.end(folder, VaultFile.read(folder / VAULT_FILE))


def restore_vault(
    backup: Path | str,
    path: Path | str | None = None,
    *,
    passphrase: str | None = None,
    on_progress: OnProgress | None = None,
) -> BackupInfo:
    """Make a vault in `path` (default: AICO_HOME, else ~/.aico), which must not exist, from a backup.

    It opens with any passphrase or recovery phrase that the vault had when the backup was made. Raises as
    `aico.backup.restore` and, for what unlocks it, as `open_vault`; nothing is left behind then.

    >>> made = vault.backups.create(folder / "on another disk")
    >>> _ = aico.restore(made.path, folder / "back", passphrase=passphrase)
    >>> with aico.open(folder / "back", passphrase=passphrase) as back:
    ...     back.facts.count("mia")
    1
    """
    secret = given_secret(passphrase)
    place = vault_folder(path)
    return restore(backup, place, unlock=lambda vault_file: unlock(None, vault_file, secret), on_progress=on_progress)


class Vault:
    """An open vault, and a context manager. Any thread may use it; a forked child must open its own.

    `memory` is the door. Below it stand `users`, `conversations`, `facts`, `album`, `feedback`, `preferences`, `devices`,
    `live_sessions` and `logs`; `pins` and `sessions` let people in, `audit_log` keeps what happened. `views` is what is
    derived from all this, `working` the hot tier among them and `embeddings` what it means to the chosen model;
    `analytics` looks at it as a whole. `keys` are the ways to unlock it, `backups` its sealed copies, `items` what other
    frameworks keep, `tasks` what is done when it is due, `plugins` the tables that others bring. `extraction` asks a
    model for facts when it is called.

    >>> with temporary_vault() as vault:
    ...     _ = vault.memory.record("mia", "I moved to Lisbon in May.", conversation="c1")
    ...     vault.memory.recall("mia", "when did I move?")[0].text
    'I moved to Lisbon in May.'
    """

    def __init__(self, opening: Opening, *, accept_older: bool = False) -> None:
        self.folder, self.settings = opening.folder, opening.settings
        self._closing = ExitStack()
        with self._closed_on_error():
            store = Store.opened(opening, self._closing, accept_older=accept_older)
            people = People(store)
            records = Records(store, people)
            meaning = Meaning(store, people, records)
            derived = Derived(store, people, records, meaning, self._closing)
            services = Services(store, people, records, meaning, derived, self._closing)
        self._store, self._records, self._meaning, self._services = store, records, meaning, services
        self.format, self.vault_id = store.vault_file.format, store.vault_file.vault_id

        self.memory, self.query = services.memory, services.query
        self.users, self.pins, self.sessions, self.devices = people.users, people.pins, people.sessions, people.devices
        self.conversations, self.facts, self.album = services.conversations, records.facts, records.album
        self.feedback, self.preferences = records.feedback, records.preferences
        self.live_sessions, self.items, self.tasks = records.live_sessions, services.items, services.tasks
        self.logs, self.audit_log = store.logs, store.audit_log
        self.views, self.working, self.segments = derived.views, derived.working, derived.segments
        self.embeddings, self.indexes, self.extraction = meaning.embeddings, derived.indexes, meaning.extraction
        self.analytics = services.analytics
        self.keys, self.backups = services.keys, services.backups
        self.connection, self.plugins = store.connection, store.plugins

    def audit(self, needles: Sequence[str] = (), *, samples: int = 40) -> AuditReport:
        """Search every file of the vault, and what it may have left in the temporary folder, as a stranger would.

        For the given phrases of at least 8 bytes and for pieces of `samples` random memories. Raises InvalidInput if
        there is nothing to search for, StorageError if the search could not run.

        >>> report = vault.audit(["I moved to Lisbon"])
        >>> report.leaks, report.control_hits > 0
        ((), True)
        """
        wanted = [*needles, *sampled_content(self.connection, samples)]
        return search_for_leaks([self.folder, *used_temporary_places()], wanted)

    def import_(
        self,
        file: Path | str | BinaryIO,
        user: str | None = None,
        *,
        fallback_user: str | None = None,
        kind: Kind | None = None,
        skip_bad: bool = False,
        return_forgotten: bool = False,
        old_secret: str | None = None,
        on_progress: Progress | None = None,
    ) -> ImportReport:
        """Import chats from a file, ZIP archive or folder: ChatGPT's or Claude's export, JSON Lines, or our own export.

        `kind` ("chatgpt", "claude", "jsonl", "aico") is seen from the content where it is not given; without `user`
        our own export is its own user's, anything else the `fallback_user`'s. `on_progress` gets bytes read and bytes
        in all. Raises NotFound, BadRecord, InvalidInput or as `record`; what was read before is kept, and importing
        again adds only the rest. "aico-upstream", which must be named, takes an upstream installation's data folder;
        `old_secret` is its master password or master key, and progress is in entries.

        >>> _ = vault.export(folder / "mia.jsonl", "mia")
        >>> with temporary_vault() as other:
        ...     _ = other.import_(folder / "mia.jsonl")
        ...     other.facts.get("mia", fact).text
        'Mia lives in Lisbon'
        """
        secret = None if old_secret is None else Passphrase(old_secret)
        importer = Importer(
            self.connection, self.memory, self.users, self._records.messages, self._store.natural_ids, self.keys
        )
        return importer.run(file, How(user, fallback_user, kind, skip_bad, return_forgotten, secret), on_progress)

    def export(
        self,
        file: Path | str | BinaryIO,
        user: str,
        *,
        format: Literal["jsonl", "markdown"] = "jsonl",
        on_progress: Callable[[int], object] | None = None,
    ) -> ExportReport:
        """Write one person's whole memory **in the clear**: JSON Lines that `import_` reads back, or Markdown.

        `file` is a new file, readable by its owner alone, or an open binary file. `on_progress` gets the number of
        records written. The audit log says so before the first byte leaves. Raises NotFound for a user, InvalidInput
        if the file exists, DiskFull or StorageError.

        >>> _ = vault.export(folder / "mia.md", "mia", format="markdown")
        >>> "I moved to Lisbon in May." in (folder / "mia.md").read_text()
        True
        """
        if format not in ("jsonl", "markdown"):
            raise InvalidInput('format is "jsonl" or "markdown"; nothing was written', field="format")
        user_id = self.users.find(user)
        if user_id is None:
            raise NotFound("there is no user of this name; nothing was written")
        if isinstance(file, str | Path):
            with new_file(Path(file).expanduser().absolute()) as opened:
                return self.export(opened, user, format=format, on_progress=on_progress)
        self.audit_log.append(Action.EXPORTED, user_id=user_id)
        if format == "markdown":
            return export_markdown(self.connection, user_id, file, on_progress=on_progress)
        return export_jsonl(
            self.connection, user_id, file, naming_key=self._store.natural_ids.key, on_progress=on_progress
        )

    def erase_user(self, name: str) -> UserErasure:
        """Erase a person: everything remembered, then profile, PIN, sessions and relationships. The name is free again.

        From the first step on nothing new is recorded about them; if it is interrupted, call it again. What stays is
        named in docs/decisions/0021. Raises NotFound.

        >>> _ = vault.erase_user("mia")
        >>> vault.users.find_by_name("mia") is None
        True
        """
        return erase_user(name, memory=self.memory, users=self.users, connection=self.connection)

    def status(self) -> Status:
        """What the vault holds and how it is unlocked.

        >>> vault.status().rows["messages"]
        1
        """
        return status_of(
            self.folder,
            vault_format=self.format,
            keyslots=self.keys.slots(),
            rotation_unfinished=self.keys.rotation_unfinished(),
            connection=self.connection,
            embeddings=self.embeddings.status(),
            views=self.views.status(),
        )

    def doctor(self) -> list[Finding]:
        """Examine folder, keys, every page and the views. Takes time with the size of the vault.

        >>> vault.views.wait()
        >>> [finding.name for finding in vault.doctor() if finding.ok is False]
        []
        """
        self.embeddings.dimension_here()  # asks the model, which may give other vectors now than those that are here
        return examine(
            self.folder,
            keyslots=self.keys.slots(),
            rotation_unfinished=self.keys.rotation_unfinished(),
            connection=self.connection,
            plugins=self.plugins,
            audit_log=self.audit_log,
            views=self.views,
            indexes=self.indexes,
            anchor=self._store.anchor,
            embeddings=self.embeddings,
            second_look=self._meaning.second_look,
            receipts=self._services.receipts,
            backups=self.backups,
        )

    def close(self) -> None:
        """Give everything back, after the batch of vectors at hand. May be called twice.

        >>> vault.close()
        >>> vault.facts.count("mia")
        Traceback (most recent call last):
        aico.errors.StorageError: ...
        """
        self._closing.close()

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
