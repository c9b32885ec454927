"""What recall indexes are made of, read from the truth: all of a person's memories, or those that changed."""

from collections.abc import Callable, Iterable

from aico.ai.memory.index import Document, RecallIndex
from aico.data.change_feed import ChangeFeed
from aico.data.embeddings import EmbeddingRepository
from aico.data.libsql import LibSQLConnection, Row

_MESSAGES = """SELECT m.row_id, m.id, m.text, m.at, m.utc_offset_min, m.conversation_id, m.position, m.role, m.speaker
    FROM messages m"""
# A fact that nobody accepted is believed for no time at all: no recall returns it, and forgetting still finds it.
_FACTS = """SELECT x.row_id, x.id, x.text, x.valid_from, x.recorded_at,
    CASE WHEN x.status = 'accepted' THEN x.superseded_at ELSE x.recorded_at END AS superseded_at FROM facts x"""
_CHANGED = " JOIN (SELECT DISTINCT key FROM change_feed WHERE number > ? AND number <= ? AND table_name = '{table}') f ON f.key = "


class MemoryReader:
    """Brings an index up to a change of the truth. Reads what is committed. Any thread may use it."""

    def __init__(
        self,
        connection: LibSQLConnection,
        *,
        feed: ChangeFeed,
        vectors: EmbeddingRepository,
        model: str | None,
        dimension: Callable[[], int],
    ) -> None:
        self._connection, self._feed, self._vectors = connection, feed, vectors
        self._model, self._dimension = model, dimension

    def fits(self, index: RecallIndex) -> bool:
        """Whether an index has vectors that compare with those of the model, or none."""
        return index.dimension in (0, self._dimension() or index.dimension)

    def read_all(self, user_id: bytes, index: RecallIndex) -> None:
        """Fill an empty index with everything there is of a person."""
        index.add(self._documents(user_id))
        if self._model is not None:
            for ids, vectors in self._vectors.of_user(user_id, self._model, self._dimension()):
                index.add_vectors(ids, vectors)

    def read_on(self, user_id: bytes, index: RecallIndex, *, after: int, up_to: int) -> bool:
        """Bring an index that reflects change `after` up to change `up_to`; whether anything left it."""
        before = len(index)
        gone = self._feed.deleted_between(after, up_to)
        index.remove(gone)
        left = len(index) < before
        index.add(self._changed_documents(user_id, after, up_to))
        if self._model is not None:  # vectors after the documents they belong to
            changed = self._vectors.memories_changed(user_id, self._model, after=after, up_to=up_to)
            if changed:
                index.drop_vectors(changed)
                index.add_vectors(*self._vectors.of_memories(user_id, self._model, self._dimension(), changed))
        return left

    def _documents(self, user_id: bytes) -> Iterable[Document]:
        in_order = (  # the plus: one conversation after the other, not by the index of the person's messages in time
            f"{_MESSAGES} JOIN conversations c ON c.id = m.conversation_id "
            "WHERE c.user_id = ? AND +m.user_id = c.user_id ORDER BY m.conversation_id, m.at, m.position"
        )
        yield from map(_document_of_message, self._connection.fetch_committed(in_order, (user_id,)))
        yield from map(_document_of_fact, self._connection.fetch_committed(f"{_FACTS} WHERE x.user_id = ?", (user_id,)))

    def _changed_documents(self, user_id: bytes, after: int, up_to: int) -> Iterable[Document]:
        # The pluses keep SQLite from reading all of a person's memories to find these few.
        parameters = (after, up_to, user_id)
        messages = f"{_MESSAGES} {_CHANGED.format(table='messages')} m.id WHERE +m.user_id = ?"
        yield from map(_document_of_message, self._connection.fetch_committed(messages, parameters))
        facts = f"{_FACTS} {_CHANGED.format(table='facts')} x.id WHERE +x.user_id = ?"
        yield from map(_document_of_fact, self._connection.fetch_committed(facts, parameters))


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
