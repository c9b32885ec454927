"""The log that lies in the vault, sealed like everything else."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

import msgspec

from aico.clock import Clock, SystemClock, from_us, to_us
from aico.data.libsql import LibSQLConnection, Row
from aico.data.libsql.connection import Value
from aico.data.limits import checked_label, checked_text
from aico.data.row_ids import parsed_id
from aico.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from aico.data.log_handler import VaultLogHandler

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
"""From least to most severe."""
Order = Literal["newest", "oldest"]

_ALIASES = {"WARN": "WARNING", "FATAL": "CRITICAL"}
_FIRST_US = 10**14
"""The table takes smaller numbers for milliseconds, so that a log may be written with those too: 3 March 1973."""
_COLUMNS = (
    "timestamp, level, message, subsystem, module, function_name, file_path, line_number, "
    "topic, user_id, session_id, trace_id, extra"
)
_INSERT = f"INSERT INTO logs ({_COLUMNS}) VALUES ({', '.join('?' * 13)})"
_EQUAL = ("subsystem", "module", "topic", "session_id", "trace_id")
_SELECTIVE = (*_EQUAL, "user_id")
_IN_ORDER = {
    "DEBUG": "logs_in_order",
    "INFO": "logs_in_order",
    "WARNING": "logs_from_warning",
    "ERROR": "logs_from_error",
    "CRITICAL": "logs_of_level",
}
_ROWS_AT_ONCE = 5000
"""Deleted in one transaction, so that other writers get their turn."""
# 15 values of an entry's row and its index entries take about this much beside the texts.
_SIZE = "200 + octet_length(message) + coalesce(octet_length(extra), 0) + coalesce(octet_length(file_path), 0)"


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of the log."""

    id: int
    timestamp: datetime
    level: str
    message: str = field(repr=False)
    subsystem: str | None
    module: str | None
    function_name: str | None
    file_path: str | None
    line_number: int | None
    topic: str | None
    user_id: str | None
    session_id: str | None
    trace_id: str | None
    extra: dict[str, Any] = field(repr=False)  # any JSON


@dataclass(frozen=True, slots=True)
class LogStats:
    """What the log holds."""

    total: int
    by_level: dict[str, int]
    oldest: datetime | None
    newest: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How much of the log is kept: entries go, oldest first, until all three hold."""

    age_max: timedelta
    rows_max: int
    size_max_bytes: int


class LogFilters(TypedDict, total=False):
    """Which entries are meant; all that is given must hold."""

    level: str
    """At least this severe."""
    subsystem: str
    module: str
    topic: str
    user_id: str
    session_id: str
    trace_id: str
    text: str
    """Held by the message, whatever the case of ASCII letters. Nothing indexes it: it is looked for entry by entry."""
    since: datetime
    until: datetime
    """Excluded."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """An entry to be written, in the order of the table's columns. `user_id` is 16 bytes, `extra` is JSON."""

    timestamp: int
    level: str
    message: str = field(repr=False)
    subsystem: str | None = None
    module: str | None = None
    function_name: str | None = None
    file_path: str | None = None
    line_number: int | None = None
    topic: str | None = None
    user_id: bytes | None = None
    session_id: str | None = None
    trace_id: str | None = None
    extra: str | None = field(default=None, repr=False)

    def values(self) -> tuple[Value, ...]:
        """What is bound to the insert."""
        return tuple(getattr(self, name) for name in self.__dataclass_fields__)


class LogRepository:
    """Writes and reads `logs`. Any thread may use it.

    An entry belongs to a person only if it was written with their `user_id`; then it goes when they are forgotten.

    >>> _ = vault.logs.insert_log(level="WARNING", message="the microphone is gone", subsystem="voice")
    >>> [entry.message for entry in vault.logs.query_logs(subsystem="voice")]
    ['the microphone is gone']
    """

    def __init__(
        self, connection: LibSQLConnection, *, clock: Clock | None = None, retention: Retention | None = None
    ) -> None:
        self._connection, self._clock, self._retention = connection, clock or SystemClock(), retention
        self._handlers: list[VaultLogHandler] = []

    def insert_log(
        self,
        *,
        level: str,
        message: str,
        subsystem: str | None = None,
        module: str | None = None,
        timestamp: datetime | None = None,
        function_name: str | None = None,
        file_path: str | None = None,
        line_number: int | None = None,
        topic: str | None = None,
        user_id: str | None = None,
        session_id: str | None = None,
        trace_id: str | None = None,
        extra: Mapping[str, Any] | None = None,  # any JSON
    ) -> int:
        """Write one entry, now if no aware `timestamp` is given; its id. Raises InvalidInput, Busy or DiskFull.

        >>> line = vault.logs.insert_log(level="INFO", message="User action", subsystem="voice")
        >>> vault.logs.get_log(line).subsystem
        'voice'
        """
        line = LogLine(
            self._instant(timestamp),
            checked_level(level),
            checked_text(message, field="message"),
            checked_label(subsystem, field="subsystem"),
            checked_label(module, field="module"),
            checked_label(function_name, field="function_name"),
            checked_label(file_path, field="file_path"),
            line_number,
            checked_label(topic, field="topic"),
            None if user_id is None else parsed_id(user_id, what="user"),
            checked_label(session_id, field="session_id"),
            checked_label(trace_id, field="trace_id"),
            None if extra is None else _as_json(extra),
        )
        return self._connection.execute(_INSERT, line.values()).lastrowid

    def add_log(
        self,
        level: str,
        message: str,
        subsystem: str | None = None,
        module: str | None = None,
        extra_data: Mapping[str, Any] | None = None,  # any JSON
    ) -> int:
        """`insert_log` with the arguments most entries have, by position.

        >>> line = vault.logs.add_log("INFO", "User action", extra_data={"clicks": 2})
        >>> vault.logs.get_log(line).extra
        {'clicks': 2}
        """
        return self.insert_log(level=level, message=message, subsystem=subsystem, module=module, extra=extra_data)

    def insert_lines(self, lines: Iterable[LogLine]) -> None:
        """Write many entries in one transaction, within which they are drawn. Raises Busy or DiskFull; none is written then."""
        self._connection.execute_many(_INSERT, (line.values() for line in lines))

    def get_log(self, log_id: int) -> LogEntry:
        """One entry. Raises NotFound.

        >>> vault.logs.get_log(vault.logs.insert_log(level="INFO", message="User action")).message
        'User action'
        """
        row = self._connection.fetch_one(f"SELECT id, {_COLUMNS} FROM logs WHERE id = ?", (log_id,))
        if row is None:
            raise NotFound(f"there is no log entry {log_id}")
        return _entry(row)

    def query_logs(
        self, *, limit: int | None = 50, offset: int = 0, order: Order = "newest", **filters: Unpack[LogFilters]
    ) -> list[LogEntry]:
        """The entries that pass every filter, newest first or oldest first; all of them with `limit=None`.

        Raises InvalidInput.

        >>> _ = vault.logs.insert_log(level="ERROR", message="no microphone")
        >>> [line.message for line in vault.logs.query_logs(level="ERROR")]
        ['no microphone']
        """
        if order not in ("newest", "oldest"):
            raise InvalidInput("order is newest or oldest; nothing was read", field="order")
        _check_count(limit, "limit")
        _check_count(offset, "offset")
        where, values = _where(filters)
        way = "DESC" if order == "newest" else "ASC"
        rows = self._connection.fetch_all(
            f"SELECT id, {_COLUMNS} FROM {_source(filters)} {where} ORDER BY timestamp {way}, id {way} LIMIT ? OFFSET ?",
            (*values, -1 if limit is None else limit, offset),
        )
        return [_entry(row) for row in rows]

    def logs_after(self, log_id: int, *, limit: int = 1000, **filters: Unpack[LogFilters]) -> list[LogEntry]:
        """What was written after the entry `log_id`, in the order it was written. To follow the log as it grows.

        >>> seen = vault.logs.newest_id()
        >>> _ = vault.logs.insert_log(level="INFO", message="User action")
        >>> [line.message for line in vault.logs.logs_after(seen)]
        ['User action']
        """
        where, values = _where(filters, "id > ?", log_id)
        found = self._connection.fetch_all(
            f"SELECT id, {_COLUMNS} FROM logs NOT INDEXED {where} ORDER BY id LIMIT ?", (*values, limit)
        )
        return [_entry(row) for row in found]

    def newest_id(self) -> int:
        """The id of the entry that was written last, 0 if there is none.

        >>> vault.logs.newest_id()
        0
        """
        found = self._connection.fetch_one("SELECT max(id) FROM logs")
        return int(found[0] or 0) if found else 0

    def count_logs(self, **filters: Unpack[LogFilters]) -> int:
        """How many entries pass every filter. Takes time with their number.

        >>> vault.logs.count_logs()
        0
        """
        where, values = _where(filters)
        found = self._connection.fetch_one(f"SELECT count(*) FROM logs {where}", values)
        return int(found[0]) if found else 0

    def get_log_stats(self) -> LogStats:
        """How many entries there are of each level, and from when. Takes time with their number.

        >>> _ = vault.logs.insert_log(level="ERROR", message="no microphone")
        >>> vault.logs.get_log_stats().by_level
        {'ERROR': 1}
        """
        levels = self._connection.fetch_all("SELECT level, count(*) FROM logs GROUP BY level")
        by_level: dict[str, int] = {level: count for level, count in levels}  # noqa: C416  # a row is not a pair to mypy
        ends = [self._connection.fetch_one(f"SELECT {end}(timestamp) FROM logs") for end in ("min", "max")]
        oldest, newest = (None if row is None or row[0] is None else from_us(row[0]) for row in ends)
        return LogStats(sum(by_level.values()), by_level, oldest, newest)

    def purge(self, **filters: Unpack[LogFilters]) -> int:
        """Delete the entries that pass every filter; how many there were. Raises InvalidInput if no filter is given.

        >>> _ = vault.logs.insert_log(level="DEBUG", message="a frame", subsystem="voice")
        >>> vault.logs.purge(subsystem="voice")
        1
        """
        where, values = _where(filters)
        if not where:
            raise InvalidInput(
                "nothing was named to delete; the log is as it was", hint="name a time, a level or a subsystem"
            )
        return self._delete(f"SELECT id FROM logs {where} LIMIT {_ROWS_AT_ONCE}", values)

    def apply_retention(self, retention: Retention | None = None) -> int:
        """Delete, oldest first, what `retention` (else the vault's own) no longer keeps; how many entries there were.

        >>> vault.logs.apply_retention()
        0
        """
        keep = retention or self._retention
        if keep is None:
            return 0
        removed = self._delete(
            f"SELECT id FROM logs WHERE timestamp < ? LIMIT {_ROWS_AT_ONCE}",
            (max(self._clock.now_us() - keep.age_max // timedelta(microseconds=1), 0),),
        )
        removed += self._delete(
            f"SELECT id FROM logs ORDER BY timestamp DESC, id DESC LIMIT {_ROWS_AT_ONCE} OFFSET ?", (keep.rows_max,)
        )
        running = f"sum({_SIZE}) OVER (ORDER BY timestamp DESC, id DESC ROWS UNBOUNDED PRECEDING) AS size"
        over = f"SELECT id FROM (SELECT id, {running} FROM logs) WHERE size > ? LIMIT {_ROWS_AT_ONCE}"
        return removed + self._delete(over, (keep.size_max_bytes,))

    def handler(self, *, level: int | str = 0) -> "VaultLogHandler":
        """A new handler for the standard `logging`, which writes here and ends with the vault."""
        from aico.data.log_handler import VaultLogHandler

        made = VaultLogHandler(self, level=level)
        self._handlers.append(made)
        return made

    def close(self) -> None:
        """Write what the handlers still hold, and end them. May be called twice."""
        while self._handlers:
            self._handlers.pop().close()

    def _delete(self, chosen: str, values: Sequence[Value]) -> int:
        removed = 0
        while count := self._connection.execute(f"DELETE FROM logs WHERE id IN ({chosen})", values).rowcount:
            removed += count
        return removed

    def _instant(self, timestamp: datetime | None) -> int:
        at = self._clock.now_us() if timestamp is None else to_us(timestamp, field="timestamp")
        if at < _FIRST_US:
            raise InvalidInput("timestamp lies before March 1973; nothing was written", field="timestamp")
        return at


def checked_level(level: str) -> str:
    """One of `LEVELS`, in any case. Raises InvalidInput."""
    wanted = level.upper() if isinstance(level, str) else ""
    wanted = _ALIASES.get(wanted, wanted)
    if wanted not in LEVELS:
        raise InvalidInput(f"a level is one of {', '.join(LEVELS)}; nothing was done", field="level")
    return wanted


def _where(filters: LogFilters, *first: Value) -> tuple[str, list[Value]]:
    """The WHERE clause and its values. `first` is a term with its value, if there is one already."""
    unknown = set(filters) - set(LogFilters.__annotations__)
    if unknown:
        raise InvalidInput(f"there is no filter {sorted(unknown)[0]!r}; nothing was done", field=sorted(unknown)[0])
    terms: list[tuple[str, Sequence[Value]]] = [(str(first[0]), first[1:])] if first else []
    for name in _EQUAL:
        if (value := filters.get(name)) is not None:
            terms.append((f"{name} = ?", (str(value),)))
    if (user_id := filters.get("user_id")) is not None:
        terms.append(("user_id = ?", (parsed_id(user_id, what="user"),)))
    if (level := filters.get("level")) is not None:
        terms.append((_at_least(level), ()))
    if (since := filters.get("since")) is not None:
        terms.append(("timestamp >= ?", (to_us(since, field="since"),)))
    if (until := filters.get("until")) is not None:
        terms.append(("timestamp < ?", (to_us(until, field="until"),)))
    if (text := filters.get("text")) is not None:
        folded = checked_text(text, consequence="nothing was searched").encode().lower().decode()
        terms.append(("instr(lower(message), ?) > 0", (folded,)))
    clause = f"WHERE {' AND '.join(term for term, _ in terms)}" if terms else ""
    return clause, [value for _, values in terms for value in values]


def _source(filters: LogFilters) -> str:
    """The table, with the index that has the severe entries in order, where SQLite would rather collect and sort."""
    level = filters.get("level")
    if level is None or any(filters.get(name) is not None for name in _SELECTIVE):
        return "logs"
    return f"logs INDEXED BY {_IN_ORDER[checked_level(level)]}"


def _at_least(level: str) -> str:
    """Written as the partial indexes are, so that SQLite sees that they hold all of it."""
    severe = LEVELS[LEVELS.index(checked_level(level)) :]
    return "level IN ({})".format(", ".join(f"'{name}'" for name in severe))


def _check_count(count: int | None, name: str) -> None:
    if count is not None and (type(count) is not int or count < 0):
        raise InvalidInput(f"{name} is a whole number from 0 on; nothing was read", field=name)


def _as_json(extra: Mapping[str, Any]) -> str:
    try:
        encoded = msgspec.json.encode(dict(extra)).decode()
    except (TypeError, ValueError, UnicodeEncodeError):  # its own message may show a value
        raise InvalidInput("extra holds something that is no JSON; nothing was written", field="extra") from None
    return checked_text(encoded, field="extra")


def _entry(row: Row) -> LogEntry:
    values = {name: row[name] for name in row.keys()}  # noqa: SIM118  # a row is a tuple
    values["timestamp"] = from_us(row["timestamp"])
    values["user_id"] = None if row["user_id"] is None else row["user_id"].hex()
    values["extra"] = _decoded(row["extra"])
    return LogEntry(**values)


def _decoded(extra: str | None) -> dict[str, Any]:
    """What other programs wrote by SQL may be any text: it is kept under one name, not lost."""
    if extra is None:
        return {}
    try:
        return msgspec.json.decode(extra, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeEncodeError):
        return {"text": extra}
