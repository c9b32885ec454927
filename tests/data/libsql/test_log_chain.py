"""The log as a chain: what was copied out of it, what was taken back, and what a power loss leaves of it."""

import os
from pathlib import Path

import apsw
import pytest

from tests.children import run, started
from tests.crash.judge import Judge
from tests.data.libsql.cases import add_rows, count_if_right, files_of, make, put_back, sealed

PAGE, FRAME, WAL_HEADER = 4096, 4096 + 24, 32
ROWS = 60
DATABASE, LOG = "aico.db", "aico.db-wal"


@pytest.fixture(scope="module")
def judge():
    with Judge() as judge:
        yield judge


def frames_of(log: bytes) -> list[bytes]:
    return [log[start : start + FRAME] for start in range(WAL_HEADER, len(log), FRAME)]


def with_frames(files: dict[str, bytes], frames: list[bytes]) -> dict[str, bytes]:
    """The same files without the log's index, and with these frames in the log."""
    log = files[LOG][:WAL_HEADER] + b"".join(frames)
    return {name: content for name, content in files.items() if not name.endswith("-shm")} | {LOG: log}


# Pages of one commit in the database, and its commit cut off


def copied_in_part(path: str) -> None:
    """For a child: two values that are always the same, changed together; only one of them is copied. Dies by kill -9."""
    connection = sealed(path)
    for name in ("left", "right"):
        connection.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, value TEXT)")
        connection.execute_many(f"INSERT INTO {name} VALUES (?, ?)", ((n, "old" + "." * 900) for n in range(60)))
    connection._writing.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
    with connection.transaction():
        connection.execute("UPDATE left SET value = 'new' WHERE id = 30")
        connection.execute("UPDATE right SET value = 'new' WHERE id = 30")
    with connection._readers.borrow() as reader:
        cursor = reader.execute("SELECT id FROM left")
        next(cursor)
        connection.execute("UPDATE right SET value = 'newer' WHERE id = 30")
        frames, copied = connection._writing.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        assert (frames, copied) == (3, 2)
    os.kill(os.getpid(), 9)


def values(folder: str) -> list[str]:
    """For a child: both values."""
    with sealed(f"{folder}/{DATABASE}", create=False) as connection:
        rows = [connection.fetch_all(f"SELECT value FROM {name} WHERE id = 30") for name in ("left", "right")]
    return [value.rstrip(".") for [(value,)] in rows]


def test_a_log_cut_inside_a_commit_of_which_a_page_was_copied_is_refused(tmp_path):
    """The attack: half of a transaction is in the database, the log that has the other half ends before its commit."""
    make(tmp_path / DATABASE, ROWS)
    with started(copied_in_part, str(tmp_path / DATABASE)) as child:
        done = child.end()
    assert done.status == -9, done
    files = files_of(tmp_path)
    frames = frames_of(files[LOG])
    ended = []
    for kept in range(4):
        put_back(tmp_path, with_frames(files, frames[:kept]))
        done = run(values, str(tmp_path))
        ended.append(done.error or done.value)
    assert ended == ["Tampered", "Tampered", ["new", "new"], ["new", "newer"]]


# Frames of a transaction that was taken back


def taken_back(path: str, kept_in: str) -> None:
    """For a child: some commits, a transaction that spills and is taken back, more commits over it. Dies by kill -9."""
    connection = sealed(path, page_cache_kib=40)
    connection._writing.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
    add_rows(connection, range(ROWS, ROWS + 5))
    print(os.stat(f"{path}-wal").st_size, flush=True)
    with pytest.raises(KeyError), connection.transaction():
        connection.execute_many("INSERT INTO rows VALUES (?, 'never')", ((n,) for n in range(10_000, 14_000)))
        raise KeyError
    Path(kept_in).write_bytes(Path(f"{path}-wal").read_bytes())
    for number in range(ROWS + 5, ROWS + 10):
        add_rows(connection, range(number, number + 1))
        print(os.stat(f"{path}-wal").st_size, flush=True)
    print(connection._writing.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[0], flush=True)
    os.kill(os.getpid(), 9)


@pytest.fixture(scope="module")
def rolled_back(tmp_path_factory):
    """(files, frames of the log now, the same when the transaction had been taken back, where that one began)."""
    folder = tmp_path_factory.mktemp("taken back")
    make(folder / DATABASE, ROWS)
    kept = folder.with_name("kept")
    with started(taken_back, str(folder / DATABASE), str(kept)) as child:
        began = (int(child.line()) - WAL_HEADER) // FRAME
        ends = [child.line() for _ in range(6)]
        child.process.wait()
    files = files_of(folder)
    return files, frames_of(files[LOG]), frames_of(kept.read_bytes()), began, int(ends[-1])


def test_frames_of_a_transaction_that_was_taken_back_are_refused_where_commits_follow_them(
    tmp_path, judge, rolled_back
):
    """The attack: SQLite takes such a frame for the end of its log, and what was committed over it is gone."""
    files, frames, before, began, end = rolled_back
    assert began < end < len(frames) == len(before)
    put_back(tmp_path, with_frames(files, frames))
    assert judge.outcome("database", tmp_path) == f"rows {ROWS + 10}"
    ended = []
    for at in range(began, end):
        assert before[at] != frames[at]
        put_back(tmp_path, with_frames(files, [*frames[:at], before[at], *frames[at + 1 :]]))
        ended.append(judge.outcome("database", tmp_path))
    earlier = {f"rows {ROWS + count}" for count in (8, 9)}
    middle = ended.index(next(outcome for outcome in ended if outcome != "Tampered"))
    assert middle > (end - began) // 2
    assert set(ended[middle:]) <= earlier, "only at the end it is a torn tail"
    put_back(tmp_path, with_frames(files, before))
    assert judge.outcome("database", tmp_path) == f"rows {ROWS + 5}"  # all of the older log: see the commit anchor


def test_a_power_loss_above_the_rest_of_a_transaction_taken_back_locks_nobody_out(tmp_path, judge, rolled_back):
    """A commit's last frame arrived, its first did not; behind it lies what was taken back before."""
    files, frames, before, began, end = rolled_back
    for first in (before[began], bytes(512) + before[began][512:], bytes(FRAME)):
        commit = next(
            n for n in range(began + 1, end) if _is_last_of_first_commit(files, frames, began, n, tmp_path, judge)
        )
        left = [*frames[:began], first, *frames[began + 1 : commit + 1], *before[commit + 1 :]]
        put_back(tmp_path, with_frames(files, left))
        assert judge.outcome("database", tmp_path) == f"rows {ROWS + 5}"
        with sealed(tmp_path / DATABASE) as connection:
            add_rows(connection, range(ROWS + 5, ROWS + 6))
            assert count_if_right(connection) == ROWS + 6


def _is_last_of_first_commit(files, frames, began: int, number: int, folder: Path, judge) -> bool:
    put_back(folder, with_frames(files, frames[: number + 1]))
    return judge.outcome("database", folder) == f"rows {ROWS + 6}"
