"""The analytical engine: DuckDB in memory, fed with Arrow. The only importer of `duckdb` and `pyarrow`."""

from aico.data.duckdb.column_store import ROWS_MAX, Answer, ColumnStore
from aico.data.duckdb.columns import Column, ColumnTable, Kind
from aico.data.duckdb.syntax import syntax_tree

__all__ = ["ROWS_MAX", "Answer", "Column", "ColumnStore", "ColumnTable", "Kind", "syntax_tree"]
