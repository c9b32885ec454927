"""The vectors of the chosen model in Chroma: a view like every other, for whoever runs Chroma already or needs it shared.

Chroma cannot keep our position in the transaction of its data. So a change is put there at least once, in a way that
may be repeated, and only then noted as read; one process of a vault at a time does so, or a process that lags could put
back what another has just forgotten.
"""

import fcntl
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import numpy as np

from aico.ai.embedding import Vectors
from aico.ai.memory.embedding import Embeddings
from aico.ai.memory.index import Filter
from aico.clock import to_us
from aico.data.change_feed import KEPT_CHANGES, ChangeFeed
from aico.data.chroma import Note, Segment, Segments
from aico.data.conversations import ConversationRepository, Moment
from aico.data.embeddings import EmbeddingRepository
from aico.data.facts import Fact, FactRepository
from aico.data.libsql import LibSQLConnection
from aico.errors import AicoError, InvalidInput, ModelUnavailable, StorageError, storage_error
from aico.security.keys import ValueKey
from aico.settings import ChromaSpec

Found = tuple[Moment | Fact, float]
_MEMORIES_AT_ONCE = 500


class SegmentView:
    """Searches by meaning alone, in Chroma. Any thread may use it. Needs the extra `chroma` and an embedding model.

    Nothing is opened before it is first used; where Chroma cannot be used, `trouble` says why.
    """

    name = "chroma"

    def __init__(
        self,
        connection: LibSQLConnection,
        *,
        spec: ChromaSpec,
        folder: Path,
        keys: Callable[[], Mapping[int, ValueKey]],
        vault_id: str,
        feed: ChangeFeed,
        embeddings: Embeddings,
        vectors: EmbeddingRepository,
        conversations: ConversationRepository,
        facts: FactRepository,
    ) -> None:
        self._connection, self._spec, self._folder, self._keys, self._vault_id = (
            connection,
            spec,
            folder,
            keys,
            vault_id,
        )
        self._feed, self._embeddings, self._vectors = feed, embeddings, vectors
        self._conversations, self._facts = conversations, facts
        self._lock = threading.Lock()  # guards all below, and is held by whoever reads on
        self._opened: Segments | None = None
        self._cleaned: Segments | None = None  # nothing of older keys is left since these were opened
        self._generation = self._position = 0
        self._trouble = ""

    def search(self, user_id: bytes, query: str, *, limit: int = 10, where: Filter | None = None) -> list[Found]:
        """The memories nearest in meaning, best first, each with its likeness. Their texts come from the truth.

        Raises ModelUnavailable without an embedding model that answers, StorageError where Chroma cannot be used.
        """
        chosen = Filter() if where is None else where
        if type(limit) is not int or limit < 1:
            raise InvalidInput("limit is a whole number from 1 on", field="limit")
        model, meaning = self._embeddings.model, self._embeddings.meaning_of(query)
        if model is None or meaning is None:
            raise ModelUnavailable("no embedding model answers, and Chroma searches by meaning alone")
        self._read_on()
        nearest = self._segments().near(
            self._name_of(model),
            np.asarray(meaning.question, np.float32).reshape(-1),
            limit=limit,
            user=user_id,
            conversation=chosen.conversation,
            kinds=sorted(chosen.kinds),
        )
        found: dict[bytes, Found] = {}
        for near in nearest:
            id_ = near.note.memory
            if id_ in found:  # another part of a long message
                continue
            memory = self._memory(user_id, near.note)
            if memory is not None and _is_chosen(memory, chosen):
                found[id_] = memory, near.likeness
                if len(found) == limit:
                    break
        return list(found.values())

    # What every view can do

    @property
    def trouble(self) -> str:
        """Why it could not be used when it was last tried, empty while all is well."""
        return self._trouble

    def lag(self) -> int:
        """How many changes it has not read yet, as far as this process knows."""
        return max(0, self._feed.newest() - self._position) if self._opened is not None else 0

    def catch_up(self) -> None:
        """Put every change committed before the call into Chroma; where that fails, `trouble` says why."""
        try:
            self._read_on()
        except AicoError:
            return

    def drop(self) -> None:
        """Remove everything; it is put there anew. Raises StorageError."""
        with self._alone() as segments:
            self._position = 0
            segments.drop()

    def erase(self, user_id: bytes, ids: Iterable[bytes]) -> None:
        """Remove forgotten memories there now. Raises StorageError where that cannot be done: it is when Chroma is next
        read on, for the change feed tells of them."""
        wanted = list(ids)
        with self._alone() as segments:
            if segments.remove_for_good(wanted):
                self._position = 0

    def holds_any(self, user_id: bytes, ids: Iterable[bytes]) -> bool:
        """Whether a vector of one of these is there. Raises StorageError where that cannot be told."""
        with self._alone() as segments:
            return segments.holds_any(ids)

    def let_go_of_older_keys(self) -> None:
        """Remove what was put there before the keys were rotated; it is put there anew when it is next read on.

        Raises StorageError where that cannot be done: it is by whoever next uses it.
        """
        with self._alone():
            return

    # Reading on

    def _segments(self) -> Segments:
        with self._lock:
            return self._open()

    def _open(self) -> Segments:
        keys = self._keys()
        if self._opened is None or max(keys) != self._generation:  # rotated: tags are others, and all is put there anew
            self._opened = Segments(self._spec, self._folder, keys=keys, vault=self._vault_id)
            self._generation, self._position = max(keys), 0
        return self._opened

    @contextmanager
    def _alone(self) -> Iterator[Segments]:
        """With no other thread or process of this vault at it. The kernel lets go when its holder is killed."""
        with self._lock:
            try:
                descriptor = os.open(f"{self._connection.db_path}-chroma", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as exc:
                raise storage_error(exc, self._connection.db_path.parent, "Chroma was not touched") from exc
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                segments = self._open()
                if self._cleaned is not segments:
                    segments.drop_of_other_keys()
                    self._cleaned = segments
                yield segments
                self._trouble = ""
            except AicoError as exc:
                self._trouble = str(exc)
                raise
            finally:
                os.close(descriptor)

    def _read_on(self) -> None:
        model = self._embeddings.model
        if model is None:
            self._trouble = "no embedding model is chosen"
            return
        if self._connection.in_transaction:
            raise StorageError("Chroma is not read on inside a transaction; nothing was done", hint="end it first")
        with self._alone() as segments:
            name = self._name_of(model)
            position, mark = segments.open(name)
            while (newest := self._feed.newest()) != position or not position:
                if not newest:
                    return
                if position and segments.holds_any(gone := self._feed.deleted_between(position, newest)):
                    position = 0 if segments.remove_for_good(gone) else position  # another process could not
                if self._must_begin_anew(position, mark, newest):
                    segments.begin(name)
                    position = 0
                self._take_in(segments, model, position, newest)
                if position and not self._feed.tells_from(position):  # pruned while it was read
                    mark = ""
                    continue
                position, mark = newest, self._mark_at(segments, newest)
                segments.reach(name, position, mark)
            self._position = position

    def _name_of(self, model: str) -> str:
        """What its vectors go by: a collection takes those of one length. Raises ModelUnavailable."""
        return f"{model} {self._embeddings.dimension}"

    def _must_begin_anew(self, position: int, mark: str, newest: int) -> bool:
        if not 0 < position <= newest or newest - position > KEPT_CHANGES or not self._feed.tells_from(position):
            return True
        return mark != self._mark_at(self._open(), position)

    def _mark_at(self, segments: Segments, number: int) -> str:
        """What tells this history from another one that had as many changes."""
        found = self._feed.turns_from(number, limit=1)
        row = found[0] if found and found[0]["number"] == number else None
        return segments.mark(number, b"" if row is None else row["key"], 0 if row is None else row["changed_at"])

    def _take_in(self, segments: Segments, model: str, position: int, newest: int) -> None:
        if position:
            segments.remove(self._feed.deleted_between(position, newest))
        users, name = self._connection.fetch_committed("SELECT id FROM users"), self._name_of(model)
        for (user_id,) in users:
            if not position:
                for ids, vectors in self._vectors.of_user(user_id, model, self._embeddings.dimension):
                    segments.put(name, self._made(user_id, ids, vectors))
                continue
            changed = self._vectors.memories_changed(user_id, model, after=position, up_to=newest)
            for first in range(0, len(changed), _MEMORIES_AT_ONCE):
                some = changed[first : first + _MEMORIES_AT_ONCE]
                segments.remove(some)  # it may have fewer parts now
                dimension = self._embeddings.dimension
                segments.put(name, self._made(user_id, *self._vectors.of_memories(user_id, model, dimension, some)))

    def _made(self, user_id: bytes, ids: Sequence[bytes], vectors: Vectors) -> Iterator[Segment]:
        """Segments of these memories; those that are gone meanwhile are left out."""
        messages, facts = self._conversations.moments(user_id, ids), self._facts.facts(user_id, ids)
        parts = Counter[bytes]()
        for id_, vector in zip(ids, vectors, strict=True):
            memory = messages.get(id_) or facts.get(id_)
            if memory is None:
                continue
            conversation = None
            if isinstance(memory, Moment):
                conversation = self._conversations.conversation_id(user_id, memory.conversation)
            kind = "fact" if isinstance(memory, Fact) else "message"
            yield Segment(Note(id_, kind, to_us(_at(memory))), parts[id_], user_id, conversation, memory.text, vector)
            parts[id_] += 1

    def _memory(self, user_id: bytes, note: Note) -> Moment | Fact | None:
        """The memory as the truth has it, if it is this person's: what Chroma says decides nothing."""
        if note.kind == "fact":
            return self._facts.facts(user_id, [note.memory]).get(note.memory)
        return self._conversations.moments(user_id, [note.memory]).get(note.memory)


def _at(memory: Moment | Fact) -> datetime:
    return memory.at if isinstance(memory, Moment) else memory.valid_from or memory.recorded_at


def _is_chosen(memory: Moment | Fact, where: Filter) -> bool:
    at = to_us(_at(memory))
    if isinstance(memory, Fact):
        believed_until = memory.superseded_at
        if memory.status != "accepted":
            return False
        if where.as_of_us is None and believed_until is not None:
            return False
        if where.as_of_us is not None and not (
            to_us(memory.recorded_at) <= where.as_of_us
            and (believed_until is None or where.as_of_us < to_us(believed_until))
        ):
            return False
    elif where.as_of_us is not None and at > where.as_of_us:
        return False
    return (where.since_us is None or at >= where.since_us) and (where.until_us is None or at < where.until_us)
