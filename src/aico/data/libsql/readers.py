"""A pool of connections that only read, so that readers never wait for the writer or for each other."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aico.data.libsql.engine import EngineConnection


class Readers:
    """Hands out connections, newest first, and opens another when all are lent. Any thread may borrow."""

    def __init__(self, connect: Callable[[], EngineConnection]) -> None:
        self._connect = connect
        self._idle: list[EngineConnection] = []
        self._closed = False

    def take(self) -> EngineConnection:
        """A connection on which every write fails; `give_back` it."""
        try:
            return self._idle.pop()  # atomic under the GIL
        except IndexError:
            connection = self._connect()
            connection.only_read()
            return connection

    def give_back(self, connection: EngineConnection) -> None:
        """Make it free for the next reader."""
        if self._closed:
            connection.close()
        else:
            self._idle.append(connection)

    @contextmanager
    def borrow(self) -> Iterator[EngineConnection]:
        """`take` for a block, then `give_back`."""
        connection = self.take()
        try:
            yield connection
        finally:
            self.give_back(connection)

    def close(self) -> None:
        """Close the idle ones now, the lent ones when they come back."""
        self._closed = True
        self.close_idle()

    def close_idle(self) -> None:
        """Let go of everything that is not lent."""
        while self._idle:
            self._idle.pop().close()
