"""One connection class for the truth, over either engine: in the clear, or with every page sealed or encrypted.

    with EncryptedLibSQLConnection(db_path="~/.aico/user.db", encryption_key=key) as connection:
        with connection.transaction():                  # commits, or rolls back and re-raises
            connection.execute("INSERT INTO logs (timestamp, level, message) VALUES (?, ?, ?)", values)

A statement outside a transaction commits by itself. Every result is read to its end before it is handed out:
an open cursor would turn the next write into an upgrade, for which SQLite never waits.
"""

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import apsw

from aico.data.libsql.checkpoints import Checkpointer
from aico.data.libsql.copying import copy_database
from aico.data.libsql.engine import Engine, EngineConnection, EngineName, not_on_this_engine
from aico.data.libsql.engine_errors import REFUSED, translated
from aico.data.libsql.group_commit import GroupCommit
from aico.data.libsql.guard import Guard
from aico.data.libsql.native.engine import NativeEngine, database_id_of
from aico.data.libsql.native.server import ServerEngine
from aico.data.libsql.readers import Readers
from aico.data.libsql.rows import Result, Row
from aico.data.libsql.sealed.ciphers import salt_of
from aico.data.libsql.sealed.page_cipher import MAPPED, DatabaseKeys, SoleKey
from aico.data.libsql.sealed.page_copies import PageCopy
from aico.data.libsql.sealed.vfs import SealedVFS
from aico.data.libsql.sqlite_engine import SqliteEngine
from aico.data.libsql.statements import Parameters, Value, first_word
from aico.data.libsql.write_side import WriteSide, closed
from aico.errors import Busy, DiskFull, InvalidInput, NotFound, StorageError, Tampered
from aico.security.keys import DatabaseKey

__all__ = ["EncryptedLibSQLConnection", "EngineName", "LibSQLConnection", "Parameters", "Value"]

T = TypeVar("T")

_ROWS_AT_ONCE = 1000
_PAGES_AT_ONCE = 2000
_LOG_STEP_S = 0.05
RESEAL_WAIT_S = 60.0
"""How long `reseal` waits for those who read the database as it was before."""
_LOG_WAIT_S = 2.0  # for readers of other processes that still use the log
_READS = frozenset({"SELECT", "VALUES", "EXPLAIN"})
_OUTSIDE_TRANSACTIONS = frozenset({"PRAGMA", "VACUUM"})


class LibSQLConnection:
    """A database in the clear. Opens or creates the file; `~` is expanded. Or, with `url`, one on a libSQL server, where
    whoever runs it can read everything (docs/how-to/libsql-server.md).

    Thread rule: any thread may use it. Reads run side by side on a pool of connections; writes queue for one.
    A process that forks must open its own: in the child every call raises StorageError.

    Raises NotFound if there is no file and `create` is false, StorageError if the folder cannot be used, Busy if
    another process keeps the store longer than `busy_wait_s` seconds.
    """

    def __init__(
        self,
        db_path: Path | str | None = None,
        *,
        engine: EngineName = "sqlite",
        create: bool = True,
        busy_wait_s: float = 30.0,
        page_cache_kib: int = 16 * 1024,
        url: str | None = None,
        auth_token: str | None = None,
    ) -> None:
        if (db_path is None) == (url is None) or (auth_token is not None and url is None):
            raise InvalidInput("a database is a file or on a server: give db_path, or url; nothing was opened")
        self._process, self._closed = os.getpid(), False
        self._vfs: SealedVFS | None = None
        if url is not None:
            server = ServerEngine(url, auth_token, wait_s=busy_wait_s)
            self._engine: Engine = server
            self.db_path = Path(server.label)
        else:
            self.db_path = Path(db_path or "").expanduser().absolute()
            self._engine = self._make_engine(engine, wait_s=busy_wait_s, cache_kib=page_cache_kib)
        self._on_server, self._translated = url is not None, translated(self.db_path)
        with self._translated:
            self._open(create=create)

    def _make_engine(self, name: EngineName, *, wait_s: float, cache_kib: int) -> Engine:
        if name == "libsql":
            return NativeEngine(self.db_path, None, wait_s=wait_s, cache_kib=cache_kib)
        _check_name(name)
        return SqliteEngine(self.db_path, None, wait_s=wait_s, cache_kib=cache_kib)

    def _open(self, *, create: bool) -> None:
        if not self._on_server and not self.db_path.exists():
            if not create:
                raise NotFound(f"there is no database at {self.db_path}", hint="restore it from a backup")
            # SQLite would delete it, and with it what was acknowledged. Looked for first: another process may be just
            # making both, the database before its log.
            if Path(f"{self.db_path}-wal").exists() and not self.db_path.exists():
                raise NotFound(
                    f"{self.db_path} is missing but its log is there; nothing was changed", hint="restore the database"
                )
            self.db_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        turn = self._engine.turn()
        try:
            if not self._on_server and not self.db_path.exists():
                with turn:
                    if not self.db_path.exists():  # another process may have been first
                        self._engine.create()
            writer = self._connect()
        except BaseException:
            turn.close()
            raise
        self._writing = WriteSide(writer, turn, self.db_path)
        self._readers = Readers(self._connect)
        self._group = GroupCommit(self._writing)
        self._checkpointer = Checkpointer(writer, self._connect, self._writing.exclusive)

    def _connect(self) -> EngineConnection:
        return self._engine.connect()

    @property
    def engine(self) -> str:
        """What stores the bytes, with its version and how they are protected."""
        return self._engine.description

    @property
    def engine_name(self) -> EngineName:
        """Which of the engines it is."""
        return self._engine.name

    @property
    def detects_tampering(self) -> bool:
        """Whether a byte that was changed from outside is told, instead of coming back as a wrong row."""
        return self._engine.detects_tampering

    # Statements

    def execute(self, sql: str, parameters: Parameters = ()) -> Result:
        """Run one statement; outside a transaction it is durable when this returns.

        Raises InvalidInput for SQL or values that cannot be used, Busy, DiskFull, Tampered or StorageError;
        the statement then changed nothing.
        """
        return self._on_right_connection(_run, sql, parameters)

    def execute_many(self, sql: str, rows: Iterable[Parameters]) -> None:
        """Run one statement for each row, all in one transaction. Raises as `execute`."""
        first_word(sql)
        remaining = iter(rows)
        with self.transaction():
            while some := list(islice(remaining, _ROWS_AT_ONCE)):  # drawn here: errors of `rows` stay the caller's own
                with self._translated:
                    self._writing.check_alive()
                    self._writing.connection.run_many(sql, some)

    def execute_script(self, sql: str) -> None:
        """Run several statements, all in one transaction. Raises as `execute`."""
        with self.transaction(), self._translated:
            self._writing.check_alive()
            self._writing.connection.run_script(sql)

    def fetch_one(self, sql: str, parameters: Parameters = ()) -> Row | None:
        """The first row, None if there is none."""
        rows = self._on_right_connection(_rows, sql, parameters)
        return rows[0] if rows else None

    def fetch_all(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """All rows, in memory."""
        return self._on_right_connection(_rows, sql, parameters)

    def fetch_committed(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """All rows as they are committed, also inside a transaction: what a view may build on."""
        with self._usable(), self._readers.borrow() as reader:
            return _rows(reader, sql, parameters)

    def execute_under(self, guard: Guard, sql: str, parameters: Parameters = (), *, read_only: bool = False) -> Result:
        """`execute`, with a guard that decides what the statement may touch; `guard.refused` says what it may not.

        With `read_only` the engine refuses every write as well, whatever the guard says.
        """

        def run(connection: EngineConnection, sql: str, parameters: Parameters) -> Result:
            return connection.run_under(guard, sql, parameters)

        if not read_only:
            return self._on_right_connection(run, sql, parameters)
        with self._usable(), self._readers.borrow() as reader:
            return run(reader, sql, parameters)

    @contextmanager
    def raw_reader(self, selects: Sequence[str], *, apart: bool = False) -> Iterator[apsw.Connection]:
        """For this folder alone: an APSW connection with the rows that `selects` read, on which no write lasts.

        Its errors become ours. On libSQL it is a copy of those tables in memory, made for the block. With `apart`
        nobody has it afterwards, so that what is done to it may stay.
        """
        readers = Readers(self._connect) if apart else self._readers
        try:
            with self._usable(), readers.borrow() as reader, reader.as_sqlite(selects) as connection:
                yield connection
        finally:
            if apart:
                readers.close()

    @contextmanager
    def snapshot(self) -> Iterator[Callable[..., Iterator[Row]]]:
        """`rows(sql, parameters=())` that streams, and sees one committed moment throughout the block.

        Writers go on meanwhile; until the block ends the log cannot be emptied.
        """
        self._check_usable()

        def rows(sql: str, parameters: Parameters = ()) -> Iterator[Row]:
            batches = reader.batches(sql, parameters)
            while some := self._next_batch(batches):
                yield from some

        with self._readers.borrow() as reader:
            with self._translated:
                reader.command("BEGIN")
            try:
                yield rows
            finally:
                with self._translated:
                    reader.command("ROLLBACK")

    def _next_batch(self, batches: Iterator[list[Row]]) -> list[Row]:
        with self._translated:
            return next(batches, [])

    @property
    def in_transaction(self) -> bool:
        """Whether the calling thread is inside a transaction of this connection."""
        return self._writing.inside

    def _on_right_connection(
        self, run: Callable[[EngineConnection, str, Parameters], T], sql: str, parameters: Parameters
    ) -> T:
        """Reads go to the pool, writes to the write connection, and so does everything inside a transaction."""
        kind = first_word(sql)
        self._check_usable()
        writing = self._writing
        with self._translated:
            if writing.inside:
                writing.check_alive()
                return run(writing.connection, sql, parameters)
            if kind in _READS:
                reader = self._readers.take()
                try:
                    return run(reader, sql, parameters)
                except REFUSED:
                    writing.watch.check(reader)  # a table or column that is gone: because another process changed it?
                    raise
                finally:
                    self._readers.give_back(reader)
            if kind in _OUTSIDE_TRANSACTIONS:
                with writing.exclusive():
                    return run(writing.connection, sql, parameters)
            return writing.run(lambda: run(writing.connection, sql, parameters))

    # Transactions

    def transaction(self) -> AbstractContextManager[None]:
        """Everything in the block is durable when it ends, or taken back whole and the error re-raised.

        Begins at once (BEGIN IMMEDIATE), so it waits for its turn here and never in the middle. Inside another
        transaction of the same thread it is a savepoint. Raises Busy if the turn does not come.
        """
        self._check_usable()
        return self._writing.transaction()

    def write(self, work: Callable[[], T]) -> T:
        """Run `work` in a transaction that it may share with what other threads write at this moment.

        Returns what `work` returned, once it is durable; raises what it raised, its statements taken back.
        `work` uses this connection, runs in any thread, and must not wait for another thread. Cheaper than
        `transaction` when many threads write: they share the disk's sync (all but the main thread).
        """
        self._check_usable()
        if self._writing.inside or threading.current_thread() is threading.main_thread():
            return self._writing.run(work)
        return self._group.submit(work)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the right to write without a transaction: for what lies beside the database. Raises Busy."""
        self._check_usable()
        with self._writing.exclusive():
            yield

    def expect_schema(self, name: str, version: int | None) -> int | None:
        """Refuse to write (SchemaChanged) unless the schema is at `version`; None lets it change. Returns what was before.

        Every write transaction looks, for another process may migrate at any time. `name` is as in the history.
        """
        return self._writing.watch.expect(name, version)

    # The whole file

    def backup_to(self, target: Path | str) -> None:
        """Write a consistent copy, sealed under the same keys, while others read and write.

        Raises InvalidInput if `target` exists; a failed copy leaves nothing behind.
        """
        place = Path(target).expanduser().absolute()
        if place.exists():
            raise InvalidInput(f"{place} exists; a backup never overwrites", hint="name a new file")
        fresh = place.with_name(f"{place.name}.new-{secrets.token_hex(8)}")
        with self._usable(), self._readers.borrow() as source:
            try:
                self._engine.copy(source, fresh, place)
            finally:
                for leftover in ("", "-map", "-wal", "-shm"):
                    Path(f"{fresh}{leftover}").unlink(missing_ok=True)

    def verify(self) -> None:
        """Read the whole database from the disk and check its structure. Raises Tampered; takes time with its size."""
        with self._usable():
            fresh = self._connect()
            try:
                found = [str(row[0]) for row in fresh.rows("PRAGMA integrity_check(10)")]
            finally:
                fresh.close()
        if found != ["ok"]:
            raise Tampered(
                f"{self.db_path.name} is inconsistent: {found[0]} ({len(found)} findings)", hint="restore a backup"
            )

    def clear_log(self) -> bool:
        """Move the whole write-ahead log into the database and empty it, so that no old page image remains.

        False if a reader of another process still needs the log, or the disk has no room; it is then emptied by a later
        checkpoint.
        """
        with suppress(DiskFull), self._usable(), self._writing.exclusive():
            return self._empty_log()
        return False

    def _empty_log(self) -> bool:
        deadline = time.monotonic() + _LOG_WAIT_S
        while not self._writing.connection.truncate_log(wait_s=_LOG_WAIT_S):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def close(self) -> None:
        """Give everything back. May be called twice, and in a forked child, where it only forgets.

        Raises Tampered or StorageError where the files were changed or lost meanwhile; what was acknowledged stays in the log.
        """
        if self._closed:
            return
        if os.getpid() == self._process and self._writing.inside:
            raise StorageError(
                f"{self.db_path.name} cannot be closed inside a transaction", hint="end the transaction first"
            )
        self._closed = True
        if os.getpid() != self._process:
            return
        self._checkpointer.stop()
        with closing(self._engine), self._translated:
            self._readers.close()
            self._writing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """For a block that only talks to the engine: its errors become ours."""
        self._check_usable()
        with self._translated:
            yield

    def _check_usable(self) -> None:
        if self._closed:
            raise closed(self.db_path)
        if os.getpid() != self._process:
            raise StorageError(
                f"this process was forked after {self.db_path.name} was opened; nothing was done",
                hint="open the vault in the child, after the fork",
            )


class EncryptedLibSQLConnection(LibSQLConnection):
    """A database whose every page, log frame and temporary byte is sealed with AES-256-GCM.

    `encryption_key` is 32 bytes, used as they are; anything else raises InvalidInput. A wrong key and a damaged
    file raise Tampered alike. With `engine="libsql"` the pages are encrypted by libSQL (AES-256-CBC), and a changed
    byte is not detected: docs/decisions/0031.
    """

    def __init__(
        self,
        db_path: Path | str,
        encryption_key: bytes | DatabaseKeys,
        *,
        engine: EngineName = "sqlite",
        create: bool = True,
        busy_wait_s: float = 30.0,
        page_cache_kib: int = 16 * 1024,
    ) -> None:
        self._keys = (
            encryption_key if isinstance(encryption_key, DatabaseKeys) else SoleKey({1: DatabaseKey(encryption_key)})
        )
        super().__init__(db_path, engine=engine, create=create, busy_wait_s=busy_wait_s, page_cache_kib=page_cache_kib)

    def _make_engine(self, name: EngineName, *, wait_s: float, cache_kib: int) -> Engine:
        if name == "libsql":
            return NativeEngine(self.db_path, self._keys, wait_s=wait_s, cache_kib=cache_kib)
        _check_name(name)
        self._vfs = SealedVFS(self._keys)
        return SqliteEngine(self.db_path, self._vfs, wait_s=wait_s, cache_kib=cache_kib)

    @property
    def database_id(self) -> str:
        """Which database this is: hexadecimal digits that a copy of the file shares and a restored one does not."""
        with self._usable():
            if self._vfs is None:
                return database_id_of(self._writing.connection)
            return salt_of(str(self.db_path)).hex()

    @property
    def has_page_map(self) -> bool:
        """Whether an older copy of a page is told from the newest: not by libSQL, nor in a database of format 0."""
        return self._vfs is not None and bool(bytes.fromhex(self.database_id)[0] & MAPPED)

    def copy_pages_to(self, target: Path | str) -> None:
        """`backup_to`, as sealed pages of SQLite whatever the engine: what a backup is made of."""
        if self._vfs is not None:
            return self.backup_to(target)
        self._check_usable()
        copy = EncryptedLibSQLConnection(target, self._keys, engine="sqlite")
        try:
            with copy, self._usable(), self._readers.borrow() as source:
                copy_database(source, copy._writing.connection)
        finally:
            _remove_lock_files(copy.db_path)

    def verify(self) -> None:
        """Open every page on the disk, free ones too, and check the structure. Raises Tampered, or Busy as `execute`.

        Takes time with the database's size; others may go on, they wait for a few dozen milliseconds at a time.
        Of libSQL only the structure: its pages carry nothing that they could be checked by.
        """
        super().verify()
        first = 0 if self._vfs is None else 1
        while first:
            first = self._verify_pages(first)

    def _verify_pages(self, first: int) -> int:
        """Open some pages from number `first` on; the number to go on with, 0 when all are done.

        Nobody writes meanwhile and the log is empty, so that no page is read while it is half written.
        """
        with self._usable(), self._writing.exclusive():
            if not self._empty_log():
                raise Busy(
                    f"{self.db_path.name} is being read; not every page was checked", hint="try again afterwards"
                )
            with PageCopy(self.db_path, self._keys) as pages:
                end = min(first + _PAGES_AT_ONCE, pages.page_count + 1)
                for number in range(first, end):
                    pages.read(number)
                return end if end <= pages.page_count else 0

    def rekey(self, encryption_key: bytes) -> None:
        """Seal every page anew under another key of 32 bytes; the old key opens nothing afterwards.

        No other process may have the database open: it would not know the new key. Needs as much free disk as the
        database is large. Raises Busy if somebody reads it; a crash leaves a database that opens with the old key or,
        once the rewrite was committed, with the new one.
        """
        fresh, vfs = DatabaseKey(encryption_key), self._sealing()
        with self._usable(), self._writing.exclusive():  # throughout: one log holds frames of one key only
            if not self._empty_log():
                raise Busy(f"{self.db_path.name} is being read; the key was not changed", hint="try again afterwards")
            self._keys.add(fresh, taken=vfs.generations_on_disk(self.db_path))
            try:
                vfs.rewrite_map(self.db_path)  # from here on it opens under either key
                self._writing.connection.command("VACUUM")
            except BaseException:
                self._keys.drop_newest()
                raise
            # Committed: from here on the new key opens the database. The old one is kept until the last page is moved.
            if self._empty_log():
                self._keys.keep_newest()
                vfs.rewrite_map(self.db_path)

    def reseal(self, *, wait_s: float = RESEAL_WAIT_S) -> None:
        """Seal every page anew under the newest of the keys, while others read; writers wait.

        In one transaction through the log, which is then moved into the database and emptied. Nothing is done where
        every page is under the newest key already. Needs as much free disk as the database is large. Raises Busy if a
        reader keeps the log for longer than `wait_s` seconds: the pages are then sealed anew, and their older form
        is still on the disk. Call it again.
        """
        vfs = self._sealing()
        deadline, rewritten = time.monotonic() + wait_s, False
        while True:
            with self._usable(), self._writing.exclusive():
                emptied = self._empty_log()
                if emptied and vfs.generations_on_disk(self.db_path) == {self._keys.newest & 0xFF}:
                    vfs.rewrite_map(self.db_path)  # whatever others did: it opens under the key that stays
                    return
                if emptied or not rewritten:
                    vfs.rewrite_map(self.db_path)
                    self._writing.connection.command("VACUUM")
                    rewritten = True
                    continue
            if time.monotonic() > deadline:
                raise Busy(
                    f"{self.db_path.name} is being read; pages under the old key are still on the disk",
                    hint="try again afterwards",
                )
            time.sleep(_LOG_STEP_S)

    def check_keys_can_change(self) -> None:
        """Raise InvalidInput on libSQL, which changes no key while anybody has the file open."""
        self._sealing()

    def _sealing(self) -> SealedVFS:
        if self._vfs is None:
            raise not_on_this_engine("change its key", "make another vault and import an export of this one there")
        return self._vfs


def move_to_engine(path: Path, keys: DatabaseKeys, engine: EngineName) -> None:
    """Turn a sealed SQLite database that nobody has open into one of another engine, under a key of the same vault."""
    fresh = path.with_name(f"{path.name}.new-{secrets.token_hex(8)}")
    try:
        with (
            EncryptedLibSQLConnection(path, keys, engine="sqlite", create=False) as sealed,
            EncryptedLibSQLConnection(fresh, keys, engine=engine) as other,
        ):
            with sealed._usable(), other._usable(), sealed._readers.borrow() as source:
                copy_database(source, other._writing.connection)
            other.verify()
        fresh.replace(path)
        Path(f"{path}-map").unlink(missing_ok=True)
    finally:
        for leftover in ("", "-wal", "-shm"):
            Path(f"{fresh}{leftover}").unlink(missing_ok=True)
        _remove_lock_files(fresh)


def _remove_lock_files(path: Path) -> None:
    """Of a database that was made under a name that nobody else knows."""
    for name in ("door", "turn"):
        Path(f"{path}-{name}").unlink(missing_ok=True)


def _run(connection: EngineConnection, sql: str, parameters: Parameters) -> Result:
    return connection.run(sql, parameters)


def _rows(connection: EngineConnection, sql: str, parameters: Parameters) -> list[Row]:
    return connection.rows(sql, parameters)


def _check_name(name: str) -> None:
    if name != "sqlite":
        raise InvalidInput(f"there is no engine {name!r}; nothing was opened", hint="engine is sqlite or libsql")
