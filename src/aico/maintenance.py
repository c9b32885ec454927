"""The vault's own upkeep, as tasks: each is there when the part of the program that it looks after is."""

from collections.abc import Sequence

from aico.data.libsql import LibSQLConnection
from aico.data.sessions import LiveSessions
from aico.data.tasks import TaskRepository
from aico.scheduler import BuiltIn

KEEP_EXECUTIONS_S = 90 * 86_400
"""How long the history of tasks goes back: a season, and a few thousand rows for our own upkeep."""


def upkeep(connection: LibSQLConnection, *, sessions: LiveSessions, tasks: TaskRepository) -> Sequence[BuiltIn]:
    """What every vault looks after. Intervals only, so that it works without an extra package."""
    return [
        BuiltIn("clear-log", "every 1d", lambda _run: connection.clear_log()),
        BuiltIn("prune-task-history", "every 1d", lambda _run: tasks.prune_history(keep_s=KEEP_EXECUTIONS_S)),
        BuiltIn("sweep-sessions", "every 1h", lambda _run: sessions.sweep()),
    ]
