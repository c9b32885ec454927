"""A person's conversations: what there is, their titles, corrections of single messages, and the merge of duplicates.

To delete a message or a conversation is to forget it, which is `memory.forget`: only so it stays gone when its file is
imported again, leaves a receipt, and takes along what was drawn from it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from aico.clock import IdSource, from_us
from aico.data.conversations import ConversationRepository, Moment
from aico.data.duplicates import Duplicates, Merger, find_duplicates
from aico.data.facts import FactRepository
from aico.data.libsql import LibSQLConnection, Row, Value
from aico.data.limits import checked_label, checked_limit, checked_name, checked_text
from aico.data.marks import MarkRepository
from aico.data.row_ids import parsed_id
from aico.data.user import UserService
from aico.errors import InvalidInput, NotFound


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation and the span of its messages."""

    name: str = field(repr=False)
    title: str | None = field(repr=False)
    messages: int
    first_at: datetime
    last_at: datetime
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Edited:
    """A message as it stands now. `log_cleared`: whether no page image of before is left in the write-ahead log."""

    message: Moment
    log_cleared: bool


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of the messages of the conversation that is gone: moved over, or there already."""

    moved: int
    repeated: int


class ConversationService:
    """Conversations of each user, named by the short name. Any thread may use it.

    >>> said = vault.memory.record("mia", "The tram leaves at six.", conversation="trip")
    >>> _ = vault.conversations.edit("mia", said, "The tram leaves at seven.")
    >>> [(one.name, one.messages) for one in vault.conversations.list("mia")]
    [('trip', 1)]
    """

    def __init__(
        self,
        connection: LibSQLConnection,
        *,
        users: UserService,
        conversations: ConversationRepository,
        facts: FactRepository,
        marks: MarkRepository,
        ids: IdSource,
        let_go: Callable[[bytes], object],
    ) -> None:
        """`let_go` deletes what the disk may have of a person's recall index as it was."""
        self._let_go = let_go
        self._connection, self._users, self._conversations = connection, users, conversations
        self._merger = Merger(connection, facts=facts, marks=marks, ids=ids)

    def list(self, user: str, *, limit: int = 50, offset: int = 0) -> Sequence[Conversation]:
        """Conversations that have messages, the last active first, with counts from an index.

        Costs about as much as there are messages in those that are listed, however many others there are. Raises
        InvalidInput.

        >>> [(one.name, one.messages) for one in vault.conversations.list("mia")]
        [('move', 1)]
        """
        checked_limit(limit)
        checked_limit(offset, least=0, field="offset")
        user_id, last = self._users.find(user), limit + offset
        found = "SELECT count(*) FROM (SELECT 1 FROM conversations WHERE user_id = ? LIMIT ?)"
        ids, values = "SELECT id FROM conversations WHERE user_id = ?", tuple[Value, ...]([user_id])
        if self._connection.fetch_all(found, (user_id, last + 1))[0][0] > last:  # else all of them are looked at
            ids, values = _LAST_ACTIVE, (user_id, last)
        rows = self._connection.fetch_all(_COUNTED.format(ids=ids), (*values, limit, offset))
        return [_conversation(row) for row in rows]

    def get(self, user: str, conversation: str) -> Conversation:
        """One conversation. Raises NotFound or InvalidInput.

        >>> vault.conversations.get("mia", "move").messages
        1
        """
        user_id = self._users.find(user)
        wanted = self._conversations.conversation_id(user_id or b"", conversation)
        row = self._connection.fetch_one(
            _COUNTED.format(ids="SELECT id FROM conversations WHERE id = ? AND user_id = ?"), (wanted, user_id, 1, 0)
        )
        if row is None:
            raise _no_conversation("nothing was read")
        return _conversation(row)

    def messages(self, user: str, conversation: str, *, after: str | None = None, limit: int = 100) -> Sequence[Moment]:
        """The next messages of a conversation, oldest first: those after the message `after`, or the first.

        Raises NotFound if the conversation does not have that message, InvalidInput.

        >>> [moment.text for moment in vault.conversations.messages("mia", "move", limit=10)]
        ['I moved to Lisbon in May.']
        """
        user_id, after_id = self._users.find(user), None if after is None else parsed_id(after, what="message")
        checked_name(conversation, field="conversation")
        if user_id is None:
            return []
        return self._conversations.page(user_id, conversation, after=after_id, limit=checked_limit(limit))

    def set_title(self, user: str, conversation: str, title: str | None) -> None:
        """Call a conversation something; its name, by which programs know it, stays. Raises NotFound or InvalidInput.

        >>> vault.conversations.set_title("mia", "move", "The move")
        >>> vault.conversations.get("mia", "move").title
        'The move'
        """
        kept, user_id = checked_label(title, field="title"), self._users.find_active(user)
        changed = self._connection.execute(
            "UPDATE conversations SET title = ? WHERE id = ? AND user_id = ?",
            (kept, self._conversations.conversation_id(user_id or b"", conversation), user_id),
        )
        if not changed.rowcount:
            raise _no_conversation("nothing was changed")

    def edit(self, user: str, message: str, text: str) -> Edited:
        """Put another text in the place of a message's; id, moment and place stay.

        The old text is gone for good, from the store and the recall index; the hot tier uses the sealed page it was on again
        in time, or when anything is forgotten. Recall finds the new text at once. Facts drawn from the message stay: they
        are statements of their own. Importing its file again leaves the edited text. Raises NotFound or InvalidInput.

        >>> vault.conversations.edit("mia", said, "I moved to Lisbon in June.").message.text
        'I moved to Lisbon in June.'
        """
        message_id, kept = parsed_id(message, what="message"), checked_text(text)
        user_id = self._users.find_active(user)

        def work() -> None:
            self._check_own(user_id, [message_id])
            self._connection.execute("UPDATE messages SET text = ? WHERE id = ?", (kept, message_id))

        self._connection.write(work)
        assert user_id is not None
        moment = self._conversations.moments(user_id, [message_id])[message_id]
        if self._connection.in_transaction:  # which may still be taken back
            return Edited(moment, log_cleared=False)
        self._let_go(user_id)
        return Edited(moment, log_cleared=self._connection.clear_log())

    def move(self, user: str, messages: Iterable[str], conversation: str) -> int:
        """Move messages to another conversation, new or not, where their moments put them; how many there were.

        Their ids stay, so importing their file again finds them where they are. Raises NotFound or InvalidInput; none
        is moved then.

        >>> vault.conversations.move("mia", [said], "diary")
        1
        >>> [one.name for one in vault.conversations.list("mia")]
        ['diary']
        """
        ids = [parsed_id(message, what="message") for message in dict.fromkeys(messages)]
        name, user_id = checked_name(conversation, field="conversation"), self._users.find_active(user)

        if user_id is None:
            raise NotFound("there is no user of this name; nothing was changed")

        def work() -> None:
            self._check_own(user_id, ids)
            if ids:
                self._merger.move(ids, self._conversations.ensure(user_id, name))

        self._connection.write(work)
        return len(ids)

    def find_duplicates(self, user: str) -> Duplicates:
        """Conversations and messages that look as if they were imported twice. Takes time with the number of messages.

        Two messages are the same if role, text and second are. Nothing is changed: `merge` is yours to call.

        >>> vault.conversations.find_duplicates("mia").conversations
        ()
        """
        user_id = self._users.find(user)
        return Duplicates((), ()) if user_id is None else find_duplicates(self._connection, user_id)

    def merge(self, user: str, *, keep: str, drop: str) -> Merged:
        """Make two conversations one, under the name and title of `keep`; messages in both are there once.

        The name `drop` leads to `keep` from now on: what is recorded or imported under it goes there, once.
        Raises NotFound or InvalidInput; nothing is changed then.

        >>> _ = vault.memory.record("mia", "And to Porto in July.", conversation="move again")
        >>> vault.conversations.merge("mia", keep="move", drop="move again").moved
        1
        """
        user_id = self._users.find(user)

        def work() -> tuple[int, int]:
            kept, dropped = (self._own_conversation(user_id, name) for name in (keep, drop))
            if kept == dropped:
                raise InvalidInput("these are one conversation already; nothing was changed")
            assert user_id is not None
            return self._merger.merge_conversations(user_id, keep=kept, drop=dropped)

        return Merged(*self._connection.write(work))

    def merge_messages(self, user: str, *, keep: str, drop: str) -> None:
        """Make two messages with the same text one: what hangs on `drop` then hangs on `keep`.

        Raises NotFound, or InvalidInput if their texts differ; nothing is changed then.

        >>> again = vault.memory.record("mia", "I moved to Lisbon in May.", conversation="diary")
        >>> vault.conversations.merge_messages("mia", keep=said, drop=again)
        >>> [one.name for one in vault.conversations.list("mia")]
        ['move']
        """
        kept, dropped = parsed_id(keep, what="message"), parsed_id(drop, what="message")
        user_id = self._users.find(user)

        def work() -> None:
            self._check_own(user_id, [kept, dropped])
            assert user_id is not None
            self._merger.merge_messages(user_id, keep=kept, drop=dropped)

        self._connection.write(work)

    def _own_conversation(self, user_id: bytes | None, name: str) -> bytes:
        wanted = self._conversations.conversation_id(user_id or b"", name)
        if not self._connection.fetch_one(
            "SELECT 1 FROM conversations WHERE id = ? AND user_id = ?", (wanted, user_id)
        ):
            raise _no_conversation("nothing was changed")
        return wanted

    def _check_own(self, user_id: bytes | None, messages: Iterable[bytes]) -> None:
        for message_id in messages:
            own = "SELECT 1 FROM messages WHERE id = ? AND user_id = ?"
            if not self._connection.fetch_one(own, (message_id, user_id)):
                raise NotFound(
                    "no message of this user has this id; nothing was changed",
                    hint="`aico conversations show` has the ids",
                )


_LAST_ACTIVE = """WITH RECURSIVE active (id, at, seen) AS (
    SELECT * FROM (SELECT conversation_id, at, conversation_id FROM messages WHERE user_id = ?1
        ORDER BY at DESC, position DESC LIMIT 1)
    UNION ALL
    SELECT m.conversation_id, m.at, CAST(active.seen || m.conversation_id AS BLOB) FROM active JOIN messages m ON m.row_id = (
        SELECT n.row_id FROM messages n WHERE n.user_id = ?1 AND n.at <= active.at AND instr(active.seen, n.conversation_id) = 0
        ORDER BY n.at DESC, n.position DESC LIMIT 1)
    LIMIT ?2)
    SELECT id FROM active"""
"""The last active conversations: from the newest message back, each time to the next of a conversation not seen yet."""

_COUNTED = """SELECT name, title, created_at, last_at,
    (SELECT count(*) FROM messages m WHERE m.conversation_id = c.id) AS messages,
    (SELECT m.at FROM messages m WHERE m.conversation_id = c.id ORDER BY m.at LIMIT 1) AS first_at
    FROM (SELECT * FROM (SELECT id, name, title, created_at,
            (SELECT m.at FROM messages m WHERE m.conversation_id = conversations.id ORDER BY m.at DESC LIMIT 1) AS last_at
            FROM conversations WHERE id IN ({ids}))
        WHERE last_at IS NOT NULL ORDER BY last_at DESC, name LIMIT ? OFFSET ?) c
    ORDER BY last_at DESC, name"""
"""Sorted and cut inside, so that counts are taken for the rows that are shown only."""


def _no_conversation(consequence: str) -> NotFound:
    return NotFound(
        f"the user has no conversation of this name; {consequence}",
        hint="`aico conversations ls` shows those there are",
    )


def _conversation(row: Row) -> Conversation:
    return Conversation(
        name=row["name"],
        title=row["title"],
        messages=row["messages"],
        first_at=from_us(row["first_at"]),
        last_at=from_us(row["last_at"]),
        created_at=from_us(row["created_at"]),
    )
