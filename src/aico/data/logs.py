"""The log that lies in the vault, sealed like everything else."""

from dataclasses import dataclass, field
from datetime import datetime

from aico.clock import Clock, SystemClock, from_us, to_us
from aico.data.libsql import LibSQLConnection
from aico.errors import InvalidInput, NotFound

_FIRST_US = 10**14
"""The table takes smaller numbers for milliseconds, so that a log may be written with those too: 3 March 1973."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of the log."""

    id: int
    timestamp: datetime
    level: str
    message: str = field(repr=False)
    subsystem: str | None
    module: str | None


class LogRepository:
    """Writes and reads `logs`. Any thread may use it."""

    def __init__(self, connection: LibSQLConnection, *, clock: Clock | None = None) -> None:
        self._connection, self._clock = connection, clock or SystemClock()

    def insert_log(
        self,
        *,
        level: str,
        message: str,
        subsystem: str | None = None,
        module: str | None = None,
        timestamp: datetime | None = None,
    ) -> int:
        """Write one entry, now if no aware `timestamp` is given; its id. Raises InvalidInput, Busy or DiskFull."""
        at = self._clock.now_us() if timestamp is None else to_us(timestamp, field="timestamp")
        if at < _FIRST_US:
            raise InvalidInput("timestamp lies before March 1973; nothing was written", field="timestamp")
        return self._connection.execute(
            "INSERT INTO logs (timestamp, level, message, subsystem, module) VALUES (?, ?, ?, ?, ?)",
            (at, level, message, subsystem, module),
        ).lastrowid

    def get_log(self, log_id: int) -> LogEntry:
        """One entry. Raises NotFound."""
        row = self._connection.fetch_one(
            "SELECT id, timestamp, level, message, subsystem, module FROM logs WHERE id = ?", (log_id,)
        )
        if row is None:
            raise NotFound(f"there is no log entry {log_id}")
        return LogEntry(row["id"], from_us(row["timestamp"]), *row[2:])
