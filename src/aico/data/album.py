"""The Memory Album: everything a person said and what became of it, by day and month, with what they marked."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Literal

from aico.clock import EPOCH, from_us, to_us
from aico.data.conversations import ConversationRepository, Moment
from aico.data.facts import NameCount
from aico.data.libsql import LibSQLConnection, Value
from aico.data.limits import checked_name, checked_page
from aico.data.marks import FAVOURITES, NOTED, TAGGED, Marking, MarkRepository, Marks
from aico.data.row_ids import parsed_id, rows_by_id
from aico.data.time_zones import zone_or_utc
from aico.data.user import UserService
from aico.errors import InvalidInput, NotFound

_ALWAYS = (-(1 << 63), (1 << 63) - 1)
_DAY_MIN = 24 * 60
_TO_YEAR_1_US = (EPOCH - datetime.min.replace(tzinfo=UTC)) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Span:
    """A day or a month of the timeline: its first day and what it holds."""

    start: date
    messages: int
    facts: int


@dataclass(frozen=True, slots=True)
class KeptMoment(Moment):
    """A message with what the person marked it with and the believed facts that were drawn from it."""

    facts: tuple[str, ...] = ()
    marks: Marks = field(default_factory=Marks)


class Album(Marking):
    """The pages of one person's memory. `user` is the short name everywhere. Any thread may use it.

    >>> swim = vault.memory.record("mia", "We swam in the lake.", conversation="c")
    >>> vault.album.tag("mia", swim, "summer")
    >>> [moment.text for moment in vault.album.messages("mia", tag="summer")]
    ['We swam in the lake.']
    """

    def __init__(
        self,
        connection: LibSQLConnection,
        *,
        users: UserService,
        conversations: ConversationRepository,
        marks: MarkRepository,
    ) -> None:
        super().__init__(connection, marks)
        self._users, self._conversations = users, conversations

    def timeline(
        self,
        user: str,
        *,
        by: Literal["day", "month"] = "day",
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Span]:
        """The days or months that hold something, newest first.

        A message belongs to the day its author's clock showed, a fact to the day it came to be believed, in the
        user's time zone (UTC without one). Reads every message in the span. Raises InvalidInput.

        >>> [(span.messages, span.facts) for span in vault.album.timeline("mia")]
        [(1, 1)]
        """
        if by not in ("day", "month"):
            raise InvalidInput("a timeline is by day or by month", field="by")
        user_id, (first, last) = self._users.find(user), _bounds(since, until)
        if user_id is None:
            return []
        messages, facts = Counter[date](), Counter[date]()
        for day, count in self._message_days(user_id, first, last):
            messages[day if by == "day" else day.replace(day=1)] += count
        for day in self._fact_days(user_id, first, last):
            facts[day if by == "day" else day.replace(day=1)] += 1
        return [Span(day, messages[day], facts[day]) for day in sorted({*messages, *facts}, reverse=True)]

    def messages(
        self,
        user: str,
        *,
        conversation: str | None = None,
        favourite: bool | None = None,
        noted: bool | None = None,
        tag: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> list[KeptMoment]:
        """A page of messages, newest first; each filter narrows it down (until is excluded). Raises InvalidInput.

        >>> [moment.text for moment in vault.album.messages("mia", limit=10)]
        ['I moved to Lisbon in May.']
        """
        user_id, (first, last) = self._users.find(user), _bounds(since, until)
        limit, offset = checked_page(limit, offset)
        if user_id is None:
            return []
        marked_ones = bool(favourite or noted or tag is not None)
        owner = (
            "+m.user_id" if marked_ones or conversation is not None else "m.user_id"
        )  # looked for among few, by these
        at, place = ("+m.at", "+m.conversation_id") if marked_ones else ("m.at", "m.conversation_id")
        clauses: list[tuple[str, list[Value]]] = [(f"{owner} = ? AND {at} >= ? AND {at} < ?", [user_id, first, last])]
        if conversation is not None:
            clauses.append((f"{place} = ?", [self._conversations.conversation_id(user_id, conversation)]))
        for chosen, marked in ((favourite, FAVOURITES), (noted, NOTED)):
            if chosen is not None:
                clauses.append((f"m.id {'IN' if chosen else 'NOT IN'} ({marked})", [user_id]))
        if tag is not None:
            clauses.append((f"m.id IN ({TAGGED})", [user_id, checked_name(tag, field="tag")]))
        found = self._conversations.found(
            f"SELECT m.row_id FROM messages m WHERE {' AND '.join(clause for clause, _ in clauses)} "
            "ORDER BY m.at DESC, m.position DESC LIMIT ? OFFSET ?",
            (*(value for _, values in clauses for value in values), limit, offset),
        )
        return self._with_marks(user_id, found)

    def get(self, user: str, id: str) -> KeptMoment:
        """One message. Raises NotFound.

        >>> vault.album.get("mia", said).conversation
        'move'
        """
        user_id, message_id = self._memory(self._users.find(user), id)
        found = self._kept(user_id, [message_id])
        if not found:
            raise NotFound("this is a fact, not a message", hint="`facts.get` shows it")
        return found[0]

    def list_of(self, user: str, ids: Iterable[str]) -> list[KeptMoment]:
        """The messages with these ids that there are, in the order of the ids: the sources of a fact, say.

        >>> [moment.text for moment in vault.album.list_of("mia", [said])]
        ['I moved to Lisbon in May.']
        """
        user_id, wanted = self._users.find(user), [parsed_id(id_, what="message") for id_ in ids]
        return [] if user_id is None else self._kept(user_id, wanted)

    def list_ids_from(self, user: str, source: str) -> list[str]:
        """The ids of the messages whose source id begins so, in the order they were recorded: all of one program's, say.

        >>> first = vault.memory.record("mia", "Off to the lake.", conversation="c", source_id="chat 1")
        >>> vault.album.list_ids_from("mia", "chat ") == [first]
        True
        """
        user_id = self._users.find(user)
        if user_id is None:
            return []
        sql = "SELECT id FROM messages WHERE user_id = ? AND substr(source_id, 1, ?) = ? ORDER BY row_id"
        return [row["id"].hex() for row in self._connection.fetch_all(sql, (user_id, len(source), source))]

    def whose(self, id: str) -> str | None:
        """The short name of the user whose message this is, for interfaces that name a memory by its id alone.

        >>> vault.album.whose(said)
        'mia'
        """
        sql = "SELECT u.name FROM messages m JOIN users u ON u.id = m.user_id WHERE m.id = ?"
        row = self._connection.fetch_one(sql, (parsed_id(id, what="message"),))
        return None if row is None else str(row["name"])

    def tags(self, user: str) -> list[NameCount]:
        """Every tag in use, on messages and facts, by name.

        >>> vault.album.tag("mia", said, "travel")
        >>> [(tag.name, tag.count) for tag in vault.album.tags("mia")]
        [('travel', 1)]
        """
        user_id = self._users.find(user)
        return [] if user_id is None else [NameCount(*one) for one in self._marks.tag_counts(user_id)]

    def _kept(self, user_id: bytes, ids: list[bytes]) -> list[KeptMoment]:
        moments = self._conversations.moments(user_id, ids)
        return self._with_marks(user_id, [moments[id_] for id_ in ids if id_ in moments])

    def _with_marks(self, user_id: bytes, moments: list[Moment]) -> list[KeptMoment]:
        ids = [bytes.fromhex(moment.id) for moment in moments]
        marks, facts = self._marks.of(user_id, ids), self._facts_drawn_from(user_id, ids)
        return [
            KeptMoment(
                **{name: getattr(moment, name) for name in Moment.__dataclass_fields__},
                facts=tuple(facts.get(id_, ())),
                marks=marks.get(id_, Marks()),
            )
            for id_, moment in zip(ids, moments, strict=True)
        ]

    def _facts_drawn_from(self, user_id: bytes, messages: list[bytes]) -> dict[bytes, list[str]]:
        """The ids of the believed facts, by message."""
        found = defaultdict[bytes, list[str]](list)
        sql = (
            "SELECT s.message_id, f.id FROM fact_sources s JOIN facts f ON f.id = s.fact_id "
            "WHERE s.message_id IN ({ids}) AND +f.user_id = ? AND f.status = 'accepted' AND f.superseded_at IS NULL "
            "ORDER BY s.row_id"
        )
        for message_id, fact_id in rows_by_id(self._connection, sql, messages, user_id):
            found[message_id].append(fact_id.hex())
        return found

    def _message_days(self, user_id: bytes, first: int, last: int) -> Iterator[tuple[date, int]]:
        rows = self._connection.fetch_all(
            f"SELECT ((m.at + {_TO_YEAR_1_US}) / 60000000 + m.utc_offset_min) / {_DAY_MIN} AS day, count(*) "
            "FROM messages m WHERE m.user_id = ? AND m.at >= ? AND m.at < ? GROUP BY day",
            (user_id, first, last),
        )
        yield from ((date.fromordinal(day + 1), count) for day, count in rows)

    def _fact_days(self, user_id: bytes, first: int, last: int) -> Iterator[date]:
        rows = self._connection.fetch_all(
            "SELECT recorded_at FROM facts WHERE user_id = ? AND status = 'accepted' "
            "AND recorded_at >= ? AND recorded_at < ? AND superseded_at IS NULL",
            (user_id, first, last),
        )
        zone = self._zone(user_id)
        yield from (from_us(at).astimezone(zone).date() for (at,) in rows)

    def _zone(self, user_id: bytes) -> tzinfo:
        row = self._connection.fetch_one("SELECT time_zone FROM users WHERE id = ?", (user_id,))
        return zone_or_utc(row["time_zone"] if row else None)

    def _owner(self, user: str, id: str) -> tuple[bytes, bytes]:
        return self._memory(self._users.find_active(user), id)

    def _memory(self, user_id: bytes | None, id: str) -> tuple[bytes, bytes]:
        owner = parsed_id(id, what="memory")
        for table in ("messages", "facts"):
            if user_id and self._connection.fetch_one(
                f"SELECT 1 FROM {table} WHERE id = ? AND user_id = ?", (owner, user_id)
            ):
                return user_id, owner
        raise NotFound("this user has no memory with this id; nothing was changed", hint="`recall` shows the ids")


def _bounds(since: datetime | None, until: datetime | None) -> tuple[int, int]:
    first, last = _ALWAYS
    return (
        first if since is None else to_us(since, field="since"),
        last if until is None else to_us(until, field="until"),
    )
