"""Messages and facts by what they say and mean: one recall index for each person, kept in step with the truth."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable

from aico.ai.memory.embedding import Embeddings
from aico.ai.memory.hits import Hit, hit_of_fact, hit_of_message
from aico.ai.memory.index import Document, Filter, Meaning, RecallIndex, Scored
from aico.data.change_feed import ChangeFeed
from aico.data.conversations import ConversationRepository
from aico.data.embeddings import EmbeddingRepository
from aico.data.facts import FactRepository
from aico.data.libsql import LibSQLConnection, Row

_MESSAGES = """SELECT m.row_id, m.id, m.text, m.at, m.utc_offset_min, m.conversation_id, m.position, m.role, m.speaker
    FROM messages m"""
# A fact that nobody accepted is believed for no time at all: no recall returns it, and forgetting still finds it.
_FACTS = """SELECT x.row_id, x.id, x.text, x.valid_from, x.recorded_at,
    CASE WHEN x.status = 'accepted' THEN x.superseded_at ELSE x.recorded_at END AS superseded_at FROM facts x"""
_CHANGED = " JOIN (SELECT DISTINCT key FROM change_feed WHERE number > ? AND number <= ? AND table_name = '{table}') f ON f.key = "


class SemanticMemoryStore:
    """Searches what a person said and what is held true about them. Any thread may use it.

    An index lives in memory and is derived wholly from the truth. Before each answer it reads on from the change it
    had reached, so what this or another process committed a moment ago is found.
    """

    name = "recall index"
    trouble = ""

    def __init__(
        self,
        connection: LibSQLConnection,
        *,
        feed: ChangeFeed,
        conversations: ConversationRepository,
        facts: FactRepository,
        embeddings: Embeddings,
        vectors: EmbeddingRepository,
        episode_gap_s: int,
        users_in_memory: int,
    ) -> None:
        self._connection, self._feed = connection, feed
        self._conversations, self._facts = conversations, facts
        self._embeddings, self._vectors = embeddings, vectors
        self._episode_gap_s, self._users_in_memory = episode_gap_s, users_in_memory
        self._views: OrderedDict[bytes, _UserView] = OrderedDict()  # least recently used first
        self._lock = threading.Lock()  # guards the line above

    def search(
        self, user_id: bytes, query: str, *, limit: int, where: Filter, meaning: Meaning | None = None
    ) -> list[Hit]:
        """The best hits, best first. Reads their texts from the truth, and only rows that belong to this user.

        The chosen model is asked what the query means, unless `meaning` is given. Where it cannot be used, words alone
        answer, and `Embeddings.problem` tells why.
        """
        index = self._current_index(user_id)
        if meaning is None and index.vector_count:
            meaning = self._embeddings.meaning_of(query)
        scored = index.search(query, limit=limit, where=where, meaning=meaning)
        messages = self._conversations.moments(user_id, _ids_of(scored, "message"))
        facts = self._facts.facts(user_id, _ids_of(scored, "fact"))
        hits = []
        for found in scored:
            if found.id in messages:
                hits.append(hit_of_message(messages[found.id], found))
            elif found.id in facts:
                hits.append(hit_of_fact(facts[found.id], found))
        return hits  # a row that was forgotten since the search is simply no hit

    def containing_all(self, user_id: bytes, text: str, where: Filter) -> list[bytes]:
        """The ids of all messages and facts that contain every content word of `text`, facts of the past included."""
        return self._current_index(user_id).containing_all(text, where)

    def holds_all(self, user_id: bytes, text: str) -> Callable[[str], bool]:
        """Whether another text contains every content word of `text`, judged like those of this user's memories."""
        return self._current_index(user_id).holds_all(text)

    def content_words(self, user_id: bytes, text: str) -> tuple[str, ...]:
        """The words of `text` that count for `containing_all`."""
        return self._current_index(user_id).content_words(text)

    def erase(self, user_id: bytes, ids: Iterable[bytes]) -> None:
        """Drop forgotten rows from this process's index now; those of other processes follow by the change feed."""
        with self._lock:
            view = self._views.get(user_id)
        if view is not None:
            view.index.remove(ids)
            with view.lock:
                self._read_on(user_id, view)  # the turns that followed lost vectors which told of these

    def holds_any(self, user_id: bytes, ids: Iterable[bytes]) -> bool:
        """Whether the index still has one of these rows."""
        index = self._current_index(user_id)
        return any(id_ in index for id_ in ids)

    def lag(self) -> int:
        """How many changes the index furthest behind has not read yet; it does before it next answers."""
        newest = self._feed.newest()
        with self._lock:
            return max((newest - view.position for view in self._views.values()), default=0)

    def catch_up(self) -> None:
        """Bring every index in memory up to the newest change."""
        with self._lock:
            users = list(self._views)
        for user_id in users:
            self._current_index(user_id)

    def _current_index(self, user_id: bytes) -> RecallIndex:
        with self._lock:
            view = self._views.setdefault(user_id, _UserView(RecallIndex(episode_gap_s=self._episode_gap_s)))
            self._views.move_to_end(user_id)
            while len(self._views) > self._users_in_memory:
                self._views.popitem(last=False)
        with view.lock:
            self._read_on(user_id, view)
        return view.index

    def _read_on(self, user_id: bytes, view: "_UserView") -> None:
        newest = self._feed.newest()
        if view.position > newest:  # the truth was replaced by an older copy of itself
            view.index, view.position = RecallIndex(episode_gap_s=self._episode_gap_s), 0
        if view.position == newest:
            return
        if view.position == 0:
            view.index.add(self._documents(user_id))
        else:
            view.index.remove(self._feed.deleted_between(view.position, newest))
            view.index.add(self._changed_documents(user_id, view.position, newest))
        self._read_vectors_on(user_id, view, newest)
        view.position = newest

    def _read_vectors_on(self, user_id: bytes, view: "_UserView", newest: int) -> None:
        """Vectors of the chosen model, after the documents they belong to."""
        model, dimension = self._embeddings.model, self._embeddings.dimension
        if model is None:
            return
        if view.position == 0:
            for ids, vectors in self._vectors.of_user(user_id, model, dimension):
                view.index.add_vectors(ids, vectors)
            return
        changed = self._vectors.memories_changed(user_id, model, after=view.position, up_to=newest)
        if changed:
            view.index.drop_vectors(changed)
            view.index.add_vectors(*self._vectors.of_memories(user_id, model, dimension, changed))

    def _documents(self, user_id: bytes) -> Iterable[Document]:
        in_order = (  # the plus: one conversation after the other, not by the index of the person's messages in time
            f"{_MESSAGES} JOIN conversations c ON c.id = m.conversation_id "
            "WHERE c.user_id = ? AND +m.user_id = c.user_id ORDER BY m.conversation_id, m.at, m.position"
        )
        yield from map(_document_of_message, self._connection.fetch_committed(in_order, (user_id,)))
        yield from map(_document_of_fact, self._connection.fetch_committed(f"{_FACTS} WHERE x.user_id = ?", (user_id,)))

    def _changed_documents(self, user_id: bytes, after: int, up_to: int) -> Iterable[Document]:
        parameters = (after, up_to, user_id)
        messages = f"{_MESSAGES} {_CHANGED.format(table='messages')} m.id WHERE m.user_id = ?"
        yield from map(_document_of_message, self._connection.fetch_committed(messages, parameters))
        facts = f"{_FACTS} {_CHANGED.format(table='facts')} x.id WHERE x.user_id = ?"
        yield from map(_document_of_fact, self._connection.fetch_committed(facts, parameters))


class _UserView:
    """One person's index and the change it has reached."""

    def __init__(self, index: RecallIndex) -> None:
        self.index, self.position, self.lock = index, 0, threading.Lock()


def _ids_of(scored: Iterable[Scored], kind: str) -> list[bytes]:
    return [found.id for found in scored if found.kind == kind]


def _document_of_message(row: Row) -> Document:
    row_id, id_, text, at, offset, conversation, position, role, speaker = row
    return Document(
        row=row_id,
        id=id_,
        kind="message",
        text=text,
        at_us=at,
        utc_offset_min=offset,
        conversation=conversation,
        position=position,
        role=role,
        speaker=speaker,
        believed_from_us=at,
    )


def _document_of_fact(row: Row) -> Document:
    row_id, id_, text, valid_from, recorded_at, superseded_at = row
    return Document(
        row=row_id,
        id=id_,
        kind="fact",
        text=text,
        at_us=recorded_at if valid_from is None else valid_from,
        believed_from_us=recorded_at,
        believed_until_us=superseded_at,
    )
