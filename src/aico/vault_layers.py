"""The layers of an open vault, each built on the ones before it.

Store → People → Records → Meaning → Derived → Services: what a layer needs is in the layers it is given. Whatever
has to be given back is pushed on `closing`, which undoes it in reverse.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Self

from aico.ai.embedding.choice import chosen_embedder
from aico.ai.extraction import Extraction
from aico.ai.memory.embedding import Embeddings
from aico.ai.memory.erasure import Eraser
from aico.ai.memory.importance import Importance
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
from aico.approval import Approval
from aico.backup import Backups
from aico.clock import IdSource
from aico.data.album import Album
from aico.data.audit_log import AuditLog
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
from aico.data.libsql.plugins import Plugins
from aico.data.libsql.registry import SchemaRegistry
from aico.data.libsql.sealed.page_cipher import DatabaseKeys
from aico.data.live_sessions import LiveSessions
from aico.data.lmdb import SealedStore
from aico.data.logs import LogRepository, Retention
from aico.data.marks import MarkRepository
from aico.data.pins import Pins
from aico.data.preferences import PreferenceRepository
from aico.data.row_ids import NaturalIds
from aico.data.tasks import TaskRepository
from aico.data.user import UserService
from aico.maintenance import backup_folder, upkeep
from aico.query import Query
from aico.rotation import Rotation
from aico.scheduler import Scheduler
from aico.security.keys import Purpose
from aico.security.keyslots import VaultFile
from aico.security.live_keys import LiveKeys
from aico.settings import Settings
from aico.vault_folder import DATA_FOLDER
from aico.vault_keys import VaultKeys
from aico.vault_opening import Opening, connected, page_keys_of
from aico.views import Views

HOT_TIER, COLUMNS, INDEX_FOLDER, CHROMA, BACKUP_FOLDER = "lmdb", "duckdb", "index", "chroma", "backups"


@dataclass(frozen=True, slots=True)
class Store:
    """The sealed database with its schemas, logs and change feed, and what every layer above names rows with."""

    folder: Path
    settings: Settings
    keys: LiveKeys
    page_keys: DatabaseKeys
    vault_file: VaultFile
    connection: EncryptedLibSQLConnection
    anchor: CommitAnchor
    logs: LogRepository
    plugins: Plugins
    audit_log: AuditLog
    feed: ChangeFeed
    ids: IdSource
    natural_ids: NaturalIds

    @classmethod
    def opened(cls, opening: Opening, closing: ExitStack, *, accept_older: bool) -> Self:
        """Connect, check that the folder is no older copy and its settings are wanted, and bring the schemas up to this release."""
        folder, keys, settings, consent = opening
        closing.callback(keys.close)
        vault_file, page_keys = VaultFile.read(keys.vault_json), page_keys_of(keys)
        connection = connected(folder, page_keys, settings)
        closing.callback(connection.close)
        anchor = CommitAnchor(vault_file.vault_id, connection, folder, in_keyring=settings.anchor_in_keyring)
        anchor.check(accept_older=accept_older)
        anchor.keep()
        closing.callback(anchor.close)
        SchemaRegistry.apply_core_schemas(connection)
        audit_log = AuditLog(connection, key=keys.chain, clock=settings.clock)
        Approval(audit_log).settle(settings, consent)
        logs = LogRepository(connection, clock=settings.clock, retention=_retention(settings))
        closing.callback(logs.close)
        return cls(
            folder=folder,
            settings=settings,
            keys=keys,
            page_keys=page_keys,
            vault_file=vault_file,
            connection=connection,
            anchor=anchor,
            logs=logs,
            plugins=Plugins(connection),
            audit_log=audit_log,
            feed=ChangeFeed(connection, clock=settings.clock),
            ids=IdSource(settings.clock),
            natural_ids=NaturalIds(keys.natural),
        )

    def data_folder(self, name: str) -> Path:
        """Where a view keeps its files."""
        return self.folder / DATA_FOLDER / name


class People:
    """Who there is, and how they are let in."""

    def __init__(self, store: Store) -> None:
        connection, ids, audit_log = store.connection, store.ids, store.audit_log
        self.users = UserService(connection, natural_ids=store.natural_ids, ids=ids, audit_log=audit_log)
        self.sessions = AuthSessions(connection, audit_log=audit_log, ids=ids)
        self.pins = Pins(
            connection,
            users=self.users,
            sessions=self.sessions,
            audit_log=audit_log,
            clock=store.settings.clock,
            cost=store.settings.pin_cost,
        )
        self.devices = DeviceRepository(connection, folder=store.folder, ids=ids, audit_log=audit_log)


class Records:
    """What is kept for each person: the truth."""

    def __init__(self, store: Store, people: People) -> None:
        connection, users, ids, natural_ids = store.connection, people.users, store.ids, store.natural_ids
        self.messages = ConversationRepository(connection, natural_ids=natural_ids, ids=ids)
        self.marks = marks = MarkRepository(connection, natural_ids=natural_ids, ids=ids)
        self.statements = FactRepository(connection, natural_ids=natural_ids, ids=ids, marks=marks)
        self.facts = FactBook(connection, users=users, conversations=self.messages, facts=self.statements, marks=marks)
        self.album = Album(connection, users=users, conversations=self.messages, marks=marks)
        self.feedback = FeedbackRepository(connection, users=users, natural_ids=natural_ids, ids=ids)
        self.preferences = PreferenceRepository(connection, users=users, natural_ids=natural_ids, ids=ids)
        self.live_sessions = LiveSessions(connection, users=users, natural_ids=natural_ids, ids=ids)
        self.items = ItemRepository(connection, natural_ids=natural_ids, ids=ids)
        self.tasks = TaskRepository(connection, ids=ids)


class Meaning:
    """What the records mean to the chosen models."""

    def __init__(self, store: Store, people: People, records: Records) -> None:
        connection, settings = store.connection, store.settings
        self.embedder = chosen_embedder(settings)
        self.vectors = EmbeddingRepository(
            connection, natural_ids=store.natural_ids, episode_gap_s=settings.episode_gap_s
        )
        self.embeddings = Embeddings(
            connection,
            repository=self.vectors,
            feed=store.feed,
            embedder=self.embedder,
            tell=lambda change: store.logs.insert_log(level="WARNING", subsystem="embeddings", message=change),
        )
        self.extraction = Extraction(connection, feed=store.feed, users=people.users, facts=records.statements)
        self.second_look = SecondLook(chosen_reranker(settings), depth=settings.reranker_depth)


class Derived:
    """The views: each can be deleted and comes again from the records."""

    def __init__(self, store: Store, people: People, records: Records, meaning: Meaning, closing: ExitStack) -> None:
        self.indexes = _indexes(store, meaning)
        closing.callback(self.indexes.close)
        self.semantic = SemanticMemoryStore(
            self.indexes,
            conversations=records.messages,
            facts=records.statements,
            embeddings=meaning.embeddings,
            importance=Importance(store.connection),
        )
        self.hot_tier = _hot_tier(store)
        closing.callback(self.hot_tier.close)
        self.working = WorkingMemoryStore(
            self.hot_tier,
            store.connection,
            feed=store.feed,
            conversations=records.messages,
            ttl_s=store.settings.working_ttl_s,
        )
        closing.callback(self.working.close)
        self.item_index = ItemIndex(
            store.connection,
            feed=store.feed,
            embedder=meaning.embedder,
            embeddings=meaning.embeddings,
            users_in_memory=store.settings.users_in_memory,
        )
        self.columns = ColumnView(
            store.connection,
            feed=store.feed,
            users=people.users,
            folder=store.data_folder(COLUMNS),
            keys=partial(store.keys.for_purpose, Purpose.SNAPSHOTS),
            memory_mib=store.settings.analytics_memory_mib,
        )
        closing.callback(self.columns.close)
        self.segments = _segments(store, records, meaning)
        self.all: list[View] = [self.semantic, self.working, self.item_index, self.columns]
        if self.segments is not None:
            self.all.append(self.segments)
        self.views = Views(self.all, embeddings=meaning.embeddings, feed=store.feed)


class Services:
    """What works across the layers: the memory's one door, queries, analytics, keys, backups and tasks."""

    def __init__(
        self,
        store: Store,
        people: People,
        records: Records,
        meaning: Meaning,
        derived: Derived,
        closing: ExitStack,
    ) -> None:
        recall_log = RecallLog(
            store.logs, feed=store.feed, clock=store.settings.clock, enabled=store.settings.log_recalls
        )
        closing.callback(recall_log.flush)
        self.receipts = Receipts(store.connection, derived.all)
        self.memory = MemoryManager(
            store.connection,
            users=people.users,
            conversations=records.messages,
            facts=records.statements,
            preferences=records.preferences,
            feedback=records.feedback,
            semantic=derived.semantic,
            working=derived.working,
            eraser=Eraser(
                store.connection,
                conversations=records.messages,
                facts=records.statements,
                semantic=derived.semantic,
                views=derived.all,
                receipts=self.receipts,
                ids=store.ids,
                audit_log=store.audit_log,
            ),
            receipts=self.receipts,
            embeddings=meaning.embeddings,
            second_look=meaning.second_look,
            recall_log=recall_log,
            clock=store.settings.clock,
        )
        self.conversations = ConversationService(
            store.connection,
            users=people.users,
            conversations=records.messages,
            facts=records.statements,
            marks=records.marks,
            ids=store.ids,
            let_go=partial(derived.semantic.erase, ids=()),
        )
        self.items = Items(store.connection, users=people.users, items=records.items, index=derived.item_index)
        self.query = Query(
            store.connection,
            memory=self.memory,
            embeddings=meaning.embeddings,
            users=people.users,
            conversations=records.messages,
            facts=records.statements,
            feed=store.feed,
            analytical=derived.columns,
        )
        self.analytics = AnalyticsEngine(
            store.connection,
            view=derived.columns,
            semantic=derived.semantic,
            embeddings=meaning.embeddings,
            vectors=meaning.vectors,
            recall_log=recall_log,
            training=TrainingExport(
                store.connection,
                users=people.users,
                conversations=records.messages,
                preferences=records.preferences,
                audit_log=store.audit_log,
            ),
        )
        self.backups = Backups(
            store.folder / BACKUP_FOLDER,
            keys=store.keys,
            database_keys=store.page_keys,
            connection=store.connection,
            audit_log=store.audit_log,
            clock=store.settings.clock,
        )
        self.keys = _vault_keys(store, derived, self.backups)
        self.tasks = _scheduler(store, people, records, derived, self.backups)
        closing.callback(self.tasks.stop)
        closing.callback(meaning.embeddings.close)  # the first to be closed: it still writes
        meaning.embeddings.wake_if_behind()


def _retention(settings: Settings) -> Retention:
    return Retention(
        age_max=timedelta(days=min(settings.log_keep_days, timedelta.max.days)),
        rows_max=int(settings.log_rows_max),
        size_max_bytes=int(settings.log_size_max_mib) * 1024 * 1024,
    )


def _indexes(store: Store, meaning: Meaning) -> Indexes:
    embeddings, settings = meaning.embeddings, store.settings
    return Indexes(
        store.connection,
        feed=store.feed,
        reader=MemoryReader(
            store.connection,
            feed=store.feed,
            vectors=meaning.vectors,
            model=embeddings.model,
            dimension=embeddings.dimension_here,
        ),
        files=SnapshotFiles(
            store.data_folder(INDEX_FOLDER),
            partial(store.keys.for_purpose, Purpose.SNAPSHOTS),
            vault_id=store.vault_file.vault_id,
        ),
        model=embeddings.model,
        episode_gap_s=settings.episode_gap_s,
        users_in_memory=settings.users_in_memory,
        memory_mib=settings.index_memory_mib,
        tell=lambda problem: store.logs.insert_log(level="WARNING", subsystem="recall", message=problem),
    )


def _hot_tier(store: Store) -> SealedStore:
    return SealedStore(
        store.data_folder(HOT_TIER),
        partial(store.keys.for_purpose, Purpose.HOT_TIER),
        newest=store.keys.newest,
        tables=TABLES,
        clock=store.settings.clock,
        size_limit_bytes=store.settings.working_size_mib << 20,
    )


def _segments(store: Store, records: Records, meaning: Meaning) -> SegmentView | None:
    if store.settings.chroma is None:
        return None
    return SegmentView(
        store.connection,
        spec=store.settings.chroma,
        folder=store.data_folder(CHROMA),
        keys=partial(store.keys.for_purpose, Purpose.CHROMA),
        vault_id=store.vault_file.vault_id,
        feed=store.feed,
        embeddings=meaning.embeddings,
        vectors=meaning.vectors,
        conversations=records.messages,
        facts=records.statements,
    )


def _vault_keys(store: Store, derived: Derived, backups: Backups) -> VaultKeys:
    rotation = Rotation(
        store.folder,
        keys=store.keys,
        page_keys=store.page_keys,
        connection=store.connection,
        hot_tier=derived.hot_tier,
        segments=derived.segments,
        backups=backups,
        audit_log=store.audit_log,
        cost=store.settings.kdf,
    )
    return VaultKeys(
        store.keys,
        store.connection,
        natural_ids=store.natural_ids,
        audit_log=store.audit_log,
        rotation=rotation,
        cost=store.settings.kdf,
    )


def _scheduler(store: Store, people: People, records: Records, derived: Derived, backups: Backups) -> Scheduler:
    scheduler = Scheduler(
        records.tasks,
        users=people.users,
        built_in=upkeep(
            store.connection,
            tasks=records.tasks,
            live_sessions=records.live_sessions,
            sessions=people.sessions,
            logs=store.logs,
            working=derived.working,
            indexes=derived.indexes,
            feed=store.feed,
        ),
    )
    scheduler.register("backup", lambda run: backups.create(backup_folder(run.task.payload)))
    return scheduler
