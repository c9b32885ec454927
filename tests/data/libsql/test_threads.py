"""Many threads, one database: each failure is its caller's own, and what was acknowledged is there."""

import itertools
import os
import random
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from aico.data.libsql import EncryptedLibSQLConnection
from aico.errors import InvalidInput, StorageError
from tests.children import run
from tests.data.libsql.cases import add_rows, make, sealed


class OwnError(Exception):
    """Of the caller's own making."""


class OwnInterrupt(BaseException):
    """Like a cancellation: not an Exception."""


@pytest.fixture
def connection(tmp_path):
    with sealed(tmp_path / "aico.db") as connection:
        connection.execute("CREATE TABLE t (thread, number, UNIQUE (thread, number))")
        yield connection


def in_threads(count: int, work) -> list:
    """What `work(thread)` returned or raised in each thread, all begun at once."""
    gate = threading.Barrier(count)

    def one(thread: int):
        gate.wait()
        try:
            return work(thread)
        except BaseException as exc:
            return exc

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


@pytest.mark.parametrize(
    "error", [OwnError, TypeError, OSError, KeyError, UnicodeEncodeError, OwnInterrupt, GeneratorExit, SystemExit]
)
def test_one_threads_failure_takes_back_its_own_statements_only(connection, error):
    def work(thread: int):
        for number in range(8):

            def add(number=number):
                connection.execute("INSERT INTO t VALUES (?, ?)", (thread, number))
                if (thread + number) % 4 == 0:
                    raise error(*(("utf-8", "x", 0, 1, "own") if error is UnicodeEncodeError else ("own",)))
                return number

            try:
                assert connection.write(add) == number
                assert (thread + number) % 4, "a failure was swallowed"
            except error as exc:
                assert (thread + number) % 4 == 0, f"another thread's {exc!r}"
        return "done"

    assert in_threads(16, work) == ["done"] * 16
    found = connection.fetch_all("SELECT thread, number FROM t ORDER BY thread, number")
    assert found == [(thread, number) for thread in range(16) for number in range(8) if (thread + number) % 4]
    connection.verify()


@pytest.mark.parametrize(
    "error",
    [OwnError, TypeError, OSError, OverflowError, UnicodeEncodeError, KeyError, OwnInterrupt, KeyboardInterrupt],
)
def test_an_error_inside_a_block_comes_out_unchanged_and_takes_the_block_back(connection, error):
    raised = error(*(("utf-8", "x", 0, 1, "own") if error is UnicodeEncodeError else ("own",)))
    for block in ("transaction", "nested", "write", "nested write"):
        with pytest.raises(error) as found:
            if block == "transaction":
                with connection.transaction():
                    connection.execute("INSERT INTO t VALUES (1, 1)")
                    raise raised
            elif block == "nested":
                with connection.transaction(), connection.transaction():
                    connection.execute("INSERT INTO t VALUES (1, 1)")
                    raise raised
            else:

                def work():
                    connection.execute("INSERT INTO t VALUES (1, 1)")
                    raise raised

                if block == "write":
                    connection.write(work)
                else:
                    connection.write(lambda work=work: connection.write(work))
        assert found.value is raised
        assert connection.fetch_all("SELECT * FROM t") == []
        connection.execute("INSERT INTO t VALUES (0, 0)")
        connection.execute("DELETE FROM t")


def test_nested_blocks_take_back_only_themselves(connection):
    with connection.transaction():
        connection.execute("INSERT INTO t VALUES ('outer', 1)")
        for number in range(3):
            with pytest.raises(OwnError), connection.transaction():
                connection.execute("INSERT INTO t VALUES ('inner', ?)", (number,))
                with connection.transaction():
                    connection.execute("INSERT INTO t VALUES ('innermost', ?)", (number,))
                raise OwnError
            with connection.transaction():
                connection.execute("INSERT INTO t VALUES ('kept', ?)", (number,))
                with pytest.raises(OwnError):
                    connection.write(lambda number=number: fail_after(connection, number))
        connection.execute("INSERT INTO t VALUES ('outer', 2)")
    assert connection.fetch_all("SELECT * FROM t ORDER BY thread, number") == [
        ("kept", 0),
        ("kept", 1),
        ("kept", 2),
        ("outer", 1),
        ("outer", 2),
    ]


def fail_after(connection, number):
    connection.execute("INSERT INTO t VALUES ('written', ?)", (number,))
    raise OwnError


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT OR ROLLBACK INTO t VALUES (1, 1)",
        "INSERT INTO trap VALUES (1)",
    ],
)
@pytest.mark.parametrize("through", ["transaction", "write", "nested"])
def test_after_the_engine_took_a_transaction_back_nothing_more_of_it_is_written(connection, statement, through):
    connection.execute("CREATE TABLE trap (x)")
    connection.execute("CREATE TRIGGER springs BEFORE INSERT ON trap BEGIN SELECT RAISE(ROLLBACK, 'sprung'); END")

    def work():
        connection.execute("INSERT INTO t VALUES (1, 1)")
        with pytest.raises(InvalidInput):
            connection.execute(statement)
        try:
            connection.execute("INSERT INTO t VALUES (2, 2)")
        except StorageError:
            pass
        try:
            connection.execute_many("INSERT INTO t VALUES (?, ?)", [(3, 3)])
        except StorageError:
            pass

    with pytest.raises(StorageError):
        if through == "write":
            connection.write(work)
        else:
            with connection.transaction():
                if through == "nested":
                    with connection.transaction():
                        work()
                else:
                    work()
    assert connection.fetch_all("SELECT * FROM t") == []
    connection.execute("INSERT INTO t VALUES (4, 4)")
    assert connection.fetch_all("SELECT * FROM t") == [(4, 4)]


def test_one_rolled_back_transaction_does_not_take_the_others_of_a_batch(connection):
    def work(thread: int):
        def add():
            connection.execute("INSERT INTO t VALUES (?, 1)", (thread,))
            if thread == 5:
                connection.execute("INSERT OR ROLLBACK INTO t VALUES (?, 1)", (thread,))
            return thread

        return connection.write(add)

    ended = in_threads(16, work)
    present = {thread for (thread,) in connection.fetch_all("SELECT thread FROM t")}
    for thread, outcome in enumerate(ended):
        assert (thread in present) == (outcome == thread), (thread, outcome)
        assert outcome == thread or isinstance(outcome, InvalidInput | StorageError)
    assert 5 not in present
    connection.execute("INSERT INTO t VALUES (100, 1)")


def test_reads_see_whole_transactions_while_others_write(connection):
    connection.execute("CREATE TABLE accounts (id INTEGER PRIMARY KEY, money INTEGER NOT NULL)")
    connection.execute_many("INSERT INTO accounts VALUES (?, 100)", ((number,) for number in range(10)))
    done = threading.Event()
    sums = set()

    def read() -> None:
        while not done.is_set():
            sums.add(connection.fetch_one("SELECT sum(money) FROM accounts")[0])

    def move(thread: int) -> None:
        chance = random.Random(thread)
        for _ in range(30):
            one, two = chance.sample(range(10), 2)
            with connection.transaction():
                connection.execute("UPDATE accounts SET money = money - 7 WHERE id = ?", (one,))
                connection.execute("UPDATE accounts SET money = money + 7 WHERE id = ?", (two,))

    readers = [threading.Thread(target=read) for _ in range(2)]
    [reader.start() for reader in readers]
    outcomes = in_threads(4, move)
    done.set()
    [reader.join() for reader in readers]
    assert outcomes == [None] * 4
    assert sums == {1000}


def test_one_thread_reads_what_it_wrote_before_it_is_committed_and_others_do_not(connection):
    with connection.transaction():
        connection.execute("INSERT INTO t VALUES (1, 1)")
        assert connection.fetch_all("SELECT * FROM t") == [(1, 1)]
        assert in_threads(1, lambda _: connection.fetch_all("SELECT * FROM t")) == [[]]


def test_closing_while_others_read_and_write_ends_them_with_a_storage_error(tmp_path):
    for turn in range(30):
        connection = sealed(tmp_path / "aico.db")
        connection.execute("CREATE TABLE IF NOT EXISTS t (thread, number)")

        def work(thread: int, connection=connection, turn=turn):
            for number in itertools.count():
                if thread == 0:
                    if number == turn % 7:
                        return connection.close()
                    connection.fetch_all("SELECT count(*) FROM t")
                elif thread % 3:
                    connection.execute("INSERT INTO t VALUES (?, ?)", (thread, number))
                elif thread == 3:
                    connection.fetch_all("SELECT * FROM t ORDER BY number DESC LIMIT 50")
                else:
                    connection.write(lambda number=number: connection.execute("INSERT INTO t VALUES (0, ?)", (number,)))
            return None

        first, *rest = in_threads(7, work)
        assert first is None
        assert {type(outcome) for outcome in rest} == {StorageError}, rest
        connection.close()
    with sealed(tmp_path / "aico.db") as connection:
        connection.verify()


# Interrupts


def interrupted_storm(path: str, seconds: float, others: int) -> dict:
    """For a child: write while a signal handler raises at random moments, then look whether everything still works.

    Signals reach the main thread alone; `others` write beside it and must never be left waiting.
    """
    make(path, 0)
    connection = sealed(path, page_cache_kib=40, busy_wait_s=20)
    chance, interrupts, number, acknowledged, errors = random.Random(3), 0, 0, [], []
    ends = time.monotonic() + seconds

    def interrupt(*_):
        raise KeyboardInterrupt

    def write_beside(thread: int) -> None:
        for step in itertools.count(thread * 1_000_000):
            if time.monotonic() > ends:
                return
            try:
                connection.write(lambda step=step: add_rows(connection, range(step, step + 1)))
                acknowledged.append(step)
            except BaseException as exc:  # the signals are none of this thread's
                errors.append(repr(exc))

    threads = [threading.Thread(target=write_beside, args=(number + 1,), daemon=True) for number in range(others)]
    [thread.start() for thread in threads]
    signal.signal(signal.SIGALRM, interrupt)
    while time.monotonic() < ends:
        number += 1
        try:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0001, 0.004))
            try:
                what = chance.random()
                if what < 0.3:
                    add_rows(connection, range(number, number + 1))
                elif what < 0.8:
                    connection.write(lambda number=number: add_rows(connection, range(number, number + 1)))
                else:
                    connection.fetch_all("SELECT count(*) FROM rows")
                    continue
                acknowledged.append(number)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            interrupts += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    for thread in threads:
        thread.join(10 if all(thread.is_alive() for thread in threads) else 1)
    if hanging := sum(thread.is_alive() for thread in threads):
        return {"interrupts": interrupts, "hanging": hanging, "errors": errors}
    found = {row[0] for row in connection.fetch_all("SELECT number FROM rows")}
    connection.execute("INSERT INTO rows VALUES (-1, 'afterwards')")
    connection.write(lambda: connection.execute("INSERT INTO rows VALUES (-2, 'afterwards')"))
    connection.verify()
    connection.close()
    with sealed(path) as again:
        again.verify()
        return {
            "interrupts": interrupts,
            "hanging": 0,
            "errors": errors,
            "acknowledged": len(acknowledged),
            "lost": sorted(set(acknowledged) - found),
            "reopened": again.fetch_one("SELECT count(*) FROM rows")[0] == len(found) + 2,
        }


def survived(done) -> None:
    assert done.error is None and done.status == 0, done
    print(f"\n{done.value}")
    assert done.value["hanging"] == 0
    assert done.value["errors"] == []
    assert done.value["lost"] == []
    assert done.value["reopened"]
    assert done.value["interrupts"] > 20


@pytest.mark.parametrize("others", [0, 3])
def test_interrupts_at_any_moment_leave_a_connection_that_works(tmp_path, others):
    survived(run(interrupted_storm, str(tmp_path / "aico.db"), 2.0, others, patience_s=30))


@pytest.mark.slow
@pytest.mark.parametrize("others", [0, 1, 4])
def test_many_interrupts_leave_a_connection_that_works(tmp_path, others):
    survived(run(interrupted_storm, str(tmp_path / "aico.db"), 30.0, others, patience_s=120))


# Forks


def forked(path: str) -> dict:
    connection = sealed(path)
    connection.execute("CREATE TABLE t (x)")
    connection.execute("INSERT INTO t VALUES (1)")
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        errors = set()
        for use in (
            lambda: connection.execute("SELECT 1"),
            lambda: connection.execute("INSERT INTO t VALUES (2)"),
            connection.verify,
            connection.clear_log,
            lambda: connection.transaction().__enter__(),
            lambda: connection.write(lambda: None),
        ):
            try:
                use()
                errors.add("none")
            except BaseException as exc:
                errors.add(type(exc).__name__)
        connection.close()
        connection.close()
        with EncryptedLibSQLConnection(path, bytes(range(32))) as own:  # its own opens as ever
            own.execute("INSERT INTO t VALUES ('child')")
        os.write(writing, ",".join(sorted(errors)).encode())
        os.close(1)
        sys.exit(0)  # the ordinary way, with all of Python's tidying up
    connection.execute("INSERT INTO t VALUES (3)")
    _, status = os.waitpid(child, 0)
    connection.execute("INSERT INTO t VALUES (4)")
    connection.verify()
    rows = sorted(str(x) for (x,) in connection.fetch_all("SELECT x FROM t"))
    connection.close()
    return {"errors": os.read(reading, 1000).decode(), "rows": rows, "status": status}


def test_a_forked_child_is_told_and_does_no_harm(tmp_path):
    done = run(forked, str(tmp_path / "aico.db"))
    assert done.error is None, done
    assert done.value["errors"] == "StorageError"
    assert done.value["rows"] == ["1", "3", "4", "child"]
    with sealed(tmp_path / "aico.db") as connection:
        connection.verify()
