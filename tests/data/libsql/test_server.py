"""A libSQL server: what works over the wire, what is refused before it, and that no token shows anywhere.

The server is `hrana.py`, in the test's own process; the wheel holds Python's lock while it waits, so that whoever asks is
a process of its own.
"""

import sys

import pytest

from aico.data.libsql import LibSQLConnection
from aico.data.libsql.guard import Guard, changing_rows, reading
from aico.errors import AicoError, InvalidInput, MissingExtra, StorageError
from tests.children import run
from tests.data.libsql.hrana import TOKEN, server

SECRET = "secret-token-of-the-server"


@pytest.fixture
def wheel() -> None:
    pytest.importorskip("libsql", reason="the engine libsql needs the extra aico[libsql]")


def used(url: str) -> list[object]:
    with LibSQLConnection(url=url, auth_token=TOKEN) as connection:
        connection.execute("CREATE TABLE t (a, b)")
        inserted = connection.execute("INSERT INTO t VALUES (?, ?)", (2**40 + 1, "x"))
        seen: list[object] = [inserted.rowcount, inserted.lastrowid]
        connection.execute_many("INSERT INTO t VALUES (?, ?)", [(2, 2.5), (3, None)])
        try:
            with connection.transaction():
                connection.execute("DELETE FROM t")
                seen.append(connection.fetch_one("SELECT count(*) FROM t")[0])
                raise KeyError
        except KeyError:
            seen.append(connection.fetch_one("SELECT count(*) FROM t")[0])
        with connection.snapshot() as rows:
            seen.append([tuple(row) for row in rows("SELECT a, b FROM t ORDER BY a")])
        seen.append(connection.write(lambda: connection.execute("UPDATE t SET b = 1 WHERE a < 10").rowcount))
        seen.append(connection.execute_under(Guard(changing_rows), "DELETE FROM t WHERE a = 2").rowcount)
        for refused in (
            lambda: connection.execute("SELECT nothing FROM t"),
            lambda: connection.execute("INSERT INTO nowhere VALUES (1)"),
            lambda: connection.execute("SELECT 1; DELETE FROM t"),
            lambda: connection.execute_under(Guard(reading), "DELETE FROM t", read_only=True),
            lambda: connection.backup_to("copy.db"),
        ):
            try:
                refused()
            except AicoError as exc:
                seen.append(type(exc).__name__)
        seen.append(connection.fetch_one("SELECT count(*) FROM t")[0])
    return seen


def test_statements_transactions_and_guards_work_over_the_wire(wheel, tmp_path):
    with server(tmp_path / "there.db") as url:
        done = run(used, url, patience_s=60)
    assert done.error is None, done
    rows = [[2, 2.5], [3, None], [2**40 + 1, "x"]]
    assert done.value == [1, 1, 0, 3, rows, 2, 1, *["InvalidInput"] * 5, 2]


def refused_with(url: str, token: str) -> str:
    try:
        LibSQLConnection(url=url, auth_token=token).execute("SELECT 1")
    except StorageError as exc:
        cause = exc.__cause__ or exc.__context__ if not exc.__suppress_context__ else None
        return f"{exc} {exc.hint} {cause}"
    return "was answered"


def test_a_wrong_token_is_told_and_not_shown(wheel, tmp_path):
    with server(tmp_path / "there.db") as url:
        done = run(refused_with, url, SECRET, patience_s=60)
    assert "refused the token" in done.value
    assert SECRET not in done.value


@pytest.mark.parametrize("scheme", ["http", "https", "libsql"])
def test_a_server_that_does_not_answer_is_told(wheel, scheme):
    connection = LibSQLConnection(url=f"{scheme}://127.0.0.1:9", auth_token=SECRET)  # port 9 discards, nobody listens
    for use in (lambda: connection.execute("SELECT 1"), lambda: connection.execute("CREATE TABLE t (a)")):
        with pytest.raises(StorageError) as refused:
            use()
        assert SECRET not in f"{refused.value} {refused.value.hint} {refused.value.__cause__}"
    shown = f"{connection!r} {vars(connection)} {vars(connection._engine)} {connection.engine}"
    assert SECRET not in shown
    assert "can read everything" in connection.engine
    connection.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "libsql://",
        "ws://127.0.0.1",
        "file:///etc/passwd",
        "http://example.org",
        "https://user:password@example.org",
        "https://example.org?authToken=x",
        "https://exa mple.org",
        "https://example.org\n",
        5,
    ],
)
def test_what_is_no_address_or_would_go_in_the_clear_is_refused(url):
    with pytest.raises(InvalidInput):
        LibSQLConnection(url=url, auth_token=SECRET)


def test_a_token_that_is_none_and_a_file_beside_an_address_are_refused(tmp_path):
    for given in (
        {"url": "https://example.org", "auth_token": "two\nlines"},
        {"url": "https://example.org", "auth_token": b"bytes"},
        {"url": "https://example.org", "db_path": tmp_path / "a.db"},
        {"auth_token": SECRET, "db_path": tmp_path / "a.db"},
        {},
    ):
        with pytest.raises(InvalidInput) as refused:
            LibSQLConnection(**given)
        assert SECRET not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_without_the_wheel_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "libsql", None)
    with pytest.raises(MissingExtra, match="wheel"):
        LibSQLConnection(url="https://example.org")
