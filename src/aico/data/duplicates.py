"""What was imported twice: finding it, and making two rows one without losing what hangs on either."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from aico.clock import IdSource
from aico.data.facts import FactRepository
from aico.data.libsql import LibSQLConnection
from aico.data.marks import MarkRepository
from aico.data.merged_rows import lead
from aico.errors import InvalidInput

SHARED_MIN = 0.5
"""Of the smaller conversation, the part that both must have: exports of one chat overlap nearly wholly, two chats hardly."""
_SECOND_US = 1_000_000
"""Exporters cut moments to the second."""

_HANG_ON_A_MESSAGE = (
    ("facts", "source_message_id"),
    ("feedback_events", "subject_id"),
    ("sensitive_feedback", "subject_id"),
    ("merged_rows", "into_id"),
    ("items", "memory_id"),
)
_HANG_ON_A_CONVERSATION = (
    ("session_metadata", "conversation_id"),
    ("feedback_events", "subject_id"),
    ("sensitive_feedback", "subject_id"),
    ("merged_rows", "into_id"),
)

Likeness = tuple[int, str, str]
"""Second, role and text: what makes two messages the same."""


@dataclass(frozen=True, slots=True)
class DuplicateConversations:
    """Two names for what seems one conversation: `shared` of the `of` messages of `drop` are in `keep` too."""

    keep: str = field(repr=False)
    drop: str = field(repr=False)
    shared: int
    of: int


@dataclass(frozen=True, slots=True)
class DuplicateMessages:
    """Two ids for what seems one message of a conversation; `keep` is the one that has a source id, if one has."""

    conversation: str = field(repr=False)
    keep: str
    drop: str


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What seems to be there twice."""

    conversations: tuple[DuplicateConversations, ...]
    messages: tuple[DuplicateMessages, ...]


@dataclass(frozen=True, slots=True)
class _Copy:
    id: bytes
    conversation: str
    has_source: bool


def find_duplicates(connection: LibSQLConnection, user_id: bytes) -> Duplicates:
    """All that look alike among one person's messages. Reads an index of them all, and the texts of those of one second."""
    alike = [copies for copies in _copies_by_likeness(connection, user_id).values() if len(copies) > 1]
    return Duplicates(tuple(_conversations(connection, user_id, alike)), tuple(_messages(alike)))


class Merger:
    """Moves and merges rows of one person. Its caller has looked whose they are, and holds a transaction."""

    def __init__(
        self, connection: LibSQLConnection, *, facts: FactRepository, marks: MarkRepository, ids: IdSource
    ) -> None:
        self._connection, self._facts, self._marks, self._ids = connection, facts, marks, ids

    def move(self, messages: Sequence[bytes], conversation: bytes) -> None:
        """Put messages into another conversation. One that becomes empty stays, hidden, with what hangs on it."""
        self._connection.execute_many(
            "UPDATE messages SET conversation_id = ? WHERE id = ?", [(conversation, message) for message in messages]
        )

    def merge_conversations(self, user_id: bytes, *, keep: bytes, drop: bytes) -> tuple[int, int]:
        """Move what only `drop` has to `keep` and merge what both have; how many of each."""
        standing = defaultdict(list)
        for message_id, likeness in self._likenesses(keep):
            standing[likeness].append(message_id)
        moved, repeated = [], 0
        for message_id, likeness in self._likenesses(drop):
            if standing[likeness]:
                self._merge_message(user_id, keep=standing[likeness].pop(0), drop=message_id)
                repeated += 1
            else:
                moved.append(message_id)
        self._connection.execute(
            "UPDATE conversations SET title = coalesce(title, (SELECT title FROM conversations WHERE id = ?)) WHERE id = ?",
            (drop, keep),
        )
        self._take_over(_HANG_ON_A_CONVERSATION, keep=keep, drop=drop)
        self.move(moved, keep)
        self._connection.execute("DELETE FROM conversations WHERE id = ?", (drop,))
        self._note(user_id, "conversation", keep=keep, drop=drop)
        return len(moved), repeated

    def merge_messages(self, user_id: bytes, *, keep: bytes, drop: bytes) -> None:
        """Merge two messages. Raises InvalidInput if they are one, or their texts differ."""
        texts = "SELECT count(DISTINCT id), count(DISTINCT text) FROM messages WHERE id IN (?, ?)"
        if tuple(self._connection.fetch_all(texts, (keep, drop))[0]) != (2, 1):
            raise InvalidInput("these are not two messages with the same text; nothing was changed")
        self._merge_message(user_id, keep=keep, drop=drop)

    def _merge_message(self, user_id: bytes, *, keep: bytes, drop: bytes) -> None:
        self._take_over(_HANG_ON_A_MESSAGE, keep=keep, drop=drop)
        self._facts.draw_from(user_id, keep, instead_of=drop)
        self._marks.move(user_id, old=drop, new=keep)
        self._connection.execute("DELETE FROM messages WHERE id = ?", (drop,))
        self._note(user_id, "message", keep=keep, drop=drop)

    def _take_over(self, places: Iterable[tuple[str, str]], *, keep: bytes, drop: bytes) -> None:
        for table, column in places:
            self._connection.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (keep, drop))

    def _note(self, user_id: bytes, kind: str, *, keep: bytes, drop: bytes) -> None:
        """The old id leads to the new row from now on: what is imported again finds it."""
        lead(self._connection, user_id, kind, drop, to=keep, at=self._ids.now_us())

    def _likenesses(self, conversation: bytes) -> list[tuple[bytes, Likeness]]:
        rows = self._connection.fetch_all(
            "SELECT id, at, role, text FROM messages WHERE conversation_id = ? ORDER BY at, position", (conversation,)
        )
        return [(message_id, (at // _SECOND_US, role, text)) for message_id, at, role, text in rows]


def _copies_by_likeness(connection: LibSQLConnection, user_id: bytes) -> dict[Likeness, list[_Copy]]:
    of_user = "FROM conversations c JOIN messages m ON m.conversation_id = c.id WHERE c.user_id = ?"
    second = f"m.at / {_SECOND_US}"
    rows = connection.fetch_all(
        f"SELECT m.id, m.at, m.role, m.text, c.name, m.source_id IS NOT NULL {of_user} AND {second} IN "
        f"(SELECT {second} {of_user} GROUP BY 1 HAVING count(*) > 1) ORDER BY m.row_id",
        (user_id, user_id),
    )
    found: dict[Likeness, list[_Copy]] = defaultdict(list)
    for message_id, at, role, text, conversation, has_source in rows:
        found[at // _SECOND_US, role, text].append(_Copy(message_id, conversation, bool(has_source)))
    return found


def _conversations(
    connection: LibSQLConnection, user_id: bytes, alike: Iterable[Sequence[_Copy]]
) -> list[DuplicateConversations]:
    shared = Counter(
        pair for copies in alike for pair in combinations(sorted({copy.conversation for copy in copies}), 2)
    )
    sizes: dict[str, int] = dict(
        connection.fetch_all(
            "SELECT name, (SELECT count(*) FROM messages m WHERE m.conversation_id = c.id) FROM conversations c "
            "WHERE user_id = ?",
            (user_id,),
        )
    )
    found = []
    for pair, count in shared.most_common():
        drop, keep = sorted(pair, key=lambda name: sizes[name])
        if count >= SHARED_MIN * sizes[drop]:
            found.append(DuplicateConversations(keep, drop, count, sizes[drop]))
    return found


def _messages(alike: Iterable[Sequence[_Copy]]) -> list[DuplicateMessages]:
    """Two of one conversation that both have a source id are two: a source names its messages apart."""
    found = []
    for copies in alike:
        by_conversation: dict[str, list[_Copy]] = defaultdict(list)
        for copy in copies:
            by_conversation[copy.conversation].append(copy)
        for conversation, some in by_conversation.items():
            keep, *others = sorted(some, key=lambda copy: not copy.has_source)
            found += [
                DuplicateMessages(conversation, keep.id.hex(), other.id.hex())
                for other in others
                if not other.has_source
            ]
    return found
