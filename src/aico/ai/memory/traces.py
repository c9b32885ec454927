"""What else carries the content of a memory: notes, tags, titles, preferences, feedback, tasks, items, log lines.

Two ways lead to them. With a subject, whatever holds every content word of it. In any case, whatever quotes a
forgotten text in whole, if that has `QUOTED_FROM` characters or more: a shorter one may be said by chance.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from aico.data.json_values import read_json
from aico.data.libsql import LibSQLConnection, Row, Value

QUOTED_FROM = 12
_ROWS_AT_ONCE = 5_000
_IN_THE_FEED = "id IN (SELECT key FROM change_feed WHERE number > :number AND table_name = '{table}')"
_LINES_SINCE = "key > :line"
_ALL = "1"


@dataclass(frozen=True, slots=True)
class _Place:
    """A column that may carry content: how its rows are read (key, id, text, JSON, at, conversation), how one lets go.

    `changed` holds of those that came or changed since a moment, or of all where nothing tells.
    """

    table: str
    rows: str
    let_go: str
    changed: str = ""

    def changed_rows(self) -> str:
        """The condition on them."""
        return self.changed or _IN_THE_FEED.format(table=self.table)


def _of_memory(table: str, column: str) -> str:
    """Rows about a memory stand where and when the memory does."""
    return (
        f"SELECT x.row_id AS key, x.id AS id, x.{column} AS text, NULL AS json, coalesce(m.at, f.valid_from, f.recorded_at) AS at, "
        f"m.conversation_id AS conversation FROM {table} x LEFT JOIN messages m ON m.id = x.owner_id "
        f"LEFT JOIN facts f ON f.id = x.owner_id WHERE x.user_id = :user AND x.{column} IS NOT NULL"
    )


def _of_table(table: str, at: str, *, text: str = "NULL", json: str = "NULL", conversation: str = "NULL") -> str:
    return (
        f"SELECT row_id AS key, id, {text} AS text, {json} AS json, {at} AS at, {conversation} AS conversation "
        f"FROM {table} WHERE user_id = :user AND coalesce({text}, {json}) IS NOT NULL"
    )


_PLACES = (
    *(
        _Place(
            "memory_marks",
            _of_memory("memory_marks", column),
            f"UPDATE memory_marks SET {column} = NULL WHERE row_id = ?",
        )
        for column in ("note", "tone")
    ),
    _Place("memory_tags", _of_memory("memory_tags", "tag"), "DELETE FROM memory_tags WHERE row_id = ?"),
    *(
        _Place(
            "facts",
            _of_table("facts", "coalesce(valid_from, recorded_at)", text=column),
            f"UPDATE facts SET {column} = NULL WHERE row_id = ?",
        )
        for column in ("source", "category")
    ),
    _Place(
        "conversations",
        _of_table("conversations", "created_at", text="title", conversation="id"),
        "UPDATE conversations SET title = NULL WHERE row_id = ?",
    ),
    _Place(
        "preferences",
        _of_table("preferences", "updated_at", json="value"),
        "DELETE FROM preferences WHERE row_id = ?",
    ),
    *(
        _Place(
            table,
            _of_table(table, "at", text="category", json="payload"),
            f"DELETE FROM {table} WHERE row_id = ?",
            changed,
        )
        for table, changed in (("feedback_events", ""), ("sensitive_feedback", _ALL))
    ),
    _Place(
        "items",
        _of_table(
            "items",
            "updated_at",
            text="key || ' ' || namespace",
            json="'[' || value || ',' || coalesce(texts, 'null') || ']'",
        ),
        "DELETE FROM items WHERE row_id = ?",
    ),
    _Place(
        "tasks",
        _of_table("tasks", "created_at", text="name", json="payload"),
        "DELETE FROM tasks WHERE row_id = ?",
        _ALL,
    ),
    _Place(  # a line that names nobody may be about anybody; one that names somebody else is theirs
        "logs",
        "SELECT id AS key, NULL AS id, message AS text, extra AS json, timestamp AS at, NULL AS conversation "
        "FROM logs WHERE (user_id = :user OR user_id IS NULL)",
        "DELETE FROM logs WHERE id = ?",
        _LINES_SINCE,
    ),
)


@dataclass(frozen=True, slots=True)
class Trace:
    """One row that carries content: its table, and what it says."""

    table: str
    text: str = field(repr=False)
    key: int
    let_go: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where a subject is looked for. A row that belongs to no conversation lies in none."""

    conversation: bytes | None = None
    since_us: int | None = None
    until_us: int | None = None

    def hold(self, row: Row) -> bool:
        """Whether the row lies inside."""
        if self.conversation is not None and row["conversation"] != self.conversation:
            return False
        after = self.since_us is None or row["at"] >= self.since_us
        return after and (self.until_us is None or row["at"] < self.until_us)


@dataclass(frozen=True, slots=True)
class _Moment:
    """How far the change feed and the log were."""

    number: int
    line: int
    last_line: tuple[Value, ...] | None

    @classmethod
    def now(cls, connection: LibSQLConnection) -> "_Moment":
        [(number,)] = connection.fetch_all("SELECT coalesce(max(number), 0) FROM change_feed")
        row = connection.fetch_one("SELECT id, timestamp, message FROM logs ORDER BY id DESC LIMIT 1")
        return cls(number, row["id"] if row else 0, tuple(row) if row else None)

    def can_be_read_on_from(self, connection: LibSQLConnection) -> bool:
        """Whether all since is still told: the feed was not pruned, no new line took the number of a deleted one."""
        [(oldest,)] = connection.fetch_all("SELECT coalesce(min(number), 1) FROM change_feed")
        row = connection.fetch_one("SELECT id, timestamp, message FROM logs WHERE id = ?", (self.line,))
        return oldest <= self.number + 1 and (tuple(row) if row else None) == self.last_line


class TraceSearch:
    """Looks for the traces of these texts and, where there is a subject, of what holds it.

    With `only_in` none that lies outside of this conversation. In two steps, so that nobody waits to write while a long
    log is read.
    """

    def __init__(
        self,
        connection: LibSQLConnection,
        user_id: bytes,
        *,
        forgotten: Sequence[str],
        holds_subject: Callable[[str], bool] | None,
        bounds: Bounds,
        only_in: bytes | None = None,
    ) -> None:
        self._connection, self._user_id = connection, user_id
        self._quotes, self._holds_subject, self._bounds = _quoting(forgotten), holds_subject, bounds
        self._only_in = only_in
        self._began = _Moment.now(connection)
        self._found: dict[tuple[_Place, int], Trace] = {}

    def look(self) -> list[Trace]:
        """Every trace there is. Reads every row of every place once."""
        self._began = _Moment.now(self._connection)
        self._found = {}
        for place in _PLACES:
            self._look_in(place, _ALL, {})
        return list(self._found.values())

    def look_again(self) -> list[Trace]:
        """The same after `look`, in a transaction: of what was read before, only what came or changed since is read."""
        if not self._began.can_be_read_on_from(self._connection):
            return self.look()
        since = {"number": self._began.number, "line": self._began.line}
        for place in _PLACES:
            self._look_in(place, place.changed_rows(), since)
        return list(self._found.values())

    def _look_in(self, place: _Place, condition: str, values: Mapping[str, Value]) -> None:
        for row in _rows(self._connection, place, condition, {**values, "user": self._user_id}):
            said = _plain(row)
            lies_in = self._only_in is None or row["conversation"] == self._only_in
            about = self._holds_subject is not None and self._bounds.hold(row) and self._holds_subject(said)
            self._found.pop((place, row["key"]), None)
            if lies_in and (about or self._quotes(said)):
                self._found[place, row["key"]] = Trace(place.table, said, row["key"], place.let_go)


def remove_traces(connection: LibSQLConnection, traces: Sequence[Trace]) -> dict[str, int]:
    """Let go of those that are still there; how many rows were removed or emptied, by table."""
    removed: dict[str, int] = {}
    for trace in traces:
        if trace.table == "tasks":
            its_runs = "DELETE FROM task_executions WHERE task_id = (SELECT id FROM tasks WHERE row_id = ?)"
            connection.execute(its_runs, (trace.key,))
        gone = connection.execute(trace.let_go, (trace.key,)).rowcount
        removed[trace.table] = removed.get(trace.table, 0) + gone
    return removed


def _rows(connection: LibSQLConnection, place: _Place, condition: str, values: Mapping[str, Value]) -> Iterator[Row]:
    sql = f"SELECT * FROM ({place.rows}) WHERE key > :after AND {condition} ORDER BY key LIMIT {_ROWS_AT_ONCE}"
    after = -1
    while rows := connection.fetch_all(sql, {**values, "after": after}):
        yield from rows
        after = rows[-1]["key"]


def _quoting(texts: Sequence[str]) -> Callable[[str], bool]:
    """Whether a text holds one of these in whole. One step a character, however many they are."""
    by_beginning: dict[str, list[str]] = {}
    for text in {text.strip() for text in texts}:
        if len(text) >= QUOTED_FROM:
            by_beginning.setdefault(text[:QUOTED_FROM], []).append(text)

    def quotes(said: str) -> bool:
        if not by_beginning:
            return False
        return any(
            said.startswith(text, place)
            for place in range(len(said) - QUOTED_FROM + 1)
            for text in by_beginning.get(said[place : place + QUOTED_FROM], ())
        )

    return quotes


def _plain(row: Row) -> str:
    """What a row says, without JSON's escapes, which would tear words apart."""
    return " ".join((row["text"] or "", *_strings(row["json"])))


def _strings(text: str | None) -> Iterator[str]:
    """Every value and key in a JSON text; the text as it is where another program wrote something else."""
    try:
        yield from _leaves(read_json(text or "null"))
    except ValueError:
        yield text or ""


def _leaves(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    elif value is not None:
        yield str(value)
