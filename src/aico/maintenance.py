"""The vault's own upkeep, as tasks. Nothing of it runs by itself: `aico tasks run --due`, or a thread that was asked for."""

from collections.abc import Sequence

from aico.ai.memory.indexes import Indexes
from aico.ai.memory.working import WorkingMemoryStore
from aico.data.auth_sessions import AuthSessions
from aico.data.change_feed import ChangeFeed
from aico.data.json_values import JsonObject
from aico.data.libsql import LibSQLConnection
from aico.data.live_sessions import LiveSessions
from aico.data.logs import LogRepository
from aico.data.tasks import TaskRepository
from aico.errors import InvalidInput
from aico.scheduler import BuiltIn

KEEP_EXECUTIONS_S = 90 * 86_400
"""How long the history of tasks goes back: a season, and a few thousand rows for our own upkeep."""

_USERS = "SELECT id FROM users"


def upkeep(
    connection: LibSQLConnection,
    *,
    tasks: TaskRepository,
    live_sessions: LiveSessions,
    sessions: AuthSessions,
    logs: LogRepository,
    working: WorkingMemoryStore,
    indexes: Indexes,
    feed: ChangeFeed,
) -> Sequence[BuiltIn]:
    """What every vault looks after. Intervals only, so that it works without an extra package."""
    return [
        BuiltIn("clear-log", "every 1d", lambda _run: connection.clear_log()),
        BuiltIn(
            "keep-indexes", "every 1h", lambda _run: indexes.sweep(row["id"] for row in connection.fetch_all(_USERS))
        ),
        BuiltIn("keep-logs-short", "every 1d", lambda _run: logs.apply_retention()),
        BuiltIn("prune-change-feed", "every 1d", lambda _run: feed.prune()),
        BuiltIn("prune-task-history", "every 1d", lambda _run: tasks.prune_history(keep_s=KEEP_EXECUTIONS_S)),
        BuiltIn("sweep-hot-tier", "every 1h", lambda _run: working.sweep()),
        BuiltIn("sweep-live-sessions", "every 1h", lambda _run: live_sessions.sweep()),
        BuiltIn("sweep-sessions", "every 1d", lambda _run: sessions.cleanup_expired_sessions()),
    ]


def backup_folder(payload: JsonObject) -> str | None:
    """Where a task of the action "backup" puts its backup: `{"to": FOLDER}`, else the vault's own folder."""
    folder = payload.get("to")
    if folder is not None and not isinstance(folder, str):
        raise InvalidInput('a backup task names its folder as text: {"to": "/media/disk"}; no backup was made')
    return folder
