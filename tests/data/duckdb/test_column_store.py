"""The analytical engine reads what it was given, and reaches nothing else."""

import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("duckdb", reason="analytics needs the extra aico[analytics]")
pa = pytest.importorskip("pyarrow", reason="analytics needs the extra aico[analytics]")

from aico.data.duckdb import Column, ColumnStore, ColumnTable, Kind  # noqa: E402
from aico.errors import Busy, InvalidInput, StorageError  # noqa: E402

TABLE = ColumnTable(
    name="words",
    source="words",
    columns=(Column("id", Kind.ID, "x.id"), Column("word", Kind.TEXT, "x.word"), Column("count", Kind.INTEGER, "x.n")),
    rows="FROM words x",
)
IDS = [bytes([number]) * 16 for number in range(3)]


def batch(words, numbers):
    return pa.RecordBatch.from_arrays(
        [pa.array(IDS[: len(words)], pa.binary(16)), pa.array(words, pa.string()), pa.array(numbers, pa.int64())],
        schema=TABLE.schema,
    )


@pytest.fixture
def store():
    made = ColumnStore([TABLE], memory_mib=128)
    made.replace("words", [batch(["fig", 'a "quoted" one', None], [1, 2, 3])])
    yield made
    made.close()


def test_rows_come_back_as_they_went_in(store):
    found = store.ask("SELECT id, word, count FROM words ORDER BY count")
    assert found.columns == ("id", "word", "count")
    assert [(row[0].bytes, *row[1:]) for row in found.rows] == [
        (IDS[0], "fig", 1), (IDS[1], 'a "quoted" one', 2), (IDS[2], None, 3),
    ]  # fmt: skip
    assert found.records()[0]["word"] == "fig"
    assert store.ask("SELECT word FROM words WHERE id = ?", [IDS[1].hex()]).rows == [('a "quoted" one',)]


def test_an_update_takes_the_place_of_rows_with_the_same_id(store):
    store.update("words", [IDS[0], b"n" * 16], [batch(["date"], [9])])
    assert store.ask("SELECT word, count FROM words WHERE id = ?", [IDS[0].hex()]).rows == [("date", 9)]
    assert store.holds_any("words", [IDS[0]]) and not store.holds_any("words", [b"n" * 16])
    store.update("words", [IDS[0]], [])
    assert not store.holds_any("words", [IDS[0]])


def test_rows_that_do_not_fit_are_a_storage_error_that_names_none_of_them(store):
    with pytest.raises(StorageError) as refused:
        store.update("words", [b"fig"], [])
    assert "fig" not in f"{refused.value!r} {refused.value.hint} {refused.value.__cause__!r}"
    assert store.ask("SELECT count(*) FROM words").rows == [(3,)]


def test_a_stream_brings_the_same_rows_back(store):
    before = store.ask("FROM words ORDER BY count").rows
    stream = store.as_stream("words")
    store.replace("words", [])
    store.take_stream("words", memoryview(stream))
    assert store.ask("FROM words ORDER BY count").rows == before
    with pytest.raises(StorageError):
        store.take_stream("words", b"no stream at all")


@pytest.mark.parametrize(
    "attack",
    [
        "SELECT 1; SELECT 2",
        "INSERT INTO words VALUES (NULL, 'x', 1)",
        "DELETE FROM words",
        "DROP TABLE words",
        "CREATE TABLE more (a INT)",
        "CREATE MACRO f() AS 1",
        "WITH gone AS (DELETE FROM words RETURNING *) SELECT * FROM gone",
        "COPY words TO '{folder}/out.csv'",
        "COPY (SELECT 1) TO '{folder}/out.parquet'",
        "EXPORT DATABASE '{folder}/all'",
        "ATTACH '{folder}/other.duckdb'",
        "ATTACH ':memory:' AS other",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET temp_directory = '{folder}'",
        "SET enable_external_access = true",
        "SET memory_limit = '100GB'",
        "RESET lock_configuration",
        "PRAGMA database_list",
        "CALL pragma_version()",
        "CHECKPOINT",
        "BEGIN",
        "SELECT * FROM read_csv('{folder}/in.csv')",
        "SELECT * FROM read_text('{folder}/in.csv')",
        "SELECT * FROM read_blob('{folder}/*')",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM '{folder}/in.csv'",
        "SELECT * FROM sniff_csv('{folder}/in.csv')",
        "SELECT * FROM duckdb_secrets()",
        "SELECT getenv('HOME')",
        "SELECT * FROM secret_rows",
        "EXPLAIN ANALYZE DELETE FROM words",
    ],
)
def test_a_statement_that_reaches_out_or_changes_anything_is_refused(store, tmp_path, attack):
    (tmp_path / "in.csv").write_text("a\n1\n")
    secret_rows = {"a": [1]}  # a variable of the caller's: DuckDB reads such by name unless it is kept from it
    with pytest.raises(InvalidInput):
        store.ask(attack.format(folder=tmp_path))
    assert secret_rows
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]
    assert store.ask("SELECT count(*) FROM words").rows == [(3,)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT word::INT FROM words",
        "SELECT error(word) FROM words",
        "SELECT (SELECT word FROM words WHERE count = 1)::UUID",
        "SELECT json_extract('{}', '$.' || word || '[') FROM words",
        "SELECT date_part(word, TIMESTAMP '2026-01-01') FROM words",
        "SELECT format('{:' || word || '}', 1) FROM words",
        "SELECT regexp_matches('a', word || '(') FROM words",
        "SELECT nope FROM (PIVOT words ON word USING sum(count))",
    ],
)
def test_an_error_of_the_data_names_none_of_it(store, sql):
    with pytest.raises(InvalidInput) as refused:
        store.ask(sql)
    assert "fig" not in f"{refused.value} {refused.value.hint} {refused.value.__cause__}"


def test_what_does_not_fit_into_memory_is_refused_and_never_put_aside_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    store = ColumnStore([TABLE], memory_mib=64)
    with pytest.raises(StorageError):
        store.ask(
            "SELECT * FROM (SELECT i, hash(i)::VARCHAR || i AS t FROM range(8000000) s(i)) ORDER BY t LIMIT 1 OFFSET 7000000"
        )
    assert store.ask("SELECT count(*) FROM duckdb_temporary_files()").rows == [(0,)]
    assert list(Path(tmp_path).rglob("*")) == []
    store.close()


def test_a_question_without_an_end_is_stopped_and_the_next_is_answered(store):
    began = time.monotonic()
    with pytest.raises(Busy):
        store.ask(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n", seconds_max=0.3
        )
    assert time.monotonic() - began < 60
    assert store.ask("SELECT count(*) FROM words").rows == [(3,)]


def test_an_answer_that_came_too_late_is_busy(store):
    with pytest.raises(Busy):
        store.ask("SELECT length(repeat('a', 200000000))", seconds_max=0.001)


def test_too_many_rows_are_refused_and_not_cut(store):
    with pytest.raises(InvalidInput):
        store.ask("SELECT * FROM range(11)", rows_max=10)
    assert len(store.ask("SELECT * FROM range(11)", rows_max=None).rows) == 11


def test_threads_ask_while_another_loads(store):
    answers, going = set(), True

    def ask():
        while going:
            answers.add(store.ask("SELECT count(*), sum(count) FROM words").rows[0])

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    for _ in range(50):
        store.replace("words", [batch(["a"], [7])])
        store.replace("words", [batch(["a", "b", "c"], [1, 2, 3])])
    going = False
    for asker in askers:
        asker.join()
    assert answers <= {(3, 6), (1, 7)}
