"""What was said: conversations and their messages, in order."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from aico.clock import IdSource, from_us, to_us, utc_offset_minutes
from aico.data.libsql import LibSQLConnection, Row, Value
from aico.data.limits import checked_label, checked_name, checked_text, checked_word
from aico.data.merged_rows import conversation_led_to, conversation_named, lead
from aico.data.row_ids import NaturalIds, rows_by_id
from aico.errors import InvalidInput, NotFound

PROGRESS_EVERY = 1000


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, as it is recorded.

    `at` is an aware datetime, now if it is missing; its UTC offset is kept. `source_id` names the message where it
    comes from: recording the same one again changes nothing.
    """

    text: str = field(repr=False)
    role: str = field(default="user", kw_only=True)
    conversation: str = field(kw_only=True, repr=False)
    speaker: str | None = field(default=None, kw_only=True, repr=False)
    at: datetime | None = field(default=None, kw_only=True)
    source_id: str | None = field(default=None, kw_only=True, repr=False)


@dataclass(frozen=True, slots=True)
class Moment:
    """One recorded message."""

    id: str
    text: str = field(repr=False)
    role: str
    conversation: str = field(repr=False)
    speaker: str | None = field(repr=False)
    at: datetime
    source_id: str | None = field(repr=False)
    position: int = field(default=0, repr=False)
    """Orders messages of one instant: it rises as they are recorded."""


class Outcome(Enum):
    """What became of a message that was to be recorded."""

    ADDED = "added"
    REPEATED = "repeated"  # it was there already and stays as it is
    FORGOTTEN = "forgotten"  # it was forgotten on purpose and stays so


@dataclass(frozen=True, slots=True)
class Recorded:
    """A message's id and what became of it."""

    id: bytes
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class _Place:
    """Where messages go: the id that their conversation's name gives, from which their own ids follow, and the row."""

    name: str = field(repr=False)
    named: bytes
    conversation: bytes
    there: bool


@dataclass(frozen=True, slots=True)
class _MetBefore:
    """Of some messages, by id: those that were forgotten, those that are there, and where those lie whose id is taken."""

    forgotten: set[bytes] = field(default_factory=set)
    there: set[bytes] = field(default_factory=set)
    elsewhere: dict[bytes, bytes] = field(default_factory=dict)


class ConversationRepository:
    """Messages of the truth. Any thread may use it."""

    def __init__(self, connection: LibSQLConnection, *, natural_ids: NaturalIds, ids: IdSource) -> None:
        self._connection, self._natural_ids, self._ids = connection, natural_ids, ids

    def add(
        self,
        user_id: bytes,
        messages: Sequence[Message],
        *,
        return_forgotten: bool = False,
        before: int = 0,
        on_progress: Callable[[int], object] | None = None,
    ) -> list[Recorded]:
        """Record messages in the order given; one outcome for each. Call it inside a transaction.

        With `return_forgotten` what was forgotten is recorded again. Raises InvalidInput, naming the message and the
        field, before anything is written; `before` messages of the same call came in earlier transactions.
        """
        several = before + len(messages) > 1
        checked = [
            _checked_in_place(message, number, several=several) for number, message in enumerate(messages, before + 1)
        ]
        recorded: list[Recorded] = []
        while some := checked[len(recorded) : len(recorded) + PROGRESS_EVERY]:
            recorded += self._add_some(user_id, some, return_forgotten)
            if on_progress is not None and len(some) == PROGRESS_EVERY:
                on_progress(len(recorded))
        return recorded

    def recent(self, user_id: bytes, conversation: str, *, limit: int) -> list[Moment]:
        """The last `limit` messages of a conversation, oldest first; none if there is no such conversation."""
        rows = self._connection.fetch_all(
            f"{_SELECT_MOMENTS} WHERE m.conversation_id = ? AND m.user_id = ? ORDER BY m.at DESC, m.position DESC LIMIT ?",
            (self.conversation_id(user_id, conversation), user_id, limit),
        )
        return [_moment(row) for row in reversed(rows)]

    def page(self, user_id: bytes, conversation: str, *, after: bytes | None, limit: int) -> list[Moment]:
        """The next `limit` messages of a conversation, oldest first: those after a message of it, or the first."""
        conversation_id = self.conversation_id(user_id, conversation)
        position: tuple[Value, ...] = ()
        if after is not None:
            found = self._connection.fetch_one(
                "SELECT at, position FROM messages WHERE id = ? AND conversation_id = ?", (after, conversation_id)
            )
            if found is None:
                raise NotFound("the conversation has no message of this id; nothing was read")
            position = tuple(found)
        rows = self._connection.fetch_all(
            f"{_SELECT_MOMENTS} WHERE m.conversation_id = ? AND m.user_id = ? "
            f"{'AND (m.at, m.position) > (?, ?)' if position else ''} ORDER BY m.at, m.position LIMIT ?",
            (conversation_id, user_id, *position, limit),
        )
        return [_moment(row) for row in rows]

    def moments(self, user_id: bytes, ids: Iterable[bytes]) -> dict[bytes, Moment]:
        """The messages with these ids that belong to this user, by id."""
        rows = rows_by_id(
            self._connection, f"{_SELECT_MOMENTS} WHERE m.id IN ({{ids}}) AND +m.user_id = ?", ids, user_id
        )
        return {row["id"]: _moment(row) for row in rows}

    def found(self, row_ids: str, values: Sequence[Value]) -> list[Moment]:
        """The messages that a statement finds, by their `row_id`, newest first: those of one time lie side by side.

        An id would have to be looked up in an index as large as all messages, at a place of its own for each.
        """
        rows = self._connection.fetch_all(
            f"{_SELECT_MOMENTS} WHERE m.row_id IN ({row_ids}) ORDER BY m.at DESC, m.position DESC", values
        )
        return [_moment(row) for row in rows]

    def ensure(self, user_id: bytes, name: str) -> bytes:
        """The id of the conversation that goes by this name, made if new. Call it inside a transaction."""
        place = self._place(user_id, checked_name(name, field="conversation"))
        self._begin_missing(user_id, [place])
        return place.conversation

    def conversation_id(self, user_id: bytes, name: str) -> bytes:
        """The id that a conversation of this name has or would have; that of another, where it was merged into it."""
        return conversation_named(
            self._connection, self._natural_ids, user_id, checked_name(name, field="conversation")
        )

    def set_title(self, user_id: bytes, name: str, title: str) -> bool:
        """Give a conversation a title, unless it has one or no message; whether it was given. Call it inside a transaction.

        Raises InvalidInput. A title comes from elsewhere, so it never takes the place of the one a person gave, and
        nothing of a forgotten conversation comes back with it.
        """
        return bool(
            self._connection.execute(
                "UPDATE conversations SET title = ? WHERE id = ? AND user_id = ? AND title IS NULL "
                "AND EXISTS (SELECT 1 FROM messages m WHERE m.conversation_id = conversations.id)",
                (checked_text(title, field="title"), self.conversation_id(user_id, name), user_id),
            ).rowcount
        )

    def _place(self, user_id: bytes, name: str) -> _Place:
        named = self._natural_ids.conversation(user_id, name)
        row = self._connection.fetch_one("SELECT user_id FROM conversations WHERE id = ?", (named,))
        if row is not None and row["user_id"] == user_id:
            return _Place(name, named, named, there=True)
        merged = conversation_led_to(self._connection, user_id, named)
        free = named if row is None else self._ids.new_id()  # somebody else's row was planted under the id
        return _Place(name, named, merged or free, there=merged is not None)

    def _begin_missing(self, user_id: bytes, places: Iterable[_Place]) -> None:
        """Make the conversations that are not there. One whose name led to a forgotten one begins anew."""
        for place in places:
            if not place.there:
                if place.conversation == place.named:
                    self._connection.execute("DELETE FROM merged_rows WHERE id = ?1 OR into_id = ?1", (place.named,))
                else:
                    self._lead(user_id, "conversation", place.named, to=place.conversation)
                self._connection.execute(
                    "INSERT INTO conversations (id, user_id, name, created_at) VALUES (?, ?, ?, ?)",
                    (place.conversation, user_id, place.name, self._ids.now_us()),
                )

    def _lead(self, user_id: bytes, kind: str, old: bytes, *, to: bytes) -> None:
        lead(self._connection, user_id, kind, old, to=to, at=self._ids.now_us())

    def _add_some(self, user_id: bytes, messages: Sequence[Message], return_forgotten: bool) -> list[Recorded]:
        """Find out what there is of all of them first, then write what is new."""
        places = {name: self._place(user_id, name) for name in dict.fromkeys(m.conversation for m in messages)}
        ids = self._message_ids(user_id, [(places[message.conversation], message.source_id) for message in messages])
        sourced = [id for id, message in zip(ids, messages, strict=True) if message.source_id is not None]
        met = self._met_before(user_id, sourced, return_forgotten) if sourced else _MetBefore()
        recorded, new = list[Recorded](), list[tuple[bytes, Message]]()
        for named, message in zip(ids, messages, strict=True):
            message_id = met.elsewhere.get(named, named)
            if message_id in met.forgotten:
                recorded.append(Recorded(message_id, Outcome.FORGOTTEN))
            elif message_id in met.there:
                recorded.append(Recorded(message_id, Outcome.REPEATED))
            else:
                recorded.append(Recorded(message_id, Outcome.ADDED))
                met.there.add(message_id)
                new.append((message_id, message))
        self._begin_missing(user_id, [places[name] for name in dict.fromkeys(m.conversation for _, m in new)])
        for id, message in new:  # one by one: `execute_many` takes a savepoint, whose journal costs more than all this
            self._connection.execute(
                _INSERT, self._row(id, user_id, places[message.conversation].conversation, message)
            )
        return recorded

    def _met_before(self, user_id: bytes, ids: Sequence[bytes], return_forgotten: bool) -> "_MetBefore":
        """What became earlier of messages that have an id where they come from."""
        forgotten = {
            bytes(row["id"])
            for row in rows_by_id(
                self._connection, "SELECT id FROM erasures WHERE id IN ({ids}) AND +user_id = ?", ids, user_id
            )
        }
        if return_forgotten:
            for id in forgotten:
                self._connection.execute("DELETE FROM erasures WHERE id = ?", (id,))
            forgotten = set()
        owners = {
            bytes(row["id"]): row["user_id"]
            for row in rows_by_id(self._connection, "SELECT id, user_id FROM messages WHERE id IN ({ids})", ids)
        }
        there = {id for id, owner in owners.items() if owner == user_id}
        elsewhere = {id: self._ids.new_id() for id in owners.keys() - there - forgotten}
        for named, message_id in elsewhere.items():  # somebody else's row was planted under the id
            self._lead(user_id, "message", named, to=message_id)
        return _MetBefore(forgotten, there, elsewhere)

    def _message_ids(self, user_id: bytes, messages: Sequence[tuple[_Place, str | None]]) -> list[bytes]:
        """A new id for each message, or, where it has one where it comes from, what follows from that.

        Of a message that was merged into another it is the other's.
        """
        named = [
            None if source is None else self._natural_ids.message(place.named, source) for place, source in messages
        ]
        if not any(named):
            return [self._ids.new_id() for _ in messages]
        sql = "SELECT id, into_id FROM merged_rows WHERE id IN ({ids}) AND +user_id = ?"
        rows = rows_by_id(self._connection, sql, filter(None, named), user_id)
        merged = {row["id"]: bytes(row["into_id"]) for row in rows}
        return [self._ids.new_id() if id is None else merged.get(id, id) for id in named]

    def _row(self, message_id: bytes, user_id: bytes, conversation_id: bytes, message: Message) -> tuple[Value, ...]:
        at = self._ids.now_us() if message.at is None else to_us(message.at)
        offset = 0 if message.at is None else utc_offset_minutes(message.at)
        return (
            message_id,
            user_id,
            conversation_id,
            message.role,
            message.speaker,
            message.text,
            at,
            offset,
            self._ids.tick(),
            message.source_id,
        )


_INSERT = """INSERT INTO messages
    (id, user_id, conversation_id, role, speaker, text, at, utc_offset_min, position, source_id)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

_SELECT_MOMENTS = """SELECT m.id, m.text, m.role, m.speaker, m.at, m.utc_offset_min, m.source_id, m.position,
    c.name AS conversation
    FROM messages m JOIN conversations c ON c.id = m.conversation_id"""


def checked_message(message: Message) -> Message:
    """The message with its names in Unicode's NFC. Raises InvalidInput, naming the field."""
    if not isinstance(message, Message):
        raise InvalidInput(f"a message is an aico.Message, not {type(message).__name__}; nothing was written")
    if message.at is not None:
        to_us(message.at)
    return Message(
        checked_text(message.text),
        role=checked_name(message.role, field="role"),
        conversation=checked_name(message.conversation, field="conversation"),
        speaker=checked_word(message.speaker, field="speaker"),
        at=message.at,
        source_id=checked_label(message.source_id, field="source_id"),
    )


def _checked_in_place(message: Message, number: int, *, several: bool) -> Message:
    try:
        return checked_message(message)
    except InvalidInput as exc:
        if not several:
            raise
        raise InvalidInput(f"message {number:,}: {exc}", hint=exc.hint, field=exc.field) from None


def _moment(row: Row) -> Moment:
    """From the columns of `_SELECT_MOMENTS`, in their order: looking each up by its name takes longer than all the rest."""
    id, text, role, speaker, at, utc_offset_min, source_id, position, conversation = row
    return Moment(
        id=id.hex(),
        text=text,
        role=role,
        conversation=conversation,
        speaker=speaker,
        at=from_us(at, utc_offset_min=utc_offset_min),
        source_id=source_id,
        position=position,
    )
