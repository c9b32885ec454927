"""Rows of an upstream database as records of this project, and what there is no record for."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from aico.portability.records import Record
from aico.portability.upstream_folder import listed, moment

Row = dict[str, Any]  # whatever the database holds
NewId = Callable[[str, str], str]
MessageId = Callable[[str], str | None]

FACT_TABLES = ("user_memories", "facts_metadata")
"""Today's name and the one before upstream's schema 11."""
FEEDBACK_TABLES = ("feedback_events", "temp_memory_album_feedback")
"""The second is where upstream's schemas 16 and 18 strand the album's feedback."""
TAKEN = {"users", "user_relationships", *FACT_TABLES, *FEEDBACK_TABLES}
LEFT_OUT = {
    "user_authentication": "PINs: set new ones",
    "auth_sessions": "sign-in sessions",
    "access_policies": "access policies",
    "devices": "devices without keys",
    "logs": "log entries",
    "events": "events of the message bus",
    "kg_nodes": "entities of the knowledge graph",
    "kg_edges": "relations of the knowledge graph",
    "kg_node_properties": "properties in the knowledge graph",
    "kg_edge_properties": "properties in the knowledge graph",
    "scheduled_tasks": "scheduled tasks",
    "task_executions": "executions of tasks",
    "task_locks": "locks of tasks",
    "session_metadata": "summaries of sessions",
    "fact_relationships": "relations between facts",
    "consolidation_state": "positions of its own upkeep",
    "skills": "learned skills",
    "user_skill_confidence": "learned skills",
    "ams_behavioral_feedback": "feedback on skills",
    "ams_feedback_events": "feedback on skills",
    "trajectories": "turns logged for learning",
    "context_skill_stats": "learned statistics",
    "context_preference_vectors": "learned preference vectors",
    "emotion_state": "states of its emotions",
    "emotion_history": "states of its emotions",
    "_aico_schema_metadata": "notes on its own schema",
    "_aico_migration_history": "notes on its own schema",
    "_aico_metadata": "notes on its own schema",
}
_UNKEPT = {
    "conversation_summary": "summaries of conversations in the album",
    "key_moments_json": "key moments in the album",
    "turn_range": "ranges of turns in the album",
    "entities_json": "entities noted with facts",
}
CURATED = "user_curated"
VISITS_MAX = 1000


def fact_records(row: Row, new_id: NewId, message: MessageId, left_out: Counter[str]) -> Iterator[Record]:
    """A fact with its source, marks, tags and visits. What a model found waits for the person's yes, as always here."""
    source = str(row["fact_id"])
    curated, created = row.get("extraction_method") == CURATED, _at(row.get("created_at"))
    fact: Record = {
        "kind": "fact",
        "id": new_id("fact", source),
        "text": row.get("content"),
        "category": row.get("category"),
        "type": row.get("fact_type"),
        "confidence": 1.0 if row.get("confidence") is None else row["confidence"],
        "source": "aico-upstream",
        "source_message_id": message(str(row.get("source_message_id") or "")),
        "valid_from": _at(row.get("valid_from")),
        "valid_until": _at(row.get("valid_until")),
        "recorded_at": created or _at(0),
        "trust": "user" if curated else "extracted",
        "status": "accepted" if curated else "proposed",
    }
    if not curated:
        fact |= {"model": f"aico-upstream {row.get('extraction_method') or ''}".strip(), "proposed_at": created}
    yield fact
    if fact["source_message_id"]:
        yield {
            "kind": "fact_source",
            "id": new_id("fact_source", source),
            "fact_id": fact["id"],
            "message_id": fact["source_message_id"],
        }
    elif row.get("source_message_id"):
        left_out["links from facts to messages that upstream no longer had"] += 1
    yield from _marks(row, source, str(fact["id"]), new_id, left_out)
    for column, kind in _UNKEPT.items():
        left_out[kind] += row.get(column) not in (None, "", "[]", "{}")


def _marks(row: Row, source: str, fact_id: str, new_id: NewId, left_out: Counter[str]) -> Iterator[Record]:
    note, tone, favourite = row.get("user_note"), row.get("emotional_tone"), bool(row.get("is_favorite"))
    if note or tone or favourite:
        yield {
            "kind": "mark",
            "id": new_id("mark", source),
            "owner_id": fact_id,
            "favourite": favourite,
            "note": note or None,
            "tone": tone or None,
        }
    for tag in dict.fromkeys(listed(row.get("tags_json"))):
        yield {"kind": "tag", "id": new_id("tag", f"{source} {tag}"), "owner_id": fact_id, "tag": tag}
    visits, last = row.get("revisit_count"), _at(row.get("last_revisited"))
    count = visits if isinstance(visits, int) and last else 0
    for number in range(min(count, VISITS_MAX)):
        yield {"kind": "visit", "id": new_id("visit", f"{source} {number}"), "owner_id": fact_id, "at": last}
    left_out[f"visits of one fact beyond {VISITS_MAX}"] += max(0, count - VISITS_MAX)


def feedback_record(row: Row, new_id: NewId, message: MessageId, conversation: bytes | None) -> Record:
    """An event about its message, else its conversation, else nothing that is there. Raises InvalidInput."""
    about = message(str(row.get("message_id") or ""))
    subject = ("message", about) if about else ("conversation", conversation.hex()) if conversation else (None, None)
    seconds = row.get("timestamp")
    if isinstance(seconds, int) and abs(seconds) > 100_000_000_000:  # from the year 5138 on: milliseconds
        seconds = seconds / 1000
    return {
        "kind": "sensitive" if row.get("is_sensitive") else "feedback",
        "id": new_id("feedback", str(row["id"])),
        "of": row.get("event_type"),
        "category": row.get("event_category"),
        "subject": subject[0],
        "subject_id": subject[1],
        "payload": row.get("payload"),
        "at": _at(seconds),
    }


def _at(value: object) -> str | None:
    found: datetime | None = moment(value)
    return None if found is None else found.astimezone(UTC).isoformat(timespec="microseconds")
