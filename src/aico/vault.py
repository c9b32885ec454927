"""One person's vault: opens its folder, builds every layer on the one below, and closes them in reverse."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self

from aico.ai.embedding.choice import chosen_embedder
from aico.ai.extraction import Extraction
from aico.ai.memory.embedding import Embeddings
from aico.ai.memory.erasure import Eraser
from aico.ai.memory.indexes import Indexes
from aico.ai.memory.items import ItemIndex, Items
from aico.ai.memory.manager import MemoryManager
from aico.ai.memory.reading import MemoryReader
from aico.ai.memory.recall_log import RecallLog
from aico.ai.memory.receipts import Receipts
from aico.ai.memory.second_look import SecondLook
from aico.ai.memory.segments import SegmentView
from aico.ai.memory.semantic import SemanticMemoryStore
from aico.ai.memory.snapshots import SnapshotFiles
from aico.ai.memory.view import View
from aico.ai.memory.working import TABLES, WorkingMemoryStore
from aico.ai.reranking.choice import chosen_reranker
from aico.analytics.engine import AnalyticsEngine
from aico.analytics.training import TrainingExport
from aico.analytics.view import ColumnView
from aico.anchor import CommitAnchor
from aico.audit import AuditReport, sampled_content, search_for_leaks, used_temporary_places
from aico.backup import BackupInfo, Backups, OnProgress, restore
from aico.clock import IdSource
from aico.data.album import Album
from aico.data.audit_log import Action, AuditLog
from aico.data.auth_sessions import AuthSessions
from aico.data.change_feed import ChangeFeed
from aico.data.conversation_service import ConversationService
from aico.data.conversations import ConversationRepository
from aico.data.devices import DeviceRepository
from aico.data.embeddings import EmbeddingRepository
from aico.data.facts import FactBook, FactRepository
from aico.data.feedback import FeedbackRepository
from aico.data.items import ItemRepository
from aico.data.libsql import EncryptedLibSQLConnection
from aico.data.libsql.pages import DatabaseKeys
from aico.data.libsql.plugins import Plugins
from aico.data.libsql.registry import SchemaRegistry
from aico.data.live_sessions import LiveSessions
from aico.data.lmdb import SealedStore
from aico.data.logs import LogRepository, Retention
from aico.data.marks import MarkRepository
from aico.data.pins import Pins
from aico.data.preferences import PreferenceRepository
from aico.data.row_ids import NaturalIds
from aico.data.tasks import TaskRepository
from aico.data.user import UserService
from aico.errors import InvalidInput, KeyslotMissing, NotFound, storage_error
from aico.health import Finding, Status, examine, status_of
from aico.maintenance import backup_folder, upkeep
from aico.portability.export import ExportReport, export_jsonl, new_file
from aico.portability.importing import How, Importer, Kind, Progress
from aico.portability.markdown import export_markdown
from aico.portability.report import ImportReport
from aico.query import Query
from aico.rotation import Rotation
from aico.scheduler import Scheduler
from aico.security import session_unlock
from aico.security.keys import Passphrase, Purpose
from aico.security.keyslots import Unlocked, VaultFile
from aico.security.live_keys import LiveKeys
from aico.settings import Settings, load_settings, passphrase_file, vault_folder
from aico.user_erasure import UserErasure, erase_user
from aico.vault_folder import (
    DATA_FOLDER,
    DATABASE,
    VAULT_FILE,
    check_may_become_a_vault,
    check_ownership,
    create_vault,
    finish_creation,
)
from aico.vault_keys import VaultKeys
from aico.views import Views

HOT_TIER, COLUMNS, INDEX_FOLDER, CHROMA, BACKUP_FOLDER = "lmdb", "duckdb", "index", "chroma", "backups"


def open_vault(
    path: Path | str | None = None,
    *,
    passphrase: str | None = None,
    create: bool = True,
    settings: Settings | None = None,
    accept_older: bool = False,
) -> "Vault":
    """Open the vault in `path` (default: AICO_HOME, else ~/.aico), or make one there if `create`.

    Without a passphrase it is unlocked by the machine's keyring or the file that AICO_PASSPHRASE_FILE names; a
    recovery phrase is accepted wherever a passphrase is. A new vault gets a passphrase slot and nothing else.
    `accept_older` is for a folder that you put back yourself, and that was further once: it counts from there on.

    Raises NotFound (no vault and not `create`), WrongPassphrase, KeyslotMissing (nothing to unlock it with),
    Tampered or FormatTooNew (vault.json), OlderState (it was further once), UnlockError (the folder is somebody else's), StorageError or Busy.
    Whatever is raised, nothing was changed.
    """
    return Vault(*_opened(path, passphrase, create=create, settings=settings), accept_older=accept_older)


def open_database(path: Path | str | None = None, *, passphrase: str | None = None) -> EncryptedLibSQLConnection:
    """The database of the vault in `path` as it is: no schema is applied, and one of a newer release is not refused.

    For looking at it and for taking schemas up and down; everything else wants `open_vault`. Raises as that does.
    """
    folder, keys, chosen = _opened(path, passphrase, create=False, settings=None)
    return _connected(folder, _page_keys(keys), chosen)


def _opened(
    path: Path | str | None, passphrase: str | None, *, create: bool, settings: Settings | None
) -> tuple[Path, LiveKeys, Settings]:
    folder = vault_folder(path)
    secret = Passphrase(passphrase) if passphrase is not None else _passphrase_from_file()
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
        check_ownership(folder)
        chosen = settings or load_settings(folder)
        keys = LiveKeys(
            folder / VAULT_FILE, folder / DATA_FOLDER, lambda vault_file: _unlock(folder, vault_file, secret)
        )
    except OSError as exc:
        raise storage_error(exc, folder, "nothing was changed") from exc
    return folder, keys, chosen


def _page_keys(keys: LiveKeys) -> DatabaseKeys:
    return DatabaseKeys(keys.unlocked.for_pages(), look_again=keys.for_pages)


def _connected(folder: Path, keys: DatabaseKeys, settings: Settings) -> EncryptedLibSQLConnection:
    return EncryptedLibSQLConnection(
        folder / DATA_FOLDER / DATABASE,
        keys,
        create=False,
        busy_wait_s=settings.busy_wait_s,
        page_cache_kib=settings.page_cache_kib,
    )


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
    """
    secret = Passphrase(passphrase) if passphrase is not None else _passphrase_from_file()
    place = vault_folder(path)
    return restore(backup, place, unlock=lambda vault_file: _unlock(None, vault_file, secret), on_progress=on_progress)


class Vault:
    """An open vault, and a context manager. Any thread may use it; a forked child must open its own.

    `memory` is the door. Below it stand `users`, `conversations`, `facts`, `album`, `feedback`, `preferences`, `devices`,
    `live_sessions` and `logs`; `pins` and `sessions` let people in, `audit_log` keeps what happened. `views` is what is
    derived from all this, `working` the hot tier among them and `embeddings` what it means to the chosen model;
    `analytics` looks at it as a whole. `keys` are the ways to unlock it, `backups` its sealed copies, `items` what other
    frameworks keep, `tasks` what is done when it is due, `plugins` the tables that others bring. `extraction` asks a
    model for facts when it is called.
    """

    def __init__(self, folder: Path, keys: LiveKeys, settings: Settings, *, accept_older: bool = False) -> None:
        self.folder, self.settings = folder, settings
        vault_file = VaultFile.read(keys.vault_json)
        self.format, self.vault_id = vault_file.format, vault_file.vault_id
        page_keys = _page_keys(keys)
        self._closing = ExitStack()
        self._closing.callback(keys.close)
        with self._closed_on_error():
            self.connection = _connected(folder, page_keys, settings)
            self._closing.callback(self.connection.close)
            self._anchor = CommitAnchor(self.vault_id, self.connection, folder, in_keyring=settings.anchor_in_keyring)
            self._anchor.check(accept_older=accept_older)
            self._anchor.keep()
            self._closing.callback(self._anchor.close)
            SchemaRegistry.apply_core_schemas(self.connection)
            self.logs = LogRepository(self.connection, clock=settings.clock, retention=_retention(settings))
            self._closing.callback(self.logs.close)
            self.plugins = Plugins(self.connection)
            ids, natural_ids = IdSource(settings.clock), NaturalIds(keys.natural)
            self.audit_log = AuditLog(self.connection, key=keys.chain, clock=settings.clock)
            self._natural_ids = natural_ids
            self.users = UserService(self.connection, natural_ids=natural_ids, ids=ids, audit_log=self.audit_log)
            self.sessions = AuthSessions(self.connection, audit_log=self.audit_log, ids=ids)
            self.pins = Pins(
                self.connection,
                users=self.users,
                sessions=self.sessions,
                audit_log=self.audit_log,
                clock=settings.clock,
                cost=settings.pin_cost,
            )
            conversations = ConversationRepository(self.connection, natural_ids=natural_ids, ids=ids)
            self._conversations = conversations
            marks = MarkRepository(self.connection, natural_ids=natural_ids, ids=ids)
            facts = FactRepository(self.connection, natural_ids=natural_ids, ids=ids, marks=marks)
            self.conversations = ConversationService(
                self.connection, users=self.users, conversations=conversations, facts=facts, marks=marks, ids=ids
            )
            self.facts = FactBook(
                self.connection, users=self.users, conversations=conversations, facts=facts, marks=marks
            )
            self.album = Album(self.connection, users=self.users, conversations=conversations, marks=marks)
            self.feedback = FeedbackRepository(self.connection, users=self.users, natural_ids=natural_ids, ids=ids)
            self.preferences = PreferenceRepository(self.connection, users=self.users, natural_ids=natural_ids, ids=ids)
            self.live_sessions = LiveSessions(self.connection, users=self.users, natural_ids=natural_ids, ids=ids)
            self.devices = DeviceRepository(self.connection, folder=folder, ids=ids, audit_log=self.audit_log)
            feed = ChangeFeed(self.connection, clock=settings.clock)
            vectors = EmbeddingRepository(
                self.connection, natural_ids=natural_ids, episode_gap_s=settings.episode_gap_s
            )
            embedder = chosen_embedder(settings)
            self.embeddings = Embeddings(self.connection, repository=vectors, feed=feed, embedder=embedder)
            self.extraction = Extraction(self.connection, feed=feed, users=self.users, facts=facts)
            self.indexes = Indexes(
                self.connection,
                feed=feed,
                reader=MemoryReader(
                    self.connection,
                    feed=feed,
                    vectors=vectors,
                    model=self.embeddings.model,
                    dimension=self.embeddings.dimension_here,
                ),
                files=SnapshotFiles(
                    folder / DATA_FOLDER / INDEX_FOLDER,
                    partial(keys.for_purpose, Purpose.SNAPSHOTS),
                    vault_id=self.vault_id,
                ),
                model=self.embeddings.model,
                episode_gap_s=settings.episode_gap_s,
                users_in_memory=settings.users_in_memory,
                memory_mib=settings.index_memory_mib,
                tell=lambda problem: self.logs.insert_log(level="WARNING", subsystem="recall", message=problem),
            )
            self._closing.callback(self.indexes.close)
            semantic = SemanticMemoryStore(
                self.indexes, conversations=conversations, facts=facts, embeddings=self.embeddings
            )
            hot_tier = SealedStore(
                folder / DATA_FOLDER / HOT_TIER,
                partial(keys.for_purpose, Purpose.HOT_TIER),
                newest=keys.newest,
                tables=TABLES,
                clock=settings.clock,
                size_limit_bytes=settings.working_size_mib << 20,
            )
            self._closing.callback(hot_tier.close)
            self.working = WorkingMemoryStore(
                hot_tier,
                self.connection,
                feed=feed,
                conversations=conversations,
                ttl_s=settings.working_ttl_s,
            )
            item_index = ItemIndex(
                self.connection,
                feed=feed,
                embedder=embedder,
                embeddings=self.embeddings,
                users_in_memory=settings.users_in_memory,
            )
            self.items = Items(
                self.connection,
                users=self.users,
                items=ItemRepository(self.connection, natural_ids=natural_ids, ids=ids),
                index=item_index,
            )
            self._closing.callback(self.working.close)
            columns = ColumnView(
                self.connection,
                feed=feed,
                users=self.users,
                folder=folder / DATA_FOLDER / COLUMNS,
                keys=partial(keys.for_purpose, Purpose.SNAPSHOTS),
                memory_mib=settings.analytics_memory_mib,
            )
            self._closing.callback(columns.close)
            self._second_look = SecondLook(chosen_reranker(settings), depth=settings.reranker_depth)
            recall_log = RecallLog(self.logs, clock=settings.clock, enabled=settings.log_recalls)
            self._closing.callback(recall_log.flush)
            self.analytics = AnalyticsEngine(
                self.connection,
                view=columns,
                semantic=semantic,
                embeddings=self.embeddings,
                vectors=vectors,
                recall_log=recall_log,
                training=TrainingExport(
                    self.connection, users=self.users, preferences=self.preferences, audit_log=self.audit_log
                ),
            )
            views: list[View] = [semantic, self.working, item_index, columns]
            self.segments: SegmentView | None = None
            if settings.chroma is not None:
                self.segments = SegmentView(
                    self.connection,
                    spec=settings.chroma,
                    folder=folder / DATA_FOLDER / CHROMA,
                    keys=partial(keys.for_purpose, Purpose.CHROMA),
                    vault_id=self.vault_id,
                    feed=feed,
                    embeddings=self.embeddings,
                    vectors=vectors,
                    conversations=conversations,
                    facts=facts,
                )
                views.append(self.segments)
            self._receipts = Receipts(self.connection, views)
            eraser = Eraser(
                self.connection,
                conversations=conversations,
                facts=facts,
                semantic=semantic,
                views=views,
                receipts=self._receipts,
                ids=ids,
                audit_log=self.audit_log,
            )
            self.memory = MemoryManager(
                self.connection,
                users=self.users,
                conversations=conversations,
                facts=facts,
                preferences=self.preferences,
                semantic=semantic,
                working=self.working,
                eraser=eraser,
                receipts=self._receipts,
                embeddings=self.embeddings,
                second_look=self._second_look,
                recall_log=recall_log,
                clock=settings.clock,
            )
            self.query = Query(
                self.connection,
                memory=self.memory,
                users=self.users,
                conversations=conversations,
                facts=facts,
                feed=feed,
                analytical=columns,
            )
            self.views = Views(views, embeddings=self.embeddings, feed=feed)
            self.backups = Backups(
                folder / BACKUP_FOLDER,
                keys=keys,
                database_keys=page_keys,
                connection=self.connection,
                audit_log=self.audit_log,
                clock=settings.clock,
            )
            rotation = Rotation(
                folder,
                keys=keys,
                page_keys=page_keys,
                connection=self.connection,
                hot_tier=hot_tier,
                backups=self.backups,
                audit_log=self.audit_log,
                cost=settings.kdf,
                segments=self.segments,
            )
            self.keys = VaultKeys(
                keys,
                self.connection,
                natural_ids=natural_ids,
                audit_log=self.audit_log,
                rotation=rotation,
                cost=settings.kdf,
            )
            tasks = TaskRepository(self.connection, ids=ids)
            self.tasks = Scheduler(
                tasks,
                users=self.users,
                built_in=upkeep(
                    self.connection,
                    tasks=tasks,
                    live_sessions=self.live_sessions,
                    sessions=self.sessions,
                    logs=self.logs,
                    working=self.working,
                    indexes=self.indexes,
                    feed=feed,
                ),
            )
            self._closing.callback(self.tasks.stop)
            self.tasks.register("backup", lambda run: self.backups.create(backup_folder(run.task.payload)))
            self._closing.callback(self.embeddings.close)  # the first to be closed: it still writes
            self.embeddings.wake_if_behind()

    def audit(self, needles: Sequence[str] = (), *, samples: int = 40) -> AuditReport:
        """Search every file of the vault, and what it may have left in the temporary folder, as a stranger would.

        For the given phrases of at least 8 bytes and for pieces of `samples` random memories. Raises InvalidInput if
        there is nothing to search for, StorageError if the search could not run.
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
        """
        secret = None if old_secret is None else Passphrase(old_secret)
        importer = Importer(self.connection, self.memory, self.users, self._conversations, self._natural_ids, self.keys)
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
        return export_jsonl(self.connection, user_id, file, naming_key=self._natural_ids.key, on_progress=on_progress)

    def erase_user(self, name: str) -> UserErasure:
        """Erase a person: everything remembered, then profile, PIN, sessions and relationships. The name is free again.

        From the first step on nothing new is recorded about them; if it is interrupted, call it again. What stays is
        named in docs/decisions/0021. Raises NotFound.
        """
        return erase_user(name, memory=self.memory, users=self.users, connection=self.connection)

    def status(self) -> Status:
        """What the vault holds and how it is unlocked."""
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
        """Examine folder, keys, every page and the views. Takes time with the size of the vault."""
        return examine(
            self.folder,
            keyslots=self.keys.slots(),
            rotation_unfinished=self.keys.rotation_unfinished(),
            connection=self.connection,
            plugins=self.plugins,
            audit_log=self.audit_log,
            views=self.views,
            indexes=self.indexes,
            anchor=self._anchor,
            embeddings=self.embeddings.status(),
            second_look=self._second_look,
            receipts=self._receipts,
        )

    def close(self) -> None:
        """Give everything back, after the batch of vectors at hand. May be called twice."""
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


def _retention(settings: Settings) -> Retention:
    return Retention(
        age_max=timedelta(days=min(settings.log_keep_days, timedelta.max.days)),
        rows_max=int(settings.log_rows_max),
        size_max_bytes=int(settings.log_size_max_mib) * 1024 * 1024,
    )


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


def _unlock(folder: Path | None, vault_file: VaultFile, secret: Passphrase | None) -> Unlocked:
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
