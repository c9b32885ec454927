"""One connection through the libSQL wheel. What the wheel lacks or gets wrong is made good here, or refused."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import apsw

from aico.data.libsql.engine_words import repeatable
from aico.data.libsql.guard import Guard
from aico.data.libsql.native.errors import gave_up, is_busy, is_panic, ours
from aico.data.libsql.native.twin import Twin, filled_twin
from aico.data.libsql.native.values import bound, is_runnable
from aico.data.libsql.rows import Result, Row, row_type
from aico.data.libsql.statements import Parameters, first_word, statements_of
from aico.errors import StorageError

T = TypeVar("T")

_ROWS_STREAMED = 100
_READS = frozenset({"SELECT", "VALUES", "EXPLAIN"})
_PAUSE_S, _PAUSE_MAX_S = 0.001, 0.05
_COUNTS = "SELECT changes(), total_changes(), last_insert_rowid()"


class NativeConnection:
    """Thread rule: any thread, one at a time. The wheel holds Python's lock while it works: other threads wait.

    After a panic the native connection is given up, and what was open on it; the next use opens another.
    """

    def __init__(
        self, connect: Callable[[], Any], name: str, *, encrypted: bool, wait_s: float, on_server: bool = False
    ) -> None:  # the wheel has no types
        self._connect, self._name, self._encrypted, self._wait_s = connect, name, encrypted, wait_s
        self._on_server = on_server  # where each statement may run on another connection of the server's
        self._opened: Any = None
        self._reading_only = self._closed = False
        self._changes = 0  # of all statements until now, as the engine counts them
        self._twin: tuple[int, Twin] | None = None
        self._called(lambda _opened: None)

    @property
    def in_transaction(self) -> bool:
        return self._opened is not None and bool(self._opened.in_transaction)

    def run(self, sql: str, parameters: Parameters) -> Result:
        if self._on_server and is_runnable(sql, encrypted=False):
            return self._run_there(*bound(sql, parameters), changes=first_word(sql) not in _READS)
        rows = self.rows(sql, parameters)
        if first_word(sql) in _READS or not is_runnable(sql, encrypted=self._encrypted):
            return Result(rows, lastrowid=0, rowcount=0)
        changed, total, row_id = self._called(lambda opened: opened.execute(_COUNTS).fetchone())
        rowcount = changed if total != self._changes else 0  # else those of an older statement
        self._changes = total
        return Result(rows, lastrowid=row_id, rowcount=rowcount)

    def _run_there(self, sql: str, values: Sequence[Any], *, changes: bool) -> Result:
        def work(opened: Any) -> tuple[Any, list[Any]]:
            cursor = opened.execute(sql, values)
            return cursor, cursor.fetchall() or []

        cursor, found = self._called(work)
        row = _row_type(cursor.description or ())
        rowcount = max(0, cursor.rowcount) if changes else 0
        return Result([row(one) for one in found], lastrowid=cursor.lastrowid or 0, rowcount=rowcount)

    def rows(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        if not is_runnable(sql, encrypted=self._encrypted):
            bound(sql, parameters)
            return []
        text, values = bound(sql, parameters)
        found, description = self._called(lambda opened: _fetched(opened, text, values))
        row = _row_type(description)
        return [row(one) for one in found]

    def batches(self, sql: str, parameters: Parameters) -> Iterator[list[Row]]:
        if not is_runnable(sql, encrypted=self._encrypted):
            return
        text, values = bound(sql, parameters)
        cursor = self._called(lambda opened: opened.execute(text, values))
        row = _row_type(cursor.description or ())
        while some := self._called(lambda _opened: cursor.fetchmany(_ROWS_STREAMED)):
            yield [row(one) for one in some]

    def run_many(self, sql: str, rows: Sequence[Parameters]) -> None:
        if is_runnable(sql, encrypted=self._encrypted):
            for parameters in rows:
                self._run_one(*bound(sql, parameters))

    def _run_one(self, sql: str, values: Sequence[Any]) -> None:
        self._called(lambda opened: _fetched(opened, sql, values))

    def run_script(self, sql: str) -> None:
        for statement in statements_of(sql):
            first_word(statement)
            self.rows(statement)

    def run_under(self, guard: Guard, sql: str, parameters: Parameters) -> Result:
        """There is no authorizer to ask: SQLite itself tries the statement first, on the same tables without rows."""
        with self._one_moment():
            self._twin_of_now().try_out(guard, sql, parameters, only_read=self._reading_only)
            return self.run(sql, parameters)

    def command(self, sql: str, /) -> None:
        if self._opened is None and sql == "ROLLBACK":
            return  # it was taken back when the connection was given up
        self._run_one(sql, ())

    def schema_version(self) -> int:
        return int(self._called(lambda opened: opened.execute("PRAGMA schema_version").fetchone())[0])

    def only_read(self) -> None:
        """Of a server's connection only what is run under a guard: no setting outlives a statement there."""
        self._reading_only = True
        if not self._on_server:
            self.command("PRAGMA query_only = 1")

    @contextmanager
    def as_sqlite(self, selects: Sequence[str]) -> Iterator[apsw.Connection]:
        with self._one_moment():
            twin = filled_twin(self, selects)
        try:
            yield twin
        finally:
            twin.close()

    def truncate_log(self, *, wait_s: float) -> bool:
        """Does not wait: while the wheel waits, no other thread of this process can let go of the log."""
        try:
            busy, _, _ = self._called(lambda opened: opened.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone(), 0.0)
        except StorageError:
            return False
        return not busy

    def checkpoint(self, *, restart: bool) -> None:
        self.command(f"PRAGMA wal_checkpoint({'RESTART' if restart else 'PASSIVE'})")

    def log_backlog(self) -> int:
        return 0

    def after_commits(self, tell: Callable[[int], object]) -> None:
        """Never: there is no hook. The engine's own checkpoint, every 1,000 pages inside a commit, does it."""

    def close(self) -> None:
        self._closed = True
        self._give_up()
        if self._twin is not None:
            self._twin[1].close()
            self._twin = None

    def _twin_of_now(self) -> Twin:
        version = self.schema_version()
        if self._twin is None or self._twin[0] != version:
            if self._twin is not None:
                self._twin[1].close()
            self._twin = (version, Twin(self))
        return self._twin[1]

    @contextmanager
    def _one_moment(self) -> Iterator[None]:
        """The tables stay as they are throughout: another process may change them at any time."""
        if self.in_transaction:
            yield
            return
        self.command("BEGIN")
        try:
            yield
        finally:
            self.command("ROLLBACK")

    def _called(self, work: Callable[[Any], T], wait_s: float | None = None) -> T:
        """The wheel's answer, its errors ours. Waits for other processes here, where other threads go on meanwhile."""
        deadline, pause_s = time.monotonic() + (self._wait_s if wait_s is None else wait_s), _PAUSE_S
        while True:
            try:
                return work(self._handle())
            except ValueError as exc:
                if not is_busy(exc) or self.in_transaction or time.monotonic() >= deadline:
                    passed_on = repeatable(str(exc)) and not self._on_server  # a server may say anything
                    raise ours(exc, self._name) from (exc if passed_on else None)
            except BaseException as exc:
                if not is_panic(exc):
                    raise
                self._give_up()
                raise gave_up(self._name) from None
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)

    def _handle(self) -> Any:
        if self._opened is None:
            if self._closed:
                raise StorageError(f"{self._name} was closed; nothing was done", hint="open it again")
            opened = self._connect()
            if self._reading_only and not self._on_server:
                _fetched(opened, "PRAGMA query_only = 1", ())
            self._opened, self._changes = opened, 0
        return self._opened

    def _give_up(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            try:
                with suppress(ValueError):
                    opened.close()
            except BaseException as exc:
                if not is_panic(exc):
                    raise


def _fetched(opened: Any, sql: str, values: Sequence[Any]) -> tuple[list[tuple[Any, ...]], tuple[tuple[Any, ...], ...]]:
    cursor = opened.execute(sql, values)
    return cursor.fetchall() or [], cursor.description or ()


def _row_type(description: tuple[tuple[Any, ...], ...]) -> type[Row]:
    return row_type(tuple((column[0], "") for column in description))
