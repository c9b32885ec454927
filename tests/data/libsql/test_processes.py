"""Several processes, one database: no lock errors, a bounded wait, and nobody keeps the turn by mistake."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from aico.data.libsql import checkpoints
from aico.data.libsql.sqlite_engine import SqliteConnection
from aico.errors import Busy
from tests.children import Child, run, started
from tests.data.libsql.cases import CANARY, make, sealed, text_of


def write_rows(path: str, writer: int, count: int) -> list[int]:
    """For a child: one commit a row, now and then a batch; what was acknowledged."""
    acknowledged = []
    with sealed(path) as connection:
        print("ready", flush=True)
        input()
        for step in range(count):
            number = writer * 100_000 + step
            if step % 10 == 9:
                with connection.transaction():
                    for one in (number, number + 50_000):
                        connection.execute("INSERT INTO rows VALUES (?, ?)", (one, text_of(one)))
                acknowledged += [number, number + 50_000]
            else:
                connection.execute("INSERT INTO rows VALUES (?, ?)", (number, text_of(number)))
                acknowledged.append(number)
            if step % 25 == 0:
                connection.clear_log()
    return acknowledged


def test_processes_that_write_at_once_keep_every_acknowledged_row(tmp_path):
    make(tmp_path / "aico.db", 0)
    arguments = [(str(tmp_path / "aico.db"), writer, 60) for writer in range(3)]
    with (
        started(write_rows, *arguments[0]) as a,
        started(write_rows, *arguments[1]) as b,
        started(write_rows, *arguments[2]) as c,
    ):
        for child in (a, b, c):
            assert child.line() == "ready"
        for child in (a, b, c):
            child.tell("go")
        done = [child.end() for child in (a, b, c)]
    assert [one.error for one in done] == [None] * 3, done
    with sealed(tmp_path / "aico.db") as connection:
        found = dict(connection.fetch_all("SELECT number, text FROM rows"))
        assert found == {number: text_of(number) for one in done for number in one.value}
        connection.verify()


def open_and_close(path: str, rounds: int) -> None:
    for number in range(rounds):
        with sealed(path) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS t (x)")
            connection.execute("INSERT INTO t VALUES (?)", (number,))
            connection.fetch_all("SELECT * FROM t")


def test_processes_that_open_and_close_all_the_time_do_not_disturb_each_other(tmp_path):
    path = str(tmp_path / "aico.db")  # not there yet: all of them make it
    with (
        started(open_and_close, path, 25) as a,
        started(open_and_close, path, 25) as b,
        started(open_and_close, path, 25) as c,
    ):
        done = [child.end() for child in (a, b, c)]
    assert [one.error for one in done] == [None] * 3, done
    with sealed(path) as connection:
        assert connection.fetch_one("SELECT count(*) FROM t") == (75,)
        connection.verify()
    assert [path.name for path in tmp_path.iterdir() if ".new-" in path.name] == []


def write_for_ever(path: str) -> None:
    with sealed(path) as connection:
        print("writing", flush=True)
        while True:
            with connection.transaction():  # two at a time: a copy from the middle would show
                connection.execute("INSERT INTO rows (text) VALUES ('x')")
                connection.execute("INSERT INTO rows (text) VALUES ('x')")
            time.sleep(0.002)


def back_up(path: str) -> int:
    with sealed(path) as connection:
        connection.backup_to(f"{path}.copy")
    with sealed(f"{path}.copy") as copy:
        copy.verify()
        return copy.fetch_one("SELECT count(*) FROM rows")[0]


def test_a_backup_ends_although_others_write(tmp_path):
    path = str(tmp_path / "aico.db")
    make(path, 0)
    with sealed(path) as connection:
        connection.execute_many("INSERT INTO rows VALUES (?, ?)", ((number, "x" * 3000) for number in range(4000)))
    with started(write_for_ever, path) as writer:
        assert writer.line() == "writing"
        done = run(back_up, path, patience_s=30)
    assert done.error is None, done
    assert done.value >= 4000
    assert done.value % 2 == 0


# Waiting for the turn


def hold_the_turn(path: str) -> None:
    with sealed(path) as connection, connection.transaction():
        connection.execute("INSERT INTO rows VALUES (-1, 'held')")
        print("held", flush=True)
        input()


@pytest.fixture
def path(tmp_path):
    make(tmp_path / "aico.db", 3)
    return str(tmp_path / "aico.db")


def test_waiting_for_the_turn_is_bounded_and_says_so(path):
    with started(hold_the_turn, path) as holder, sealed(path, busy_wait_s=0.2) as connection:
        assert holder.line() == "held"
        for write in (
            lambda: connection.execute("INSERT INTO rows VALUES (10, 'x')"),
            lambda: connection.write(lambda: None),
            lambda: connection.execute_script("DELETE FROM rows"),
            lambda: connection.execute("VACUUM"),
            connection.clear_log,
            connection.verify,
        ):
            with pytest.raises(Busy) as refused:
                write()
            assert "aico.db" in str(refused.value)
        assert connection.fetch_one("SELECT count(*) FROM rows") == (3,)  # reading goes on
        holder.tell("let go")
        assert holder.end().error is None
        connection.execute("INSERT INTO rows VALUES (10, 'x')")
        assert connection.fetch_one("SELECT count(*) FROM rows") == (5,)


def test_the_turn_of_a_killed_process_is_free_at_once(path):
    with started(hold_the_turn, path) as holder, sealed(path, busy_wait_s=60) as connection:
        assert holder.line() == "held"
        holder.kill()
        connection.execute("INSERT INTO rows VALUES (10, 'x')")
        assert connection.fetch_all("SELECT number FROM rows WHERE number < 0") == []


def test_a_wait_that_was_given_up_does_not_take_the_turn_from_the_next(path):
    lock = os.open(f"{path}-turn", os.O_RDWR)
    with sealed(path, busy_wait_s=0.2) as impatient, sealed(path, busy_wait_s=60) as patient:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for _ in range(3):
            with pytest.raises(Busy):
                impatient.execute("INSERT INTO rows VALUES (10, 'x')")
        fcntl.flock(lock, fcntl.LOCK_UN)
        for number in range(20, 30):
            with patient.transaction():
                patient.execute("INSERT INTO rows VALUES (?, 'x')", (number,))
                with pytest.raises(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with impatient.transaction():
            with pytest.raises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(lock)


def interrupted_while_waiting(path: str) -> str:
    class Interrupt(BaseException):
        pass

    def interrupt(*_):
        raise Interrupt

    signal.signal(signal.SIGALRM, interrupt)
    connection = sealed(path, busy_wait_s=60)
    print("waits", flush=True)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        connection.execute("INSERT INTO rows VALUES (10, 'x')")
        ended = "written"
    except Interrupt:
        ended = "interrupted"
    print(ended, flush=True)
    input()
    return ended


def test_an_interrupted_wait_does_not_keep_the_turn(path):
    with started(hold_the_turn, path) as holder:
        assert holder.line() == "held"
        waits_and_is_interrupted(path, holder)


def waits_and_is_interrupted(path: str, holder: Child) -> None:
    with started(interrupted_while_waiting, path) as waiter:
        assert [waiter.line(), waiter.line()] == ["waits", "interrupted"]
        holder.tell("let go")
        assert holder.end().error is None
        with sealed(path, busy_wait_s=10) as connection:  # the waiter still runs, and has nothing to hold
            connection.execute("INSERT INTO rows VALUES (11, 'x')")
        waiter.tell("end")
        assert waiter.end().value == "interrupted"


# The log


def test_a_checkpoint_that_found_no_turn_comes_again(path, monkeypatch):
    """A background checkpoint may wait in vain; the log must not grow for ever after that."""
    monkeypatch.setattr(checkpoints, "DUE_PAGES", 5)
    monkeypatch.setattr(checkpoints, "LOOK_EVERY_PAGES", 2)
    monkeypatch.setattr(checkpoints, "OVERDUE_PAGES", 10)
    lock = os.open(f"{path}-turn", os.O_RDWR)
    with sealed(path, busy_wait_s=0.2) as connection:

        def grow() -> None:
            connection.execute("INSERT INTO rows (text) VALUES (?)", (CANARY * 200,))

        def hold() -> None:
            fcntl.flock(lock, fcntl.LOCK_EX)
            time.sleep(0.8)
            fcntl.flock(lock, fcntl.LOCK_UN)

        holder = threading.Thread(target=hold)
        with connection.transaction():  # its commit makes a checkpoint due, while the holder is the next in turn
            holder.start()
            for _ in range(10):
                grow()
        holder.join()
        deadline, size = time.monotonic() + 5, 0
        while os.stat(f"{path}-wal").st_size != size:  # a log that is begun anew stops growing
            assert time.monotonic() < deadline, "the log was never begun anew"
            size = os.stat(f"{path}-wal").st_size
            grow()
            time.sleep(0.02)
    os.close(lock)


def test_a_long_log_is_not_copied_again_after_each_commit(path, monkeypatch):
    """Each checkpoint syncs the disk, twice, while somebody commits: once for so many pages, however long the log is."""
    monkeypatch.setattr(checkpoints, "DUE_PAGES", 20)
    monkeypatch.setattr(checkpoints, "LOOK_EVERY_PAGES", 10)
    copied = []
    with sealed(path) as connection, connection.snapshot():  # a reader: the log cannot begin anew
        monkeypatch.setattr(SqliteConnection, "checkpoint", lambda self, *, restart: copied.append(self.log_backlog()))
        for _ in range(200):
            connection.execute("INSERT INTO rows (text) VALUES (?)", (CANARY,))
        connection._checkpointer.stop()
        pages = (os.stat(f"{path}-wal").st_size - 32) // 4120
    assert 1 <= len(copied) <= pages / 10 + 1


def test_nobody_who_writes_waits_for_a_long_reader(path, monkeypatch):
    """A log that is overdue begins anew when nobody reads it; who reads for long keeps it, and keeps nobody waiting."""
    monkeypatch.setattr(checkpoints, "DUE_PAGES", 5)
    monkeypatch.setattr(checkpoints, "LOOK_EVERY_PAGES", 2)
    monkeypatch.setattr(checkpoints, "OVERDUE_PAGES", 10)
    with sealed(path) as one, sealed(path, busy_wait_s=1) as other, one.snapshot() as rows:
        before = len(list(rows("SELECT * FROM rows")))
        for _ in range(40):
            one.execute("INSERT INTO rows (text) VALUES (?)", (CANARY,))
            other.execute("INSERT INTO rows (text) VALUES (?)", (CANARY,))  # Busy, had a checkpoint kept the turn
        assert len(list(rows("SELECT * FROM rows"))) == before


def test_the_last_one_out_leaves_no_log(path):
    with sealed(path) as first:
        with sealed(path) as second:
            second.execute("INSERT INTO rows VALUES (10, 'x')")
        assert os.path.exists(f"{path}-wal")
        first.execute("INSERT INTO rows VALUES (11, 'x')")
    assert not os.path.exists(f"{path}-wal")


def closed_without_saying(path: str) -> None:
    connection = sealed(path)
    connection.execute("INSERT INTO rows VALUES (10, 'x')")
    del connection


def test_a_process_that_never_closed_ends_without_a_word(path):
    script = f"from tests.data.libsql.cases import sealed; c = sealed({path!r}); c.execute(\"INSERT INTO rows VALUES (9, 'x')\")"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert not os.path.exists(f"{path}-wal")  # it was the last one out


def test_a_process_that_never_closed_loses_nothing(path):
    done = run(closed_without_saying, path)
    assert (done.error, done.status) == (None, 0), done
    with sealed(path) as connection:
        assert connection.fetch_one("SELECT count(*) FROM rows") == (4,)
        connection.verify()
