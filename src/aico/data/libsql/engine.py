"""What an engine must do, so that everything above it is the same for all: one protocol for a native connection, one for
what opens and copies databases.

`SqliteConnection` (sqlite_engine.py) and `NativeConnection` (native/connection.py) are the two kinds. What one of them
cannot do it refuses with InvalidInput, and never skips.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Protocol

import apsw

from aico.data.libsql.guard import Guard
from aico.data.libsql.rows import Result, Row
from aico.data.libsql.statements import Parameters
from aico.errors import InvalidInput

EngineName = Literal["sqlite", "libsql"]


class EngineConnection(Protocol):
    """One connection of an engine. Thread rule: any thread, one at a time. Every result is read to its end."""

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, and was not taken back by an error."""
        ...

    def run(self, sql: str, parameters: Parameters) -> Result:
        """Run one statement."""
        ...

    def rows(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Run one statement for its rows alone."""
        ...

    def batches(self, sql: str, parameters: Parameters) -> Iterator[list[Row]]:
        """The rows of one statement, some at a time, as they are asked for."""
        ...

    def run_many(self, sql: str, rows: Sequence[Parameters]) -> None:
        """Run one statement for each of the rows."""
        ...

    def run_script(self, sql: str) -> None:
        """Run several statements, none of which begins or ends a transaction."""
        ...

    def run_under(self, guard: Guard, sql: str, parameters: Parameters) -> Result:
        """`run`, of what `guard` lets through and nothing else."""
        ...

    def command(self, sql: str, /) -> object:
        """Begin, end or take back a transaction or a savepoint."""
        ...

    def schema_version(self) -> int:
        """The engine's own counter of changes to the tables, by whomever."""
        ...

    def only_read(self) -> None:
        """From here on every write fails."""
        ...

    def as_sqlite(self, selects: Sequence[str]) -> AbstractContextManager[apsw.Connection]:
        """An APSW connection with the rows that these statements read, on which every write to them fails or is lost."""
        ...

    def truncate_log(self, *, wait_s: float) -> bool:
        """Move the whole log into the database and empty it; False where somebody still needs it."""
        ...

    def checkpoint(self, *, restart: bool) -> None:
        """Move what can be moved of the log into the database; with `restart`, so that it begins anew."""
        ...

    def log_backlog(self) -> int:
        """Pages of the log that no checkpoint, of any process, has copied yet; 0 where that cannot be told."""
        ...

    def after_commits(self, tell: Callable[[int], object]) -> None:
        """Call `tell` with the pages of the log after each commit, where the engine leaves checkpoints to us."""
        ...

    def close(self) -> None:
        """Give it back. May be called twice."""
        ...


class Engine(Protocol):
    """Opens one database."""

    name: EngineName
    description: str
    """Engine, version, and what protects the bytes."""
    detects_tampering: bool

    def create(self) -> None:
        """Make it whole, or not at all. Raises FileExistsError."""
        ...

    def connect(self) -> EngineConnection:
        """Another connection to it."""
        ...

    def copy(self, source: Any, fresh: Path, place: Path) -> None:  # a connection of the same engine
        """A consistent copy of what `source` sees, made at `fresh` and then given its name."""
        ...

    def turn(self) -> "TurnLike":
        """What writers hold, one at a time among all processes."""
        ...

    def close(self) -> None:
        """Give back what is not a connection's."""
        ...


class TurnLike(AbstractContextManager[object], Protocol):
    """A context manager that holds the right to write."""

    def close(self) -> None:
        """Give it back. May be called twice."""
        ...


def not_on_this_engine(what: str, hint: str) -> InvalidInput:
    """For what an engine cannot do, and so does not."""
    return InvalidInput(f"the engine libSQL cannot {what}; nothing was done", hint=hint)
