"""What is the engine libsql's own: its cipher's gaps, its panics, its missing guards, and what must not come of them."""

import os
import threading

import pytest

from aico.data.libsql import EncryptedLibSQLConnection, LibSQLConnection
from aico.data.libsql.guard import Guard, changing_rows, reading
from aico.errors import AicoError, InvalidInput, StorageError, Tampered
from tests.children import run, started
from tests.data.libsql.cases import CANARY, KEY, OTHER_KEY, files_of, text_of

pytest.importorskip("libsql", reason="the engine libsql needs the extra aico[libsql]")


def encrypted(path, key=KEY, **options) -> EncryptedLibSQLConnection:
    return EncryptedLibSQLConnection(path, key, engine="libsql", **options)


@pytest.fixture
def connection(tmp_path):
    with encrypted(tmp_path / "aico.db") as connection:
        connection.execute("CREATE TABLE t (a, b)")
        yield connection


def killed_with_rows_in_the_log(path: str, count: int) -> None:
    connection = encrypted(path)
    connection.execute("CREATE TABLE t (a, b)")
    for number in range(count):
        connection.execute("INSERT INTO t VALUES (?, ?)", (number, text_of(number)))
    os.kill(os.getpid(), 9)


def test_a_wrong_key_destroys_nothing_that_a_crash_left_in_the_log(tmp_path):
    """The engine itself would move the log into the database with the wrong key, and lose both."""
    path = tmp_path / "aico.db"
    run(killed_with_rows_in_the_log, str(path), 200)
    before = files_of(tmp_path)
    assert len(before["aico.db-wal"]) > 100_000
    for open_it in (
        lambda: encrypted(path, OTHER_KEY),
        lambda: LibSQLConnection(path, engine="libsql"),
        lambda: EncryptedLibSQLConnection(path, KEY),
        lambda: LibSQLConnection(path),
    ):
        with pytest.raises(AicoError):
            open_it()
    assert {name: before[name] for name in ("aico.db", "aico.db-wal")}.items() <= files_of(tmp_path).items()
    with encrypted(path) as connection:
        assert connection.fetch_all("SELECT a, b FROM t ORDER BY a") == [(n, text_of(n)) for n in range(200)]


def test_a_sealed_database_is_not_taken_for_one_of_this_engine(tmp_path):
    with EncryptedLibSQLConnection(tmp_path / "aico.db", KEY) as sealed:
        sealed.execute("CREATE TABLE t (a)")
        for open_it in (
            lambda: encrypted(tmp_path / "aico.db"),
            lambda: LibSQLConnection(sealed.db_path, engine="libsql"),
        ):
            with pytest.raises(Tampered):
                open_it()
        sealed.execute("INSERT INTO t VALUES (1)")
        sealed.verify()


def test_an_emptied_file_is_told(tmp_path):
    encrypted(tmp_path / "aico.db").close()
    (tmp_path / "aico.db").write_bytes(b"")
    with pytest.raises(Tampered):
        encrypted(tmp_path / "aico.db")


def test_no_text_is_readable_in_any_file_even_after_a_large_sort(connection, tmp_path):
    connection.execute_many("INSERT INTO t VALUES (?, ?)", ((CANARY, text_of(number)) for number in range(5000)))
    connection.fetch_all("SELECT a, b FROM t ORDER BY b DESC")
    connection.execute("CREATE INDEX by_b ON t (b)")
    connection.execute("VACUUM")
    connection.backup_to(tmp_path / "copy.db")
    assert all(CANARY.encode() not in content for content in files_of(tmp_path).values())


@pytest.mark.parametrize(
    "sql",
    [
        "VACUUM INTO 'out.db'",
        "vacuum main into 'out.db'",
        "VACUUM/**/INTO 'out.db'",
        "-- x\n ATTACH 'out.db' AS out",
        "PRAGMA rekey = 'x'",
        "PRAGMA main.\"rekey\" = 'x'",
        "EXPLAIN PRAGMA rekey('x')",
        "PRAGMA key = 'x'",
        "PRAGMA journal_mode = delete",
        "PRAGMA secure_delete = off",
        "PRAGMA synchronous = off",
        "PRAGMA writable_schema = on",
        "PRAGMA temp_store = file",
        "PRAGMA user_version = 3",
    ],
)
def test_no_statement_leads_out_of_the_cipher(connection, tmp_path, monkeypatch, sql):
    monkeypatch.chdir(tmp_path)
    before = connection.database_id
    with pytest.raises(InvalidInput):
        connection.execute(sql)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("out")) == []
    assert connection.database_id == before


def test_harmless_settings_can_be_read_and_said_again(connection):
    assert connection.fetch_all("PRAGMA journal_mode") == [("wal",)]
    assert connection.fetch_all("PRAGMA journal_mode = wal") == [("wal",)]
    assert connection.fetch_all("PRAGMA integrity_check") == [("ok",)]
    assert [row["name"] for row in connection.fetch_all("PRAGMA table_info(t)")] == ["a", "b"]


def test_after_a_panic_the_connection_works_again(connection):
    """Text that is no UTF-8 makes the wheel panic."""
    connection.execute("INSERT INTO t VALUES (CAST(x'ff41' AS TEXT), 1)")
    for _ in range(3):
        with pytest.raises(StorageError, match="gave up"):
            connection.fetch_all("SELECT a FROM t")
    assert connection.fetch_all("SELECT b FROM t") == [(1,)]
    with pytest.raises(StorageError), connection.transaction():
        connection.execute("INSERT INTO t VALUES (2, 2)")
        with pytest.raises(StorageError, match="gave up"):
            connection.fetch_all("SELECT a FROM t")
        connection.execute("INSERT INTO t VALUES (3, 3)")
    assert connection.fetch_all("SELECT b FROM t") == [(1,)], (
        "the transaction that the panic ended was taken back whole"
    )
    with pytest.raises(StorageError), connection.snapshot() as rows:
        list(rows("SELECT a FROM t"))
    assert connection.execute("INSERT INTO t VALUES (4, 4)").rowcount == 1
    assert connection.fetch_all("SELECT b FROM t ORDER BY b") == [(1,), (4,)]


def test_numbers_beyond_32_bits_stay_numbers_wherever_they_stand(connection):
    big, small = 2**53 + 1, -(2**40) - 1
    connection.execute("INSERT INTO t VALUES (?, ?)", (big, small))
    assert connection.fetch_all("SELECT a, typeof(a), b, typeof(b) FROM t") == [(big, "integer", small, "integer")]
    assert connection.fetch_all("SELECT a-?, ?1 - ?2, '?', \"a\" /* ? */ FROM t -- ?", (small, big)) == [
        (big - small, small - big, "?", big)
    ]
    assert connection.fetch_all("SELECT :x, :y, :x", {"x": big, "y": 5}) == [(big, 5, big)]
    assert connection.fetch_all("SELECT 7-?", (-(2**63),)) != []


def test_a_guard_judges_here_too_before_anything_runs(connection):
    connection.execute("INSERT INTO t VALUES (1, 'one')")
    assert connection.execute_under(Guard(reading), "SELECT b FROM t WHERE a = ?", (1,), read_only=True)[0] == ("one",)
    for sql in (
        "DELETE FROM t",
        "DROP TABLE t",
        "PRAGMA journal_mode = delete",
        "ATTACH 'x.db' AS x",
        "CREATE TABLE u (a)",
    ):
        guard = Guard(reading)
        with pytest.raises(InvalidInput):
            connection.execute_under(guard, sql)
        assert guard.refused
    for sql in ("SELECT readfile('/etc/hostname')", "SELECT * FROM fsdir('/etc')", "SELECT writefile('out', 'x')"):
        with pytest.raises(InvalidInput):
            connection.execute_under(Guard(reading), sql, read_only=True)
    assert connection.execute_under(Guard(changing_rows), "UPDATE t SET b = 'two'").rowcount == 1
    connection.execute("CREATE TABLE later (c)")
    connection.execute_under(Guard(changing_rows), "INSERT INTO later VALUES (1)")
    assert connection.fetch_all("SELECT * FROM later") == [(1,)]
    assert connection.fetch_all("SELECT * FROM t") == [(1, "two")]


def test_keys_are_not_changed_and_the_data_stays(connection):
    connection.execute("INSERT INTO t VALUES (1, 1)")
    for use in (lambda: connection.rekey(OTHER_KEY), connection.reseal):
        with pytest.raises(InvalidInput, match="libSQL"):
            use()
    assert connection.fetch_all("SELECT a FROM t") == [(1,)]


def test_a_copy_has_everything_and_the_databases_id(connection, tmp_path):
    connection.execute_script(
        "CREATE TABLE n (id INTEGER PRIMARY KEY AUTOINCREMENT, x UNIQUE, y AS (x + 1)); CREATE INDEX i ON n (x, y);"
        "CREATE VIEW v AS SELECT x FROM n; CREATE TABLE w (k PRIMARY KEY) WITHOUT ROWID;"
        "CREATE TRIGGER g AFTER INSERT ON n BEGIN INSERT INTO w VALUES (new.id); SELECT 1; END;"
    )
    connection.execute_many("INSERT INTO n (x) VALUES (?)", ((2**40 + number,) for number in range(50)))
    connection.execute("DELETE FROM n WHERE id > 40")
    connection.backup_to(tmp_path / "copy.db")
    objects = "SELECT type, name, sql FROM sqlite_schema ORDER BY name"
    with encrypted(tmp_path / "copy.db", create=False) as copy:
        assert copy.database_id == connection.database_id
        for sql in (objects, "SELECT * FROM n", "SELECT * FROM w", "SELECT * FROM v", "SELECT * FROM sqlite_sequence"):
            assert copy.fetch_all(sql) == connection.fetch_all(sql)
        assert copy.execute("INSERT INTO n (x) VALUES (1)").lastrowid == 51
    with encrypted(tmp_path / "other.db") as other:
        assert other.database_id != connection.database_id


def test_a_database_of_another_program_opens_with_its_key(tmp_path):
    """As older AICO installations keyed theirs: PRAGMA key = 'x"…"'."""
    import libsql

    made = libsql.connect(str(tmp_path / "old.db"), isolation_level=None)
    made.execute(f"PRAGMA key = 'x\"{KEY.hex()}\"'")
    made.execute("PRAGMA journal_mode = wal")
    made.execute("CREATE TABLE t (a)")
    made.execute("INSERT INTO t VALUES ('from there')")
    made.close()
    with encrypted(tmp_path / "old.db", create=False) as connection:
        assert connection.fetch_all("SELECT a FROM t") == [("from there",)]


def write_rows(path: str, writer: int, count: int) -> int:
    with encrypted(path) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS t (a UNIQUE, b)")
        for number in range(count):
            connection.execute("INSERT INTO t VALUES (?, ?)", (writer * 1000 + number, text_of(number)))
            if number % 20 == 0:
                connection.fetch_all("SELECT * FROM t")
                connection.clear_log()
    return count


def test_processes_and_threads_write_at_once_and_lose_nothing(tmp_path):
    path = str(tmp_path / "aico.db")  # not there yet: all of them make it
    with started(write_rows, path, 1, 80) as a, started(write_rows, path, 2, 80) as b:
        threads = [threading.Thread(target=write_rows, args=(path, number, 80)) for number in (3, 4)]
        for thread in threads:
            thread.start()
        done = [child.end() for child in (a, b)]
        for thread in threads:
            thread.join()
    assert [one.error for one in done] == [None, None], done
    with encrypted(path) as connection:
        assert connection.fetch_one("SELECT count(*), count(DISTINCT a) FROM t") == (320, 320)
        connection.verify()


def test_threads_that_share_a_connection_share_commits(connection):
    def write(start: int) -> None:
        for number in range(start, start + 50):
            connection.write(lambda number=number: connection.execute("INSERT INTO t VALUES (?, 1)", (number,)))

    threads = [threading.Thread(target=write, args=(start,)) for start in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert connection.fetch_one("SELECT count(DISTINCT a) FROM t") == (150,)


def test_the_engine_says_what_it_does_not_do(connection, tmp_path):
    assert "libSQL" in connection.engine
    assert "not authenticated" in connection.engine
    assert (connection.engine_name, connection.detects_tampering, connection.has_page_map) == ("libsql", False, False)
    assert KEY.hex() not in repr(vars(connection)) + repr(vars(connection._engine))


def test_a_changed_byte_is_never_a_crash(tmp_path):
    """It may be a wrong row, which nobody can tell here; it is never a panic, and never an error of the wheel's own."""
    with encrypted(tmp_path / "aico.db") as connection:
        connection.execute("CREATE TABLE t (a, b)")
        connection.execute_many("INSERT INTO t VALUES (?, ?)", ((n, text_of(n)) for n in range(100)))
    whole = (tmp_path / "aico.db").read_bytes()
    for at in range(0, len(whole), len(whole) // 120):
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        (tmp_path / "bent.db").write_bytes(changed)
        try:
            with encrypted(tmp_path / "bent.db", create=False) as connection:
                connection.fetch_all("SELECT * FROM t")
                connection.verify()
        except AicoError:
            pass
