"""The tables that a person's own SQL may name, each with what of the truth it shows, for this person alone.

Ids are 32 hexadecimal digits, instants texts like `2026-05-08 19:30:00.000000` in UTC, which sort and compare as they are;
those that end in `_local` are what the author's clock showed. A conversation goes by its name.
"""

from collections.abc import Mapping
from types import MappingProxyType


def _instant(us: str) -> str:
    """Microseconds since 1970 as text. Whole seconds are rounded down before 1970 too."""
    whole = f"(({us}) - ((({us}) % 1000000) + 1000000) % 1000000)"
    return f"strftime('%Y-%m-%d %H:%M:%S', {whole} / 1000000, 'unixepoch') || printf('.%06d', ({us}) - {whole})"


_COLUMNS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "messages": (
        "FROM main.messages x LEFT JOIN main.conversations c ON c.id = x.conversation_id WHERE x.user_id = {user}",
        {
            "id": "lower(hex(x.id))",
            "conversation": "c.name",
            "role": "x.role",
            "speaker": "x.speaker",
            "text": "x.text",
            "said_at": _instant("x.at"),
            "said_local": _instant("x.at + x.utc_offset_min * 60000000"),
            "position": "x.position",
            "source_id": "x.source_id",
            "characters": "length(x.text)",
            "size_bytes": "octet_length(x.text)",
            "asks": "substr(rtrim(x.text), -1) IN ('?', '？', '؟')",
        },
    ),
    "conversations": (
        "FROM main.conversations x WHERE x.user_id = {user}",
        {"name": "x.name", "title": "x.title", "created_at": _instant("x.created_at")},
    ),
    "facts": (
        "FROM main.facts x WHERE x.user_id = {user}",
        {
            "id": "lower(hex(x.id))",
            "text": "x.text",
            "category": "x.category",
            "type": "x.type",
            "status": "x.status",
            "trust": "x.trust",
            "source": "x.source",
            "model": "x.model",
            "confidence": "x.confidence",
            "recorded_at": _instant("x.recorded_at"),
            "valid_from": _instant("x.valid_from"),
            "superseded_at": _instant("x.superseded_at"),
            "size_bytes": "octet_length(x.text)",
        },
    ),
    "marks": (
        "FROM main.memory_marks x WHERE x.user_id = {user}",
        {
            "id": "lower(hex(x.id))",
            "owner": "lower(hex(x.owner_id))",
            "favourite": "x.favourite",
            "note": "x.note",
            "tone": "x.tone",
        },
    ),
    "tags": (
        "FROM main.memory_tags x WHERE x.user_id = {user}",
        {"owner": "lower(hex(x.owner_id))", "tag": "x.tag"},
    ),
    "preferences": (
        "FROM main.preferences x WHERE x.user_id = {user}",
        {"key": "x.key", "value": "x.value", "updated_at": _instant("x.updated_at")},
    ),
    "feedback": (
        "FROM main.feedback_events x WHERE x.user_id = {user}",
        {
            "id": "lower(hex(x.id))",
            "kind": "x.kind",
            "category": "x.category",
            "subject": "x.subject",
            "subject_id": "CASE WHEN x.subject_id IS NOT NULL THEN lower(hex(x.subject_id)) END",
            "value": "x.value",
            "given_at": _instant("x.at"),
        },
    ),
}
SOURCES: Mapping[str, str] = MappingProxyType(
    {name: rows.split()[1].removeprefix("main.") for name, (rows, _) in _COLUMNS.items()}
)
"""The table of the truth that each one shows."""
VIEWS: Mapping[str, str] = MappingProxyType(
    {
        name: f"SELECT {', '.join(f'{sql} AS {column}' for column, sql in columns.items())} {rows}"
        for name, (rows, columns) in _COLUMNS.items()
    }
)
"""The SELECT of each, with `{user}` where the person's id stands."""
_MAY_BE_LONG = {
    "messages": ("text",),
    "conversations": ("title",),
    "facts": ("text", "source"),
    "memory_marks": ("note",),
    "preferences": ("value",),
}
_SIZES = " UNION ALL ".join(
    f"SELECT max(octet_length({column})) AS size FROM {table} WHERE user_id = ?1"
    for table, columns in _MAY_BE_LONG.items()
    for column in columns
)
LONGEST = f"SELECT max(size) FROM ({_SIZES})"
"""How many bytes the longest of a person's texts has, with their id as its parameter."""
COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {name: tuple(columns) for name, (_, columns) in _COLUMNS.items()}
)

MESSAGES_WHERE = """SELECT id, 'message' AS kind, text, role, speaker, conversation, said_at AS at FROM messages
    WHERE (:conversation IS NULL OR conversation = :conversation) AND (:role IS NULL OR role = :role)
    AND (:since IS NULL OR said_at >= :since) AND (:until IS NULL OR said_at < :until)"""
FACTS_WHERE = """SELECT id, 'fact' AS kind, text, NULL AS role, NULL AS speaker, NULL AS conversation,
    coalesce(valid_from, recorded_at) AS at FROM facts
    WHERE status = 'accepted' AND superseded_at IS NULL
    AND (:since IS NULL OR at >= :since) AND (:until IS NULL OR at < :until)"""
