"""The same vault for programs that await: every call goes through one bridge of threads to the synchronous core.

    import aico.aio

    async with aico.aio.open(passphrase="…") as companion:
        await companion.memory.record("mia", "I moved to Lisbon in May.", conversation="c1")
        for hit in await companion.memory.recall("mia", "where do I live?"):
            print(hit.text)

Names, arguments, results and errors are those of `aico`. There is no second implementation: a twin names the
method that it passes on to, and takes its signature. What is called back (`on_progress`) is called in a thread.

Cancelling is safe. A call that has not begun is taken back; one that has begun runs to its end before the cancellation
goes on, so that afterwards it is settled: done whole, or not at all.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context
from functools import partial, wraps
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from aico.ai.extraction import Extraction
from aico.ai.memory.embedding import Embeddings
from aico.ai.memory.items import Items
from aico.ai.memory.manager import MemoryManager
from aico.ai.memory.working import WorkingMemoryStore
from aico.analytics.engine import AnalyticsEngine
from aico.backup import Backups
from aico.data.album import Album
from aico.data.audit_log import AuditLog
from aico.data.auth_sessions import AuthSessions
from aico.data.conversation_service import ConversationService
from aico.data.devices import DeviceRepository
from aico.data.facts import FactBook
from aico.data.feedback import FeedbackRepository
from aico.data.libsql.plugins import Plugins
from aico.data.live_sessions import LiveSessions
from aico.data.log_handler import VaultLogHandler
from aico.data.logs import LogRepository
from aico.data.pins import Pins
from aico.data.preferences import PreferenceRepository
from aico.data.user import UserService
from aico.errors import StorageError
from aico.query import Query
from aico.scheduler import Action, Scheduler
from aico.vault import Vault, open_vault, restore_vault
from aico.vault_keys import VaultKeys
from aico.views import Views

THREADS = 8
"""Calls that run at once in one vault: enough for writers to share a commit, and few enough for two cores."""

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")


class Bridge:
    """Runs synchronous calls in threads of its own, for one event loop at a time."""

    def __init__(self, threads: int = THREADS) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="aico")

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """What `function` returns or raises. Cancelled, it waits for what has begun; raises StorageError once closed."""
        try:
            work = self._threads.submit(copy_context().run, partial(function, *args, **kwargs))
        except RuntimeError:
            raise StorageError("the vault is closed; nothing was done", hint="open it again") from None
        return await _settled(work)

    async def close(self, last: Callable[[], object]) -> None:
        """Take no more calls, wait for those that run, then do `last`. May be called twice."""
        await _settled(ThreadPoolExecutor(1, thread_name_prefix="aico-close").submit(self._end, last))

    def _end(self, last: Callable[[], object]) -> None:
        self._threads.shutdown(wait=True)
        last()


async def _settled(work: "Future[T]") -> T:
    """The result. A cancellation goes on when the work is over: half of it would be neither done nor not done."""
    outcome = asyncio.wrap_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not outcome.done():
        try:
            await asyncio.wait({outcome})
        except asyncio.CancelledError as asked:
            cancelled = cancelled or asked
            work.cancel()  # has an effect only as long as no thread has begun
    if cancelled is None:
        return outcome.result()
    if not outcome.cancelled():
        outcome.exception()  # seen: who cancels does not ask how it went
    raise cancelled


class awaited(Generic[P, T]):  # named as it is used: in a class body, like a decorator
    """Makes a method of the synchronous class one of its twin, with the same signature, to be awaited."""

    def __init__(self, method: Callable[Concatenate[Any, P], T]) -> None:  # Any: the class that the method belongs to
        self.method, self.__doc__ = method, method.__doc__

    @overload
    def __get__(self, twin: None, owner: type) -> Self: ...
    @overload
    def __get__(self, twin: "Twin[Any]", owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, twin: "Twin[Any] | None", owner: type) -> Self | Callable[P, Coroutine[Any, Any, T]]:
        if twin is None:
            return self

        @wraps(self.method)
        async def call(*args: P.args, **kwargs: P.kwargs) -> T:
            return await twin.bridge.run(self.method, twin.sync, *args, **kwargs)

        return call


class Twin(Generic[S]):
    """One part of the vault, to be awaited. `sync` is the part itself."""

    def __init__(self, bridge: Bridge, sync: S) -> None:
        self.bridge, self.sync = bridge, sync

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.sync!r}>"


class AsyncMemory(Twin[MemoryManager]):
    """`Vault.memory`."""

    record = awaited(MemoryManager.record)
    record_many = awaited(MemoryManager.record_many)
    record_outcomes = awaited(MemoryManager.record_outcomes)
    record_chats = awaited(MemoryManager.record_chats)
    remember = awaited(MemoryManager.remember)
    recall = awaited(MemoryManager.recall)
    context = awaited(MemoryManager.context)
    recent = awaited(MemoryManager.recent)
    forget = awaited(MemoryManager.forget)
    receipt = awaited(MemoryManager.receipt)
    receipts = awaited(MemoryManager.receipts)
    rate = awaited(MemoryManager.rate)
    set_state = awaited(MemoryManager.set_state)
    find_state = awaited(MemoryManager.find_state)
    delete_state = awaited(MemoryManager.delete_state)


class AsyncConversations(Twin[ConversationService]):
    """`Vault.conversations`."""

    list = awaited(ConversationService.list)
    get = awaited(ConversationService.get)
    messages = awaited(ConversationService.messages)
    set_title = awaited(ConversationService.set_title)
    edit = awaited(ConversationService.edit)
    move = awaited(ConversationService.move)
    merge = awaited(ConversationService.merge)
    merge_messages = awaited(ConversationService.merge_messages)
    find_duplicates = awaited(ConversationService.find_duplicates)


class AsyncFacts(Twin[FactBook]):
    """`Vault.facts`."""

    list = awaited(FactBook.list)
    get = awaited(FactBook.get)
    count = awaited(FactBook.count)
    categories = awaited(FactBook.categories)
    types = awaited(FactBook.types)
    as_of = awaited(FactBook.as_of)
    history = awaited(FactBook.history)
    edit = awaited(FactBook.edit)
    retract = awaited(FactBook.retract)
    restore = awaited(FactBook.restore)
    propose = awaited(FactBook.propose)
    proposed = awaited(FactBook.proposed)
    accept = awaited(FactBook.accept)
    edit_and_accept = awaited(FactBook.edit_and_accept)
    reject = awaited(FactBook.reject)
    favourite = awaited(FactBook.favourite)
    note = awaited(FactBook.note)
    tone = awaited(FactBook.tone)
    tag = awaited(FactBook.tag)
    untag = awaited(FactBook.untag)
    visit = awaited(FactBook.visit)


class AsyncAlbum(Twin[Album]):
    """`Vault.album`."""

    timeline = awaited(Album.timeline)
    messages = awaited(Album.messages)
    get = awaited(Album.get)
    list_of = awaited(Album.list_of)
    list_ids_from = awaited(Album.list_ids_from)
    whose = awaited(Album.whose)
    tags = awaited(Album.tags)
    favourite = awaited(Album.favourite)
    note = awaited(Album.note)
    tone = awaited(Album.tone)
    tag = awaited(Album.tag)
    untag = awaited(Album.untag)
    visit = awaited(Album.visit)


class AsyncFeedback(Twin[FeedbackRepository]):
    """`Vault.feedback`."""

    record = awaited(FeedbackRepository.record)
    list = awaited(FeedbackRepository.list)
    stats = awaited(FeedbackRepository.stats)
    delete = awaited(FeedbackRepository.delete)


class AsyncPreferences(Twin[PreferenceRepository]):
    """`Vault.preferences`."""

    get = awaited(PreferenceRepository.get)
    set = awaited(PreferenceRepository.set)
    delete = awaited(PreferenceRepository.delete)
    list = awaited(PreferenceRepository.list)


class AsyncUsers(Twin[UserService]):
    """`Vault.users`."""

    create_user = awaited(UserService.create_user)
    get_profile = awaited(UserService.get_profile)
    find_by_name = awaited(UserService.find_by_name)
    list_profiles = awaited(UserService.list_profiles)
    update_user = awaited(UserService.update_user)
    activate = awaited(UserService.activate)
    deactivate = awaited(UserService.deactivate)
    add_relationship = awaited(UserService.add_relationship)
    get_user_relationships = awaited(UserService.get_user_relationships)
    remove_relationship = awaited(UserService.remove_relationship)


class AsyncPins(Twin[Pins]):
    """`Vault.pins`."""

    set_pin = awaited(Pins.set_pin)
    reset_pin = awaited(Pins.reset_pin)
    clear_pin = awaited(Pins.clear_pin)
    authenticate_user = awaited(Pins.authenticate_user)
    get_user_authentication = awaited(Pins.get_user_authentication)
    unlock_user = awaited(Pins.unlock_user)


class AsyncSessions(Twin[AuthSessions]):
    """`Vault.sessions`."""

    create_session = awaited(AuthSessions.create_session)
    verify_session = awaited(AuthSessions.verify_session)
    refresh_session = awaited(AuthSessions.refresh_session)
    get_user_sessions = awaited(AuthSessions.get_user_sessions)
    revoke_session = awaited(AuthSessions.revoke_session)
    revoke_token = awaited(AuthSessions.revoke_token)
    revoke_all_user_sessions = awaited(AuthSessions.revoke_all_user_sessions)
    cleanup_expired_sessions = awaited(AuthSessions.cleanup_expired_sessions)


class AsyncLiveSessions(Twin[LiveSessions]):
    """`Vault.live_sessions`."""

    start = awaited(LiveSessions.start)
    heartbeat = awaited(LiveSessions.heartbeat)
    end = awaited(LiveSessions.end)
    list_live = awaited(LiveSessions.list_live)
    sweep = awaited(LiveSessions.sweep)


class AsyncDevices(Twin[DeviceRepository]):
    """`Vault.devices`."""

    register = awaited(DeviceRepository.register)
    list = awaited(DeviceRepository.list)
    rename = awaited(DeviceRepository.rename)
    activate = awaited(DeviceRepository.activate)
    deactivate = awaited(DeviceRepository.deactivate)
    saw = awaited(DeviceRepository.saw)
    find_this = awaited(DeviceRepository.find_this)
    ensure_this = awaited(DeviceRepository.ensure_this)


class AsyncLogs(Twin[LogRepository]):
    """`Vault.logs`."""

    def handler(self, *, level: int | str = 0) -> VaultLogHandler:
        """`Vault.logs.handler`, which never blocks: not to be awaited."""
        return self.sync.handler(level=level)

    insert_log = awaited(LogRepository.insert_log)
    add_log = awaited(LogRepository.add_log)
    get_log = awaited(LogRepository.get_log)
    query_logs = awaited(LogRepository.query_logs)
    logs_after = awaited(LogRepository.logs_after)
    newest_id = awaited(LogRepository.newest_id)
    count_logs = awaited(LogRepository.count_logs)
    get_log_stats = awaited(LogRepository.get_log_stats)
    purge = awaited(LogRepository.purge)
    apply_retention = awaited(LogRepository.apply_retention)


class AsyncAuditLog(Twin[AuditLog]):
    """`Vault.audit_log`."""

    entries = awaited(AuditLog.entries)
    last = awaited(AuditLog.last)
    last_entries = awaited(AuditLog.last_entries)
    head = awaited(AuditLog.head)
    verify = awaited(AuditLog.verify)


class AsyncKeys(Twin[VaultKeys]):
    """`Vault.keys`."""

    list_slots = awaited(VaultKeys.list_slots)
    slots = awaited(VaultKeys.slots)
    add_passphrase = awaited(VaultKeys.add_passphrase)
    change_passphrase = awaited(VaultKeys.change_passphrase)
    add_recovery_phrase = awaited(VaultKeys.add_recovery_phrase)
    add_keyring = awaited(VaultKeys.add_keyring)
    remove = awaited(VaultKeys.remove)
    rotate = awaited(VaultKeys.rotate)
    rotation_unfinished = awaited(VaultKeys.rotation_unfinished)
    leave_unlocked = awaited(VaultKeys.leave_unlocked)
    lock = awaited(VaultKeys.lock)


class AsyncBackups(Twin[Backups]):
    """`Vault.backups`."""

    count_others = awaited(Backups.count_others)
    create = awaited(Backups.create)
    list = awaited(Backups.list)
    verify = awaited(Backups.verify)
    prune = awaited(Backups.prune)
    prune_forgotten = awaited(Backups.prune_forgotten)
    forgotten_since = awaited(Backups.forgotten_since)
    reseal = awaited(Backups.reseal)


class AsyncTasks(Twin[Scheduler]):
    """`Vault.tasks`."""

    def register(self, action: str, run: Action) -> None:
        """`Vault.tasks.register`, not to be awaited. `run` is synchronous and is called in a thread."""
        self.sync.register(action, run)

    add = awaited(Scheduler.add)
    get = awaited(Scheduler.get)
    list = awaited(Scheduler.list)
    due = awaited(Scheduler.due)
    history = awaited(Scheduler.history)
    enable = awaited(Scheduler.enable)
    disable = awaited(Scheduler.disable)
    remove = awaited(Scheduler.remove)
    run = awaited(Scheduler.run)
    run_due = awaited(Scheduler.run_due)
    start = awaited(Scheduler.start)
    stop = awaited(Scheduler.stop)


class AsyncItems(Twin[Items]):
    """`Vault.items`."""

    put = awaited(Items.put)
    put_many = awaited(Items.put_many)
    change = awaited(Items.change)
    append = awaited(Items.append)
    find = awaited(Items.find)
    list = awaited(Items.list)
    last = awaited(Items.last)
    search = awaited(Items.search)
    namespaces = awaited(Items.namespaces)
    delete = awaited(Items.delete)
    pop = awaited(Items.pop)
    clear = awaited(Items.clear)
    of_memories = awaited(Items.of_memories)
    refresh = awaited(Items.refresh)


class AsyncPlugins(Twin[Plugins]):
    """`Vault.plugins`. Their tables are transactions of one thread: use `sync.tables` inside `AsyncVault.run`."""

    list_plugins = awaited(Plugins.list_plugins)
    install = awaited(Plugins.install)
    remove = awaited(Plugins.remove)


class AsyncViews(Twin[Views]):
    """`Vault.views`."""

    status = awaited(Views.status)
    rebuild = awaited(Views.rebuild)
    wait = awaited(Views.wait)


class AsyncEmbeddings(Twin[Embeddings]):
    """`Vault.embeddings`."""

    status = awaited(Embeddings.status)
    lag = awaited(Embeddings.lag)
    catch_up = awaited(Embeddings.catch_up)
    drop = awaited(Embeddings.drop)
    try_out = awaited(Embeddings.try_out)


class AsyncWorking(Twin[WorkingMemoryStore]):
    """`Vault.working`: what a conversation keeps while it lasts. Its turns are `memory.recent`."""

    dump = awaited(WorkingMemoryStore.dump)
    state = awaited(WorkingMemoryStore.state)
    set_state = awaited(WorkingMemoryStore.set_state)
    find_state = awaited(WorkingMemoryStore.find_state)
    delete_state = awaited(WorkingMemoryStore.delete_state)
    sweep = awaited(WorkingMemoryStore.sweep)


class AsyncExtraction(Twin[Extraction]):
    """`Vault.extraction`."""

    run = awaited(Extraction.run)
    waiting = awaited(Extraction.waiting)


class AsyncAnalytics(Twin[AnalyticsEngine]):
    """`Vault.analytics`."""

    report = awaited(AnalyticsEngine.report)
    topics = awaited(AnalyticsEngine.topics)
    unanswered = awaited(AnalyticsEngine.unanswered)
    sql = awaited(AnalyticsEngine.sql)
    tables = awaited(AnalyticsEngine.tables)
    export = awaited(AnalyticsEngine.export)


class AsyncQuery(Twin[Query]):
    """`Vault.query`."""

    __call__ = awaited(Query.__call__)
    tables = awaited(Query.tables)


class AsyncVault(Twin[Vault]):
    """An open vault to be awaited, and an asynchronous context manager. Made by `aico.aio.open`.

    Each part is called as in `aico.Vault`. What has no twin is done by `run`.
    """

    audit = awaited(Vault.audit)
    import_ = awaited(Vault.import_)
    export = awaited(Vault.export)
    erase_user = awaited(Vault.erase_user)
    status = awaited(Vault.status)
    doctor = awaited(Vault.doctor)

    def __init__(self, bridge: Bridge, sync: Vault) -> None:
        super().__init__(bridge, sync)
        self.folder, self.settings = sync.folder, sync.settings
        self.format, self.vault_id = sync.format, sync.vault_id
        self.memory = AsyncMemory(bridge, sync.memory)
        self.conversations = AsyncConversations(bridge, sync.conversations)
        self.facts = AsyncFacts(bridge, sync.facts)
        self.album = AsyncAlbum(bridge, sync.album)
        self.feedback = AsyncFeedback(bridge, sync.feedback)
        self.preferences = AsyncPreferences(bridge, sync.preferences)
        self.users = AsyncUsers(bridge, sync.users)
        self.pins = AsyncPins(bridge, sync.pins)
        self.sessions = AsyncSessions(bridge, sync.sessions)
        self.live_sessions = AsyncLiveSessions(bridge, sync.live_sessions)
        self.devices = AsyncDevices(bridge, sync.devices)
        self.logs = AsyncLogs(bridge, sync.logs)
        self.audit_log = AsyncAuditLog(bridge, sync.audit_log)
        self.keys = AsyncKeys(bridge, sync.keys)
        self.backups = AsyncBackups(bridge, sync.backups)
        self.tasks = AsyncTasks(bridge, sync.tasks)
        self.items = AsyncItems(bridge, sync.items)
        self.plugins = AsyncPlugins(bridge, sync.plugins)
        self.views = AsyncViews(bridge, sync.views)
        self.embeddings = AsyncEmbeddings(bridge, sync.embeddings)
        self.working = AsyncWorking(bridge, sync.working)
        self.analytics = AsyncAnalytics(bridge, sync.analytics)
        self.extraction = AsyncExtraction(bridge, sync.extraction)
        self.query = AsyncQuery(bridge, sync.query)

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call anything synchronous that reads the vault, such as `receipt.verify`, over the same bridge."""
        return await self.bridge.run(function, *args, **kwargs)

    async def close(self) -> None:
        """Wait for the calls under way, then give everything back. May be called twice."""
        await self.bridge.close(self.sync.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class Opening:
    """What `open` returns: `async with` it, or await it and close the vault yourself."""

    def __init__(self, opening: Callable[[], Vault]) -> None:
        self._opening = opening
        self._opened: AsyncVault | None = None

    def __await__(self) -> Generator[Any, None, AsyncVault]:
        return self._open().__await__()

    async def __aenter__(self) -> AsyncVault:
        self._opened = await self._open()
        return self._opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._opened is not None
        await self._opened.close()

    async def _open(self) -> AsyncVault:
        bridge, closing = Bridge(), ExitStack()
        try:
            return AsyncVault(bridge, await bridge.run(lambda: closing.enter_context(self._opening())))
        except BaseException:  # cancelled while it was being opened: nobody else could close it
            await bridge.close(closing.close)
            raise


def _to_be_opened(open_it: Callable[P, Vault]) -> Callable[P, Opening]:
    """Makes a function that opens a vault one that does not block the event loop, with the same arguments."""

    @wraps(open_it)
    def call(*args: P.args, **kwargs: P.kwargs) -> Opening:
        return Opening(partial(open_it, *args, **kwargs))

    return call


def _to_be_awaited(function: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Makes a function that needs no open vault one to be awaited, in a thread of its own."""

    @wraps(function)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        bridge = Bridge(threads=1)
        try:
            return await bridge.run(function, *args, **kwargs)
        finally:
            await bridge.close(lambda: None)

    return call


open = _to_be_opened(open_vault)
"""`aico.open`: `async with aico.aio.open() as companion`, or await it and close the vault yourself."""

restore = _to_be_awaited(restore_vault)
"""`aico.restore`, to be awaited."""
