"""Old ids that lead to the row that took their place: of merged rows, and of rows that could not have their id.

A lead holds for the person who made it alone (docs/decisions/0034, 0047).
"""

from aico.data.libsql import LibSQLConnection
from aico.data.row_ids import NaturalIds


def lead(connection: LibSQLConnection, user_id: bytes, kind: str, old: bytes, *, to: bytes, at: int) -> None:
    """Let an old id lead to a row of this person from now on, whoever claimed it before."""
    connection.execute(
        "INSERT INTO merged_rows (id, user_id, into_id, kind, at) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (id) DO UPDATE SET user_id = excluded.user_id, into_id = excluded.into_id, at = excluded.at",
        (old, user_id, to, kind, at),
    )


def conversation_named(connection: LibSQLConnection, natural_ids: NaturalIds, user_id: bytes, name: str) -> bytes:
    """The id that a conversation of this name has or would have; that of another, where it was merged into it."""
    named = natural_ids.conversation(user_id, name)
    return conversation_led_to(connection, user_id, named) or named


def conversation_led_to(connection: LibSQLConnection, user_id: bytes, conversation_id: bytes) -> bytes | None:
    """The conversation of this person that an id leads to, as long as that is there and they have none of this id."""
    row = connection.fetch_one(
        "SELECT r.into_id FROM merged_rows r JOIN conversations c ON c.id = r.into_id AND c.user_id = r.user_id "
        "WHERE r.id = ? AND r.user_id = ? "
        "AND NOT EXISTS (SELECT 1 FROM conversations o WHERE o.id = r.id AND o.user_id = r.user_id)",
        (conversation_id, user_id),
    )
    return None if row is None else bytes(row["into_id"])
