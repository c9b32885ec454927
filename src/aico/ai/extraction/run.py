"""One pass over what was said since the last: messages are shown to a model, its findings wait for review."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from aico.ai.extraction.answers import Finding, Refusal, read_answer
from aico.ai.extraction.extractor import Excerpt, FactExtractor, Turn
from aico.clock import from_us
from aico.data.change_feed import ChangeFeed
from aico.data.facts import FactRepository, Proposal, Proposed
from aico.data.libsql import LibSQLConnection, Row
from aico.data.user import UserService
from aico.errors import InvalidInput, StorageError

MESSAGES_AT_ONCE = 40
"""Messages between two positions: after a crash, or when the model goes away, so many are shown to it again at most."""
TURNS_ASKED, TURNS_BEFORE = 10, 4
"""New turns in one question, and older ones that make them understandable."""

_TURN = "SELECT m.id, m.conversation_id, m.role, m.speaker, m.text, m.at, m.utc_offset_min, m.position"
_CHANGED = """FROM change_feed f JOIN messages m ON m.id = f.key
    WHERE f.number > ? AND f.number <= ? AND f.table_name = 'messages' AND f.column_mask <> 0 AND m.user_id = ?"""


@dataclass(slots=True)
class ExtractionReport:
    """What one run did. `known` findings were there before, `forgotten` ones stay forgotten."""

    messages: int = 0
    questions: int = 0
    proposed: int = 0
    known: int = 0
    forgotten: int = 0
    refused: Counter[Refusal] = field(default_factory=Counter)


class Extraction:
    """Asks a model for facts when it is told to, and at no other time. Any thread may use it.

    A run remembers, for each user and model, the change it has reached. Running again shows a model only what is new.

    >>> _ = vault.memory.record("mia", "I keep bees.", conversation="c")
    >>> vault.extraction.waiting("mia", "a model")
    1
    """

    def __init__(
        self, connection: LibSQLConnection, *, feed: ChangeFeed, users: UserService, facts: FactRepository
    ) -> None:
        self._connection, self._feed, self._users, self._facts = connection, feed, users, facts

    def run(
        self,
        user: str,
        extractor: FactExtractor,
        *,
        message_limit: int | None = None,
        on_progress: Callable[[int], object] | None = None,
    ) -> ExtractionReport:
        """Show the messages that are new to this model to it, and put what it finds in the user's review queue.

        Nothing is believed by this: `facts.proposed` shows the queue. `message_limit` ends the run early, in steps of
        40 messages; the next one goes on there, as it does after ModelUnavailable, which keeps what was found before.
        Raises InvalidInput, StorageError inside a transaction, or as the extractor does.

        >>> found = {"turn": 1, "text": "Mia moved to Lisbon in May", "type": "event", "category": "home", "confidence": 1}
        >>> class Parrot:
        ...     model = "parrot"
        ...     def extract(self, excerpt):
        ...         return json.dumps({"facts": [found]})
        >>> vault.extraction.run("mia", Parrot()).proposed
        1
        >>> [fact.text for fact in vault.facts.proposed("mia")]
        ['Mia moved to Lisbon in May']
        """
        if message_limit is not None and (type(message_limit) is not int or message_limit < 1):
            raise InvalidInput("message_limit is a whole number from 1 on; nothing was asked", field="message_limit")
        if self._connection.in_transaction:  # the model would keep every writer waiting
            raise StorageError("a model is not asked inside a transaction; nothing was asked", hint="end yours first")
        report, user_id = ExtractionReport(), self._users.find_active(user)
        newest = self._feed.newest()
        reached = newest if user_id is None else self._position(user_id, extractor.model)
        most = math.inf if message_limit is None else message_limit
        while user_id is not None and reached < newest and report.messages < most:
            messages, reached = self._next(user_id, reached, newest)
            found = [pair for question in self._questions(messages) for pair in self._ask(extractor, question, report)]
            self._keep(user_id, extractor.model, found, reached, report)
            report.messages += len(messages)
            if on_progress is not None:
                on_progress(report.messages)
        return report

    def waiting(self, user: str, model: str) -> int:
        """How many messages this model was not shown yet.

        >>> vault.extraction.waiting("mia", "a model")
        1
        """
        user_id = self._users.find(user)
        if user_id is None:
            return 0
        reached = self._position(user_id, model)
        sql, parameters = f"SELECT count(DISTINCT f.key) {_CHANGED}", (reached, self._feed.newest(), user_id)
        if reached < 0 or not self._feed.tells_from(reached):
            sql = "SELECT count(*) FROM messages WHERE row_id > ? AND row_id <= ? AND user_id = ?"
            parameters = (max(0, -reached), 1 << 62, user_id)
        [(count,)] = self._connection.fetch_committed(sql, parameters)
        return int(count)

    def _next(self, user_id: bytes, reached: int, newest: int) -> tuple[list[Row], int]:
        """The next messages in the order they were recorded, each once, and the change they end with."""
        if reached < 0 or not self._feed.tells_from(reached):
            return self._next_of_all(user_id, max(0, -reached), newest)
        rows = self._connection.fetch_committed(
            f"{_TURN}, f.number {_CHANGED} ORDER BY f.number LIMIT ?", (reached, newest, user_id, MESSAGES_AT_ONCE)
        )
        position = rows[-1]["number"] if len(rows) == MESSAGES_AT_ONCE else newest
        return list({row["id"]: row for row in rows}.values()), position

    def _next_of_all(self, user_id: bytes, last: int, newest: int) -> tuple[list[Row], int]:
        """The next of all messages, for a model of whose position the feed no longer tells. Until it has seen them all,
        its position is the last one's row, negative."""
        rows = self._connection.fetch_committed(
            f"{_TURN}, m.row_id FROM messages m WHERE m.user_id = ? AND m.row_id > ? ORDER BY m.row_id LIMIT ?",
            (user_id, last, MESSAGES_AT_ONCE),
        )
        return rows, -rows[-1]["row_id"] if len(rows) == MESSAGES_AT_ONCE else newest

    def _questions(self, messages: Sequence[Row]) -> Iterator["_Question"]:
        """The messages by conversation, a few at a time, with the turns before them."""
        in_order = sorted(messages, key=lambda row: (row["conversation_id"], row["at"], row["position"]))
        for _, group in groupby(in_order, key=lambda row: bytes(row["conversation_id"])):
            turns = list(group)
            for start in range(0, len(turns), TURNS_ASKED):
                asked = turns[start : start + TURNS_ASKED]
                yield _Question(self._before(asked[0]), asked)

    def _before(self, row: Row) -> list[Row]:
        older = self._connection.fetch_committed(
            f"{_TURN} FROM messages m WHERE m.conversation_id = ? AND (m.at, m.position) < (?, ?) "
            "ORDER BY m.at DESC, m.position DESC LIMIT ?",
            (row["conversation_id"], row["at"], row["position"], TURNS_BEFORE),
        )
        return older[::-1]

    def _ask(
        self, extractor: FactExtractor, question: "_Question", report: ExtractionReport
    ) -> list[tuple[Finding, str]]:
        answer = extractor.extract(question.excerpt())
        findings, refused = read_answer(answer, set(range(1, len(question.new) + 1)))
        report.questions += 1
        report.refused += refused
        return [(finding, question.new[finding.turn - 1]["id"].hex()) for finding in findings]

    def _keep(
        self,
        user_id: bytes,
        model: str,
        found: Sequence[tuple[Finding, str]],
        position: int,
        report: ExtractionReport,
    ) -> None:
        """Findings and position in one transaction: a crash loses both or neither."""
        with self._connection.transaction():
            outcomes = [self._facts.propose(user_id, _proposal(finding, message, model)) for finding, message in found]
            self._connection.execute(
                "INSERT INTO extraction_positions (user_id, model, number) VALUES (?, ?, ?) "
                "ON CONFLICT (user_id, model) DO UPDATE SET number = excluded.number",
                (user_id, model, position),
            )
        report.proposed += outcomes.count(Proposed.WAITING)
        report.known += outcomes.count(Proposed.KNOWN)
        report.forgotten += outcomes.count(Proposed.FORGOTTEN)

    def _position(self, user_id: bytes, model: str) -> int:
        row = self._connection.fetch_one(
            "SELECT number FROM extraction_positions WHERE user_id = ? AND model = ?", (user_id, model)
        )
        return 0 if row is None else int(row["number"])


@dataclass(frozen=True, slots=True)
class _Question:
    """New messages of one conversation and those before them."""

    before: list[Row]
    new: list[Row]

    def excerpt(self) -> Excerpt:
        numbers = [*[None] * len(self.before), *range(1, len(self.new) + 1)]
        return Excerpt(tuple(map(_turn, numbers, [*self.before, *self.new])))


def _turn(number: int | None, row: Row) -> Turn:
    at = from_us(row["at"], utc_offset_min=row["utc_offset_min"])
    return Turn(number, row["speaker"] or row["role"], row["text"], at)


def _proposal(finding: Finding, message: str, model: str) -> Proposal:
    return Proposal(
        finding.text.strip(),
        message=message,
        model=model,
        type=finding.type,
        category=finding.category.strip() or None,
        confidence=finding.confidence,
    )
