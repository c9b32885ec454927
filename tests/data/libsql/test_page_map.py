"""Yesterday's bytes put back: single pages, logs and maps that were ours once are refused, also where others look on."""

import os
import shutil
from pathlib import Path

import apsw
import pytest

from aico.data.libsql.sealed import page_map
from aico.data.libsql.sealed.page_cipher import DatabaseKeys, SoleKey
from aico.data.libsql.sealed.page_map import PageMap, PageTampered
from aico.errors import Tampered
from aico.security.keys import DatabaseKey
from tests.children import started
from tests.crash.judge import Judge
from tests.data.libsql.cases import (
    KEY,
    OTHER_KEY,
    add_rows,
    copy_beside_a_reader,
    count_if_right,
    files_of,
    make,
    put_back,
    sealed,
    text_of,
)

PAGE, FRAME, WAL_HEADER = 4096, 4096 + 24, 32
ROWS = 60
DATABASE, LOG, MAP = "aico.db", "aico.db-wal", "aico.db-map"


@pytest.fixture(scope="module")
def judge():
    with Judge() as judge:
        yield judge


def killed_while_writing(path: str, first: int, last: int) -> None:
    """For a child: begin the log anew, in the same file, add rows `first` … `last` - 1, and die by kill -9."""
    connection = sealed(path)
    connection._writing.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
    add_rows(connection, range(first, last))
    os.kill(os.getpid(), 9)


def killed_after_half_a_checkpoint(path: str, first: int, copied: int, last: int) -> None:
    """For a child: add rows `first` … `last` - 1, some of the log copied before row `copied`, and die by kill -9."""
    connection = sealed(path)
    add_rows(connection, range(first, copied))
    copy_beside_a_reader(connection)
    add_rows(connection, range(copied, last))
    os.kill(os.getpid(), 9)


def states(folder: Path, *, with_log: bool) -> list[dict[str, bytes]]:
    """The files of a database as they were on five days, each with more rows than the day before."""
    days = []
    make(folder / DATABASE, ROWS)
    for day in range(5):
        rows = ROWS + 10 * day
        if with_log:
            if day % 2:
                with sealed(folder / DATABASE) as connection:  # to be closed: the next log is a new file
                    assert count_if_right(connection) == rows
            with started(killed_while_writing, str(folder / DATABASE), rows, rows + 10) as child:
                child.process.wait()
        else:
            with sealed(folder / DATABASE) as connection:
                add_rows(connection, range(rows, rows + 10))
        days.append(files_of(folder))
    return days


@pytest.fixture(scope="module")
def closed_days(tmp_path_factory):
    return states(tmp_path_factory.mktemp("closed"), with_log=False)


@pytest.fixture(scope="module")
def killed_days(tmp_path_factory):
    return states(tmp_path_factory.mktemp("killed"), with_log=True)


def pages_of(content: bytes) -> list[bytes]:
    return [content[start : start + PAGE] for start in range(0, len(content), PAGE)]


def test_every_old_page_in_its_own_place_is_refused(tmp_path, closed_days, judge):
    newest = closed_days[-1]
    tried = 0
    for old in closed_days[:-1]:
        pages, before = pages_of(newest[DATABASE]), pages_of(old[DATABASE])
        for number in (n for n in range(len(before)) if before[n] != pages[n]):
            mixed = [*pages[:number], before[number], *pages[number + 1 :]]
            put_back(tmp_path, newest | {DATABASE: b"".join(mixed)})
            assert judge.outcome("database", tmp_path) == "Tampered", number
            tried += 1
    assert tried > 10


def test_an_old_database_beside_a_newer_map_is_refused_and_so_is_an_old_map(tmp_path, closed_days, judge):
    newest = closed_days[-1]
    for old in closed_days[:-1]:
        put_back(tmp_path, newest | {DATABASE: old[DATABASE]})
        assert judge.outcome("database", tmp_path) == "Tampered"
        put_back(tmp_path, newest | {MAP: old[MAP]})
        assert judge.outcome("database", tmp_path) == "Tampered"


def test_old_pages_with_their_old_map_are_refused_unless_all_of_that_day_is_put_back(tmp_path, closed_days, judge):
    newest, old = closed_days[-1], closed_days[1]
    pages, before = pages_of(newest[DATABASE]), pages_of(old[DATABASE])
    changed = [number for number in range(len(before)) if before[number] != pages[number]]
    for kept in changed:
        mixed = [page if number == kept else before[number] for number, page in enumerate(pages[: len(before)])]
        put_back(tmp_path, newest | {DATABASE: b"".join(mixed), MAP: old[MAP]})
        assert judge.outcome("database", tmp_path) == "Tampered", kept
    put_back(tmp_path, old)  # nothing in the folder can tell: that is what the commit anchor is for
    assert judge.outcome("database", tmp_path) == f"rows {ROWS + 20}"


def test_an_old_log_is_refused_beside_every_newer_database(tmp_path, killed_days, judge):
    for day, files in enumerate(killed_days):
        for old_day, old in enumerate(killed_days):
            put_back(tmp_path, files | {LOG: old[LOG]})
            wanted = f"rows {ROWS + 10 * day + 10}" if day == old_day else "Tampered"
            assert judge.outcome("database", tmp_path) == wanted, (day, old_day)


def test_an_old_log_is_refused_where_the_database_was_closed_since(tmp_path, killed_days, closed_days, judge):
    put_back(tmp_path, killed_days[2])
    with sealed(tmp_path / DATABASE) as connection:
        assert count_if_right(connection) == ROWS + 30
    assert not (tmp_path / LOG).exists()
    for old in killed_days[:2]:
        (tmp_path / LOG).write_bytes(old[LOG])
        assert judge.outcome("database", tmp_path) == "Tampered"
        assert (tmp_path / LOG).read_bytes() == old[LOG]  # nobody takes an attack for an empty log and deletes it
    (tmp_path / LOG).write_bytes(killed_days[2][LOG])  # all of it is in the database already
    assert judge.outcome("database", tmp_path) == f"rows {ROWS + 30}"


def test_a_log_that_was_removed_or_emptied_with_its_last_commits_is_missed(tmp_path, killed_days, judge):
    for day, files in enumerate(killed_days):
        put_back(tmp_path, {name: content for name, content in files.items() if name != LOG})
        assert judge.outcome("database", tmp_path) == "Tampered", day
        for size in (0, 1, WAL_HEADER - 1):
            put_back(tmp_path, files | {LOG: files[LOG][:size]})
            assert judge.outcome("database", tmp_path) == "Tampered", (day, size)
        put_back(tmp_path, files)
        assert judge.outcome("database", tmp_path) == f"rows {ROWS + 10 * day + 10}"


def begun_and_never_committed(path: str) -> None:
    """For a child: a transaction that spills into a new log and is taken back, or killed in the middle."""
    connection = sealed(path, page_cache_kib=40)
    with connection.transaction():
        connection.execute_many("INSERT INTO rows VALUES (?, 'never')", ((n,) for n in range(10_000, 14_000)))
        os.kill(os.getpid(), 9)


def test_a_log_that_was_begun_without_a_commit_locks_nobody_out(tmp_path, judge):
    make(tmp_path / DATABASE, ROWS)
    for _ in range(3):
        with started(begun_and_never_committed, str(tmp_path / DATABASE)) as child:
            child.process.wait()
        assert (tmp_path / LOG).stat().st_size > 10 * FRAME
        assert judge.outcome("database", tmp_path) == f"rows {ROWS}"
        assert judge.outcome("database", tmp_path) == f"rows {ROWS}"  # closing the last time deleted the log
    with sealed(tmp_path / DATABASE, page_cache_kib=40) as connection:
        for _ in range(3):
            with pytest.raises(KeyError), connection.transaction():
                connection.execute_many("INSERT INTO rows VALUES (?, 'never')", ((n,) for n in range(10_000, 14_000)))
                raise KeyError
            assert connection.clear_log()
    assert judge.outcome("database", tmp_path) == f"rows {ROWS}"


def test_a_log_whose_header_was_changed_is_refused(tmp_path, killed_days, judge):
    files = killed_days[0]
    for at in range(WAL_HEADER):
        for bit in (1, 128):
            bent = bytearray(files[LOG])
            bent[at] ^= bit
            put_back(tmp_path, files | {LOG: bytes(bent)})
            assert judge.outcome("database", tmp_path) == "Tampered", at


def test_a_missing_cut_or_empty_map_is_refused(tmp_path, closed_days, killed_days, judge):
    for files in (closed_days[-1], killed_days[-1]):
        put_back(tmp_path, {name: content for name, content in files.items() if name != MAP})
        assert judge.outcome("database", tmp_path) == "Tampered"
        for size in (0, 1, 9, 10, 50, 71, 87, len(files[MAP]) // 2):
            put_back(tmp_path, files | {MAP: files[MAP][:size]})
            assert judge.outcome("database", tmp_path) == "Tampered", size
        put_back(tmp_path, files)
        assert judge.outcome("database", tmp_path).startswith("rows")


def test_every_flipped_bit_of_the_map_is_refused_or_changes_nothing(tmp_path, closed_days, judge):
    files, right = closed_days[1], f"rows {ROWS + 20}"
    found = set()
    for at in range(0, len(files[MAP]), 7):
        bent = bytearray(files[MAP])
        bent[at] ^= 1 << at % 8
        put_back(tmp_path, files | {MAP: bytes(bent)})
        found.add(judge.outcome("database", tmp_path))
    assert "Tampered" in found
    assert found <= {"Tampered", right}


def test_a_log_that_was_partly_copied_must_be_as_long_as_what_was_copied(tmp_path, judge):
    """The attack: cut the log behind a checkpoint that could not copy all of it, so that pages of two moments meet."""
    make(tmp_path / DATABASE, ROWS)
    with started(killed_after_half_a_checkpoint, str(tmp_path / DATABASE), ROWS, ROWS + 20, ROWS + 30) as child:
        child.process.wait()
    files = files_of(tmp_path)
    put_back(tmp_path, {name: content for name, content in files.items() if not name.endswith("-shm")})
    assert judge.outcome("database", tmp_path) == f"rows {ROWS + 30}"
    outcomes = []
    for frames in range((len(files[LOG]) - WAL_HEADER) // FRAME):
        put_back(tmp_path, files | {LOG: files[LOG][: WAL_HEADER + frames * FRAME]})
        (tmp_path / f"{DATABASE}-shm").unlink(missing_ok=True)
        outcomes.append(judge.outcome("database", tmp_path))
    first_right = next(n for n, outcome in enumerate(outcomes) if outcome != "Tampered")
    assert first_right > 20
    assert all(outcome.startswith("rows") for outcome in outcomes[first_right:])  # cut at the end: an earlier commit
    put_back(tmp_path, {name: content for name, content in files.items() if name != LOG})
    assert judge.outcome("database", tmp_path) == "Tampered"


def reads_on_demand(path: str) -> None:
    """For a child that has the database open throughout: how reading everything ends, each time it is asked."""
    connection = sealed(path, page_cache_kib=40)
    print("open", flush=True)
    while input() == "read":
        try:
            print(count_if_right(connection), flush=True)
        except Tampered:
            print("Tampered", flush=True)


def test_other_processes_that_have_it_open_follow_the_map_and_refuse_old_pages(tmp_path):
    make(tmp_path / DATABASE, ROWS)
    before = pages_of((tmp_path / DATABASE).read_bytes())
    with started(reads_on_demand, str(tmp_path / DATABASE)) as child:
        assert child.line() == "open"
        for rows in (ROWS + 20, ROWS + 40):
            with sealed(tmp_path / DATABASE) as connection:
                add_rows(connection, range(rows - 20, rows))
                assert connection.clear_log()
            child.tell("read")
            assert child.line() == str(rows)
        with started(reads_on_demand, str(tmp_path / DATABASE)) as attacker:  # no lock of this process is at stake
            assert attacker.line() == "open"
        pages = pages_of((tmp_path / DATABASE).read_bytes())
        number = next(n for n in range(len(before) - 1, 0, -1) if before[n] != pages[n])
        with open(tmp_path / DATABASE, "r+b") as file:
            file.seek(number * PAGE)
            file.write(before[number])
        with sealed(tmp_path / DATABASE) as connection:  # a commit of another process empties the child's cache
            connection.execute("CREATE TABLE more (x)")
        child.tell("read")
        assert child.line() == "Tampered"
        child.tell("end")


def test_an_older_map_put_back_under_an_open_database_is_refused(tmp_path):
    make(tmp_path / DATABASE, ROWS)
    old = (tmp_path / MAP).read_bytes()
    with started(reads_on_demand, str(tmp_path / DATABASE)) as child:
        assert child.line() == "open"
        with sealed(tmp_path / DATABASE) as connection:
            add_rows(connection, range(ROWS, ROWS + 20))
            assert connection.clear_log()
        child.tell("read")
        assert child.line() == str(ROWS + 20)
        (tmp_path / MAP).write_bytes(old)
        with pytest.raises(Tampered), sealed(tmp_path / DATABASE):
            pass
        child.tell("read")
        assert child.line() == str(ROWS + 20)  # from its cache, or by what it knew
        child.tell("end")


# The map by itself


def open_map(path: Path, keys: DatabaseKeys | None = None) -> PageMap:
    return PageMap(str(path / DATABASE), keys or SoleKey({1: DatabaseKey(KEY)}), bytes([0x8C]) + bytes(15))


def nonces(*numbers: int, copy: int = 0) -> dict[int, bytes]:
    return {number: bytes([copy]) * 8 + number.to_bytes(4, "big") for number in numbers}


def test_two_processes_see_what_the_other_wrote_through_appending_and_rewriting(tmp_path, monkeypatch):
    monkeypatch.setattr("aico.data.libsql.sealed.page_map._RECORDS_MAX_BYTES", 200)
    one, two = open_map(tmp_path), open_map(tmp_path)
    one.create()
    for copy in range(40):
        writer, reader = (one, two) if copy % 2 else (two, one)
        writer.begin_run(bytes([copy]) * 8)
        writer.add_pages(nonces(*range(copy % 7, 30), copy=copy), copy + 1)
        assert all(reader.is_newest(n, nonce) for n, nonce in nonces(*range(copy % 7, 30), copy=copy).items())
        assert (reader.whole, reader.frames, reader.runs[-1]) == (False, copy + 1, bytes([copy]) * 8)
        writer.set_whole(30)
        reader.refresh()
        assert (reader.whole, reader.runs) == (True, [bytes([copy]) * 8])
    assert not one.is_newest(29, bytes(12))
    assert not one.is_newest(30, bytes(12))
    assert [path.name for path in tmp_path.iterdir()] == [MAP]


def test_a_map_that_counts_more_runs_than_it_holds_is_refused(tmp_path, monkeypatch):
    """The attack: a map of a program that has the keys and writes another layout."""
    first = open_map(tmp_path)
    first.create()
    monkeypatch.setattr(
        PageMap, "_state", lambda self, counter: page_map._STATE_HEAD.pack(page_map._STATE, counter, True, False, 0, 9)
    )
    first.rewrite()
    with pytest.raises(PageTampered):
        open_map(tmp_path).refresh()


def test_a_process_never_goes_back_to_an_older_map(tmp_path):
    one = open_map(tmp_path)
    one.create()
    older = (tmp_path / MAP).read_bytes()
    one.add_pages(nonces(1, 2), 1)
    one.set_whole(3)
    appended = (tmp_path / MAP).read_bytes()
    one.rewrite()
    for content in (older, appended[:-1], appended, b"", b"AICOpmap\x01\x00"):
        (tmp_path / MAP).write_bytes(content)
        for _ in range(2):  # nor does asking again help
            with pytest.raises(PageTampered):
                one.refresh()
            with pytest.raises(PageTampered):
                one.is_newest(1, nonces(1)[1])
    (tmp_path / MAP).write_bytes(appended)
    two = open_map(tmp_path)
    assert two.is_newest(1, nonces(1)[1])
    (tmp_path / MAP).write_bytes(appended[:-1])
    with pytest.raises(PageTampered, match="cut"):
        two.refresh()


def test_a_record_of_a_world_that_a_power_loss_ended_is_not_read_behind_a_new_one(tmp_path):
    """The blocks of two records: the first was lost, the second was not, and a third of the first's length came since."""
    one = open_map(tmp_path)
    one.create()
    start = (tmp_path / MAP).stat().st_size
    one.add_pages(nonces(1, copy=1), 1)
    middle = (tmp_path / MAP).stat().st_size
    one.add_pages(nonces(2, copy=1), 2)
    content = (tmp_path / MAP).read_bytes()
    (tmp_path / MAP).write_bytes(content[:start] + bytes(middle - start) + content[middle:])
    two = open_map(tmp_path)
    two.add_pages(nonces(1, copy=2), 1)
    for seen in (two, open_map(tmp_path)):
        assert seen.is_newest(1, nonces(1, copy=2)[1])
        assert not seen.is_newest(2, nonces(2, copy=1)[2])


def test_a_map_opens_under_each_key_it_was_written_for_and_no_other(tmp_path):
    keys = DatabaseKeys({1: DatabaseKey(KEY)})
    one = open_map(tmp_path, keys)
    one.create()
    one.add_pages(nonces(0), 1)
    keys.add(DatabaseKey(OTHER_KEY))
    one.rewrite()
    for only in ({1: DatabaseKey(KEY)}, {2: DatabaseKey(OTHER_KEY)}):
        assert open_map(tmp_path, DatabaseKeys(only)).is_newest(0, nonces(0)[0])
    keys.keep_newest()
    one.rewrite()
    with pytest.raises(PageTampered):
        open_map(tmp_path, DatabaseKeys({1: DatabaseKey(KEY)})).refresh()
    assert open_map(tmp_path, DatabaseKeys({2: DatabaseKey(OTHER_KEY)})).is_newest(0, nonces(0)[0])


def test_a_log_begins_anew_only_when_all_of_it_was_copied(tmp_path):
    one = open_map(tmp_path)
    one.create()
    one.add_pages(nonces(0), 1)
    with pytest.raises(PageTampered):
        one.begin_run(bytes(8))


# Copies


def test_a_copy_brings_its_own_map_and_a_leftover_map_keeps_nobody_from_making_a_database(tmp_path):
    (tmp_path / MAP).write_bytes(b"left by a creation that was killed before the database followed")
    make(tmp_path / DATABASE, ROWS)
    with sealed(tmp_path / DATABASE) as connection:
        connection.backup_to(tmp_path / "copy.db")
    with sealed(tmp_path / "copy.db", create=False) as copy:
        assert count_if_right(copy) == ROWS
        copy.verify()
    assert {"copy.db", "copy.db-map"} <= {path.name for path in tmp_path.iterdir()}
    shutil.copy(tmp_path / DATABASE, tmp_path / "alone.db")
    with pytest.raises(Tampered, match="page map is missing"):
        sealed(tmp_path / "alone.db", create=False)


def test_pages_that_were_cut_off_are_not_taken_back_when_the_database_grows_again(tmp_path):
    make(tmp_path / DATABASE, 400)
    before = (tmp_path / DATABASE).read_bytes()
    with sealed(tmp_path / DATABASE) as connection:
        connection.execute("DELETE FROM rows WHERE number >= 20")
        connection.execute("VACUUM")
    size = (tmp_path / DATABASE).stat().st_size
    assert size < len(before) // 2
    with open(tmp_path / DATABASE, "ab") as file:
        file.write(before[size:])
    with sealed(tmp_path / DATABASE) as connection:
        assert count_if_right(connection) == 20
        connection.execute_many("INSERT INTO rows VALUES (?, ?)", ((n, text_of(n)) for n in range(20, 300)))
        assert count_if_right(connection) == 300
    with sealed(tmp_path / DATABASE) as connection:
        assert count_if_right(connection) == 300
        with pytest.raises(Tampered, match="older copy"):  # what was appended is no page of it
            connection.verify()
