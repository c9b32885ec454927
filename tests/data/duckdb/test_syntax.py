"""DuckDB's parser reads a statement and runs nothing."""

import sys

import pytest

from aico.data.duckdb import syntax_tree
from aico.data.duckdb.syntax import _parser
from aico.errors import MissingExtra

pytest.importorskip("duckdb", reason="the columns need the extra aico[analytics]")


def test_a_statement_is_read_without_the_tables_that_it_names():
    tree = syntax_tree("SELECT role FROM messages")
    assert tree["from_table"]["table_name"] == "messages"
    assert [item["column_names"] for item in tree["select_list"]] == [["role"]]


@pytest.mark.parametrize(
    "sql",
    ["", "SELECT", "SELECT 1; SELECT 2", "CREATE TABLE t (a INT)", "SET threads = 1", "SELECT '\ud800'",
     "SELECT " + "NOT " * 5_000 + "true"],
)  # fmt: skip
def test_what_is_no_single_select_has_no_tree(sql):
    assert syntax_tree(sql) is None
    assert _parser().cursor().execute("SELECT count(*) FROM duckdb_tables()").fetchall() == [(0,)]


def test_without_duckdb_it_is_said_what_to_install(monkeypatch):
    _parser.cache_clear()
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(MissingExtra, match="analytics needs DuckDB"):
        syntax_tree("SELECT 1")
