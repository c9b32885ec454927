"""The engine `sqlite`: SQLite through APSW, in the clear or with every page sealed by our own VFS."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

import apsw

from aico.data.libsql.engine import EngineName
from aico.data.libsql.guard import Guard, guarded
from aico.data.libsql.opening import connect, create_database, place_database
from aico.data.libsql.rows import Result, Row, row_type
from aico.data.libsql.sealed.vfs import SealedVFS
from aico.data.libsql.statements import Parameters, first_word, is_blank, several_statements
from aico.data.libsql.turn import Turn
from aico.errors import DiskFull

_ROWS_STREAMED = 100
_RESTART_WAIT_S = 0.05


class SqliteConnection(apsw.Connection):
    """APSW's connection under the names that both engines share: a subclass, so that a statement costs no call more."""

    wait_s = 0.0

    def run(self, sql: str, parameters: Parameters) -> Result:
        before = self.total_changes()
        rows = self.rows(sql, parameters)
        rowcount = self.changes() if self.total_changes() != before else 0  # else those of an older statement
        return Result(rows, lastrowid=self.last_insert_rowid(), rowcount=rowcount)

    def rows(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        cursor = _one_statement(self, sql)
        cursor.execute(sql, parameters)
        try:
            row = row_type(cursor.get_description())
        except apsw.ExecutionCompleteError:
            return []
        return [row(values) for values in cursor]

    def batches(self, sql: str, parameters: Parameters) -> Iterator[list[Row]]:
        cursor = _one_statement(self, sql)
        cursor.execute(sql, parameters)
        try:
            row = row_type(cursor.get_description())
        except apsw.ExecutionCompleteError:
            return
        while some := list(islice(cursor, _ROWS_STREAMED)):
            yield [row(values) for values in some]

    def run_many(self, sql: str, rows: Sequence[Parameters]) -> None:
        _one_statement(self, sql).executemany(sql, rows)

    def run_script(self, sql: str) -> None:
        cursor = self.cursor()
        cursor.exec_trace = _refuse_transaction_control
        cursor.execute(sql)

    def run_under(self, guard: Guard, sql: str, parameters: Parameters) -> Result:
        with guarded(self, guard):
            return self.run(sql, parameters)

    command = apsw.Connection.execute

    def close(self, force: bool = False) -> None:
        """The last one out moves the log into the database. Where that finds no room the log keeps what it has."""
        try:
            super().close(force)
        except apsw.FullError:
            return

    def schema_version(self) -> int:
        return int(self.execute("PRAGMA schema_version").get)  # whose statement is kept, unlike that of `pragma`

    def only_read(self) -> None:
        self.pragma("query_only", True)

    @contextmanager
    def as_sqlite(self, selects: Sequence[str]) -> Iterator[apsw.Connection]:
        yield self

    def truncate_log(self, *, wait_s: float) -> bool:
        return self._checkpointed(apsw.SQLITE_CHECKPOINT_TRUNCATE, wait_s)

    def checkpoint(self, *, restart: bool) -> None:
        mode = apsw.SQLITE_CHECKPOINT_RESTART if restart else apsw.SQLITE_CHECKPOINT_PASSIVE
        self._checkpointed(mode, _RESTART_WAIT_S)

    def _checkpointed(self, mode: int, wait_s: float) -> bool:
        self.set_busy_timeout(int(wait_s * 1000))  # for readers: whoever waits here keeps others from writing
        try:
            self.wal_checkpoint(mode=mode)
            return True
        except apsw.BusyError:  # at once where a checkpoint runs in the background: SQLite does not wait for it
            return False
        except apsw.FullError as exc:
            raise DiskFull(
                "the disk is full: the log could not be moved into the database; it keeps everything", hint="make room"
            ) from exc
        finally:
            self.set_busy_timeout(int(self.wait_s * 1000))
            self.setlk_timeout(0, 0)

    def log_backlog(self) -> int:
        try:
            pages, copied = self.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
        except apsw.Error:
            return 0
        return pages - copied

    def after_commits(self, tell: Callable[[int], object]) -> None:
        def hook(_connection: apsw.Connection, _schema: str, log_pages: int) -> int:
            tell(log_pages)
            return apsw.SQLITE_OK

        self.set_wal_hook(hook)


class SqliteEngine:
    """One database file; with `vfs`, sealed."""

    name: EngineName = "sqlite"

    def __init__(self, path: Path, vfs: SealedVFS | None, *, wait_s: float, cache_kib: int) -> None:
        self.vfs, self._path, self._wait_s, self._cache_kib = vfs, path, wait_s, cache_kib
        protection = "pages sealed with AES-256-GCM" if vfs else "in the clear"
        self.description = f"SQLite {apsw.sqlite_lib_version()} ({protection})"
        self.detects_tampering = vfs is not None

    def create(self) -> None:
        create_database(self._path, self.vfs)

    def connect(self) -> SqliteConnection:
        return self._connected(self._path)

    def _connected(self, path: Path) -> SqliteConnection:
        connection = connect(path, self.vfs, wait_s=self._wait_s, cache_kib=self._cache_kib, kind=SqliteConnection)
        connection.wait_s = self._wait_s
        return connection

    def turn(self) -> Turn:
        return Turn(self._path, wait_s=self._wait_s)

    def copy(self, source: apsw.Connection, fresh: Path, place: Path) -> None:
        """A consistent copy of what `source` sees, made at `fresh` and then given its name. Raises FileExistsError."""
        create_database(fresh, self.vfs)
        copy = self._connected(fresh)
        try:
            # One snapshot throughout: a backup of several steps begins anew whenever somebody writes.
            with copy.backup("main", source, "main") as backup:
                backup.step(-1)
        finally:
            copy.close()
        place_database(fresh, place)

    def close(self) -> None:
        if self.vfs is not None:
            self.vfs.unregister()


def _one_statement(connection: apsw.Connection, sql: str) -> apsw.Cursor:
    """A cursor that runs one statement: behind the first, others could end the transaction they stand in."""
    cursor = connection.cursor()
    if ";" in sql:
        cursor.exec_trace = partial(_refuse_a_second_statement, sql)
    return cursor


def _refuse_a_second_statement(sql: str, _cursor: apsw.Cursor, statement: str, _bindings: object) -> bool:
    """Called before each statement runs: the first must be all there is, but for comments."""
    if not is_blank(statement) and not is_blank(sql[len(statement) :]):
        raise several_statements()
    return True


def _refuse_transaction_control(_cursor: apsw.Cursor, statement: str, _bindings: object) -> bool:
    first_word(statement)
    return True
