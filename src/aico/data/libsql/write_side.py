"""The one connection of a process that writes, and the rules under which it does."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from aico.data.libsql.engine import EngineConnection, TurnLike
from aico.data.libsql.engine_errors import translated
from aico.data.libsql.schema_watch import SchemaWatch
from aico.errors import Busy, KeysRotated, StorageError

T = TypeVar("T")


class WriteSide:
    """Transactions on the write connection: one thread at a time, in turn with other processes.

    A thread that is inside one finds `inside` true; nested transactions are savepoints.
    """

    def __init__(self, connection: EngineConnection, turn: TurnLike, database: Path) -> None:
        self.connection = connection
        self.watch = SchemaWatch()
        self._database = database
        self._turn = turn
        self._lock = threading.Lock()
        self._closed = False
        self._of_thread = _OfThread()

    @property
    def inside(self) -> bool:
        """Whether the calling thread is inside a transaction."""
        return self._of_thread.inside

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the right to write, in this process and among all. Raises Busy, or StorageError inside a transaction."""
        if self.inside:
            raise StorageError(
                "this cannot be done inside a transaction; nothing was done", hint="end the transaction first"
            )
        with self._lock:
            self._check_open()
            with self._turn:
                yield

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit when the block ends, or take everything back and re-raise."""
        if self.inside:
            with self.savepoint():
                yield
            return
        with self.exclusive():
            try:
                self.begin()
                yield
                self.commit()
            except BaseException:
                self.roll_back()
                raise

    def run(self, work: Callable[[], T]) -> T:
        """`work` in a transaction of its own.

        Without generators, which an interrupt of the main thread may leave suspended with the right to write.
        """
        if self.inside:
            with self.savepoint():
                return work()
        with self._lock:
            self._check_open()
            with self._turn:
                try:
                    self.begin()
                    value = work()
                    self.commit()
                    return value
                except BaseException:
                    self.roll_back()
                    raise

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A transaction inside a transaction: its failure takes back only itself."""
        self.check_alive()
        self._run("SAVEPOINT nested")
        try:
            yield
        except BaseException:
            if self.connection.in_transaction:  # a full disk takes back everything by itself
                self._run("ROLLBACK TO nested")
                self._run("RELEASE nested")
            raise
        self.check_alive()
        self._run("RELEASE nested")

    def check_alive(self) -> None:
        """Raise StorageError if an error made the engine take back the transaction that this thread is inside.

        Whatever ran after that would be committed by itself.
        """
        if not self.connection.in_transaction:
            raise StorageError("the engine took the whole transaction back after an error; nothing of it was written")

    def begin(self) -> None:
        """Begin on the calling thread, which must hold `exclusive`. Raises SchemaChanged if the tables are not ours."""
        if self.connection.in_transaction:  # a signal's exception may have come between any two steps
            self._run("ROLLBACK")
        self._of_thread.inside = True
        self._run("BEGIN IMMEDIATE")
        with translated(self._database):
            self.watch.check(self.connection)

    def commit(self) -> None:
        """Make it durable; acknowledged from here on."""
        self.check_alive()
        self._run("COMMIT")
        self._of_thread.inside = False

    def roll_back(self) -> None:
        """Take it back, where the engine has not done so by itself."""
        self._of_thread.inside = False
        if self.connection.in_transaction:
            self._run("ROLLBACK")

    def close(self) -> None:
        """Close the connection once nobody writes; the last one out moves the log into the database."""
        with suppress(KeysRotated):  # the log stays as it is, for those who have its keys
            try:
                with self.exclusive():
                    self._closed = True
                    self.connection.close()
            except Busy:  # another process keeps the turn: it will move the log
                self._closed = True
                self.connection.close()
        self._turn.close()

    def _check_open(self) -> None:
        if self._closed:
            raise closed(self._database)

    def _run(self, sql: str) -> None:
        """Errors are translated here, around each statement: those of a caller's block stay the caller's own."""
        with translated(self._database):
            self.connection.command(sql)


def closed(database: Path) -> StorageError:
    """What every call on a closed connection raises."""
    return StorageError(f"{database.name} was closed; nothing was done", hint="open it again")


class _OfThread(threading.local):
    inside = False
