"""One way to ask, whatever is asked: the quickest engine that gives the exact answer is chosen, and it is said why.

recent=…                     → the hot tier, which falls through to the truth
id=…                         → one row of the truth
role=, since=, …             → SQL on the person's own views
sql=…                        → the same; aggregations over large tables → DuckDB, where its columns are fresh enough
a text                       → recall by words, and by meaning where a model is chosen
"""

import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from time import perf_counter
from typing import Any, Literal, Protocol
from uuid import UUID

from aico.ai.memory.embedding import Embeddings
from aico.ai.memory.hits import Hit
from aico.ai.memory.manager import KINDS, MemoryManager
from aico.clock import from_us, to_us
from aico.data.change_feed import ChangeFeed
from aico.data.conversations import ConversationRepository, Moment
from aico.data.facts import Fact, FactRepository
from aico.data.libsql import LibSQLConnection, Value
from aico.data.libsql.personal_sql import Examined, PersonalSql
from aico.data.personal_tables import COLUMNS, FACTS_WHERE, LONGEST, MESSAGES_WHERE, SOURCES, VIEWS
from aico.data.row_ids import parsed_id, same_name
from aico.data.user import UserService
from aico.errors import AicoError, InvalidInput, NotFound

Engine = Literal["hot tier", "sql", "recall", "duckdb"]

LARGE_ROWS = 50_000
"""From so many rows on an aggregation is worth asking the columns for: SQLite takes some 50 ms then."""
LAG_MAX = 10_000
"""Changes that columns read on within the time that SQLite would take for a large table."""
ROWS_MAX, SECONDS_MAX = 10_000, 10.0

_AGGREGATES = frozenset({"count", "sum", "avg", "min", "max"})
_ID = re.compile(r"[0-9a-fA-F]{32}")
_LOOKS_LIKE_SQL = re.compile(r"\s*(select|with|values)\b", re.IGNORECASE)
_NAMES_TABLE = re.compile(r"\bfrom\b", re.IGNORECASE)
# What a row costs, for estimates: measured at a million messages (docs/decisions/0041).
_ROW_US: Mapping[Engine, float] = {"hot tier": 2, "sql": 1.2, "recall": 0.02, "duckdb": 0.05}
_FIXED_US: Mapping[Engine, float] = {"hot tier": 50, "sql": 200, "recall": 1_500, "duckdb": 3_000}


class Analytical(Protocol):
    """An engine that holds columns of the same tables and answers aggregations over them much faster than SQL does."""

    @property
    def name(self) -> str:
        """What `aico views` calls it."""
        ...

    def shared_columns(self) -> Mapping[str, Sequence[str]]:
        """By table, the columns that hold what `aico.data.personal_tables` has under the same names."""
        ...

    def means_the_same(self, sql: str) -> bool:
        """Whether it answers a statement exactly as SQLite does, as far as its words tell: in doubt, not."""
        ...

    def position(self, user_id: bytes, tables: Sequence[str]) -> int | None:
        """The last change that these tables of a person reflect, None where they are not loaded. Loads nothing."""
        ...

    def answer(
        self, user_id: bytes, sql: str, parameters: Sequence[Value], *, tables: Sequence[str], seconds_max: float
    ) -> Sequence[tuple[Any, ...]]:
        """Read on to the newest change, and answer. Raises as SQL does."""
        ...


@dataclass(frozen=True, slots=True)
class Explanation:
    """Which engine answered, and why."""

    engine: Engine
    why: str
    rows_estimated: int
    """How many rows it was expected to look at, at most."""
    rows: int
    """How many the answer has."""
    estimated_ms: float
    took_ms: float


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows and the names of their columns; `items` are the memories themselves, where the rows are memories."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]] = field(repr=False)
    explanation: Explanation
    cut: bool = False
    """Whether there were more rows."""
    items: tuple[Moment | Fact | Hit, ...] = field(default=(), repr=False)

    def records(self) -> list[dict[str, Any]]:
        """The rows by column name."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass(frozen=True, slots=True)
class _Route:
    engine: Engine
    why: str
    rows_estimated: int


class Query:
    """Asks the engine that fits. Any thread may use it.

    >>> _ = vault.memory.record("mia", "I moved to Lisbon in May.", conversation="c1")
    >>> vault.query("mia", sql="SELECT role, count(*) AS n FROM messages GROUP BY role").records()
    [{'role': 'user', 'n': 1}]
    >>> vault.query("mia", recent="c1").explanation.engine
    'hot tier'
    """

    def __init__(
        self,
        connection: LibSQLConnection,
        *,
        memory: MemoryManager,
        embeddings: Embeddings,
        users: UserService,
        conversations: ConversationRepository,
        facts: FactRepository,
        feed: ChangeFeed,
        analytical: Analytical | None,
    ) -> None:
        self._connection, self._users = connection, users
        self._memory, self._embeddings = memory, embeddings
        self._conversations, self._facts, self._feed = conversations, facts, feed
        self._sql, self._analytical = PersonalSql(connection, VIEWS, longest=LONGEST), analytical
        self._asked = Counter[bytes]()  # aggregations over large tables that no columns were there for
        self._lock = threading.Lock()  # guards the line above

    def __call__(
        self,
        user: str,
        request: str | None = None,
        *,
        recent: str | None = None,
        id: str | None = None,  # the word a caller expects
        sql: str | None = None,
        parameters: Sequence[Value] = (),
        conversation: str | None = None,
        role: str | None = None,
        kinds: Sequence[str] = KINDS,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 20,
        max_lag: int = LAG_MAX,
        seconds_max: float = SECONDS_MAX,
    ) -> Answer:
        """Answer one request about a person's memory.

        `request` is a question, an id, or SQL that reads; `recent` names a conversation, `id` a memory. Without any of
        them `conversation`, `role`, `kinds`, `since` and `until` choose memories, newest first. SQL sees the tables of
        `tables()`, which hold this person's rows alone; `limit` does not cut it. Columns that are more than `max_lag`
        changes behind are not asked; the others read on first, so every answer is of now.

        Raises InvalidInput, NotFound for a user or id that is not there, Busy for SQL that takes too long.

        >>> vault.query("mia", "Lisbon").explanation.engine
        'recall'
        >>> vault.query("mia", sql="SELECT count(*) AS n FROM facts WHERE category = ?", parameters=["home"]).records()
        [{'n': 1}]
        """
        user_id = self._users.find(user)
        if user_id is None:
            raise NotFound("there is no user of this name")
        if type(limit) is not int or limit < 1:
            raise InvalidInput("limit is a whole number from 1 on", field="limit")
        if sum(given is not None for given in (request, recent, id, sql)) > 1:
            raise InvalidInput("a request, a conversation, an id or SQL: one of them is asked for", field="request")
        if request is not None and _ID.fullmatch(request.strip()):
            id = request.strip()
        if id is not None:
            return self._by_id(user_id, id)
        if recent is not None:
            return self._recent(user, recent, limit)
        if sql is None and request is not None and _LOOKS_LIKE_SQL.match(request) and self._is_sql(user_id, request):
            sql, request = request, None
        if sql is not None:
            return self._by_sql(user_id, sql, parameters, max_lag, seconds_max)
        if request is not None:
            where = {"conversation": conversation, "kinds": kinds, "since": since, "until": until}
            return self._recall(user, request, limit, role, where)
        return self._chosen(user_id, conversation, role, kinds, since, until, limit, seconds_max)

    def tables(self) -> Mapping[str, Sequence[str]]:
        """The tables that SQL may name, with their columns.

        >>> "text" in vault.query.tables()["messages"]
        True
        """
        return COLUMNS

    # The ways to answer

    def _recent(self, user: str, conversation: str, limit: int) -> Answer:
        route = _Route("hot tier", "the last turns of a conversation; what is not hot comes from the truth", limit)
        return _timed(route, lambda: _of_items(self._memory.recent(user, conversation, limit=limit)))

    def _by_id(self, user_id: bytes, id: str) -> Answer:
        wanted = parsed_id(id, what="memory")

        def find() -> "_Found":
            items: list[Moment | Fact] = [*self._conversations.moments(user_id, [wanted]).values()]
            items += self._facts.facts(user_id, [wanted]).values()
            if not items:
                raise NotFound("no memory of this user has this id", hint="`recall` shows the ids")
            return _of_items(items)

        return _timed(_Route("sql", "one row, by its id", 1), find)

    def _recall(self, user: str, request: str, limit: int, role: str | None, where: Mapping[str, Any]) -> Answer:
        if role is not None:
            raise InvalidInput("a question is not narrowed down by role; nothing was searched", field="role")
        way = "words alone, as no model is chosen" if self._embeddings.model is None else "words and meaning"
        route = _Route("recall", f"a question in words: by {way}", self._rows_of(("messages", "facts")))
        return _timed(route, lambda: _of_items(self._memory.recall(user, request, limit=limit, **where)))

    def _chosen(
        self,
        user_id: bytes,
        conversation: str | None,
        role: str | None,
        kinds: Sequence[str],
        since: datetime | None,
        until: datetime | None,
        limit: int,
        seconds_max: float,
    ) -> Answer:
        if isinstance(kinds, str) or set(kinds) - set(KINDS) or not kinds:
            raise InvalidInput(f"kinds are {' and '.join(KINDS)}", hint='for example kinds=("fact",)', field="kinds")
        parts = {"message": MESSAGES_WHERE}
        if conversation is None and role is None:  # a fact has neither
            parts["fact"] = FACTS_WHERE
        chosen = [sql for kind, sql in parts.items() if kind in kinds]
        if not chosen:
            raise InvalidInput("a fact belongs to no conversation and has no role; nothing was searched", field="kinds")
        sql = f"{' UNION ALL '.join(chosen)} ORDER BY at DESC, id DESC"
        named = None if conversation is None else same_name(conversation)
        values = {
            "conversation": named,
            "role": role,
            "since": _bound(since, field="since"),
            "until": _bound(until, field="until"),
        }
        used = {name: value for name, value in values.items() if f":{name}" in sql}
        route = _Route("sql", "memories chosen by their columns", self._rows_of(tuple(f"{kind}s" for kind in kinds)))
        return _timed(route, lambda: self._read(user_id, sql, used, rows_max=limit, seconds_max=seconds_max))

    def _by_sql(
        self, user_id: bytes, sql: str, parameters: Sequence[Value], max_lag: int, seconds_max: float
    ) -> Answer:
        examined = self._sql.examine(user_id, sql, parameters)
        tables, rows = sorted(examined.tables), self._rows_of(tuple(examined.tables))
        reason = self._why_not_columns(user_id, sql, examined, rows, max_lag)
        if not reason and self._analytical is not None:
            analytical = self._analytical
            route = _Route("duckdb", f"an aggregation over up to {rows:,} rows, whose columns are there", rows)
            try:
                return _timed(
                    route,
                    lambda: _Found(
                        examined.names,
                        _plain(analytical.answer(user_id, sql, parameters, tables=tables, seconds_max=seconds_max)),
                    ),
                )
            except AicoError as exc:
                reason = f"the columns could not answer ({type(exc).__name__})"
        route = _Route("sql", reason, rows)
        return _timed(route, lambda: self._read(user_id, sql, parameters, rows_max=ROWS_MAX, seconds_max=seconds_max))

    def _read(self, user_id: bytes, sql: str, parameters: Any, *, rows_max: int, seconds_max: float) -> "_Found":
        found = self._sql.run(user_id, sql, parameters, rows_max=rows_max, seconds_max=seconds_max)
        return _Found(found.columns, found.rows, cut=found.cut)

    # Choosing

    def _is_sql(self, user_id: bytes, text: str) -> bool:
        """Whether a text that begins like SQL is some. What SQLite compiles, or refuses to do, is no question; nor what
        names a column that a table of ours lacks: SQLite has found the table then."""
        try:
            self._sql.examine(user_id, text)
        except InvalidInput as exc:
            misses_column = "no such column" in str(exc) and _NAMES_TABLE.search(text) is not None
            return "refused" in str(exc) or misses_column
        return True

    def _why_not_columns(self, user_id: bytes, sql: str, examined: Examined, rows: int, max_lag: int) -> str:
        """Why SQLite answers; empty where the columns do."""
        if not examined.functions & _AGGREGATES:
            return "rows are wanted, not a sum over them"
        if rows < LARGE_ROWS:
            return f"an aggregation over at most {rows:,} rows, which SQL reads at once"
        if self._analytical is None:
            return "no columns are kept here"
        shared = self._analytical.shared_columns()
        if any(column not in shared.get(table, ()) for table, column in examined.columns if column):
            return "it asks for what is in no column"
        try:
            if examined.functions - _AGGREGATES or not self._analytical.means_the_same(sql):
                return "to the columns' engine it could mean something else"
            position = self._analytical.position(user_id, sorted(examined.tables))
        except AicoError as exc:
            return f"the columns cannot be used ({type(exc).__name__})"
        if position is None:
            with self._lock:
                self._asked[user_id] += 1
                first = self._asked[user_id] == 1
            return "the columns are not loaded; they are when this is asked for again" if first else ""
        lag = self._feed.newest() - position
        return f"the columns are {lag:,} changes behind, more than max_lag" if lag > max_lag else ""

    def _rows_of(self, tables: Sequence[str]) -> int:
        """How many rows these tables have at most, of all people: the number of the newest, which costs nothing to find."""
        newest = [
            self._connection.fetch_one(f"SELECT max(row_id) FROM {SOURCES[name]}") for name in tables if name in SOURCES
        ]
        return sum(row[0] or 0 for row in newest if row is not None)


@dataclass(frozen=True, slots=True)
class _Found:
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    items: tuple[Moment | Fact | Hit, ...] = ()
    cut: bool = False


def _of_items(items: Sequence[Moment | Fact | Hit]) -> _Found:
    """Memories as rows; of several kinds the columns that all have."""
    kinds = [tuple(one.name for one in fields(item)) for item in items]
    columns = tuple(name for name in (kinds[0] if kinds else ()) if all(name in names for names in kinds))
    rows = [
        tuple(value for name, value in zip(names, astuple(item), strict=True) if name in columns)
        for item, names in zip(items, kinds, strict=True)
    ]
    return _Found(columns, rows, tuple(items))


def _timed(route: _Route, find: "Callable[[], _Found]") -> Answer:
    began = perf_counter()
    found = find()
    took_ms = (perf_counter() - began) * 1e3
    estimated_ms = (_FIXED_US[route.engine] + _ROW_US[route.engine] * route.rows_estimated) / 1e3
    explanation = Explanation(
        route.engine, route.why, route.rows_estimated, len(found.rows), round(estimated_ms, 3), round(took_ms, 3)
    )
    return Answer(found.columns, found.rows, explanation, found.cut, found.items)


def _plain(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """What the columns' engine gave, as SQL would have: ids in hexadecimal, instants as text, flags as numbers."""
    return [tuple(map(_plain_value, row)) for row in rows]


def _plain_value(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise InvalidInput("a whole number has more than 64 bits", field="sql")
    if isinstance(value, UUID):
        return value.hex
    if isinstance(value, Decimal):
        return int(value) if value.as_tuple().exponent == 0 else float(value)
    return _as_text(value) if isinstance(value, datetime) else value


def _bound(at: datetime | None, *, field: str) -> str | None:
    """What instants are compared with. Raises InvalidInput for a naive datetime and for what is none."""
    return None if at is None else _as_text(from_us(to_us(at, field=field)))


def _as_text(at: datetime) -> str:
    """An instant as the personal tables have it."""
    return at.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
