"""What is done with a memory and for it: feedback, tasks and their executions, and rows that were merged.

- `sensitive_feedback` is `feedback_events` for what never leaves this device. It is a table of its own because sync,
  backups of others and every view read what the change feed names, and the feed names whole tables: what is not
  captured cannot be sent by a forgotten WHERE. Whoever exports reads `feedback_events` alone.
- `tasks` and `task_executions` are this device's own, as live sessions are: each device keeps its own house.
- `merged_rows` makes an old id lead to the row that took its place, so that importing a merged conversation again
  finds everything there.
"""

from aico.data.libsql.registry import SchemaVersion, register_schema

_FEEDBACK_COLUMNS = """(
    row_id INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    user_id BLOB NOT NULL,
    kind TEXT NOT NULL,                 -- 'signal', 'action', 'rating' or 'survey'
    category TEXT NOT NULL,             -- which of its kind, in the caller's word
    subject TEXT,                       -- 'message', 'fact', 'hit' or 'conversation'; NULL: about no row
    subject_id BLOB,                    -- its id; of a hit, the id of the memory that recall brought
    value REAL,                         -- of a rating or an answer
    payload TEXT NOT NULL,              -- JSON object
    at INTEGER NOT NULL
)"""

_TASKS = """CREATE TABLE tasks (
    row_id INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    user_id BLOB,                       -- whose task it is; NULL: the vault's own upkeep
    name TEXT NOT NULL UNIQUE,
    action TEXT NOT NULL,               -- the registered callable that does it
    schedule TEXT NOT NULL,             -- 'every 15m', 'cron 0 3 * * * Europe/Lisbon', 'once 2026-05-08T19:30:00+00:00'
    payload TEXT NOT NULL,              -- JSON object
    attempts_max INTEGER NOT NULL,      -- of one due time
    is_enabled INTEGER NOT NULL,
    next_run_at INTEGER,                -- NULL: never again
    attempt INTEGER NOT NULL,           -- of the next run: 1, or more after a failure
    execution_id BLOB,                  -- of the run under way
    lease_until INTEGER,                -- it is given up as lost then
    created_at INTEGER NOT NULL
)"""

_TASK_EXECUTIONS = """CREATE TABLE task_executions (
    row_id INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    task_id BLOB NOT NULL,
    attempt INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    outcome TEXT,                       -- 'done', 'failed' or 'lost'; NULL while it runs
    error TEXT                          -- the error's class; never its message, which may hold content
)"""

_MERGED_ROWS = """CREATE TABLE merged_rows (
    row_id INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,            -- of the row that is gone
    user_id BLOB NOT NULL,
    into_id BLOB NOT NULL,              -- of the row that took its place
    kind TEXT NOT NULL,                 -- 'message' or 'conversation'
    at INTEGER NOT NULL
)"""

_FEEDBACK_TABLES = ("feedback_events", "sensitive_feedback")

ACTIVITY_SCHEMA = register_schema("activity", "core", priority=20)(
    {
        1: SchemaVersion(
            version=1,
            name="Activity",
            description="Feedback, tasks and their executions, and what became of merged rows",
            sql_statements=[
                *(f"CREATE TABLE {table} {_FEEDBACK_COLUMNS}" for table in _FEEDBACK_TABLES),
                *(f"CREATE INDEX {table}_of_user ON {table} (user_id, at)" for table in _FEEDBACK_TABLES),
                *(
                    f"CREATE INDEX {table}_of_subject ON {table} (subject_id, at) WHERE subject_id IS NOT NULL"
                    for table in _FEEDBACK_TABLES
                ),
                _TASKS,
                "CREATE INDEX tasks_due ON tasks (next_run_at) WHERE is_enabled",
                _TASK_EXECUTIONS,
                "CREATE INDEX executions_of_task ON task_executions (task_id, started_at)",
                "CREATE INDEX executions_in_order ON task_executions (started_at)",
                _MERGED_ROWS,
                "CREATE INDEX merged_into ON merged_rows (into_id)",
                "CREATE INDEX sessions_of_user ON session_metadata (user_id, expires_at)",
                "CREATE INDEX sessions_by_expiry ON session_metadata (expires_at)",
            ],
            rollback_statements=[
                "DROP INDEX sessions_by_expiry",
                "DROP INDEX sessions_of_user",
                "DROP TABLE merged_rows",
                "DROP TABLE task_executions",
                "DROP TABLE tasks",
                "DROP TABLE sensitive_feedback",
                "DROP TABLE feedback_events",
            ],
            captures=["feedback_events", "merged_rows"],
            rests_on={"core": 2},
        ),
    }
)
