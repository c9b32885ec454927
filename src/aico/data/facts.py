"""What is held to be true about a person, since when, and what it took the place of."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from aico.clock import IdSource, from_us, to_us
from aico.data.libsql import LibSQLConnection, Row
from aico.data.limits import checked_label, checked_text
from aico.data.row_ids import parsed_id, rows_by_id
from aico.errors import InvalidInput, NotFound


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact. It was believed from `recorded_at` until `superseded_at`, None while it still is."""

    id: str
    text: str = field(repr=False)
    category: str | None
    confidence: float
    source: str | None = field(repr=False)
    valid_from: datetime | None
    valid_until: datetime | None
    recorded_at: datetime
    superseded_at: datetime | None
    supersedes: str | None


class FactRepository:
    """Facts of the truth. Nothing is overwritten: a correction closes the old fact. Any thread may use it."""

    def __init__(self, connection: LibSQLConnection, *, ids: IdSource) -> None:
        self._connection, self._ids = connection, ids

    def add(
        self,
        user_id: bytes,
        text: str,
        *,
        category: str | None,
        confidence: float,
        source: str | None,
        valid_from: datetime | None,
        supersedes: str | None,
    ) -> bytes:
        """Record a fact, closing the one it supersedes; its id. Call it inside a transaction.

        A `source` that is the id of one of the user's messages ties the fact to it: they are forgotten together.
        Raises InvalidInput, or NotFound if `supersedes` is not a fact this user holds.
        """
        if not isinstance(confidence, int | float) or not 0 <= confidence <= 1:
            raise InvalidInput("confidence lies between 0 and 1; nothing was written")
        text, category = checked_text(text), checked_label(category, field="category")
        source = checked_label(source, field="source")
        since = None if valid_from is None else to_us(valid_from, field="valid_from")
        fact_id, now = self._ids.new_id(), self._ids.now_us()
        superseded = None if supersedes is None else self._close(user_id, supersedes, by=fact_id, at=now, until=since)
        self._connection.execute(
            "INSERT INTO facts (id, user_id, text, category, confidence, trust, source, source_message_id, valid_from, "
            "recorded_at, supersedes) VALUES (?, ?, ?, ?, ?, 'user', ?, ?, ?, ?, ?)",
            (
                fact_id,
                user_id,
                text,
                category,
                confidence,
                source,
                self._message_named(user_id, source),
                since,
                now,
                superseded,
            ),
        )
        self._note(user_id, fact_id, "remembered", by=superseded, at=now)
        return fact_id

    def facts(self, user_id: bytes, ids: Iterable[bytes]) -> dict[bytes, Fact]:
        """The facts with these ids that belong to this user, by id."""
        rows = rows_by_id(self._connection, "SELECT * FROM facts WHERE id IN ({ids}) AND user_id = ?", ids, user_id)
        return {row["id"]: _fact(row) for row in rows}

    def current(self, user_id: bytes) -> list[Fact]:
        """What is believed now, oldest first."""
        rows = self._connection.fetch_all(
            "SELECT * FROM facts WHERE user_id = ? AND superseded_at IS NULL ORDER BY row_id", (user_id,)
        )
        return [_fact(row) for row in rows]

    def _close(self, user_id: bytes, fact: str, *, by: bytes, at: int, until: int | None) -> bytes:
        fact_id = parsed_id(fact, what="fact")
        row = self._connection.fetch_one(
            "SELECT superseded_at FROM facts WHERE id = ? AND user_id = ?", (fact_id, user_id)
        )
        if row is None:
            raise NotFound("the fact to supersede is not one this user holds; nothing was written")
        if row["superseded_at"] is not None:
            raise InvalidInput(
                "the fact to supersede was superseded before; nothing was written", hint="supersede the newer one"
            )
        self._connection.execute(
            "UPDATE facts SET superseded_at = ?, valid_until = coalesce(valid_until, ?) WHERE id = ?",
            (at, at if until is None else until, fact_id),
        )
        self._note(user_id, fact_id, "superseded", by=by, at=at)
        return fact_id

    def _message_named(self, user_id: bytes, source: str | None) -> bytes | None:
        try:
            message_id = parsed_id(source or "", what="message")
        except NotFound:
            return None
        known = self._connection.fetch_one("SELECT 1 FROM messages WHERE id = ? AND user_id = ?", (message_id, user_id))
        return message_id if known else None

    def _note(self, user_id: bytes, fact_id: bytes, change: str, *, by: bytes | None, at: int) -> None:
        self._connection.execute(
            "INSERT INTO fact_history (id, user_id, fact_id, change, by_fact_id, at) VALUES (?, ?, ?, ?, ?, ?)",
            (self._ids.new_id(), user_id, fact_id, change, by, at),
        )


def _fact(row: Row) -> Fact:
    return Fact(
        id=row["id"].hex(),
        text=row["text"],
        category=row["category"],
        confidence=row["confidence"],
        source=row["source"],
        valid_from=_instant(row["valid_from"]),
        valid_until=_instant(row["valid_until"]),
        recorded_at=from_us(row["recorded_at"]),
        superseded_at=_instant(row["superseded_at"]),
        supersedes=row["supersedes"].hex() if row["supersedes"] else None,
    )


def _instant(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else from_us(microseconds)
