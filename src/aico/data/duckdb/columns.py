"""Which rows of the truth become which columns, and how they are read: a few Python objects a batch, not one a cell.

SQLite joins each column of a batch into one text: numbers with spaces between them, which NumPy parses at once, ids as
one run of hexadecimal digits, texts as a JSON array. That is 1.5 to 2 times as fast as rows (docs/decisions/0045).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 20_000
Rows = Callable[..., Iterable[Sequence[Any]]]
"""`rows(sql, parameters)`: what a snapshot of the truth offers."""

_HOUR_US = 3_600_000_000
_MINUTE_US = 60_000_000


class Kind(StrEnum):
    """How a column is stored and shown. Each value is DuckDB's type."""

    ID = "UUID"
    """16 bytes; compare it with 32 hexadecimal digits."""
    HANDLE = "INT8"
    """The first 8 bytes of a 16-byte id as a number, which is half as long to sort and group by; an id is a keyed hash or
    holds 74 random bits, so two of a person's never share them by chance."""
    INTEGER = "BIGINT"
    PLACE = "LONG"
    """A number that says what comes before what, and is too large to be added up."""
    NUMBER = "DOUBLE"
    TEXT = "VARCHAR"
    INSTANT = "TIMESTAMP"
    """In UTC; microseconds in the truth."""
    LOCAL = "TIMESTAMP WITHOUT TIME ZONE"
    """An instant as the person's clock showed it, by the time zone of their profile."""
    FLAG = "BOOLEAN"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, its kind, and the SQL that gives it. Ids, flags and instants that are not `nullable` are
    the fast ones."""

    name: str
    kind: Kind
    sql: str
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class ColumnTable:
    """One table of the columnar view.

    `rows` is the rest of the SQL behind the columns, up to its WHERE, and names the truth's table `x`; `of_user` is the
    condition that keeps it to one person, with one parameter. `key` orders it (an INTEGER PRIMARY KEY of the truth). Its
    first column is its id. `captured`: whether `change_feed` tells of its rows, under the name `source`.
    """

    name: str
    source: str
    columns: tuple[Column, ...]
    rows: str
    of_user: str = "x.user_id = ?"
    key: str = "x.row_id"
    captured: bool = True

    @property
    def schema(self) -> "pa.Schema":
        """Its columns in Arrow."""
        import pyarrow as pa

        return pa.schema([(column.name, _arrow_type(column.kind)) for column in self.columns])

    @property
    def kept_schema(self) -> "pa.Schema":
        """The same as it is kept: texts, of which a table has few that differ, as numbers into a list of them."""
        import pyarrow as pa

        text = pa.dictionary(pa.int32(), pa.string())
        return pa.schema([(field.name, text if field.type == pa.string() else field.type) for field in self.schema])

    def batches(
        self,
        rows: Rows,
        parameters: Sequence[Any],
        *,
        where: str = "TRUE",
        by_where: bool = False,
        zone: tzinfo = UTC,
    ) -> "Iterator[pa.RecordBatch]":
        """What `where` lets through, in the order of the key, `BATCH_ROWS` rows at a time.

        `parameters` begins with the person. With `by_where` SQLite goes by that alone: it picks few rows of very many.
        Texts are what the truth holds; half a character cannot be in it.
        """
        import pyarrow as pa

        plus = "+" if by_where else ""  # an expression that no index is looked for
        joined = ", ".join(_joined(column, number) for number, column in enumerate(self.columns))
        picked = ", ".join(f"{column.sql} AS c{number}" for number, column in enumerate(self.columns))
        sql = (
            f"SELECT max(_key), count(*), {joined} FROM (SELECT {self.key} AS _key, {picked} {self.rows} "
            f"WHERE {plus}({self.of_user} AND {self.key} > ?) AND ({where}) ORDER BY {self.key} LIMIT {BATCH_ROWS})"
        )
        person, *others = parameters
        last = -1
        while True:
            last_key, count, *texts = next(iter(rows(sql, (person, last, *others))))
            if not count:
                return
            arrays = [_array(column, text, count, zone) for column, text in zip(self.columns, texts, strict=True)]
            yield pa.RecordBatch.from_arrays(arrays, schema=self.schema)
            last = last_key


def handles(ids: bytes) -> npt.NDArray[np.int64]:
    """What stands for each of these ids, 16 bytes one after the other, in a column of `Kind.HANDLE`."""
    return np.frombuffer(ids, ">i8")[::2].astype(np.int64)


def _joined(column: Column, number: int) -> str:
    name = f"c{number}"
    if column.kind is Kind.TEXT or column.nullable:
        return f"json_group_array({f'hex({name})' if column.kind is Kind.ID else name})"
    return f"group_concat(hex({name}), '')" if column.kind in (Kind.ID, Kind.HANDLE) else f"group_concat({name}, ' ')"


def _arrow_type(kind: Kind) -> "pa.DataType":
    import pyarrow as pa

    return {
        Kind.ID: pa.binary(16),
        Kind.HANDLE: pa.int64(),
        Kind.INTEGER: pa.int64(),
        Kind.PLACE: pa.int64(),
        Kind.NUMBER: pa.float64(),
        Kind.TEXT: pa.string(),
        Kind.INSTANT: pa.timestamp("us"),
        Kind.LOCAL: pa.timestamp("us"),
        Kind.FLAG: pa.bool_(),
    }[kind]


def _array(column: Column, text: str, count: int, zone: tzinfo) -> "pa.Array":
    import pyarrow as pa

    kind = column.kind
    if kind is Kind.TEXT:
        return pa.array(msgspec.json.decode(text, type=list[str | None]), pa.string())
    if kind is Kind.ID:
        if column.nullable:
            ids = [bytes.fromhex(one) or None for one in msgspec.json.decode(text, type=list[str])]
            return pa.array(ids, pa.binary(16))
        return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), count, [None, pa.py_buffer(bytes.fromhex(text))])
    if kind is Kind.HANDLE:
        return pa.array(handles(bytes.fromhex(text)))
    if column.nullable:
        found: list[Any] = msgspec.json.decode(text, type=list[float | int | None])
        missing = np.fromiter((one is None for one in found), bool, count)
        values = np.fromiter((one or 0 for one in found), np.float64 if kind is Kind.NUMBER else np.int64, count)
    else:
        missing = None
        values = np.fromstring(text, np.float64 if kind is Kind.NUMBER else np.int64, sep=" ")
    if kind is Kind.LOCAL:
        values = _as_the_clock_showed(values.astype(np.int64), zone)
    if kind is Kind.FLAG:
        values = values != 0
    return pa.array(values, _arrow_type(kind), mask=missing)


def _as_the_clock_showed(instants_us: npt.NDArray[np.int64], zone: tzinfo) -> npt.NDArray[np.int64]:
    """Local time, in microseconds as if it were UTC. Zones change their offset on a quarter of an hour at the earliest."""
    quarters, places = np.unique(instants_us // (_HOUR_US // 4), return_inverse=True)
    offsets = np.fromiter((_offset_us(int(quarter), zone) for quarter in quarters), np.int64, len(quarters))
    return instants_us + offsets[places]


def _offset_us(quarter: int, zone: tzinfo) -> int:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(minutes=15 * quarter)
    offset = at.astimezone(zone).utcoffset() or timedelta()
    return offset // timedelta(minutes=1) * _MINUTE_US
