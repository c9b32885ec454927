"""The contract of a connection: one suite for both engines, in the clear and not."""

import shutil
import sys
import threading
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aico.data.libsql import EncryptedLibSQLConnection, LibSQLConnection
from aico.data.libsql.registry import SchemaRegistry
from aico.errors import AicoError, Busy, InvalidInput, MissingExtra, NotFound, StorageError, Tampered
from tests.children import run
from tests.data.libsql.cases import CANARY, KEY, OTHER_KEY, add_rows, count_if_right, files_of, make, sealed

KINDS = ["in the clear", "sealed", "libSQL in the clear", "libSQL encrypted"]


def connect(kind: str, path: Path | str, **options) -> LibSQLConnection:
    options = {"engine": "libsql" if on_libsql(kind) else "sqlite", **options}
    return LibSQLConnection(path, **options) if readable(kind) else EncryptedLibSQLConnection(path, KEY, **options)


def on_libsql(kind: str) -> bool:
    return kind.startswith("libSQL")


def readable(kind: str) -> bool:
    return kind.endswith("in the clear")


@pytest.fixture(params=KINDS)
def kind(request):
    if on_libsql(request.param):
        pytest.importorskip("libsql", reason="the engine libsql needs the extra aico[libsql]")
    return request.param


@pytest.fixture
def connection(kind, tmp_path):
    with connect(kind, tmp_path / "aico.db") as connection:
        connection.execute("CREATE TABLE t (a, b)")
        yield connection


# Statements and results


def test_rows_are_tuples_and_go_by_name(connection):
    connection.execute("INSERT INTO t VALUES (1, 'one')")
    (row,) = connection.execute("SELECT a, b AS bee, a + 1 FROM t")
    assert row == (1, "one", 2)
    assert isinstance(row, tuple)
    assert (row["a"], row["bee"], row[0], row[-1], row[1:]) == (1, "one", 1, 2, ("one", 2))
    assert row.keys() == ("a", "bee", "a + 1")
    number, text, _ = row
    assert (number, text) == (1, "one")
    with pytest.raises(NotFound):
        row["nothing"]
    with pytest.raises(IndexError):
        row[3]


def test_results_are_fetched_in_every_way(connection):
    connection.execute_many("INSERT INTO t VALUES (?, ?)", [(number, str(number)) for number in range(5)])
    result = connection.execute("SELECT a FROM t ORDER BY a")
    assert len(result) == 5
    assert result.fetchone() == (0,)
    assert result.fetchall() == [(1,), (2,), (3,), (4,)]
    assert result.fetchone() is None
    assert result.fetchall() == []
    assert [a for (a,) in result] == [0, 1, 2, 3, 4]
    assert result[1:3] == [(1,), (2,)]
    assert connection.fetch_one("SELECT a FROM t WHERE a > 100") is None
    assert connection.fetch_all("SELECT a FROM t WHERE a > 100") == []


def test_parameters_go_by_position_and_by_name(connection):
    connection.execute("INSERT INTO t VALUES (?, ?)", (1, "x"))
    connection.execute("INSERT INTO t VALUES (?2, ?1)", ["y", 2])
    connection.execute("INSERT INTO t VALUES (:a, :b)", {"a": 3, "b": "z"})
    assert connection.fetch_all("SELECT a, b FROM t ORDER BY a") == [(1, "x"), (2, "y"), (3, "z")]


def test_lastrowid_and_rowcount_belong_to_the_statement(connection):
    connection.execute("CREATE TABLE numbered (id INTEGER PRIMARY KEY, x)")
    assert connection.execute("INSERT INTO numbered (x) VALUES ('a')").lastrowid == 1
    assert connection.execute("INSERT INTO numbered (id, x) VALUES (40, 'b')").lastrowid == 40
    connection.execute_many("INSERT INTO numbered (x) VALUES (?)", [("c",)] * 3)
    assert connection.execute("UPDATE numbered SET x = 'd'").rowcount == 5
    assert connection.execute("UPDATE numbered SET x = 'd' WHERE id > 100").rowcount == 0
    assert connection.execute("INSERT INTO numbered VALUES (1, 'again') ON CONFLICT DO NOTHING").rowcount == 0
    assert connection.execute("DELETE FROM numbered WHERE id < 3").rowcount == 1


def test_a_statement_that_changes_nothing_does_not_claim_the_one_before(connection):
    with connection.transaction():
        connection.execute("INSERT INTO t VALUES (1, 1), (2, 2)")
        assert connection.execute("SELECT 1").rowcount == 0
        assert connection.execute("CREATE TABLE other (x)").rowcount == 0


@pytest.mark.parametrize(
    "value",
    [
        None,
        0,
        -1,
        2**63 - 1,
        -(2**63),
        0.1,
        1e308,
        float("inf"),
        "",
        "text",
        "\0",
        "a\0b\0",
        "𝄞 é e\u0301",
        b"",
        b"\0\xff",
        True,
    ],
)
def test_values_come_back_as_they_went_in(kind, connection, value):
    if on_libsql(kind) and isinstance(value, str) and "\0" in value:
        with pytest.raises(InvalidInput, match="NUL"):
            connection.execute("INSERT INTO t VALUES (?, 1)", (value,))
        return
    connection.execute("INSERT INTO t VALUES (?, 1)", (value,))
    (found,) = connection.fetch_one("SELECT a FROM t")
    assert found == value
    assert type(found) is (int if value is True else type(value))


@given(text=st.text(max_size=300), blob=st.binary(max_size=300), number=st.integers(-(2**63), 2**63 - 1))
def test_any_text_blob_and_number_comes_back(kind, connection, text, blob, number):
    text = text.replace("\0", "") if on_libsql(kind) else text
    with connection.transaction():
        row_id = connection.execute("INSERT INTO t VALUES (?, ?)", (text, blob)).lastrowid
        assert connection.fetch_one("SELECT a, b, ? FROM t WHERE rowid = ?", (number, row_id)) == (text, blob, number)


def test_ten_megabytes_of_text_come_back(kind, connection):
    text = ("grüße " if on_libsql(kind) else "grüße \0 ") * 1_100_000
    connection.execute("INSERT INTO t VALUES (?, ?)", (text, text.encode()))
    assert connection.fetch_one("SELECT a, b FROM t") == (text, text.encode())


BAD = {
    "syntax": ("SELEC 1", ()),
    "no such table": ("SELECT * FROM nowhere", ()),
    "no such column": ("SELECT nothing FROM t", ()),
    "too few values": ("INSERT INTO t VALUES (?, ?)", (1,)),
    "too many values": ("INSERT INTO t VALUES (?, ?)", (1, 2, 3)),
    "no values": ("INSERT INTO t VALUES (?, ?)", ()),
    "a missing name": ("INSERT INTO t VALUES (:a, :b)", {"a": 1}),
    "values that are no sequence": ("INSERT INTO t VALUES (?, ?)", 5),
    "no values at all": ("INSERT INTO t VALUES (?, ?)", None),
    "a number too big": ("INSERT INTO t VALUES (?, 1)", (2**63,)),
    "a number too small": ("INSERT INTO t VALUES (?, 1)", (-(2**63) - 1,)),
    "half a character": ("INSERT INTO t VALUES (?, 1)", ("\ud800",)),
    "half a character by name": ("INSERT INTO t VALUES (:a, 1)", {"a": "x\udfff"}),
    "half a character in the statement": ("INSERT INTO t VALUES ('\ud800', 1)", ()),
    "a datetime": ("INSERT INTO t VALUES (?, 1)", (datetime(2026, 1, 1),)),
    "a decimal": ("INSERT INTO t VALUES (?, 1)", (Decimal(1),)),
    "a list": ("INSERT INTO t VALUES (?, 1)", ([1],)),
    "an object": ("INSERT INTO t VALUES (?, 1)", (object(),)),
    "NUL in the statement": ("INSERT INTO t VALUES (1, 1)\0", ()),
    "NUL in a literal": ("INSERT INTO t VALUES ('\0', 1)", ()),
    "two statements": ("INSERT INTO t VALUES (1, 1); INSERT INTO t VALUES (2, 2)", ()),
    "one statement twice": ("INSERT INTO t VALUES (1, 1);INSERT INTO t VALUES (1, 1)", ()),
    "a commit behind": ("INSERT INTO t VALUES (1, 1); COMMIT", ()),
    "a read, then a commit": ("SELECT 1; COMMIT", ()),
    "begin": ("BEGIN", ()),
    "begin behind a comment": ("/* x */ -- y\n ; BEGIN IMMEDIATE", ()),
    "commit": ("commit", ()),
    "end": ("END TRANSACTION", ()),
    "rollback": ("ROLLBACK", ()),
    "savepoint": ("SAVEPOINT nested", ()),
    "release": ("RELEASE nested", ()),
    "no text": (None, ()),
    "bytes": (b"SELECT 1", ()),
}


@pytest.mark.parametrize(("sql", "values"), BAD.values(), ids=BAD)
def test_what_cannot_be_run_is_invalid_input_and_changes_nothing(connection, sql, values):
    with pytest.raises(InvalidInput):
        connection.execute(sql, values)
    assert connection.fetch_all("SELECT * FROM t") == []
    with connection.transaction():
        with pytest.raises(InvalidInput):
            connection.execute(sql, values)
        assert connection.fetch_all("SELECT * FROM t") == []
        connection.execute("INSERT INTO t VALUES ('after', 1)")
    assert connection.fetch_all("SELECT a FROM t") == [("after",)]
    connection.execute("CREATE TABLE later (x)")
    assert connection.fetch_all("SELECT * FROM later") == []


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1; BEGIN; SELECT count(*) FROM t",
        "VALUES (1); PRAGMA query_only = 0; INSERT INTO t VALUES (1, 1)",
        "SELECT 1; INSERT INTO t VALUES (1, 1)",
    ],
)
def test_a_read_with_something_behind_it_does_not_spoil_later_reads(connection, sql):
    with pytest.raises(InvalidInput):
        connection.execute(sql)
    connection.execute("INSERT INTO t VALUES (2, 2)")
    assert connection.fetch_all("SELECT a FROM t") == [(2,)]


def test_a_semicolon_at_the_end_or_inside_a_text_is_one_statement(connection):
    connection.execute("INSERT INTO t VALUES ('a;b', 1);")
    connection.execute("INSERT INTO t VALUES (?, 'c;d') ; -- done;\n", ("e;f",))
    assert connection.fetch_all("SELECT a FROM t;") == [("a;b",), ("e;f",)]


def test_a_text_that_is_no_utf_8_is_told_and_not_guessed(connection):
    connection.execute("INSERT INTO t VALUES (CAST(x'ff41' AS TEXT), 1)")
    with pytest.raises(AicoError):
        connection.fetch_all("SELECT a FROM t")
    assert connection.fetch_all("SELECT b FROM t") == [(1,)]


def test_an_error_shows_no_value(connection):
    connection.execute("CREATE TABLE only (x UNIQUE, y CHECK (length(y) < 5))")
    connection.execute("INSERT INTO only VALUES (?, 'y')", (CANARY,))
    for sql, values in [
        ("INSERT INTO only VALUES (?, 'y')", (CANARY,)),
        ("INSERT INTO only VALUES ('z', ?)", (CANARY,)),
        ("INSERT INTO only VALUES (?, ?)", (CANARY, [CANARY])),
        ("INSERT INTO only VALUES (?, 'y')", (CANARY + "\ud800",)),
        ("INSERT INTO only VALUES (:a, :b)", {"a": CANARY}),
        ("SELECT json(?)", (CANARY,)),
        ("SELECT json_extract('{}', ?)", (CANARY,)),
        ("SELECT json_extract('{}', x) FROM only", ()),
        ("SELECT * FROM only, json_each('{}', x)", ()),
        ("SELECT no_such(?, ?)", (CANARY, CANARY)),
    ]:
        with pytest.raises(AicoError) as refused:
            connection.execute(sql, values)
        assert CANARY not in f"{refused.value} {refused.value.hint} {refused.value.__cause__}"


def test_an_error_of_the_statement_is_told_in_the_engines_words(connection):
    for sql, words in [
        ("SELECT nope FROM t", "no such column: nope"),
        ("SELECT * FROM nope", "no such table: nope"),
        ("SELEC 1", 'near "SELEC": syntax error'),
        ("INSERT INTO t (nope) VALUES (1)", "no column named nope"),
    ]:
        with pytest.raises(InvalidInput, match=words):
            connection.execute(sql)


def test_nothing_at_all_is_done_quietly(connection):
    for sql in ("", "  ", ";", "-- only a comment"):
        assert list(connection.execute(sql)) == []


# Many at once


def test_execute_many_is_one_transaction(connection):
    connection.execute_many("INSERT INTO t VALUES (?, ?)", ((number, number) for number in range(1000)))
    with pytest.raises(InvalidInput):
        connection.execute_many("INSERT INTO t VALUES (?, ?)", [(1, 1), (2, object())])
    assert connection.fetch_one("SELECT count(*) FROM t") == (1000,)


@pytest.mark.parametrize("error", [KeyError, RuntimeError, TypeError, OSError, OverflowError])
def test_an_error_of_the_rows_own_source_comes_out_unchanged(connection, error):
    def rows():
        yield (1, 1)
        raise error("the caller's own")

    with pytest.raises(error, match="the caller's own") as raised:
        connection.execute_many("INSERT INTO t VALUES (?, ?)", rows())
    assert type(raised.value) is error
    assert connection.fetch_all("SELECT * FROM t") == []


@pytest.mark.parametrize(
    "script",
    [
        "CREATE TABLE one (x); INSERT INTO one VALUES (1); INSERT INTO nowhere VALUES (1);",
        "CREATE TABLE one (x); COMMIT; CREATE TABLE two (x); bogus;",
        "CREATE TABLE one (x); ROLLBACK; CREATE TABLE two (x);",
        "CREATE TABLE one (x); /* */ END; BEGIN; CREATE TABLE two (x);",
        "CREATE TABLE one (x); SAVEPOINT nested; RELEASE nested; bogus",
    ],
)
def test_a_script_that_fails_leaves_nothing(connection, script):
    with pytest.raises(InvalidInput):
        connection.execute_script(script)
    assert connection.fetch_all("SELECT name FROM sqlite_schema") == [("t",)]
    connection.execute_script("CREATE TABLE one (x);\n-- a comment; with a semicolon\nINSERT INTO one VALUES ('a;b');")
    assert connection.fetch_all("SELECT * FROM one") == [("a;b",)]


# Opening and closing


def test_what_was_written_is_there_after_reopening(kind, tmp_path):
    with connect(kind, tmp_path / "aico.db") as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.execute("INSERT INTO t VALUES (?)", (CANARY,))
    with connect(kind, tmp_path / "aico.db", create=False) as connection:
        assert connection.fetch_all("SELECT a FROM t") == [(CANARY,)]
    assert (CANARY.encode() in (tmp_path / "aico.db").read_bytes()) == readable(kind)


def test_closing_twice_is_fine_and_using_it_afterwards_is_an_error(connection):
    connection.close()
    connection.close()
    for use in (
        lambda: connection.execute("SELECT 1"),
        lambda: connection.execute("INSERT INTO t VALUES (1, 1)"),
        connection.verify,
        connection.clear_log,
        lambda: connection.write(lambda: None),
        lambda: connection.transaction().__enter__(),
        lambda: connection.backup_to("nowhere.db"),
        lambda: connection.execute_many("INSERT INTO t VALUES (?, ?)", [(1, 1)]),
        lambda: connection.execute_script("SELECT 1"),
    ):
        with pytest.raises(StorageError):
            use()


def test_no_file_and_no_wish_to_make_one(kind, tmp_path):
    with pytest.raises(NotFound):
        connect(kind, tmp_path / "aico.db", create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_another_process_is_just_making_is_opened(kind, tmp_path, monkeypatch):
    """It was not there at the first look, and its log was at the second."""
    looked, exists = list[Path](), Path.exists

    def not_at_first(path: Path) -> bool:
        looked.append(path)
        return exists(path) and len(looked) > 1

    with connect(kind, tmp_path / "aico.db") as first:
        first.execute("CREATE TABLE t (a)")
        monkeypatch.setattr(Path, "exists", not_at_first)
        with connect(kind, tmp_path / "aico.db") as second:
            assert second.fetch_all("SELECT * FROM t") == []


def test_an_engine_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "libsql", None)
    for kind in ("libSQL in the clear", "libSQL encrypted"):
        with pytest.raises(MissingExtra) as refused:
            connect(kind, tmp_path / "aico.db")
        assert "aico[libsql]" in refused.value.hint
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_there_is_not_is_invalid_input(kind, tmp_path):
    with pytest.raises(InvalidInput):
        connect(kind, tmp_path / "aico.db", engine="postgres")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_or_a_file_in_the_way_is_told(kind, tmp_path):
    (tmp_path / "aico.db").mkdir()
    with pytest.raises(AicoError):
        connect(kind, tmp_path / "aico.db")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(AicoError):
        connect(kind, tmp_path / "file" / "aico.db")


def test_a_failed_opening_holds_nothing_back(kind, tmp_path):
    (tmp_path / "aico.db").write_bytes(b"not a database at all" * 1000)
    before = set(open_files())
    for _ in range(20):
        with pytest.raises(AicoError):
            connect(kind, tmp_path / "aico.db")
    assert set(open_files()) <= before


def open_files() -> list[str]:
    return [entry.name for entry in Path("/dev/fd").iterdir()] if Path("/dev/fd").exists() else []


def used_inside(kind: str, path: str, through: str) -> dict:
    """For a child, because what waits for itself waits for ever: what each use inside a transaction ends with."""
    connection = connect(kind, path)
    connection.execute("CREATE TABLE t (a)")
    uses = {
        "close": connection.close,
        "clear_log": connection.clear_log,
        "verify": connection.verify,
        "backup_to": lambda: connection.backup_to(f"{path}.copy"),
        "vacuum": lambda: connection.execute("VACUUM"),
        "rekey": lambda: None if readable(kind) else connection.rekey(OTHER_KEY),
    }
    ended = {}

    def work(name: str) -> None:
        connection.execute("INSERT INTO t VALUES (?)", (name,))
        try:
            uses[name]()
            ended[name] = "done"
        except AicoError as exc:
            ended[name] = type(exc).__name__

    for name in uses:
        if through == "write":
            connection.write(lambda name=name: work(name))
        else:
            with connection.transaction():
                work(name)
    assert connection.fetch_all("SELECT a FROM t") == [(name,) for name in uses]
    connection.close()
    return ended


@pytest.mark.parametrize("through", ["transaction", "write"])
def test_nothing_waits_for_itself_inside_a_transaction(kind, tmp_path, through):
    done = run(used_inside, kind, str(tmp_path / "aico.db"), through, patience_s=30)
    assert done.error is None, done
    assert done.value["close"] == done.value["clear_log"] == "StorageError"
    assert set(done.value.values()) <= {"done", "StorageError", "InvalidInput"}


# The whole file


def test_a_backup_opens_and_holds_the_same_while_others_write(kind, connection, tmp_path):
    connection.execute_many("INSERT INTO t VALUES (?, ?)", ((number, "x" * 500) for number in range(3000)))
    done = threading.Event()

    def write() -> None:
        number = 3000
        while not done.is_set():
            with connection.transaction():  # two rows at a time: a copy from the middle would show
                connection.execute("INSERT INTO t VALUES (?, ?)", (number, number))
                connection.execute("INSERT INTO t VALUES (?, ?)", (number + 1, number))
            number += 2

    writer = threading.Thread(target=write)
    writer.start()
    try:
        connection.backup_to(tmp_path / "copy.db")
    finally:
        done.set()
        writer.join()
    with connect(kind, tmp_path / "copy.db", create=False) as copy:
        copy.verify()
        count = copy.fetch_one("SELECT count(*) FROM t")[0]
        assert count >= 3000
        assert count % 2 == 0
        assert copy.fetch_all("SELECT a FROM t ORDER BY a") == [(number,) for number in range(count)]
        copy.execute("INSERT INTO t VALUES ('writable', 1)")
    assert (b"CREATE TABLE t" in (tmp_path / "copy.db").read_bytes()) == readable(kind)


def test_a_backup_never_overwrites_and_leaves_nothing_when_it_fails(connection, tmp_path):
    (tmp_path / "there.db").write_bytes(b"precious")
    (tmp_path / "dangling.db").symlink_to(tmp_path / "nothing")
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(InvalidInput):
        connection.backup_to(tmp_path / "there.db")
    for target in (tmp_path / "nowhere" / "copy.db", tmp_path / "dangling.db", tmp_path / "there.db" / "copy.db"):
        with pytest.raises(AicoError):
            connection.backup_to(target)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "there.db").read_bytes() == b"precious"
    with pytest.raises(InvalidInput):
        connection.backup_to(connection.db_path)


def test_clearing_the_log_empties_it_and_keeps_everything(kind, connection, tmp_path):
    connection.execute("INSERT INTO t VALUES (1, 1)")
    assert connection.clear_log() is True
    assert (tmp_path / "aico.db-wal").stat().st_size == 0
    assert connection.fetch_all("SELECT a FROM t") == [(1,)]
    connection.execute("INSERT INTO t VALUES (2, 2)")
    assert connection.clear_log() is True
    connection.verify()


def test_deleted_content_is_gone_from_the_file(tmp_path):
    with LibSQLConnection(tmp_path / "aico.db") as connection:  # in the clear, to look at it
        connection.execute("CREATE TABLE t (a)")
        connection.execute("INSERT INTO t VALUES (?)", (CANARY,))
        connection.clear_log()
        assert CANARY.encode() in (tmp_path / "aico.db").read_bytes()
        connection.execute("DELETE FROM t")
        connection.clear_log()
    assert all(CANARY.encode() not in content for content in files_of(tmp_path).values())


def test_damage_in_the_clear_is_told_by_verify(tmp_path):
    with LibSQLConnection(tmp_path / "aico.db") as connection:
        connection.execute("CREATE TABLE t (a UNIQUE)")
        connection.execute_many("INSERT INTO t VALUES (?)", ((f"{number:0500}",) for number in range(100)))
        connection.verify()
    content = bytearray((tmp_path / "aico.db").read_bytes())
    content[4096 * 3 : 4096 * 3 + 50] = bytes(50)
    (tmp_path / "aico.db").write_bytes(content)
    with LibSQLConnection(tmp_path / "aico.db") as connection, pytest.raises(Tampered):
        connection.verify()


# Sealed only


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"short",
        bytes(31),
        bytes(33),
        bytes(64),
        "x" * 32,
        KEY.hex(),
        bytearray(32),
        memoryview(bytes(32)),
        None,
        32,
        list(bytes(32)),
    ],
    ids=lambda key: type(key).__name__,
)
def test_a_key_of_another_length_or_type_is_invalid_input(tmp_path, key):
    with pytest.raises(InvalidInput):
        EncryptedLibSQLConnection(db_path=tmp_path / "aico.db", encryption_key=key)
    assert list(tmp_path.iterdir()) == []
    with EncryptedLibSQLConnection(tmp_path / "aico.db", KEY) as connection:
        connection.execute("CREATE TABLE t (a)")
        with pytest.raises(InvalidInput):
            connection.rekey(key)
        connection.execute("INSERT INTO t VALUES (1)")
    with EncryptedLibSQLConnection(tmp_path / "aico.db", KEY) as connection:
        assert connection.fetch_all("SELECT a FROM t") == [(1,)]


def test_after_a_rekey_the_old_key_opens_nothing_however_often(tmp_path):
    keys = [bytes([number]) * 32 for number in range(6)]
    path = tmp_path / "aico.db"
    with EncryptedLibSQLConnection(path, keys[0]) as connection:
        connection.execute("CREATE TABLE t (a)")
    for old, new in pairwise(keys):
        for part in range(3):  # pages of several sessions
            with EncryptedLibSQLConnection(path, old) as connection:
                connection.execute(f"CREATE TABLE t{part}_{old[0]} (a)")
                connection.execute_many("INSERT INTO t VALUES (?)", (("x" * 300,) for _ in range(40)))
        with EncryptedLibSQLConnection(path, old) as connection:
            count = connection.fetch_one("SELECT count(*) FROM t")[0]
            connection.rekey(new)
            assert connection.fetch_one("SELECT count(*) FROM t") == (count,)
            connection.execute("INSERT INTO t VALUES ('after')")
            connection.verify()
        for wrong in {*keys} - {new}:
            with pytest.raises(Tampered):
                EncryptedLibSQLConnection(path, wrong)
        with EncryptedLibSQLConnection(path, new) as connection:
            assert connection.fetch_one("SELECT count(*) FROM t") == (count + 1,)
            connection.verify()


def test_a_rekey_twice_in_one_session_and_back(tmp_path):
    with EncryptedLibSQLConnection(tmp_path / "aico.db", KEY) as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.execute_many("INSERT INTO t VALUES (?)", (("x" * 300,) for _ in range(100)))
        for key in (OTHER_KEY, KEY, KEY, OTHER_KEY):
            connection.rekey(key)
            connection.verify()
    with EncryptedLibSQLConnection(tmp_path / "aico.db", OTHER_KEY) as connection:
        assert connection.fetch_one("SELECT count(*) FROM t") == (100,)


def test_the_engine_names_its_protection(tmp_path):
    with LibSQLConnection(tmp_path / "a.db") as clear, EncryptedLibSQLConnection(tmp_path / "b.db", KEY) as closed:
        assert "in the clear" in clear.engine
        assert "AES-256-GCM" in closed.engine
        assert KEY.hex() not in repr(vars(closed))


# The seed's example, to the letter


def test_the_seeds_example_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    conn = EncryptedLibSQLConnection(db_path="~/.aico/user.db", encryption_key=KEY)
    SchemaRegistry.apply_core_schemas(conn)
    conn.execute(
        "INSERT INTO logs (timestamp, level, message) VALUES (?, ?, ?)",
        ("2025-08-02T10:30:00Z", "INFO", "Application started"),
    )
    assert (
        conn.execute("SELECT * FROM logs WHERE level = ?", ("INFO",)).fetchall()[0]["message"] == "Application started"
    )
    conn.close()
    assert (tmp_path / ".aico" / "user.db").exists()


AT = 1754130600_000000  # 2025-08-02T10:30:00Z


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("2025-08-02T10:30:00Z", AT),
        ("2025-08-02T12:30:00+02:00", AT),
        ("2025-08-02T05:00:00-05:30", AT),
        ("2025-08-02T10:30:00", AT),
        ("2025-08-02 10:30:00", AT),
        ("2025-08-02T10:30", AT),
        ("2025-08-02T10:30:00.25Z", AT + 250_000),
        ("2025-08-02T10:30:00.123456+00:00", AT + 123_456),
        (1754130600.5, AT + 500_000),
        (1754130600.123456, AT + 123_456),
        (1754130600, AT),
        (1754130600_123, AT + 123_000),
        (1754130600_123456, AT + 123_456),
        (AT + 1, AT + 1),
        (0, 0),
    ],
)
def test_a_log_instant_is_stored_as_microseconds(tmp_path, given, stored):
    with EncryptedLibSQLConnection(tmp_path / "user.db", KEY) as conn:
        SchemaRegistry.apply_core_schemas(conn)
        result = conn.execute("INSERT INTO logs (timestamp, level, message) VALUES (?, ?, ?)", (given, "INFO", "x"))
        assert conn.fetch_all("SELECT id, timestamp, typeof(timestamp) FROM logs") == [
            (result.lastrowid, stored, "integer")
        ]


@pytest.mark.parametrize(
    "nonsense",
    [
        "yesterday",
        "",
        "2025-13-01T00:00:00Z",
        "2025-08-02T25:00:00Z",
        "now-ish",
        b"2025-08-02T10:30:00Z",
        None,
        "2025-02-31T00:00:00Z",
        "10:30",
        "now",
        float("inf"),
        float("nan"),
        10**18,
        -(10**18),
    ],
    ids=repr,
)
def test_a_log_instant_that_is_none_is_invalid_input(tmp_path, nonsense):
    with EncryptedLibSQLConnection(tmp_path / "user.db", KEY) as conn:
        SchemaRegistry.apply_core_schemas(conn)
        with pytest.raises(InvalidInput):
            conn.execute("INSERT INTO logs (timestamp, level, message) VALUES (?, ?, ?)", (nonsense, "INFO", "x"))
        assert conn.fetch_all("SELECT * FROM logs") == []


def test_a_snapshot_sees_one_moment_however_long_it_reads(connection):
    connection.execute_many("INSERT INTO t VALUES (?, ?)", [(number, "before") for number in range(500)])
    with connection.snapshot() as rows:
        reading = rows("SELECT a, b FROM t ORDER BY a")
        assert next(reading)["b"] == "before"
        connection.execute("UPDATE t SET b = 'after'")
        connection.execute("INSERT INTO t VALUES (1000, 'after')")
        assert {row["b"] for row in reading} == {"before"}
        assert [tuple(row) for row in rows("SELECT count(*) FROM t WHERE b = ?", ("after",))] == [(0,)]
        assert list(rows("SELECT a FROM t WHERE a > 10000")) == []
    assert connection.fetch_one("SELECT count(*) FROM t WHERE b = 'after'") == (501,)


def test_a_snapshot_does_not_write_and_gives_back_its_reader(connection):
    with pytest.raises(AicoError), connection.snapshot() as rows:
        list(rows("INSERT INTO t VALUES (1, 1)"))
    with pytest.raises(KeyError), connection.snapshot() as rows:
        next(rows("SELECT 1 UNION SELECT 2"))
        raise KeyError("the caller's own")
    connection.execute("INSERT INTO t VALUES (1, 1)")
    assert connection.fetch_one("SELECT count(*) FROM t") == (1,)


def test_damage_in_a_free_page_is_told_too(tmp_path):
    """The attack: change a page that no table uses any more; what was forgotten may still be wanted from a copy of it."""
    make(tmp_path / "a.db", 400)
    with sealed(tmp_path / "a.db") as connection:
        connection.execute("DELETE FROM rows WHERE number > 10")
        connection.verify()
        [(free,)] = connection.fetch_all("PRAGMA freelist_count")
        [(count,)] = connection.fetch_all("PRAGMA page_count")
    assert free > 10
    found = 0
    for number in range(1, count):
        raw = bytearray((tmp_path / "a.db").read_bytes())
        raw[number * 4096 + 2000] ^= 4
        (tmp_path / "b.db").write_bytes(raw)
        shutil.copy(tmp_path / "a.db-map", tmp_path / "b.db-map")
        with sealed(tmp_path / "b.db", create=False) as connection, pytest.raises(Tampered, match="changed"):
            connection.verify()
        found += 1
    assert found == count - 1


def test_verify_says_so_when_a_reader_keeps_the_log(tmp_path, monkeypatch):
    monkeypatch.setattr("aico.data.libsql.connection._LOG_WAIT_S", 0.01)
    make(tmp_path / "a.db", 50)
    with sealed(tmp_path / "a.db") as connection:
        with connection._readers.borrow() as reader:
            cursor = reader.execute("SELECT * FROM rows")
            next(cursor)
            add_rows(connection, range(50, 60))
            with pytest.raises(Busy):
                connection.verify()
            cursor.close()
        connection.verify()
        assert count_if_right(connection) == 60
