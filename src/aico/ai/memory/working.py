"""Working memory: the last turns of live conversations, in the hot tier, always what the truth would say.

    pages of up to eight turns (`hot_pages.py`)                ─┐
    the mark: the last change of the truth that they reflect   ─┴─ written together, compared before each answer
    contexts, each with the mark it was assembled at           ─── used while that is the newest change

An entry is the exact end of a conversation or it is not used. Whatever cannot be applied in place drops the entry; what
may concern any of them drops them all: in place after a changed row, with the file and the state of sessions in it after a
deleted one or another truth.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, TypeVar

import msgspec

from aico.ai.memory.background import Background
from aico.ai.memory.hot_pages import (
    MESSAGES,
    NOT_OURS,
    PAGE_TURNS,
    PAGES_KEPT,
    append,
    drop_entry,
    last_turns,
    moment_of,
    paged,
    put_pages,
    read_page,
)
from aico.data.change_feed import ChangeFeed
from aico.data.conversations import ConversationRepository, Moment
from aico.data.json_values import checked_json_object
from aico.data.libsql import LibSQLConnection, Row
from aico.data.lmdb import FOR_EVER_S, PREFIX_BYTES, SealedStore, SealedTransaction
from aico.errors import InvalidInput, NotFound, StorageError
from aico.security.envelope import Place

T = TypeVar("T")

STATE, CONTEXTS = "session_state", "session_contexts"
TABLES = (MESSAGES, STATE, CONTEXTS)
WARMED_TURNS = 32
CHANGES_AT_ONCE = 500
"""Who is further behind begins anew: that costs less than reading on, as after an import."""
SWEEP_EVERY = 200
SETTLE_S = 0.02
"""How long after a commit it is taken in, with all that came meanwhile: nobody who writes waits for it, and a reader
reads on by itself."""
_TRIES = 4
_MARK = ("mark",)
"""Named like all else: under other keys there is no mark, and what was named by the older ones is not used."""


class _Mark(msgspec.Struct, array_like=True, frozen=True):
    """One change of the truth: its number, and what tells it from the change of that number in another history."""

    number: int
    key: bytes
    at_us: int


class _KeptContext(msgspec.Struct, array_like=True, frozen=True):
    mark: _Mark
    """The newest change when it was assembled: once there is another, it is not used."""
    ids: list[bytes]
    """The memories in it."""
    value: bytes


class _State(msgspec.Struct, array_like=True, frozen=True):
    session: str
    state: str
    """JSON, as it was given."""


class Assembled(NamedTuple):
    """A context as it is kept: its bytes, the ids of the memories in it, and how long it can hold at most."""

    value: bytes
    ids: list[bytes]
    ttl_s: float


_encode = msgspec.msgpack.Encoder().encode
_decode_context = msgspec.msgpack.Decoder(_KeptContext).decode
_decode_state = msgspec.msgpack.Decoder(_State).decode
_decode_mark = msgspec.msgpack.Decoder(_Mark).decode


@dataclass(frozen=True, slots=True)
class HotTierState:
    """How full the hot tier is: `tables` has the number of entries and the bytes of their pages."""

    file_bytes: int
    limit_bytes: int
    lag: int
    tables: dict[str, tuple[int, int]]


class WorkingMemoryStore:
    """The last turns of conversations, their contexts, and the state of sessions. A view of the truth; any thread may
    use it.

    No failure of the hot tier is the caller's: the truth answers then, and `trouble` says why.

    >>> _ = vault.memory.record("mia", "Good morning.", conversation="today")
    >>> [turn.text for turn in vault.memory.recent("mia", "today")]
    ['Good morning.']
    """

    name = "hot tier"

    def __init__(
        self,
        store: SealedStore,
        connection: LibSQLConnection,
        *,
        feed: ChangeFeed,
        conversations: ConversationRepository,
        ttl_s: float,
    ) -> None:
        self._store, self._connection, self._feed = store, connection, feed
        self._conversations, self._ttl_s = conversations, ttl_s
        self._applied, self._is_read = 0, False
        self._following = threading.Lock()  # held by the thread that takes in what was committed
        self._background = Background(self.catch_up, name="aico-hot-tier", settle_s=SETTLE_S)

    def recent(self, user_id: bytes, conversation: str, *, limit: int, ttl_s: float | None = None) -> list[Moment]:
        """The last `limit` messages of a conversation, oldest first: exactly what `ConversationRepository.recent` says.

        What had to come from the truth stays hot for `ttl_s` seconds, by default the vault's `working_ttl_s`.
        """
        if self._connection.in_transaction:  # it sees what it has not committed
            return self._conversations.recent(user_id, conversation, limit=limit)
        place = (user_id, self._conversations.conversation_id(user_id, conversation))
        try:
            mark, found = self._in_step(lambda found: last_turns(found, found.prefix(place), limit))
        except StorageError:
            return self._conversations.recent(user_id, conversation, limit=limit)
        if found is not None:
            self._store.touch(found.prefix)
            return [moment_of(turn, found.conversation) for turn in found.turns]
        moments = self._conversations.recent(user_id, conversation, limit=max(limit, WARMED_TURNS))
        if mark is not None and moments:
            whole = len(moments) < max(limit, WARMED_TURNS)
            self._warm(place, moments, mark, whole=whole, ttl_s=ttl_s)
        return moments[-limit:]

    def context(self, place: Place, assemble: Callable[[], Assembled | None]) -> Assembled | None:
        """What `assemble` gives, or gave for the same place while nothing at all was written since, by any process.

        None is not kept, nor anything assembled inside a transaction.
        """
        if self._connection.in_transaction:
            return assemble()
        place = ("context", *place)
        try:
            mark, found = self._in_step(lambda found: _context_at(found, found.key(place)))
        except StorageError:
            return assemble()
        if found is not None and (kept := found[1]).mark == mark:
            self._store.touch(found[0])
            return Assembled(kept.value, kept.ids, 0)
        fresh = assemble()
        if fresh is not None and mark is not None and fresh.ttl_s > 0:
            value = _encode(_KeptContext(mark, fresh.ids, fresh.value))
            self._keep(
                mark, lambda found: found.put(CONTEXTS, found.key(place), value, ttl_s=min(fresh.ttl_s, self._ttl_s))
            )
        return fresh

    def follow(self) -> None:
        """Something was committed: take it in soon, in the background. Costs less than a microsecond.

        A process that has never read here leaves it to those who do: of many writers each would follow all others.
        """
        if self._is_read:
            self._background.wake()

    def close(self) -> None:
        """End the background work. May be called twice."""
        self._background.stop()

    def catch_up(self) -> None:
        """Take in what was committed since. Inside a transaction it waits.

        One step, by one thread at a time, without a second look whether more came meanwhile: an answer looks again by
        itself.
        """
        if not self._connection.in_transaction:
            with self._following, suppress(StorageError):
                self._read_on(self._store.read(_mark_of))

    def lag(self) -> int:
        """How many changes were committed since the last that it reflects."""
        try:
            mark = self._store.read(_mark_of)
        except StorageError:
            return 0
        return 0 if mark is None else max(0, self._feed.newest() - mark.number)

    @property
    def trouble(self) -> str:
        """Why the truth answers in its place at the moment, empty while all is well."""
        return self._store.trouble

    def drop(self) -> None:
        """Delete the whole file; conversations are warm again once they are asked for. Raises StorageError."""
        self._store.clear()

    def erase(self, user_id: bytes, ids: Iterable[bytes]) -> None:
        """Delete the whole file: LMDB keeps old pages, and nothing of what was forgotten may be left in them.

        Raises StorageError where that fails; it is then done by whoever next uses the hot tier.
        """
        self._store.clear()

    def holds_any(self, user_id: bytes, ids: Iterable[bytes]) -> bool:
        """Whether a page or a context still has one of these memories. Opens every one."""
        wanted = set(ids)

        def work(found: SealedTransaction) -> bool:
            pages = (read_page(value) for _, value in _pages(found))
            contexts = (_kept_context(value) for _, value in found.values(CONTEXTS))
            return any(turn.id in wanted for page in pages if page is not None for turn in page.turns) or any(
                not wanted.isdisjoint(kept.ids) for kept in contexts if kept is not None
            )

        try:
            return self._store.read(work)
        except StorageError:
            return False  # nothing is open, and a file that does not open is deleted before it is used again

    def sweep(self, *, everything: bool = False) -> None:
        """Delete a few of the entries that have expired, or all; nobody sees them since. Raises StorageError.

        >>> vault.working.sweep(everything=True)
        """
        self._store.sweep(everything=everything)

    # Looking at it

    def state(self) -> HotTierState:
        """How full it is. Raises StorageError where it cannot be opened.

        >>> _ = vault.memory.recent("mia", "move")
        >>> vault.working.state().lag
        0
        """

        def work(found: SealedTransaction) -> dict[str, tuple[int, int]]:
            return {table: found.size(table) for table in TABLES}

        tables = self._store.read(work)
        return HotTierState(self._store.file_bytes, self._store.limit_bytes, self.lag(), tables)

    def dump(self, table: str, *, limit: int) -> list[tuple[str, object]]:
        """Some entries of a table as they are: the key in hex, and the content, **in the clear**.

        Raises NotFound for a table that is not there, StorageError.

        >>> vault.working.dump("session_state", limit=10)
        []
        """
        if table not in TABLES:
            raise NotFound("the hot tier has no such table; nothing was read", hint=f"there are: {', '.join(TABLES)}")

        def work(found: SealedTransaction) -> list[tuple[bytes, bytes]]:
            values = _pages(found) if table == MESSAGES else found.values(table)
            return list(islice(values, limit))

        return [(key.hex(), _shown(table, value)) for key, value in self._store.read(work)]

    # The state of a session

    def set_state(
        self, user_id: bytes, session: str, state: Mapping[str, object], *, ttl_s: float | None = None
    ) -> None:
        """Keep what a session needs to go on, such as a draft or a mood, for `ttl_s` seconds and at most as long as
        the hot tier lives: a full tier, a `forget` or a crash of the machine empties it.

        Raises InvalidInput for what JSON cannot hold or more than 64 KiB of it; DiskFull or StorageError. Nothing is
        changed then.

        >>> vault.working.set_state(bytes.fromhex(mia), "session 1", {"draft": "Dear Ana"}, ttl_s=3600)
        >>> vault.working.find_state(bytes.fromhex(mia), "session 1")
        {'draft': 'Dear Ana'}
        """
        keep_s, kept = self._ttl(ttl_s), checked_state(state, ttl_s=ttl_s)
        value, place = _encode(_State(session, kept)), (user_id, session)
        self._store.write(lambda found: found.put(STATE, found.key(place), value, ttl_s=keep_s))

    def find_state(self, user_id: bytes, session: str) -> dict[str, object] | None:
        """What `set_state` kept last, by any process; None if it is gone. Raises StorageError.

        >>> vault.working.find_state(bytes.fromhex(mia), "no such session") is None
        True
        """

        def look(found: SealedTransaction) -> tuple[bytes, dict[str, object]] | None:
            key = found.key((user_id, session))
            kept = _state(found.get(STATE, key))
            return None if kept is None else (key[:PREFIX_BYTES], kept[1])

        found = self._store.read(look)
        if found is None:
            return None
        self._store.touch(found[0])
        return found[1]

    def delete_state(self, user_id: bytes, session: str) -> bool:
        """Let go of it now; whether there was any. Raises StorageError.

        >>> vault.working.delete_state(bytes.fromhex(mia), "no such session")
        False
        """

        def work(found: SealedTransaction) -> bool:
            key = found.key((user_id, session))
            there = found.get(STATE, key) is not None
            found.delete(STATE, key)
            return there

        return self._store.write(work)

    # Answering

    def _in_step(self, look: Callable[[SealedTransaction], T | None]) -> tuple[_Mark | None, T | None]:
        """The mark that was in step with the truth, None if there is none, and what was found there, None if nothing."""
        self._is_read = True
        for _ in range(_TRIES):
            mark, value = self._store.read(lambda found: (_mark_of(found), look(found)))
            if self._read_on(mark):  # looked at after reading: it is what the truth says now
                return mark, value
        return None, None

    def _warm(self, place: Place, moments: Sequence[Moment], mark: _Mark, *, whole: bool, ttl_s: float | None) -> None:
        kept = moments[-(PAGES_KEPT - 1) * PAGE_TURNS :]
        pages = paged(kept, begins=whole and len(kept) == len(moments))

        def put(found: SealedTransaction) -> None:
            prefix = found.prefix(place)
            drop_entry(found, prefix)
            put_pages(found, prefix, pages, self._ttl(ttl_s))

        if pages:
            self._keep(mark, put)

    def _keep(self, mark: _Mark, put: Callable[[SealedTransaction], None]) -> None:
        """Put what was read from the truth while `mark` was its newest change, unless something was written meanwhile."""

        def work(found: SealedTransaction) -> None:
            if _mark_of(found) == mark:  # else the file was emptied, maybe for what this tells
                put(found)

        with suppress(StorageError):
            if self._feed.newest() == mark.number:
                self._store.write(work)

    # Following the truth

    def _read_on(self, mark: _Mark | None) -> bool:
        """Whether `mark` is the newest change; if not, take one step towards it."""
        if mark is None:
            return self._begin()
        changes = self._feed.turns_from(mark.number, limit=CHANGES_AT_ONCE + 1)
        far = len(changes) > CHANGES_AT_ONCE  # there may be more, of which nothing is known here
        if not changes or _mark_at(changes[0]) != mark:  # the truth was put back, or the feed was cut
            self._store.clear()
        elif len(changes) == 1:
            return True
        elif any(map(_is_deletion, changes[1:])) or (far and self._feed.takes_away(after=mark.number)):
            self._store.clear()  # the file itself: freed pages would keep what is gone
        elif far or any(map(_is_no_insert, changes[1:])):
            self._store.write(lambda found: _empty(found, mark))
        else:
            self._apply(mark, changes[1:])
        return False

    def _begin(self) -> bool:
        newest = self._feed.turns_from(self._feed.newest(), limit=1)
        if not newest:
            return True  # nothing was ever written
        mark = _mark_at(newest[0])

        def work(found: SealedTransaction) -> None:
            if _mark_of(found) is None:
                for table_key, _ in list(found.values(MESSAGES)):
                    found.delete(MESSAGES, table_key)
                _put_mark(found, mark)

        self._store.write(work)
        return False

    def _apply(self, mark: _Mark, changes: Sequence[Row]) -> None:
        def work(found: SealedTransaction) -> None:
            if _mark_of(found) != mark:
                return
            for change in changes:
                if change["user_id"] is not None:
                    prefix = found.prefix((change["user_id"], change["conversation_id"]))
                    append(found, prefix, change, self._ttl_s)
            _put_mark(found, _mark_at(changes[-1]))

        self._store.write(work)
        self._applied += 1
        if self._applied % SWEEP_EVERY == 0:
            self._store.sweep()

    def _ttl(self, ttl_s: float | None) -> float:
        return self._ttl_s if ttl_s is None else ttl_s


def checked_state(state: Mapping[str, object], *, ttl_s: float | None) -> str:
    """A session's state as JSON. Raises InvalidInput for what `set_state` does not take."""
    if ttl_s is not None and not (isinstance(ttl_s, int | float) and ttl_s > 0):
        raise InvalidInput("ttl_s is a number of seconds above 0; nothing was kept", field="ttl_s")
    if not isinstance(state, Mapping):
        raise InvalidInput(f"state is not a dictionary but {type(state).__name__}; nothing was kept", field="state")
    return checked_json_object(dict(state), field="state")


def _empty(found: SealedTransaction, mark: _Mark) -> None:
    """Let go of all turns and contexts, and of the mark; sessions keep their state."""
    if _mark_of(found) == mark:
        found.empty(MESSAGES)
        found.empty(CONTEXTS)


def _pages(found: SealedTransaction) -> Iterator[tuple[bytes, bytes]]:
    mark = found.key(_MARK)
    return ((key, value) for key, value in found.values(MESSAGES) if key != mark)


def _state(value: bytes | None) -> tuple[str, dict[str, object]] | None:
    """A session's name and its state."""
    if value is None:
        return None
    try:
        kept = _decode_state(value)
        return kept.session, msgspec.json.decode(kept.state, type=dict[str, object])
    except NOT_OURS:
        return None


def _kept_context(value: bytes | None) -> _KeptContext | None:
    try:
        return None if value is None else _decode_context(value)
    except NOT_OURS:
        return None


def _context_at(found: SealedTransaction, key: bytes) -> tuple[bytes, _KeptContext] | None:
    kept = _kept_context(found.get(CONTEXTS, key))
    return None if kept is None else (key[:PREFIX_BYTES], kept)


def _shown(table: str, value: bytes) -> object:
    """An entry for people, without what only we need."""
    if table == MESSAGES:
        page = read_page(value)
        turns = [] if page is None else page.turns
        return [{"role": turn.role, "speaker": turn.speaker, "text": turn.text} for turn in turns]
    if table == STATE:
        kept_state = _state(value)
        return None if kept_state is None else {"session": kept_state[0], "state": kept_state[1]}
    if table == CONTEXTS:
        kept = _kept_context(value)
        value = b"{}" if kept is None else kept.value
    return msgspec.to_builtins(msgspec.msgpack.decode(value))


def _mark_of(found: SealedTransaction) -> _Mark | None:
    value = found.get(MESSAGES, found.key(_MARK))
    try:
        return None if value is None else _decode_mark(value)
    except NOT_OURS:
        return None


def _put_mark(found: SealedTransaction, mark: _Mark) -> None:
    found.put(MESSAGES, found.key(_MARK), _encode(mark), ttl_s=FOR_EVER_S)


def _mark_at(change: Row) -> _Mark:
    return _Mark(change["number"], change["key"], change["changed_at"])


def _is_no_insert(change: Row) -> bool:
    """Whether a message or conversation was changed or deleted. An insert sets every bit of the column mask."""
    mask = change["column_mask"]
    return change["table_name"] in ("messages", "conversations") and (mask == 0 or mask & (mask + 1) != 0)


def _is_deletion(change: Row) -> bool:
    return change["table_name"] in ("messages", "conversations") and change["column_mask"] == 0
