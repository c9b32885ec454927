"""What changed, in the order it was committed: every view reads on from the number it has reached."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from aico.clock import Clock
from aico.data.libsql import LibSQLConnection, Row
from aico.errors import InvalidInput

KEPT_CHANGES = 50_000
"""So many of the newest changes are never pruned: a view that is further behind rebuilds, which costs less."""
CONSUMER_LIVES_S = 90 * 86_400
"""How long a consumer that gives no sign is waited for: as long as a device may lie in a drawer."""
_PRUNED_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes after `after` up to `up_to`, counted by table. No content.

    `up_to` below `after`: the truth was put back, and every view begins anew.
    """

    after: int
    up_to: int
    tables: Mapping[str, int] = field(default_factory=dict)


class ChangeFeed:
    """Reads what is committed of `change_feed`. Its rows are written by triggers that the schema registry generates.

    Most views keep their position with their own data and rebuild where the feed no longer tells what came after it.
    What cannot rebuild, such as a device that still has to be told, has itself noted by `hold`.
    """

    def __init__(self, connection: LibSQLConnection, *, clock: Clock) -> None:
        self._connection, self._clock = connection, clock

    def newest(self) -> int:
        """The number of the last change, 0 before the first. Costs a few microseconds."""
        [(newest,)] = self._connection.fetch_committed("SELECT max(number) FROM change_feed")
        return newest or 0

    def tells_from(self, number: int) -> bool:
        """Whether every change after `number` is still there to be read.

        Ask it after reading them: pruning only ever takes the oldest.
        """
        [(oldest,)] = self._connection.fetch_committed("SELECT min(number) FROM change_feed")
        return oldest is None or oldest <= number + 1

    def between(self, after: int, up_to: int) -> Changes:
        """How many changes there were of each table in (after, up_to]."""
        rows = self._connection.fetch_committed(
            "SELECT table_name, count(*) FROM change_feed WHERE number > ? AND number <= ? GROUP BY table_name",
            (after, up_to),
        )
        return Changes(after, up_to, dict(rows))

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

    def takes_away(self, *, after: int) -> bool:
        """Whether a change after `after` took a message, a fact or a vector away, or anything that one says."""
        return bool(
            self._connection.fetch_committed(
                "SELECT 1 FROM change_feed WHERE number > ? AND table_name IN ('messages', 'facts', 'embeddings') "
                "AND column_mask & 1 = 0 LIMIT 1",  # bit 0, the row id, is set by an insert alone
                (after,),
            )
        )

    def only_adds(self, table: str, *, after: int) -> bool:
        """Whether nothing of a table was taken away or rewritten after `after`. Not where the feed no longer tells, nor
        where it has not come so far: the truth was put back."""
        [(oldest, newest)] = self._connection.fetch_committed("SELECT min(number), max(number) FROM change_feed")
        if (oldest or 0) > after + 1 or (newest or 0) < after:
            return False
        return not self._connection.fetch_committed(
            "SELECT 1 FROM change_feed WHERE number > ? AND table_name = ? AND column_mask & 1 = 0 LIMIT 1",
            (after, table),
        )

    def turns_from(self, number: int, *, limit: int) -> list[Row]:
        """Change `number` itself and those after it, each with the message or conversation that it concerns, as it is
        now. `user_id` is None for anything else, and where nothing is left of it."""
        return self._connection.fetch_committed(_TURNS_FROM, (number, limit))

    # Who must not be passed

    def hold(self, consumer: str, number: int) -> None:
        """Note that `consumer` has read every change up to `number`: later ones are kept for it, unless it gives no
        sign for 90 days. Inside the caller's transaction its position moves with its own data."""
        if type(number) is not int or number < 0:
            raise InvalidInput("a position is the number of a change; nothing was noted", field="number")
        self._connection.execute(
            "INSERT INTO feed_consumers (name, number, seen_at) VALUES (?, ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET number = excluded.number, seen_at = excluded.seen_at",
            (consumer, number, self._clock.now_us()),
        )

    def held_by(self, consumer: str) -> int | None:
        """The position that `consumer` noted last, None for one that never did."""
        row = self._connection.fetch_one("SELECT number FROM feed_consumers WHERE name = ?", (consumer,))
        return None if row is None else int(row["number"])

    def release(self, consumer: str) -> None:
        """Let go of a consumer that is no more."""
        self._connection.execute("DELETE FROM feed_consumers WHERE name = ?", (consumer,))

    def prune(self, *, keep: int = KEPT_CHANGES) -> int:
        """Delete the changes that everybody who must not be passed has read, but for the newest `keep`; how many.

        The last row always stays, so that no number is ever given twice. In steps, between which others write.
        """
        live_since = self._clock.now_us() - CONSUMER_LIVES_S * 1_000_000
        [(slowest,)] = self._connection.fetch_committed(
            "SELECT min(number) FROM feed_consumers WHERE seen_at >= ?", (live_since,)
        )
        newest = self.newest()
        last = min(newest - max(keep, 1), newest if slowest is None else slowest)
        pruned = 0
        while count := self._connection.execute(
            "DELETE FROM change_feed WHERE number <= min(?, (SELECT min(number) FROM change_feed) + ?)",
            (last, _PRUNED_AT_ONCE - 1),
        ).rowcount:
            pruned += count
        return pruned


_TURNS_FROM = """SELECT f.number, f.key, f.at AS changed_at, f.table_name, f.column_mask,
    coalesce(m.user_id, c.user_id) AS user_id, coalesce(m.conversation_id, c.id) AS conversation_id,
    m.role, m.speaker, m.text, m.at, m.utc_offset_min, m.position, m.source_id
    FROM change_feed f
    LEFT JOIN messages m ON f.table_name = 'messages' AND m.id = f.key
    LEFT JOIN conversations c ON f.table_name = 'conversations' AND c.id = f.key
    WHERE f.number >= ? ORDER BY f.number LIMIT ?"""
