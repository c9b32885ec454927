"""What changed, in the order it was committed: every view reads on from the number it has reached."""

from aico.data.libsql import LibSQLConnection


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
