"""Rows into a Parquet file, some thousand at a time."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, BinaryIO, Self

from aico.errors import MissingExtra

_ROWS_AT_ONCE = 10_000


class ParquetWriter:
    """Writes rows, each a mapping of column to value, to an open file. Raises MissingExtra without Arrow."""

    def __init__(self, file: BinaryIO, columns: Mapping[str, type]) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as exc:
            raise MissingExtra(
                "Parquet needs Arrow; nothing was written", hint="pip install 'aico[analytics]'"
            ) from exc
        kinds = {int: pa.int64(), str: pa.string(), float: pa.float64()}
        self._arrow, self._schema = pa, pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
        self._writer, self._waiting = pq.ParquetWriter(file, self._schema), list[Mapping[str, Any]]()

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take rows; a column that one lacks is null."""
        self._waiting += rows
        if len(self._waiting) >= _ROWS_AT_ONCE:
            self._write()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._write()
        self._writer.close()

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._writer.write_table(self._arrow.Table.from_pylist(waiting, schema=self._schema))
