"""What changed, in the order it was committed: every view reads on from the number it has reached."""

from aico.data.libsql import LibSQLConnection, Row


class ChangeFeed:
    """Reads what is committed of `change_feed`. Its rows are written by triggers that the schema registry generates."""

    def __init__(self, connection: LibSQLConnection) -> None:
        self._connection = connection

    def newest(self) -> int:
        """The number of the last change, 0 before the first. Costs a few microseconds."""
        [(newest,)] = self._connection.fetch_committed("SELECT max(number) FROM change_feed")
        return newest or 0

    def deleted_between(self, after: int, up_to: int) -> list[bytes]:
        """The ids of messages and facts deleted in (after, up_to]. Such a row may have been written again since.

        Of no other table: a plugin chooses the ids of its rows, and could take a memory out of every index.
        """
        rows = self._connection.fetch_committed(
            "SELECT key FROM change_feed WHERE number > ? AND number <= ? AND column_mask = 0 "
            "AND table_name IN ('messages', 'facts')",
            (after, up_to),
        )
        return [key for (key,) in rows]

    def mark_of(self, number: int) -> tuple[bytes, int] | None:
        """The key and instant of a change, which tell one history from another; None where the feed has it no more."""
        rows = self._connection.fetch_committed("SELECT key, at FROM change_feed WHERE number = ?", (number,))
        return (rows[0]["key"], rows[0]["at"]) if rows else None

    def tells_from(self, number: int) -> bool:
        """Whether every change after `number` is still there to be read."""
        [(oldest,)] = self._connection.fetch_committed("SELECT min(number) FROM change_feed")
        return oldest is None or oldest <= number + 1

    def takes_away(self, *, after: int) -> bool:
        """Whether a change after `after` took a message, a fact or a vector away, or anything that one says."""
        return bool(
            self._connection.fetch_committed(
                "SELECT 1 FROM change_feed WHERE number > ? AND table_name IN ('messages', 'facts', 'embeddings') "
                "AND column_mask & 1 = 0 LIMIT 1",  # bit 0, the row id, is set by an insert alone
                (after,),
            )
        )

    def turns_from(self, number: int, *, limit: int) -> list[Row]:
        """Change `number` itself and those after it, each with the message or conversation that it concerns, as it is
        now. `user_id` is None for anything else, and where nothing is left of it."""
        return self._connection.fetch_committed(_TURNS_FROM, (number, limit))


_TURNS_FROM = """SELECT f.number, f.key, f.at AS changed_at, f.table_name, f.column_mask,
    coalesce(m.user_id, c.user_id) AS user_id, coalesce(m.conversation_id, c.id) AS conversation_id,
    m.role, m.speaker, m.text, m.at, m.utc_offset_min, m.position, m.source_id
    FROM change_feed f
    LEFT JOIN messages m ON f.table_name = 'messages' AND m.id = f.key
    LEFT JOIN conversations c ON f.table_name = 'conversations' AND c.id = f.key
    WHERE f.number >= ? ORDER BY f.number LIMIT ?"""
