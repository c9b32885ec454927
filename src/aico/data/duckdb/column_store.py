"""A DuckDB in memory that can neither spill, nor read or write a file, nor load an extension, nor be talked out of it."""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aico.data.duckdb.columns import ColumnTable, Kind, handles
from aico.data.duckdb.engine import locked_down
from aico.errors import Busy, InvalidInput, StorageError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

ROWS_MAX = 100_000
"""Rows of one answer; a question with more is refused, not cut."""
_ARRIVING, _GONE = "_arriving", "_gone"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a question to the columns gave: names of columns and rows."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]] = field(repr=False)  # any value that DuckDB has

    def records(self) -> list[dict[str, Any]]:
        """The rows by column name."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


class ColumnStore:
    """The columns of one person. Any thread may ask; whoever loads must be alone (`aico.analytics` sees to it).

    Nothing it does reaches a file: no temporary folder, no external access, no extension, and a configuration that
    is locked. What does not fit into `memory_mib` raises StorageError. Raises MissingExtra without DuckDB.
    """

    def __init__(self, tables: Iterable[ColumnTable], *, memory_mib: int) -> None:
        self._tables = {table.name: table for table in tables}
        self._engine = locked_down(memory_mib)
        self._writing = threading.Lock()
        for table in self._tables.values():
            columns = ", ".join(f"{column.name} {column.kind.value}" for column in table.columns)
            self._engine.execute(f"CREATE TABLE {table.name} ({columns})")

    def replace(self, name: str, batches: "Iterable[pa.RecordBatch]") -> None:
        """Take these rows, and only these, for the table."""
        with self._changing() as engine:
            engine.execute(f"DELETE FROM {name}")
            self._insert(engine, name, batches)

    def update(self, name: str, gone: Sequence[bytes], batches: "Iterable[pa.RecordBatch]") -> None:
        """Let go of the rows with these ids of the truth, 16 bytes each, and take new ones. Ids that are not there are
        ignored, and so are all where the table's first column is a number."""
        import pyarrow as pa

        with self._changing() as engine:
            key = self._tables[name].columns[0]
            if gone and key.kind in (Kind.ID, Kind.HANDLE):
                ids = pa.array(gone, pa.binary(16)) if key.kind is Kind.ID else pa.array(handles(b"".join(gone)))
                engine.register(_GONE, pa.table({"key": ids}))
                engine.execute(f"DELETE FROM {name} WHERE {key.name} IN (SELECT key::{key.kind.value} FROM {_GONE})")
                engine.unregister(_GONE)
            self._insert(engine, name, batches)

    def holds_any(self, name: str, ids: Sequence[bytes]) -> bool:
        """Whether the table has one of these ids."""
        key = self._tables[name].columns[0].name
        found = self._engine.cursor().execute(
            f"SELECT 1 FROM {name} WHERE {key} IN (SELECT unnest(?::UUID[])) LIMIT 1", [[id_.hex() for id_ in ids]]
        )
        return bool(found.fetchall())

    def as_stream(self, name: str) -> bytes:
        """All rows of a table as an Arrow stream, compressed (lz4), in memory."""
        import pyarrow as pa

        table = self._tables[name]
        columns = ", ".join(
            f"{column.name}::BLOB AS {column.name}" if column.kind is Kind.ID else column.name
            for column in table.columns
        )
        rows = self._engine.cursor().sql(f"SELECT {columns} FROM {name}").to_arrow_table().cast(table.kept_schema)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.kept_schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
            writer.write_table(rows)
        return bytes(sink.getvalue())

    def take_stream(self, name: str, stream: bytes | memoryview) -> None:
        """Take the rows of `as_stream`, and only these, for the table. Raises StorageError where they do not fit it."""
        import pyarrow as pa

        try:
            rows = pa.ipc.open_stream(stream).read_all()
        except (pa.ArrowException, ValueError, OSError) as exc:
            raise _of_another_release(name) from exc
        if not rows.schema.equals(self._tables[name].kept_schema):
            raise _of_another_release(name)
        with self._changing() as engine:
            engine.execute(f"DELETE FROM {name}")
            self._insert_rows(engine, name, rows)

    def ask(
        self,
        sql: str,
        parameters: Sequence[Any] = (),
        *,
        seconds_max: float = 60.0,
        rows_max: int | None = ROWS_MAX,
    ) -> Answer:
        """Run one statement that reads.

        Raises InvalidInput for anything else, for SQL that DuckDB refuses and for more than `rows_max` rows, Busy
        after `seconds_max` seconds, StorageError where memory does not suffice. Nothing is ever changed by it. DuckDB
        looks at the time between the pieces of its work: a single call that makes one enormous value runs to its end.
        """
        import duckdb

        deadline = time.monotonic() + seconds_max
        cursor = self._engine.cursor()
        watch = threading.Timer(seconds_max, cursor.interrupt)
        watch.daemon = True
        try:
            _check_reads(duckdb, cursor, sql)
            watch.start()
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            found = cursor.execute(sql, list(parameters))
            columns = tuple(column[0] for column in found.description or ())
            rows = found.fetchall() if rows_max is None else found.fetchmany(rows_max + 1)
            if time.monotonic() > deadline:
                raise _took_too_long(seconds_max)
        except duckdb.InterruptException:
            raise _took_too_long(seconds_max) from None
        except duckdb.OutOfMemoryException:
            raise StorageError(
                "the question needs more memory than analytics may use, and nothing is ever put aside on the disk",
                hint="ask for less, or raise analytics_memory_mib",
            ) from None
        except duckdb.Error as exc:
            raise InvalidInput(f"the question cannot be answered: {_reason(duckdb, exc)}", field="sql") from None
        finally:
            watch.cancel()
            cursor.close()
        if rows_max is not None and len(rows) > rows_max:
            raise InvalidInput(f"the answer has more than {rows_max:,} rows", hint="add a LIMIT", field="sql")
        return Answer(columns, rows)

    def close(self) -> None:
        """Give the memory back."""
        self._engine.close()

    @contextmanager
    def _changing(self) -> "Iterator[duckdb.DuckDBPyConnection]":
        """One transaction: whoever asks meanwhile sees all of it or nothing. Raises StorageError, then nothing changed."""
        import duckdb
        import pyarrow as pa

        with self._writing:
            engine = self._engine
            engine.execute("BEGIN TRANSACTION")
            try:
                yield engine
                engine.execute("COMMIT")
            except BaseException as exc:
                engine.execute("ROLLBACK")
                if isinstance(exc, pa.ArrowException | duckdb.Error):  # their words may hold a value
                    raise StorageError(
                        f"the columns could not be brought up to date ({type(exc).__name__}); what is recorded is untouched",
                        hint="raise analytics_memory_mib if much is kept; `aico views rebuild` loads them anew",
                    ) from None
                raise

    def _insert(self, engine: "duckdb.DuckDBPyConnection", name: str, batches: "Iterable[pa.RecordBatch]") -> None:
        import pyarrow as pa

        self._insert_rows(engine, name, pa.Table.from_batches(list(batches), schema=self._tables[name].schema))

    def _insert_rows(self, engine: "duckdb.DuckDBPyConnection", name: str, rows: "pa.Table") -> None:
        if not rows.num_rows:
            return
        columns = ", ".join(f"{column.name}::{column.kind.value}" for column in self._tables[name].columns)
        engine.register(_ARRIVING, rows)
        engine.execute(f"INSERT INTO {name} SELECT {columns} FROM {_ARRIVING}")
        engine.unregister(_ARRIVING)


def _took_too_long(seconds_max: float) -> Busy:
    return Busy(
        f"the question took longer than {seconds_max:g} seconds and was stopped; nothing was changed",
        hint="ask for less, or give it more time",
    )


def _of_another_release(name: str) -> StorageError:
    return StorageError(f"the kept columns of {name} are not of this release; they are loaded anew")


def _check_reads(duckdb: Any, cursor: "duckdb.DuckDBPyConnection", sql: str) -> None:
    """Refuse more than one statement, and one that does anything but read."""
    statements = cursor.extract_statements(sql)
    reading = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
    if len(statements) != 1 or statements[0].type not in reading:
        raise InvalidInput(
            "analytics answers one statement that reads, such as SELECT; nothing was run",
            hint="leave out everything else",
            field="sql",
        )


def _reason(duckdb: Any, exc: Exception) -> str:
    """DuckDB's own words where they are about the SQL; of a trouble with the data its kind alone, which holds no value."""
    if isinstance(exc, duckdb.ParserException | duckdb.BinderException | duckdb.CatalogException):
        return str(exc).partition("\n")[0]
    return type(exc).__name__
