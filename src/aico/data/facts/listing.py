"""Which facts a reader wants, as one statement over an index."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from aico.data.facts.fact import Status
from aico.data.libsql import LibSQLConnection, Row, Value
from aico.data.marks import FAVOURITES, NOTED, TAGGED


@dataclass(frozen=True, slots=True)
class NameCount:
    """A category, type or tag in use, and how many have it."""

    name: str = field(repr=False)
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FactFilter:
    """What is asked of facts; None asks nothing. Instants are microseconds, ids the 16 bytes."""

    status: str = Status.ACCEPTED
    closed: bool = False
    """Those too that were superseded or retracted."""
    category: str | None = field(default=None, repr=False)
    type: str | None = None
    trust: str | None = None
    favourite: bool | None = None
    noted: bool | None = None
    tag: str | None = field(default=None, repr=False)
    message: bytes | None = None
    conversation: bytes | None = None
    since_us: int | None = None
    until_us: int | None = None

    def where(self, user_id: bytes) -> tuple[str, list[Value]]:
        """The condition and its values. What few facts have is looked up first; all else is read in order."""
        few = [*self._marked(user_id), *self._drawn()]
        owner = "+f.user_id" if few else "f.user_id"  # the plus takes the index away from it
        clauses: list[tuple[str, list[Value]]] = [(f"{owner} = ?", [user_id]), ("f.status = ?", [self.status]), *few]
        for clause, value in (
            ("f.category = ?", self.category),
            ("f.type = ?", self.type),
            ("f.trust = ?", self.trust),
            ("f.recorded_at >= ?", self.since_us),
            ("f.recorded_at < ?", self.until_us),
        ):
            if value is not None:
                clauses.append((clause, [value]))
        if self.favourite is False:
            clauses.append((f"f.id NOT IN ({FAVOURITES})", [user_id]))
        if self.noted is False:
            clauses.append((f"f.id NOT IN ({NOTED})", [user_id]))
        if not self.closed:
            clauses.append(("f.superseded_at IS NULL", []))
        return " AND ".join(clause for clause, _ in clauses), [value for _, values in clauses for value in values]

    def _marked(self, user_id: bytes) -> Iterator[tuple[str, list[Value]]]:
        if self.favourite:
            yield f"f.id IN ({FAVOURITES})", [user_id]
        if self.noted:
            yield f"f.id IN ({NOTED})", [user_id]
        if self.tag is not None:
            yield f"f.id IN ({TAGGED})", [user_id, self.tag]

    def _drawn(self) -> Iterator[tuple[str, list[Value]]]:
        if self.message is not None:
            yield "f.id IN (SELECT fact_id FROM fact_sources WHERE message_id = ?)", [self.message]
        if self.conversation is not None:
            drawn = "messages m JOIN fact_sources s ON s.message_id = m.id WHERE m.conversation_id = ?"
            yield f"f.id IN (SELECT s.fact_id FROM {drawn})", [self.conversation]


def listed(
    connection: LibSQLConnection, user_id: bytes, asked: FactFilter, *, limit: int, offset: int, newest_first: bool
) -> list[Row]:
    """A page of the facts asked for, by when they were recorded."""
    where, values = asked.where(user_id)
    order = "DESC" if newest_first else "ASC"
    return connection.fetch_all(
        f"SELECT f.* FROM facts f WHERE {where} ORDER BY f.recorded_at {order}, f.row_id {order} LIMIT ? OFFSET ?",
        (*values, limit, offset),
    )


def counted(connection: LibSQLConnection, user_id: bytes, asked: FactFilter) -> int:
    """How many facts were asked for."""
    where, values = asked.where(user_id)
    row = connection.fetch_one(f"SELECT count(*) FROM facts f WHERE {where}", values)
    return 0 if row is None else int(row[0])


def counted_by(connection: LibSQLConnection, user_id: bytes, column: str) -> list[NameCount]:
    """How many believed facts there are of each category or type, by name; those without one are left out."""
    rows = connection.fetch_all(
        f"SELECT f.{column}, count(*) FROM facts f WHERE f.user_id = ? AND f.status = 'accepted' "
        f"AND f.superseded_at IS NULL AND f.{column} IS NOT NULL GROUP BY 1 ORDER BY 1",
        (user_id,),
    )
    return [NameCount(name, count) for name, count in rows]
