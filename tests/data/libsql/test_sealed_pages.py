"""The disk in an attacker's hands: pages, log and journals read, cut, swapped, replaced and planted."""

import os
import sqlite3
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from aico.data.libsql.opening import create_database
from aico.data.libsql.sealed.page_cipher import SoleKey
from aico.data.libsql.sealed.vfs import SealedVFS
from aico.errors import AicoError, InvalidInput, StorageError, Tampered
from aico.security.keys import DatabaseKey
from tests.children import run, started
from tests.crash.judge import Judge
from tests.data.libsql.cases import (
    CANARY,
    KEY,
    OTHER_KEY,
    add_rows,
    count_if_right,
    files_of,
    killed_while_open,
    make,
    put_back,
    sealed,
    text_of,
)

PAGE, FRAME, WAL_HEADER = 4096, 4096 + 24, 32
ROWS, IN_LOG = 60, 8
DATABASE, LOG = "aico.db", "aico.db-wal"


@pytest.fixture(scope="module")
def judge():
    with Judge() as judge:
        yield judge


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory):
    """(files, sizes of the log after each commit) of a writer killed with its last commits in the log."""
    folder = tmp_path_factory.mktemp("left")
    make(folder / DATABASE, ROWS)
    with started(killed_while_open, str(folder / DATABASE), ROWS, ROWS + IN_LOG) as child:
        sizes = [int(child.line()) for _ in range(IN_LOG)]
        child.process.wait()
    return files_of(folder), sizes


@pytest.fixture
def folder(tmp_path, left_behind):
    """A copy of what the killed writer left."""
    put_back(tmp_path, left_behind[0])
    return tmp_path


# What is written comes back


@pytest.mark.parametrize("page_size", [4096, 8192, 16384, 32768, 65536])
def test_what_is_written_is_there_after_reopening(tmp_path, page_size):
    path = tmp_path / DATABASE
    vfs = SealedVFS(SoleKey({1: DatabaseKey(KEY)}), page_size=page_size)
    create_database(path, vfs)
    vfs.unregister()
    with sealed(path, create=False) as connection:
        assert connection.fetch_all("PRAGMA page_size") == [(page_size,)]
        connection.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, text TEXT NOT NULL)")
        connection.execute("CREATE INDEX rows_by_text ON rows (text)")
        add_rows(connection, range(120))
        connection.verify()
    assert path.read_bytes()[0] == 0x80 | page_size.bit_length() - 1
    with sealed(path, create=False) as connection:
        assert count_if_right(connection) == 120
        connection.execute("VACUUM")
        assert count_if_right(connection) == 120
        connection.verify()


def test_a_transaction_much_larger_than_the_cache_is_whole(tmp_path):
    """SQLite spills pages into the log, changes some of them again there, and redoes their checksums."""
    make(tmp_path / DATABASE, 0)
    with sealed(tmp_path / DATABASE, page_cache_kib=40) as connection:
        with connection.transaction():
            for number in range(400):
                connection.execute("INSERT INTO rows VALUES (?, ?)", (number, "x" * 600))
            for number in range(400):
                connection.execute("UPDATE rows SET text = ? WHERE number = ?", (text_of(number), number))
        assert count_if_right(connection) == 400
        connection.verify()
    with sealed(tmp_path / DATABASE) as connection:
        assert count_if_right(connection) == 400


def spill_and_die(path: str) -> None:
    connection = sealed(path, page_cache_kib=40)
    with connection.transaction():
        for number in range(ROWS, 400):
            connection.execute("INSERT INTO rows VALUES (?, ?)", (number, "x" * 600))
        for number in range(ROWS, 400):
            connection.execute("UPDATE rows SET text = ? WHERE number = ?", (text_of(number), number))
    with connection.transaction():
        connection.execute("DELETE FROM rows")
        for number in range(400):
            connection.execute("INSERT INTO rows VALUES (?, 'never committed')", (number,))
        os.kill(os.getpid(), 9)


def test_a_spilled_transaction_survives_kill_and_an_unfinished_one_leaves_no_trace(tmp_path, judge):
    make(tmp_path / DATABASE, ROWS)
    assert run(spill_and_die, str(tmp_path / DATABASE)).status == -9
    assert judge.outcome("database", tmp_path) == "rows 400"


def test_savepoints_that_spilled_are_taken_back_whole(tmp_path):
    make(tmp_path / DATABASE, ROWS)
    with sealed(tmp_path / DATABASE, page_cache_kib=40) as connection:
        with connection.transaction():
            add_rows(connection, range(ROWS, ROWS + 50))
            with pytest.raises(KeyError), connection.transaction():
                connection.execute("UPDATE rows SET text = 'wrong'")
                with connection.transaction():
                    connection.execute_many(
                        "INSERT INTO rows VALUES (?, 'wrong')", ((number,) for number in range(1000, 1400))
                    )
                raise KeyError
            add_rows(connection, range(ROWS + 50, ROWS + 60))
        assert count_if_right(connection) == ROWS + 60
        connection.verify()


# Nothing readable on the disk

READABLE = [
    form
    for text in (CANARY, "rows_by_text", "number INTEGER PRIMARY KEY", "SQLite format 3")
    for form in (text.encode(), text.encode("utf-16-le"), text.encode("utf-16-be"))
]


def work_hard(path: str) -> None:
    """For a child: everything that makes SQLite reach for temporary files, with a cache of ten pages. Waits between."""
    connection = sealed(path, page_cache_kib=40)
    stages = {
        "table": lambda: connection.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, text TEXT NOT NULL)"),
        "rows": lambda: connection.execute_many(
            "INSERT INTO rows VALUES (?, ?)", ((n, text_of(n)) for n in range(3000))
        ),
        "index": lambda: connection.execute("CREATE INDEX rows_by_text ON rows (text)"),
        "sort": lambda: connection.fetch_all(
            "SELECT text || 'x' AS long FROM rows UNION SELECT text FROM rows ORDER BY long DESC"
        ),
        "group": lambda: connection.fetch_all("SELECT text, count(*) FROM rows GROUP BY text || number"),
        "temporary": lambda: connection.execute_script(
            "PRAGMA temp_store = file; CREATE TEMP TABLE t AS SELECT * FROM rows; CREATE INDEX temp.i ON t (text)"
        ),
        "vacuum": lambda: connection.execute("VACUUM"),
        "backup": lambda: connection.backup_to(f"{path}.copy"),
    }
    for name, stage in stages.items():
        stage()
        print(name, flush=True)
        input()
    with connection.transaction():
        connection.execute("UPDATE rows SET text = text || ?", (CANARY,))
        try:
            with connection.transaction():
                connection.execute("DELETE FROM rows WHERE number % 2")
                connection.execute("UPDATE rows SET text = text || ?", (CANARY * 3,))
                raise KeyError
        except KeyError:
            print("spilled", flush=True)
            input()
    print("committed", flush=True)
    input()


def test_nothing_readable_ever_lies_on_the_disk(tmp_path):
    (tmp_path / "tmp").mkdir()
    seen = set()
    environment = {name: str(tmp_path / "tmp") for name in ("TMPDIR", "SQLITE_TMPDIR", "TEMP", "TMP")}
    with started(work_hard, str(tmp_path / DATABASE), **environment) as child:
        while stage := child.line():
            seen |= readable_nowhere(tmp_path, stage)
            if stage == "committed":
                child.kill()
                break
            child.tell("on")
        assert stage == "committed", child.end()
    readable_nowhere(tmp_path, "after kill -9")
    assert {DATABASE, LOG, f"{DATABASE}-shm", f"{DATABASE}.copy"} <= seen
    with sealed(tmp_path / DATABASE) as connection:
        assert connection.fetch_all("SELECT count(*) FROM rows") == [(3000,)]
    readable_nowhere(tmp_path, "after closing")
    assert files_of(tmp_path / "tmp") == {}


def readable_nowhere(folder: Path, stage: str) -> set[str]:
    """The names of the files that were searched, those of other processes' open databases too."""
    files = files_of(folder)
    for name, content in files.items():
        for form in READABLE:
            assert form not in content, f"{form!r} in {name}, {stage}"
    return set(files)


def test_the_search_would_find_it_in_a_database_in_the_clear(tmp_path):
    with sqlite3.connect(tmp_path / "clear.db") as clear:
        clear.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, text TEXT NOT NULL)")
        clear.execute("INSERT INTO rows VALUES (1, ?)", (CANARY,))
    clear.close()
    with pytest.raises(AssertionError):
        readable_nowhere(tmp_path, "in the clear")


def test_files_are_private(tmp_path):
    before = os.umask(0)
    try:
        with sealed(tmp_path / "new" / DATABASE) as connection:
            connection.execute("CREATE TABLE t (x)")
            for path in (tmp_path / "new").iterdir():
                assert path.stat().st_mode & 0o077 == 0, path.name
        assert (tmp_path / "new").stat().st_mode & 0o077 == 0
    finally:
        os.umask(before)


def test_the_same_content_never_gives_the_same_bytes_twice(tmp_path):
    for name in ("a.db", "b.db"):
        make(tmp_path / name, 20)
    one, two = (tmp_path / "a.db").read_bytes(), (tmp_path / "b.db").read_bytes()
    blocks = {one[start : start + 16] for start in range(1, len(one) - 15, 16)} & {
        two[start : start + 16] for start in range(1, len(two) - 15, 16)
    }
    assert blocks == set()


# Wrong keys


def test_a_wrong_key_reads_nothing_and_leaves_every_byte(folder, judge):
    before = files_of(folder)
    for _ in range(2):
        with pytest.raises(Tampered):
            sealed(folder / DATABASE, OTHER_KEY)
    after = files_of(folder)
    assert {name: after[name] for name in (DATABASE, LOG)} == {name: before[name] for name in (DATABASE, LOG)}
    assert judge.outcome("database", folder) == f"rows {ROWS + IN_LOG}"


def test_a_damaged_first_page_beside_a_log_leaves_the_log(folder, left_behind, judge):
    for place in (0, 5, 20, 3000, 4095):
        put_back(folder, left_behind[0])
        flip(folder / DATABASE, place)
        judge.outcome("database", folder)
        if (folder / LOG).exists():
            flip(folder / DATABASE, place, only_if=left_behind[0][DATABASE])
        assert judge.outcome("database", folder) == f"rows {ROWS + IN_LOG}", place


def flip(path: Path, place: int, *, only_if: bytes | None = None) -> None:
    content = bytearray(path.read_bytes())
    if only_if is None or content[place] != only_if[place]:
        content[place] ^= 1
        path.write_bytes(content)


def test_a_plain_database_is_refused_and_left_alone(tmp_path):
    with sqlite3.connect(tmp_path / DATABASE) as clear:
        clear.execute("CREATE TABLE rows (number)")
    clear.close()
    before = files_of(tmp_path)[DATABASE]
    with pytest.raises(Tampered):
        sealed(tmp_path / DATABASE)
    assert files_of(tmp_path)[DATABASE] == before


# Pages and frames moved, cut, replaced


def closed(folder: Path) -> bytes:
    make(folder / DATABASE, ROWS)
    assert sorted(files_of(folder)) == [f"{DATABASE}{end}" for end in ("", "-door", "-map", "-turn")]
    return (folder / DATABASE).read_bytes()


def pages_of(content: bytes) -> list[bytes]:
    return [content[start : start + PAGE] for start in range(0, len(content), PAGE)]


def test_swapped_pages_are_refused(tmp_path, judge):
    pages = pages_of(closed(tmp_path))
    for one, two in [(1, 2), (2, 3), (0, 1), (len(pages) - 1, 1), (3, 5)]:
        swapped = [*pages]
        swapped[one], swapped[two] = pages[two], pages[one]
        (tmp_path / DATABASE).write_bytes(b"".join(swapped))
        assert judge.outcome("database", tmp_path) == "Tampered", (one, two)


def test_pages_of_another_database_with_the_same_key_and_content_are_refused(tmp_path, judge):
    pages = pages_of(closed(tmp_path))
    make(tmp_path / "other.db", ROWS)
    foreign = pages_of((tmp_path / "other.db").read_bytes())
    assert len(foreign) == len(pages)
    for number in range(len(pages)):
        mixed = [*pages]
        mixed[number] = foreign[number]
        (tmp_path / DATABASE).write_bytes(b"".join(mixed))
        assert judge.outcome("database", tmp_path) == "Tampered", number


def test_zeroed_or_repeated_pages_are_refused(tmp_path, judge):
    pages = pages_of(closed(tmp_path))
    for number in range(1, len(pages)):
        for replacement in (bytes(PAGE), pages[0]):
            (tmp_path / DATABASE).write_bytes(b"".join([*pages[:number], replacement, *pages[number + 1 :]]))
            assert judge.outcome("database", tmp_path) == "Tampered", number


@pytest.mark.parametrize("cut", [1, 15, 16, 100, PAGE - 1, PAGE, PAGE + 1, PAGE * 3, PAGE * 5 + 77, -PAGE, -1])
def test_a_database_cut_short_is_refused(tmp_path, judge, cut):
    content = closed(tmp_path)
    (tmp_path / DATABASE).write_bytes(content[:cut])
    assert judge.outcome("database", tmp_path) == "Tampered"


def test_an_empty_database_beside_a_log_is_refused_and_the_log_is_kept(folder, left_behind, judge):
    (folder / DATABASE).write_bytes(b"")
    assert judge.outcome("database", folder) == "Tampered"
    assert (folder / LOG).read_bytes() == left_behind[0][LOG]
    (folder / DATABASE).write_bytes(left_behind[0][DATABASE])
    assert judge.outcome("database", folder) == f"rows {ROWS + IN_LOG}"


def test_a_missing_database_beside_a_log_is_not_made_anew(folder, left_behind, judge):
    (folder / DATABASE).unlink()
    assert judge.outcome("database", folder) == "NotFound"
    with pytest.raises(AicoError):  # also by a caller who would make a new one: it would end the log
        sealed(folder / DATABASE)
    assert (folder / LOG).read_bytes() == left_behind[0][LOG]


def test_a_planted_journal_is_never_rolled_back(tmp_path, judge):
    closed(tmp_path)
    journal = hot_journal(tmp_path / "elsewhere", pages=(tmp_path / DATABASE).stat().st_size // PAGE)
    (tmp_path / f"{DATABASE}-journal").write_bytes(journal)
    assert judge.outcome("database", tmp_path) == f"rows {ROWS}"
    assert (tmp_path / f"{DATABASE}-journal").read_bytes() == journal


def hot_journal(folder: Path, *, pages: int) -> bytes:
    """A genuine journal that SQLite would roll back, of a process killed in a transaction."""
    folder.mkdir()
    script = f"""
import os, sqlite3
clear = sqlite3.connect("plain.db", isolation_level=None)
clear.execute("PRAGMA cache_size = 2")
clear.execute("CREATE TABLE rows (text)")
for _ in range({pages}):
    clear.execute("INSERT INTO rows VALUES (hex(randomblob(1800)))")
clear.execute("BEGIN")
clear.execute("UPDATE rows SET text = hex(randomblob(1800))")
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=False)
    journal = (folder / "plain.db-journal").read_bytes()
    assert journal.startswith(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7")
    return journal


def test_a_torn_last_frame_gives_the_commit_before(folder, left_behind, judge):
    files, sizes = left_behind
    last = sizes[-1]
    for cut in (last - 1, last - 100, last - FRAME + 1, last - FRAME, sizes[-2] + 10, sizes[-2]):
        put_back(folder, {**files, LOG: files[LOG][:cut]})
        assert judge.outcome("database", folder) == f"rows {ROWS + IN_LOG - 1}", cut
    for commit in range(IN_LOG):
        put_back(folder, {**files, LOG: files[LOG][: sizes[commit]]})
        assert judge.outcome("database", folder) == f"rows {ROWS + commit + 1}", commit


def test_frames_exchanged_within_the_log_are_refused_or_end_it(folder, left_behind, judge):
    files, sizes = left_behind
    frames = [files[LOG][start : start + FRAME] for start in range(WAL_HEADER, sizes[-1], FRAME)]
    for one, two in pairwise(range(len(frames))):
        swapped = [*frames]
        swapped[one], swapped[two] = frames[two], frames[one]
        put_back(folder, {**files, LOG: files[LOG][:WAL_HEADER] + b"".join(swapped)})
        found = judge.outcome("database", folder)
        if WAL_HEADER + one * FRAME < sizes[-3]:
            assert found == "Tampered", (one, two)
        else:
            assert found == "Tampered" or found in (f"rows {ROWS + IN_LOG - 1}", f"rows {ROWS + IN_LOG - 2}"), (
                one,
                two,
            )


def test_frames_of_an_older_log_of_this_database_are_refused_or_end_the_log(folder, left_behind, judge):
    files, _ = left_behind
    older = files[LOG]
    with sealed(folder / DATABASE) as connection:
        assert count_if_right(connection) == ROWS + IN_LOG
    with started(killed_while_open, str(folder / DATABASE), ROWS + IN_LOG, ROWS + 2 * IN_LOG) as child:
        sizes = [int(child.line()) for _ in range(IN_LOG)]
        child.process.wait()
    newer = files_of(folder)
    total = ROWS + 2 * IN_LOG
    assert judge.outcome("database", folder) == f"rows {total}"
    for start in range(WAL_HEADER, min(len(older), sizes[-1]), FRAME):
        mixed = newer[LOG][:start] + older[start : start + FRAME] + newer[LOG][start + FRAME :]
        put_back(folder, {**newer, LOG: mixed})
        found = judge.outcome("database", folder)
        last_ones = start >= sizes[-3]
        assert found == "Tampered" or (last_ones and found in (f"rows {total - 1}", f"rows {total - 2}")), (
            start,
            found,
        )


def test_a_log_of_another_database_with_the_same_key_brings_nothing_in(tmp_path, left_behind, judge):
    make(tmp_path / DATABASE, 5)
    (tmp_path / LOG).write_bytes(left_behind[0][LOG])
    assert judge.outcome("database", tmp_path) in ("rows 5", "Tampered")


# Ways out of the sealed files

WAYS_OUT = [
    "PRAGMA journal_mode = delete",
    "PRAGMA journal_mode = OFF",
    "PRAGMA journal_mode = 'memory'",
    "PRAGMA main.journal_mode(truncate)",
    "PRAGMA JOURNAL_MODE = Persist",
    "SELECT * FROM pragma_journal_mode('delete')",
    "ATTACH '{clear}' AS other",
    "ATTACH DATABASE '{new}' AS other",
    "ATTACH 'file:{new}?vfs=unix' AS other",
    "ATTACH ':memory:' AS other",
    "ATTACH '{new}' || '' AS other",
    "VACUUM INTO '{new}'",
    "VACUUM INTO 'file:{new}?vfs=unix'",
    "SELECT load_extension('{new}')",
    "SELECT writefile('{new}', 'x')",
    "CREATE VIRTUAL TABLE temp.v USING dbstat",
    "CREATE VIRTUAL TABLE v USING csv(filename='{clear}')",
]


@pytest.mark.parametrize("statement", WAYS_OUT)
def test_no_statement_leads_out_of_the_sealed_files(tmp_path, statement):
    with sqlite3.connect(tmp_path / "clear.db") as clear:
        clear.execute("CREATE TABLE bait (x)")
    clear.close()
    before = (tmp_path / "clear.db").read_bytes()
    with sealed(tmp_path / DATABASE) as connection:
        connection.execute("CREATE TABLE rows (number)")
        try:
            connection.execute(
                statement.replace("{clear}", str(tmp_path / "clear.db")).replace("{new}", str(tmp_path / "new.db"))
            )
        except (InvalidInput, StorageError, Tampered):
            pass
        assert connection.fetch_all("PRAGMA journal_mode") == [("wal",)]
        assert [name for _, name, _ in connection.fetch_all("PRAGMA database_list") if name != "temp"] == ["main"]
    assert (tmp_path / "clear.db").read_bytes() == before
    assert not (tmp_path / "new.db").exists()


@pytest.mark.parametrize("statement", ["ATTACH ? AS other", "VACUUM INTO ?"])
@pytest.mark.parametrize("target", [":memory:", "{}/clear.db", "{}/new.db", "{}/second.db", "file:{}/new.db?vfs=unix"])
def test_no_bound_name_leads_out_of_the_sealed_files(tmp_path, statement, target):
    make(tmp_path / "second.db", 3)
    with sealed(tmp_path / DATABASE) as connection:
        connection.execute("CREATE TABLE rows (number)")
        with pytest.raises(InvalidInput):
            connection.execute(statement, (target.format(tmp_path),))
        assert [name for _, name, _ in connection.fetch_all("PRAGMA database_list")] == ["main"]
    assert not (tmp_path / "new.db").exists()
