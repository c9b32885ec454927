"""What statements give back: rows that are tuples and know their column names."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, overload

from aico.errors import NotFound


class Row(tuple[Any, ...]):
    """One row: a tuple whose values are also found by column name."""

    __slots__ = ()
    _names: tuple[str, ...] = ()

    def keys(self) -> tuple[str, ...]:
        """The column names."""
        return self._names

    def __getitem__(self, key: Any) -> Any:  # an index, a slice or a column's name
        if isinstance(key, str):
            try:
                return tuple.__getitem__(self, self._names.index(key))
            except ValueError:
                raise NotFound(
                    f"the row has no column {key!r}", hint=f"its columns: {', '.join(self._names)}"
                ) from None
        return tuple.__getitem__(self, key)


class Result(Sequence[Row]):
    """What one statement returned and did."""

    def __init__(self, rows: list[Row], *, lastrowid: int, rowcount: int) -> None:
        self._rows, self._fetched = rows, 0
        self.lastrowid = lastrowid
        """Row id of the newest insert on the connection that ran the statement."""
        self.rowcount = rowcount
        """How many rows the statement changed."""

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def fetchone(self) -> Row | None:
        """The next row, None after the last."""
        rest = self._rows[self._fetched : self._fetched + 1]
        self._fetched += len(rest)
        return rest[0] if rest else None

    def fetchall(self) -> list[Row]:
        """The rows not fetched yet."""
        rest, self._fetched = self._rows[self._fetched :], len(self._rows)
        return rest


@lru_cache(maxsize=512)
def row_type(description: tuple[tuple[str, str], ...]) -> type[Row]:
    """The kind of row that a statement with these columns (name and declared type) gives."""
    return type("Row", (Row,), {"__slots__": (), "_names": tuple(name for name, _ in description)})
