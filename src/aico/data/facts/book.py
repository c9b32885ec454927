"""The facts of a vault, by the short names of the people they are about: listed, corrected, marked and reviewed."""

from collections.abc import Callable
from datetime import datetime
from typing import TypedDict, TypeVar, Unpack, cast

from aico.clock import to_us
from aico.data.conversations import ConversationRepository
from aico.data.facts.fact import History, KeptFact, Proposal, Proposed, Status, Trust
from aico.data.facts.listing import FactFilter, NameCount, counted, counted_by, listed
from aico.data.facts.repository import FactRepository
from aico.data.libsql import LibSQLConnection, Value
from aico.data.limits import checked_name, checked_page, checked_word
from aico.data.marks import Marking, MarkRepository
from aico.data.row_ids import parsed_id
from aico.data.user import UserService
from aico.errors import InvalidInput, NotFound

_ALL = (1 << 63) - 1

T = TypeVar("T")
KeptFacts = list[KeptFact]  # `list` is a method below
NameCounts = list[NameCount]


class FactChanges(TypedDict, total=False):
    """What may be corrected of a fact. None takes away what may be missing."""

    text: str
    category: str | None
    type: str | None
    confidence: float
    valid_from: datetime | None
    valid_until: datetime | None


class FactBook(Marking):
    """What is held to be true about each person. Any thread may use it.

    `user` is a person's short name; nobody ever sees or changes a fact of another. New facts come by
    `memory.remember`, or from a model by way of `propose` and `accept`.

    >>> old = vault.memory.remember("mia", "Mia lives in Porto.")
    >>> _ = vault.facts.edit("mia", old, text="Mia lives in Lisbon.")
    >>> [fact.text for fact in vault.facts.list("mia")]
    ['Mia lives in Lisbon.']
    """

    def __init__(
        self,
        connection: LibSQLConnection,
        *,
        users: UserService,
        conversations: ConversationRepository,
        facts: FactRepository,
        marks: MarkRepository,
    ) -> None:
        super().__init__(connection, marks)
        self._users, self._conversations, self._facts = users, conversations, facts

    # Reading

    def list(
        self,
        user: str,
        *,
        category: str | None = None,
        type: str | None = None,
        trust: str | None = None,
        favourite: bool | None = None,
        noted: bool | None = None,
        tag: str | None = None,
        message: str | None = None,
        conversation: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        status: str = Status.ACCEPTED,
        closed: bool = False,
        limit: int = 50,
        offset: int = 0,
    ) -> KeptFacts:
        """A page of facts that are believed now, newest first; each filter narrows it down.

        `message` and `conversation` ask for what was drawn from them. `since` and `until` bound when a fact came to
        be believed (until is excluded). `closed` brings those too that were superseded or retracted; `status` asks
        for proposed or rejected ones instead. Raises InvalidInput.

        >>> [one.text for one in vault.facts.list("mia", category="home")]
        ['Mia lives in Lisbon']
        """
        user_id = self._users.find(user)
        limit, offset = checked_page(limit, offset)
        if user_id is None:
            return []
        asked = FactFilter(
            status=_one_of(Status.ALL, status, "status"),
            closed=closed,
            category=checked_word(category, field="category"),
            type=checked_word(type, field="type"),
            trust=None if trust is None else _one_of(Trust.ALL, trust, "trust"),
            favourite=favourite,
            noted=noted,
            tag=None if tag is None else checked_name(tag, field="tag"),
            message=None if message is None else parsed_id(message, what="message"),
            conversation=None if conversation is None else self._conversations.conversation_id(user_id, conversation),
            since_us=None if since is None else to_us(since, field="since"),
            until_us=None if until is None else to_us(until, field="until"),
        )
        rows = listed(self._connection, user_id, asked, limit=limit, offset=offset, newest_first=True)
        return self._facts.kept(user_id, rows)

    def count(self, user: str, *, status: str = Status.ACCEPTED) -> int:
        """How many facts are believed now, or wait for review, or were rejected. Raises InvalidInput.

        >>> vault.facts.count("mia")
        1
        """
        user_id = self._users.find(user)
        asked = FactFilter(status=_one_of(Status.ALL, status, "status"))
        return 0 if user_id is None else counted(self._connection, user_id, asked)

    def categories(self, user: str) -> NameCounts:
        """The categories of what is believed now, by name.

        >>> [(one.name, one.count) for one in vault.facts.categories("mia")]
        [('home', 1)]
        """
        user_id = self._users.find(user)
        return [] if user_id is None else counted_by(self._connection, user_id, "category")

    def types(self, user: str) -> NameCounts:
        """The types of what is believed now, by name.

        >>> vault.facts.types("mia")
        []
        """
        user_id = self._users.find(user)
        return [] if user_id is None else counted_by(self._connection, user_id, "type")

    def get(self, user: str, id: str) -> KeptFact:
        """One fact, also a past, proposed or rejected one. Raises NotFound.

        >>> vault.facts.get("mia", fact).text
        'Mia lives in Lisbon'
        """
        return self._facts.get(self._user(user), id)

    def history(self, user: str, id: str) -> History:
        """How a fact came to be as it is: what it took the place of, what took its place, and each step. Raises NotFound.

        >>> later = vault.facts.edit("mia", fact, text="Mia lives in Porto")
        >>> [one.text for one in vault.facts.history("mia", later).facts]
        ['Mia lives in Lisbon', 'Mia lives in Porto']
        """
        return self._facts.history(self._user(user), id)

    def as_of(self, user: str, instant: datetime, *, limit: int | None = None, offset: int = 0) -> KeptFacts:
        """What was believed at that instant, in the order it came to be; all of it without a limit.

        Sources and marks are those of today. Raises InvalidInput.

        >>> vault.facts.as_of("mia", datetime(2020, 1, 1, tzinfo=UTC))
        []
        """
        at, user_id = to_us(instant, field="instant"), self._users.find(user)
        most, offset = checked_page(_ALL if limit is None else limit, offset)
        return [] if user_id is None else self._facts.as_of(user_id, at, limit=most, offset=offset)

    # Correcting

    def edit(self, user: str, id: str, **changes: Unpack[FactChanges]) -> str:
        """Correct a fact; the id of the corrected one, which takes its place and its marks. The old one is history.

        What is not given stays as it is; None takes away what may be missing. If nothing differs, nothing is written.
        Raises NotFound, or InvalidInput for a fact that is not believed now, or would end before it began.

        >>> later = vault.facts.edit("mia", fact, text="Mia lives in Porto")
        >>> [one.text for one in vault.facts.list("mia")]
        ['Mia lives in Porto']
        """
        columns = _columns(changes)
        return self._write(user, lambda user_id: self._facts.edit(user_id, id, columns)).hex()

    def retract(self, user: str, id: str, *, until: datetime | None = None) -> None:
        """Believe a fact no longer. It was wrong, or with `until` it was true up to then; its history stays.

        Raises NotFound, or InvalidInput for a fact that is not believed now.

        >>> vault.facts.retract("mia", fact)
        >>> vault.facts.count("mia")
        0
        """
        until_us = None if until is None else to_us(until, field="until")
        self._write(user, lambda user_id: self._facts.retract(user_id, id, until=until_us))

    def restore(self, user: str, id: str) -> str:
        """Believe a retracted fact again, from now on; the id of the fact that takes its place.

        Raises NotFound, or InvalidInput for a fact that was not retracted or has a successor.

        >>> vault.facts.retract("mia", fact)
        >>> _ = vault.facts.restore("mia", fact)
        >>> [one.text for one in vault.facts.list("mia")]
        ['Mia lives in Lisbon']
        """
        return self._write(user, lambda user_id: self._facts.restore(user_id, id)).hex()

    # Reviewing

    def propose(
        self,
        user: str,
        text: str,
        *,
        message: str,
        model: str,
        type: str | None = None,
        category: str | None = None,
        confidence: float = 0.5,
    ) -> Proposed:
        """Put what a model found in a message into the review queue; what became of it.

        The same finding twice is one; a rejected or forgotten one is not proposed again. Raises InvalidInput.

        >>> vault.facts.propose("mia", "Mia likes the sea", message=said, model="a model")
        <Proposed.WAITING: 'waiting'>
        >>> vault.facts.count("mia")
        1
        """
        found = Proposal(text, message=message, model=model, type=type, category=category, confidence=confidence)
        return self._write(user, lambda user_id: self._facts.propose(user_id, found))

    def proposed(self, user: str, *, limit: int = 50, offset: int = 0) -> KeptFacts:
        """What models found and nobody has looked at yet, oldest first. None of it is used until it is accepted.

        >>> _ = vault.facts.propose("mia", "Mia likes the sea", message=said, model="a model")
        >>> [one.text for one in vault.facts.proposed("mia")]
        ['Mia likes the sea']
        """
        user_id = self._users.find(user)
        limit, offset = checked_page(limit, offset)
        if user_id is None:
            return []
        asked = FactFilter(status=Status.PROPOSED)
        rows = listed(self._connection, user_id, asked, limit=limit, offset=offset, newest_first=False)
        return self._facts.kept(user_id, rows)

    def accept(self, user: str, id: str) -> None:
        """Believe a proposed fact from now on, also one rejected before. Raises NotFound.

        >>> _ = vault.facts.propose("mia", "Mia likes the sea", message=said, model="a model")
        >>> vault.facts.accept("mia", vault.facts.proposed("mia")[0].id)
        >>> vault.facts.count("mia")
        2
        """
        self._write(user, lambda user_id: self._facts.accept(user_id, id))

    def edit_and_accept(self, user: str, id: str, **changes: Unpack[FactChanges]) -> str:
        """Believe a proposed fact in the person's own version; the id of that one. Raises as `edit`.

        >>> _ = vault.facts.propose("mia", "Mia likes the see", message=said, model="a model")
        >>> _ = vault.facts.edit_and_accept("mia", vault.facts.proposed("mia")[0].id, text="Mia likes the sea")
        >>> [one.text for one in vault.facts.list("mia")]
        ['Mia likes the sea', 'Mia lives in Lisbon']
        """
        columns = _columns(changes)

        def work(user_id: bytes) -> bytes:
            self._facts.accept(user_id, id)
            return self._facts.edit(user_id, id, columns)

        return self._write(user, work).hex()

    def reject(self, user: str, id: str) -> None:
        """Never believe a proposed fact, and never propose it again. Raises NotFound, InvalidInput.

        >>> _ = vault.facts.propose("mia", "Mia hates the sea", message=said, model="a model")
        >>> vault.facts.reject("mia", vault.facts.proposed("mia")[0].id)
        >>> vault.facts.proposed("mia")
        []
        """
        self._write(user, lambda user_id: self._facts.reject(user_id, id))

    def _user(self, user: str) -> bytes:
        return _known(self._users.find(user))

    def _owner(self, user: str, id: str) -> tuple[bytes, bytes]:
        user_id, fact_id = _known(self._users.find_active(user)), parsed_id(id, what="fact")
        if not self._facts.facts(user_id, [fact_id]):
            raise NotFound("this user holds no fact with this id; nothing was changed", hint="`list` shows the ids")
        return user_id, fact_id

    def _write(self, user: str, work: Callable[[bytes], T]) -> T:
        return self._connection.write(lambda: work(_known(self._users.find_active(user))))


def _known(user_id: bytes | None) -> bytes:
    if user_id is None:
        raise NotFound("there is no user of this name; nothing was changed")
    return user_id


def _columns(changes: FactChanges) -> dict[str, Value]:
    """The changes as the table has them."""
    for name in changes:
        if name not in FactChanges.__annotations__:
            raise InvalidInput(f"a fact has no {name!r} to edit; nothing was written", field=name)
    columns = cast("dict[str, Value]", dict(changes))
    for name in ("valid_from", "valid_until"):
        if columns.get(name) is not None:
            columns[name] = to_us(cast("datetime", columns[name]), field=name)  # it refuses what is no datetime
    return columns


def _one_of(known: tuple[str, ...], value: str, field: str) -> str:
    if value not in known:
        raise InvalidInput(f"{field} is one of {', '.join(known)}", field=field)
    return value
