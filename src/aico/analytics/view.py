"""The columnar view of the truth: loaded when it is first asked, refreshed by change number, one store for each person."""

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aico.analytics.same_sql import means_the_same
from aico.analytics.snapshots import Snapshots
from aico.analytics.tables import TABLES
from aico.data.change_feed import ChangeFeed
from aico.data.duckdb import ROWS_MAX, Answer, ColumnStore, ColumnTable, Kind
from aico.data.libsql import LibSQLConnection
from aico.data.time_zones import zone_or_utc
from aico.errors import AicoError, NotFound, StorageError
from aico.security.keys import ValueKey

if TYPE_CHECKING:
    from aico.data.user import UserService

PEOPLE_IN_MEMORY = 4
REPLAY_MAX = 50_000
"""From so many changes on a table is loaded anew: replaying them would cost more."""
SNAPSHOT_EVERY = 10_000
"""Changes after which a snapshot is worth writing again."""


class ColumnView:
    """Questions to the columns of one person at a time. A view: it may lag, and reads on before it answers.

    Any thread may use it. Nobody's columns ever hold a row of somebody else's, so no question can reach one.
    """

    name = "analytics"
    trouble = ""

    def __init__(
        self,
        connection: LibSQLConnection,
        *,
        feed: ChangeFeed,
        users: "UserService",
        folder: Path,
        keys: Callable[[], Mapping[int, ValueKey]],
        memory_mib: int,
    ) -> None:
        self._connection, self._feed, self._users = connection, feed, users
        self._snapshots, self._memory_mib = Snapshots(folder, keys), memory_mib
        self._people: OrderedDict[bytes, _Columns] = OrderedDict()  # least recently used first
        self._lock = threading.Lock()  # guards the line above

    def sql(self, user: str, sql: str, parameters: Sequence[Any] = (), *, seconds_max: float = 60.0) -> Answer:
        """One statement that reads, over the tables of `aico.analytics.tables`, which hold this person's rows alone.

        Raises NotFound for a user, and as `ColumnStore.ask`. Times are UTC; those that end in `_local` are what the
        person's clock showed.
        """
        named = [name for name in TABLES if re.search(rf"\b{name}\b", sql, re.IGNORECASE)]
        return self.ask(self.user_id(user), sql, parameters, tables=named, seconds_max=seconds_max)

    def ask(
        self,
        user_id: bytes,
        sql: str,
        parameters: Sequence[Any] = (),
        *,
        tables: Iterable[str],
        seconds_max: float = 60.0,
        rows_max: int | None = ROWS_MAX,
    ) -> Answer:
        """Like `sql`, for callers that know the person's id and which tables they ask, and bear any number of rows."""
        with self._columns(user_id) as columns:
            self._read_on(user_id, columns, tables)
            return columns.store.ask(sql, parameters, seconds_max=seconds_max, rows_max=rows_max)

    def tables(self) -> dict[str, tuple[str, ...]]:
        """The tables there are, with the names of their columns."""
        return {table.name: tuple(column.name for column in table.columns) for table in TABLES.values()}

    def user_id(self, user: str) -> bytes:
        """The id of a person. Raises NotFound."""
        found = self._users.find(user)
        if found is None:
            raise NotFound("there is no user of this name")
        return found

    # What `aico.query` asks of it

    def shared_columns(self) -> dict[str, tuple[str, ...]]:
        """By table, the columns that hold what they hold in `aico.data.personal_tables`: a handle is ours alone, and a
        number with a fraction comes here with fifteen digits of its seventeen."""
        return {
            table.name: tuple(column.name for column in table.columns if column.kind not in (Kind.HANDLE, Kind.NUMBER))
            for table in TABLES.values()
            if table.captured
        }

    def means_the_same(self, sql: str) -> bool:
        """Whether these columns answer a statement exactly as SQLite answers it: in doubt, not."""
        tables = (table for table in TABLES.values() if table.captured)
        return means_the_same(sql, {table.name: {one.name: one.kind for one in table.columns} for table in tables})

    def position(self, user_id: bytes, tables: Sequence[str]) -> int | None:
        """The last change that these tables of a person reflect, None where one is not loaded. Loads no more than a
        snapshot."""
        with self._lock:
            loaded = user_id in self._people
        if not loaded and not self._snapshots.exists(user_id):
            return None
        with self._columns(user_id) as columns:
            self._look_for_snapshot(user_id, columns)
            positions = [columns.positions.get(name) for name in tables]
        return None if None in positions else min((found for found in positions if found is not None), default=None)

    def answer(
        self, user_id: bytes, sql: str, parameters: Sequence[Any], *, tables: Sequence[str], seconds_max: float
    ) -> Sequence[tuple[Any, ...]]:
        """Read on, and answer. Raises as `ColumnStore.ask`."""
        return self.ask(user_id, sql, parameters, tables=tables, seconds_max=seconds_max).rows

    # What every view can do

    def lag(self) -> int:
        """How many changes the table furthest behind has not read; it does before it next answers."""
        newest = self._feed.newest()
        with self._lock:
            positions = [columns.captured_positions() for columns in self._people.values()]
        return max((newest - position for found in positions for position in found), default=0)

    def catch_up(self) -> None:
        """Bring all that is loaded up to the newest change."""
        with self._lock:
            people = list(self._people)
        for user_id in people:
            with self._columns(user_id) as columns:
                self._read_on(user_id, columns, list(columns.positions))

    def drop(self) -> None:
        """Let go of everybody's columns and snapshots; they are loaded anew when they are asked."""
        with self._lock:
            people, self._people = self._people, OrderedDict()
        for columns in people.values():
            _close(columns)
        self._snapshots.delete_all()

    def erase(self, user_id: bytes, ids: Iterable[bytes]) -> None:
        """Let go of all columns of a person who forgot, here and in the snapshot, which is deleted: no page of it stays.

        Not of these rows alone: forgetting empties titles and categories of rows that stay. They are loaded anew.
        """
        with self._lock:
            loaded = self._people.pop(user_id, None)
        if loaded is not None:
            _close(loaded)
        self._snapshots.delete(user_id)

    def holds_any(self, user_id: bytes, ids: Iterable[bytes]) -> bool:
        """Whether one of these rows is in the columns, be it in a snapshot alone."""
        with self._lock:
            loaded = user_id in self._people
        if not loaded and not self._snapshots.exists(user_id):
            return False
        wanted = list(ids)
        with self._columns(user_id) as columns:
            self._read_on(user_id, columns, list(columns.positions))
            return any(columns.store.holds_any(name, wanted) for name in filter(_holds_memories, columns.positions))

    def close(self) -> None:
        """Keep what is worth keeping, and give the memory back."""
        with self._lock:
            people, self._people = self._people, OrderedDict()
        for user_id, columns in people.items():
            self._let_go(user_id, columns)

    # Loading

    @contextmanager
    def _columns(self, user_id: bytes) -> "Iterator[_Columns]":
        """A person's columns, with nobody else at work on them."""
        while True:
            with self._lock:
                columns = self._people.get(user_id)
                if columns is None:
                    columns = self._people[user_id] = _Columns(
                        ColumnStore(TABLES.values(), memory_mib=self._memory_mib)
                    )
                self._people.move_to_end(user_id)
                dropped = self._people.popitem(last=False) if len(self._people) > PEOPLE_IN_MEMORY else None
            if dropped is not None:
                self._let_go(*dropped)
            with columns.lock:
                if columns.closed:
                    continue
                yield columns
                return

    def _let_go(self, user_id: bytes, columns: "_Columns") -> None:
        with columns.lock:
            columns.closed = True
            self._keep_snapshot(user_id, columns)
            columns.store.close()

    def _read_on(self, user_id: bytes, columns: "_Columns", tables: Iterable[str]) -> None:
        zone_name = self._zone_of(user_id)
        self._look_for_snapshot(user_id, columns)
        if columns.zone != zone_name:
            columns.zone, columns.positions = zone_name, {}
        zone = zone_or_utc(zone_name)
        loaded = False
        for name in dict.fromkeys(tables):
            loaded |= self._read_table_on(user_id, columns, TABLES[name], zone)
        if loaded:
            self._keep_snapshot(user_id, columns)

    def _read_table_on(self, user_id: bytes, columns: "_Columns", table: ColumnTable, zone: tzinfo) -> bool:
        """Bring one table in step with the truth. Whether it was loaded from the beginning."""
        position = columns.positions.get(table.name)
        with self._connection.snapshot() as rows:
            if not table.captured:
                return self._read_uncaptured(user_id, columns, table, zone, rows)
            [[newest]] = rows("SELECT coalesce(max(number), 0) FROM change_feed")
            if position == newest:
                return False
            if position is None or not self._can_replay(rows, position, newest):
                columns.store.replace(table.name, table.batches(rows, (user_id,), zone=zone))
                columns.positions[table.name] = newest
                return True
            changed = [
                key
                for [key] in rows(
                    "SELECT DISTINCT key FROM change_feed WHERE number > ? AND number <= ? AND table_name = ?",
                    (position, newest, table.source),
                )
            ]
            if changed:
                where = "x.id IN (SELECT key FROM change_feed WHERE number > ? AND number <= ? AND table_name = ?)"
                batches = table.batches(
                    rows, (user_id, position, newest, table.source), where=where, by_where=True, zone=zone
                )
                columns.store.update(table.name, changed, batches)
            columns.positions[table.name] = newest
            return False

    def _can_replay(self, rows: Any, position: int, newest: int) -> bool:
        """Whether the feed still has every change since: not if it was pruned, nor after the truth was put back."""
        [[oldest]] = rows("SELECT coalesce(min(number), 0) FROM change_feed")
        return oldest <= position + 1 and position < newest <= position + REPLAY_MAX

    def _read_uncaptured(
        self, user_id: bytes, columns: "_Columns", table: ColumnTable, zone: tzinfo, rows: Any
    ) -> bool:
        """Log lines only come and go; executions of tasks are few. New lines are added, unless others went meanwhile."""
        if table.source != "logs":
            columns.store.replace(table.name, table.batches(rows, (user_id,), zone=zone))
            columns.positions[table.name] = 0
            return False
        known = f"SELECT coalesce(max(x.id), 0), count(*) {table.rows} WHERE {table.of_user}"
        [[last, count]] = rows(known, (user_id,))
        position, had = columns.positions.get(table.name), columns.counts.get(table.name, 0)
        if position is not None:
            [[_, still]] = rows(f"{known} AND x.id <= ?", (user_id, position))
            if still == had:
                batches = table.batches(rows, (user_id, position), where="x.id > ?", zone=zone)
                columns.store.update(table.name, (), batches)
                columns.positions[table.name], columns.counts[table.name] = last, count
                return False
        columns.store.replace(table.name, table.batches(rows, (user_id,), zone=zone))
        columns.positions[table.name], columns.counts[table.name] = last, count
        return True

    def _zone_of(self, user_id: bytes) -> str | None:
        found = self._connection.fetch_one("SELECT time_zone FROM users WHERE id = ?", (user_id,))
        return None if found is None else found["time_zone"]

    # Snapshots

    def _look_for_snapshot(self, user_id: bytes, columns: "_Columns") -> None:
        if not columns.looked_for_snapshot:
            columns.looked_for_snapshot = True
            self._take_snapshot(user_id, columns)

    def _take_snapshot(self, user_id: bytes, columns: "_Columns") -> None:
        kept = self._snapshots.read(user_id)
        if kept is None:
            return
        head, tables = kept
        try:
            for name, stream in tables.items():
                columns.store.take_stream(name, stream)
        except (StorageError, KeyError):  # a table that this release does not know
            self._snapshots.delete(user_id)
            return
        columns.zone, columns.positions = head.zone, dict(head.positions)
        columns.written_at = max(head.positions.values(), default=0)

    def _keep_snapshot(self, user_id: bytes, columns: "_Columns") -> None:
        """Write one where it is worth it. Under the right to write and only if nothing in its tables was deleted or
        rewritten since they were read: otherwise a process that lags could put back on the disk what another has just
        forgotten, a title that was emptied too."""
        positions = {name: number for name, number in columns.positions.items() if TABLES[name].captured}
        if not positions or max(positions.values()) - columns.written_at < SNAPSHOT_EVERY:
            return
        try:
            if not self._still_say_all(positions):
                return
            part = self._snapshots.write(
                user_id,
                positions=positions,
                zone=columns.zone,
                tables={name: columns.store.as_stream(name) for name in positions},
            )
            with self._connection.exclusive():
                if not self._still_say_all(positions):
                    part.unlink(missing_ok=True)
                    return
                self._snapshots.put(user_id, part)
        except AicoError:  # a cache that cannot be kept costs time at the next start, nothing else
            return
        columns.written_at = max(positions.values())

    def _still_say_all(self, positions: Mapping[str, int]) -> bool:
        """Whether the truth still has every row of these tables as it was when they reached their positions."""
        return all(self._feed.only_adds(TABLES[name].source, after=number) for name, number in positions.items())


def _close(columns: "_Columns") -> None:
    """Give the memory back. Whoever waits for the columns has others made."""
    with columns.lock:
        columns.closed = True
        columns.store.close()


def _holds_memories(name: str) -> bool:
    """Whether a table's rows go by the ids of messages and facts. Of the others the change feed tells."""
    return TABLES[name].captured and TABLES[name].columns[0].kind is Kind.ID


class _Columns:
    """One person's columns, and how far each table of them has come."""

    def __init__(self, store: ColumnStore) -> None:
        self.store, self.lock = store, threading.RLock()
        self.positions: dict[str, int] = {}
        self.counts: dict[str, int] = {}
        self.zone: str | None = None
        self.written_at = 0
        self.looked_for_snapshot = self.closed = False

    def captured_positions(self) -> list[int]:
        """The changes that the tables of the change feed have reached."""
        return [number for name, number in self.positions.items() if TABLES[name].captured]
