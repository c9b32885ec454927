"""The columns that analytics looks at. No text of a message, fact or log line is among them: an id leads to it."""

from aico.data.duckdb import Column, ColumnTable, Kind

_ID, _HANDLE, _INTEGER, _PLACE, _NUMBER, _TEXT, _INSTANT, _LOCAL, _FLAG = (
    Kind.ID, Kind.HANDLE, Kind.INTEGER, Kind.PLACE, Kind.NUMBER, Kind.TEXT, Kind.INSTANT, Kind.LOCAL, Kind.FLAG,
)  # fmt: skip
_OWN_OR_NOBODYS = "coalesce(x.user_id, ?1) = ?1"

MESSAGES = ColumnTable(
    name="messages",
    source="messages",
    columns=(
        Column("id", _ID, "x.id"),
        Column("conversation", _HANDLE, "x.conversation_id"),
        Column("role", _TEXT, "x.role"),
        Column("speaker", _TEXT, "x.speaker"),
        Column("said_at", _INSTANT, "x.at"),
        Column("said_local", _INSTANT, "x.at + x.utc_offset_min * 60000000"),  # the author's own clock
        Column("position", _PLACE, "x.position"),
        Column("characters", _INTEGER, "length(x.text)"),
        Column("size_bytes", _INTEGER, "octet_length(x.text)"),
        Column("asks", _FLAG, "substr(rtrim(x.text), -1) IN ('?', '？', '؟')"),
    ),
    rows="FROM messages x",
)
CONVERSATIONS = ColumnTable(
    name="conversations",
    source="conversations",
    columns=(
        Column("conversation", _HANDLE, "x.id"),
        Column("name", _TEXT, "x.name"),
        Column("title", _TEXT, "x.title"),
        Column("created_at", _INSTANT, "x.created_at"),
    ),
    rows="FROM conversations x",
)
FACTS = ColumnTable(
    name="facts",
    source="facts",
    columns=(
        Column("id", _ID, "x.id"),
        Column("category", _TEXT, "x.category"),
        Column("type", _TEXT, "x.type"),
        Column("status", _TEXT, "x.status"),
        Column("trust", _TEXT, "x.trust"),
        Column("model", _TEXT, "x.model"),
        Column("confidence", _NUMBER, "x.confidence"),
        Column("recorded_at", _INSTANT, "x.recorded_at"),
        Column("recorded_local", _LOCAL, "x.recorded_at"),
        Column("superseded_at", _INSTANT, "x.superseded_at", nullable=True),
        Column("size_bytes", _INTEGER, "octet_length(x.text)"),
    ),
    rows="FROM facts x",
)
MARKS = ColumnTable(
    name="marks",
    source="memory_marks",
    columns=(
        Column("id", _ID, "x.id"),
        Column("owner", _ID, "x.owner_id"),
        Column("favourite", _FLAG, "x.favourite"),
        Column("tone", _TEXT, "x.tone"),
    ),
    rows="FROM memory_marks x",
)
FEEDBACK = ColumnTable(
    name="feedback",
    source="feedback_events",  # what is sensitive lies in a table of its own and is in no view
    columns=(
        Column("id", _ID, "x.id"),
        Column("kind", _TEXT, "x.kind"),
        Column("category", _TEXT, "x.category"),
        Column("subject", _TEXT, "x.subject"),
        Column("subject_id", _ID, "x.subject_id", nullable=True),
        Column("value", _NUMBER, "x.value", nullable=True),
        Column("given_at", _INSTANT, "x.at"),
        Column("given_local", _LOCAL, "x.at"),
    ),
    rows="FROM feedback_events x",
)
LOGS = ColumnTable(
    name="logs",
    source="logs",
    columns=(
        Column("id", _INTEGER, "x.id"),
        Column("logged_at", _INSTANT, "x.timestamp"),
        Column("logged_local", _LOCAL, "x.timestamp"),
        Column("level", _TEXT, "x.level"),
        Column("subsystem", _TEXT, "x.subsystem"),
        Column("module", _TEXT, "x.module"),
        Column("topic", _TEXT, "x.topic"),
        Column("size_bytes", _INTEGER, "octet_length(x.message) + coalesce(octet_length(x.extra), 0)"),
    ),
    rows="FROM logs x",
    of_user=_OWN_OR_NOBODYS,
    key="x.id",
    captured=False,
)
RECALLS = ColumnTable(
    name="recalls",
    source="logs",
    columns=(
        Column("id", _INTEGER, "x.id"),
        Column("asked_at", _INSTANT, "x.timestamp"),
        Column("asked_local", _LOCAL, "x.timestamp"),
        Column("took_ms", _NUMBER, "coalesce(CAST(x.extra ->> '$.took_ms' AS REAL), 0.0)"),
        Column("hits", _INTEGER, "coalesce(CAST(x.extra ->> '$.hits' AS INTEGER), 0)"),
        Column("best_score", _NUMBER, "coalesce(CAST(x.extra ->> '$.best_score' AS REAL), 0.0)"),
    ),
    rows="FROM logs x",
    of_user="x.user_id = ? AND x.topic = 'recall' AND json_valid(x.extra)",
    key="x.id",
    captured=False,
)
TASKS = ColumnTable(
    name="task_executions",
    source="task_executions",
    columns=(
        Column("id", _ID, "x.id"),
        Column("task", _TEXT, "t.name"),
        Column("attempt", _INTEGER, "x.attempt"),
        Column("outcome", _TEXT, "x.outcome"),
        Column("error", _TEXT, "x.error"),
        Column("started_at", _INSTANT, "x.started_at"),
        Column("ended_at", _INSTANT, "x.ended_at", nullable=True),
    ),
    rows="FROM task_executions x JOIN tasks t ON t.id = x.task_id",
    of_user="coalesce(t.user_id, ?1) = ?1",
    captured=False,
)

TABLES = {table.name: table for table in (MESSAGES, CONVERSATIONS, FACTS, MARKS, FEEDBACK, LOGS, RECALLS, TASKS)}
"""By name. `logs` and `task_executions` hold what concerns the person or nobody; all others are the person's own."""
