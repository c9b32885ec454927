"""What a person thinks of it all: signals, actions, ratings and answers, about a memory or about nothing in particular."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from sys import float_info

from aico.clock import IdSource, from_us, to_us
from aico.data.json_values import JsonObject, checked_json_object, read_json
from aico.data.libsql import LibSQLConnection, Row, Value
from aico.data.limits import checked_limit, checked_name
from aico.data.merged_rows import conversation_named
from aico.data.row_ids import NaturalIds, parsed_id
from aico.data.user import UserService
from aico.errors import InvalidInput, NotFound

KINDS = ("signal", "action", "rating", "survey")
SUBJECTS: Mapping[str, tuple[str, ...]] = {
    "message": ("messages",),
    "fact": ("facts",),
    "hit": ("messages", "facts"),
    "conversation": ("conversations",),
}
"""What feedback may be about, and the tables in which its id may be found."""


@dataclass(frozen=True, slots=True)
class FeedbackEvent:
    """One event. What `is_sensitive` stays on this device: no export, no sync and no view but `list` ever has it."""

    id: str
    kind: str
    category: str = field(repr=False)
    subject: str | None
    subject_id: str | None
    value: float | None = field(repr=False)
    payload: JsonObject = field(repr=False)
    is_sensitive: bool
    at: datetime


@dataclass(frozen=True, slots=True)
class FeedbackStat:
    """How often one kind of event came, and the mean of its values where it has some."""

    kind: str
    category: str = field(repr=False)
    count: int
    value_mean: float | None = field(repr=False)


class FeedbackRepository:
    """Feedback of each user, named by the short name. Events are added and deleted, never changed. Any thread may use it.

    >>> _ = vault.feedback.record("mia", "rating", "message_quality", value=4)
    >>> [(event.category, event.value) for event in vault.feedback.list("mia")]
    [('message_quality', 4.0)]
    """

    def __init__(
        self, connection: LibSQLConnection, *, users: UserService, natural_ids: NaturalIds, ids: IdSource
    ) -> None:
        self._connection, self._users = connection, users
        self._natural_ids, self._ids = natural_ids, ids

    def record(
        self,
        user: str,
        kind: str,
        category: str,
        *,
        message: str | None = None,
        fact: str | None = None,
        hit: str | None = None,
        conversation: str | None = None,
        value: float | None = None,
        payload: JsonObject | None = None,
        is_sensitive: bool = False,
        at: datetime | None = None,
    ) -> str:
        """Keep one event and return its id. `kind` is signal, action, rating or survey; `category` is the caller's word.

        It is about at most one thing: a message, a fact or a recalled hit by id, or a conversation by name; it is
        forgotten together with that. Raises InvalidInput, or NotFound for a thing the user does not have.

        >>> _ = vault.feedback.record("mia", "rating", "message_quality", message=said, value=4)
        """
        _check_kind(kind)
        category = checked_name(category, field="category")
        kept, now = checked_json_object(payload, field="payload"), self._ids.now_us()
        number, instant = _checked_value(value), now if at is None else to_us(at)
        about = {"message": message, "fact": fact, "hit": hit, "conversation": conversation}
        table = "sensitive_feedback" if is_sensitive else "feedback_events"

        def work() -> bytes:
            user_id, event_id = self._users.ensure(user), self._ids.new_id()
            subject, subject_id = self._subject(user_id, about)
            self._connection.execute(
                f"INSERT INTO {table} (id, user_id, kind, category, subject, subject_id, value, payload, at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (event_id, user_id, kind, category, subject, subject_id, number, kept, instant),
            )
            return event_id

        return self._connection.write(work).hex()

    def list(
        self,
        user: str,
        *,
        kind: str | None = None,
        category: str | None = None,
        about: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        sensitive: bool = True,
        limit: int = 100,
        offset: int = 0,
    ) -> Sequence[FeedbackEvent]:
        """Events, newest first. `about` is the id of a message, fact, hit or conversation; `until` is excluded.

        Without `sensitive`, only what may leave this device. Raises InvalidInput.

        >>> _ = vault.feedback.record("mia", "signal", "thumbs_up", message=said)
        >>> [event.category for event in vault.feedback.list("mia", about=said)]
        ['thumbs_up']
        """
        checked_limit(limit)
        checked_limit(offset, least=0, field="offset")
        where, values = self._where(user, kind, category, about, since, until)
        if where is None:
            return []
        rows = self._connection.fetch_all(
            f"{_both(f'SELECT * , {{is_sensitive}} AS is_sensitive FROM {{table}} WHERE {where}', sensitive)} "
            "ORDER BY at DESC, id DESC LIMIT ? OFFSET ?",
            (*values * (2 if sensitive else 1), limit, offset),
        )
        return [_event(row) for row in rows]

    def stats(
        self, user: str, *, since: datetime | None = None, until: datetime | None = None
    ) -> Sequence[FeedbackStat]:
        """Counts and mean values of each kind and category, the most frequent first; sensitive events are counted too.

        >>> for stars in (3, 4):
        ...     _ = vault.feedback.record("mia", "rating", "message_quality", value=stars)
        >>> [(stat.count, stat.value_mean) for stat in vault.feedback.stats("mia")]
        [(2, 3.5)]
        """
        where, values = self._where(user, None, None, None, since, until)
        if where is None:
            return []
        events = _both(f"SELECT kind, category, value FROM {{table}} WHERE {where}", sensitive=True)
        rows = self._connection.fetch_all(
            f"SELECT kind, category, count(*), avg(value) FROM ({events}) "
            "GROUP BY kind, category ORDER BY count(*) DESC, kind, category",
            values * 2,
        )
        return [FeedbackStat(*row) for row in rows]

    def delete(self, user: str, event: str) -> None:
        """Delete one event. Raises NotFound.

        >>> vault.feedback.delete("mia", vault.feedback.record("mia", "signal", "thumbs_up"))
        >>> vault.feedback.list("mia")
        []
        """
        event_id, user_id = parsed_id(event, what="feedback event"), self._users.find(user)

        def work() -> int:
            return sum(
                self._connection.execute(
                    f"DELETE FROM {table} WHERE id = ? AND user_id = ?", (event_id, user_id)
                ).rowcount
                for table in ("feedback_events", "sensitive_feedback")
            )

        if user_id is None or not self._connection.write(work):
            raise NotFound("no feedback event of this user has this id; nothing was deleted")

    def _subject(self, user_id: bytes, about: Mapping[str, str | None]) -> tuple[str | None, bytes | None]:
        """The one thing named, and its id."""
        named = [(subject, name) for subject, name in about.items() if name is not None]
        if len(named) > 1:
            raise InvalidInput("feedback is about one thing; nothing was written", hint="name one of them")
        if not named:
            return None, None
        [(subject, name)] = named
        if subject == "conversation":
            checked = checked_name(name, field="conversation")
            subject_id = conversation_named(self._connection, self._natural_ids, user_id, checked)
        else:
            subject_id = parsed_id(name, what=subject)
        for table in SUBJECTS[subject]:
            found = f"SELECT 1 FROM {table} WHERE id = ? AND user_id = ?"
            if self._connection.fetch_one(found, (subject_id, user_id)):
                return subject, subject_id
        raise NotFound(f"the user has no such {subject}; nothing was written")

    def _where(
        self,
        user: str,
        kind: str | None,
        category: str | None,
        about: str | None,
        since: datetime | None,
        until: datetime | None,
    ) -> tuple[str | None, tuple[Value, ...]]:
        """The condition and its values; None where there is no such user."""
        if kind is not None:
            _check_kind(kind)
        conditions: list[tuple[str, Value]] = [("user_id = ?", self._users.find(user))]
        if kind is not None:
            conditions.append(("kind = ?", kind))
        if category is not None:
            conditions.append(("category = ?", checked_name(category, field="category")))
        if about is not None:
            conditions.append(("subject_id = ?", parsed_id(about, what="subject")))
        if since is not None:
            conditions.append(("at >= ?", to_us(since, field="since")))
        if until is not None:
            conditions.append(("at < ?", to_us(until, field="until")))
        if conditions[0][1] is None:
            return None, ()
        return " AND ".join(text for text, _ in conditions), tuple(value for _, value in conditions)


def _both(select: str, sensitive: bool) -> str:
    """The select over what may leave this device and, if wanted, what may not."""
    open_part = select.format(table="feedback_events", is_sensitive=0)
    return (
        f"{open_part} UNION ALL {select.format(table='sensitive_feedback', is_sensitive=1)}" if sensitive else open_part
    )


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise InvalidInput(f"the kind of feedback is one of {', '.join(KINDS)}; nothing was written", field="kind")


def _checked_value(value: float | None) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= float_info.max:
        raise InvalidInput("value is not a finite number; nothing was written", field="value")
    return float(value)


def _event(row: Row) -> FeedbackEvent:
    return FeedbackEvent(
        id=row["id"].hex(),
        kind=row["kind"],
        category=row["category"],
        subject=row["subject"],
        subject_id=row["subject_id"].hex() if row["subject_id"] else None,
        value=row["value"],
        payload=read_json(row["payload"]),
        is_sensitive=bool(row["is_sensitive"]),
        at=from_us(row["at"]),
    )
