"""What SQLite never asks of a sealed file is refused, and the files' own states that no statement leads to."""

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

import apsw
import pytest

from aico.data.libsql.opening import connect, create_database, place_database
from aico.data.libsql.sealed import page_cipher
from aico.data.libsql.sealed.page_cipher import DatabaseKeys, NotSealed, PageCipher, SoleKey
from aico.data.libsql.sealed.page_copies import PageCopy
from aico.data.libsql.sealed.page_map import PageMap, PageTampered
from aico.data.libsql.sealed.vfs import SealedVFS
from aico.errors import AicoError, StorageError, Tampered
from aico.security.keys import DatabaseKey
from tests.children import started
from tests.crash.judge import Judge
from tests.data.libsql.cases import KEY, add_rows, count_if_right, files_of, killed_while_open, make, put_back, sealed

PAGE, FRAME, WAL_HEADER = 4096, 4096 + 24, 32
DATABASE, LOG, MAP = "aico.db", "aico.db-wal", "aico.db-map"
MAIN = apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READWRITE
WAL = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_READWRITE
KEYS = SoleKey({1: DatabaseKey(KEY)})


@pytest.fixture
def killed(tmp_path):
    """A database with a log that was left by a kill."""
    make(tmp_path / DATABASE, 10)
    with started(killed_while_open, str(tmp_path / DATABASE), 10, 14) as child:
        child.process.communicate()
    return tmp_path


@pytest.fixture
def vfs():
    made = SealedVFS(KEYS)
    yield made
    made.unregister()


@pytest.fixture
def log(killed, vfs):
    """The log as SQLite would have it open, behind its database."""
    database = apsw.VFSFile(vfs.name, str(killed / DATABASE), [MAIN, 0])
    opened = apsw.VFSFile(vfs.name, str(killed / LOG), [WAL, 0])
    yield opened
    opened.xClose()
    database.xClose()


def test_a_log_is_opened_behind_its_own_database_alone(killed, vfs, log):
    """The attack: a link or a name that leads to the log of another database."""
    with pytest.raises(apsw.CantOpenError, match="before its database"):
        apsw.VFSFile(vfs.name, str(killed / "other.db-wal"), [WAL, 0])
    with pytest.raises(apsw.CantOpenError, match="in the clear"):
        apsw.VFSFile(vfs.name, str(killed / "super"), [apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_CREATE, 0])
    assert not (killed / "super").exists()


@pytest.mark.parametrize(("data", "offset"), [(b"half a page", 0), (bytes(PAGE), 100), (b"\1" * PAGE, PAGE)])
def test_only_whole_pages_with_their_reserved_bytes_are_written(killed, vfs, data, offset):
    before = (killed / DATABASE).read_bytes()
    file = apsw.VFSFile(vfs.name, str(killed / DATABASE), [MAIN, 0])
    with pytest.raises(apsw.IOError, match="not a whole page"):
        file.xWrite(data, offset)
    file.xClose()
    assert (killed / DATABASE).read_bytes() == before


def test_a_control_that_is_not_the_end_of_a_checkpoint_leaves_it_open(killed, vfs):
    """What a checkpoint copied is told when it ends, whatever else SQLite asks of the file until then."""
    database = apsw.VFSFile(vfs.name, str(killed / DATABASE), [MAIN, 0])
    log = apsw.VFSFile(vfs.name, str(killed / LOG), [WAL, 0])
    before = (killed / MAP).read_bytes()
    database.xWrite(bytes(database.xRead(PAGE, PAGE)), PAGE)
    assert not database.xFileControl(9999, 0)
    unchanged = (killed / MAP).read_bytes()[: len(before)] == before
    database.xFileControl(apsw.SQLITE_FCNTL_CKPT_DONE, 0)
    assert unchanged and (killed / MAP).read_bytes() != before
    log.xClose()
    database.xClose()


def test_what_is_no_frame_is_neither_read_nor_written(killed, log):
    before = (killed / LOG).read_bytes()
    with pytest.raises(apsw.IOError, match="unknown WAL read"):
        log.xRead(7, WAL_HEADER)
    with pytest.raises(apsw.IOError, match="unknown WAL write"):
        log.xWrite(b"content", WAL_HEADER + 8)
    with pytest.raises(PageTampered):  # a page without a header before it, where there is no frame
        log.xWrite(bytes(PAGE), WAL_HEADER + 100 * FRAME + 24)
    with pytest.raises(PageTampered):
        log.xRead(PAGE, WAL_HEADER + 100 * FRAME + 24)
    with pytest.raises(PageTampered):  # whole frames are read in recovery, or where SQLite had written one
        log.xRead(FRAME, WAL_HEADER + 100 * FRAME)
    assert (killed / LOG).read_bytes() == before


def test_a_log_of_another_run_under_an_open_database_is_refused(killed, log):
    """The attack: while it is open, the log's header becomes that of another day."""
    raw = apsw.VFSFile("", str(killed / LOG), [WAL, 0])
    raw.xWrite(os.urandom(8), 16)
    raw.xClose()
    with pytest.raises(PageTampered, match="another time"):
        log.xRead(PAGE, WAL_HEADER + 24)


def test_a_log_whose_header_was_changed_where_the_note_that_it_began_was_cut_off_is_refused(killed):
    """The attack: the frames of the current run, under a header that makes SQLite hold them for another's."""
    files = files_of(killed)
    begun = 4 + 12 + 1 + 16  # the map's last record, which a power loss may take as well
    bent = bytearray(files[LOG])
    bent[16] ^= 1
    cut = {name: content for name, content in files.items() if not name.endswith("-shm")}
    with Judge() as judge:
        put_back(killed, cut | {MAP: files[MAP][:-begun]})
        assert judge.outcome("database", killed) == "rows 14"
        put_back(killed, cut | {MAP: files[MAP][:-begun], LOG: bytes(bent)})
        assert judge.outcome("database", killed) == "Tampered"


def test_a_database_is_not_made_over_one_that_is_there(tmp_path, vfs):
    make(tmp_path / DATABASE, 5)
    before = files_of(tmp_path)
    with pytest.raises(FileExistsError):
        create_database(tmp_path / DATABASE, vfs)
    assert {name: before[name] for name in (DATABASE, MAP)}.items() <= files_of(tmp_path).items()
    assert not list(tmp_path.glob("*.new-*"))


def test_of_two_who_make_a_database_the_second_leaves_nothing(tmp_path, vfs):
    """Somebody else's database got its name between the second's map and the second's database."""
    create_database(tmp_path / "fresh.db", vfs)
    (tmp_path / DATABASE).write_bytes(b"somebody's")
    with pytest.raises(FileExistsError):
        place_database(tmp_path / "fresh.db", tmp_path / DATABASE)
    assert (tmp_path / DATABASE).read_bytes() == b"somebody's"
    assert not (tmp_path / MAP).exists()


def test_a_database_in_the_clear_is_made_whole_or_not_at_all_as_well(tmp_path):
    create_database(tmp_path / "plain.db", None)
    connect(tmp_path / "plain.db", None, wait_s=1, cache_kib=100, kind=apsw.Connection).close()
    assert [path.name for path in tmp_path.iterdir()] == ["plain.db"]


def test_a_key_of_a_generation_that_is_not_known_is_looked_for_once_more():
    later = {1: DatabaseKey(KEY), 2: DatabaseKey(bytes(32))}
    keys = DatabaseKeys({1: DatabaseKey(KEY)}, look_again=lambda: later)
    assert keys.find(2) == later[2]
    assert keys.newest == 2
    assert keys.find(3) is None


def test_a_database_that_keeps_a_rollback_journal_is_refused(tmp_path):
    """The attack, in the clear only: a database in another journal mode, put in the place of ours."""
    with sqlite3.connect(tmp_path / "plain.db") as plain:
        plain.execute("CREATE TABLE t (x)")
    plain.close()
    with pytest.raises(apsw.CantOpenError, match="not in WAL mode"):
        connect(tmp_path / "plain.db", None, wait_s=1, cache_kib=100, kind=apsw.Connection)


def test_a_database_of_format_0_has_no_map_to_write_anew(tmp_path, vfs):
    shutil.copy(Path(__file__).parents[2] / "vectors/format-0/vault/data/aico.db", tmp_path / DATABASE)
    vfs.rewrite_map(tmp_path / DATABASE)
    assert not (tmp_path / MAP).exists()


# Pages beside SQLite


def test_the_page_that_only_locks_is_zeros_and_is_not_written_and_behind_the_end_there_is_none(tmp_path):
    make(tmp_path / DATABASE, 5)
    size = (tmp_path / DATABASE).stat().st_size
    with PageCopy(tmp_path / DATABASE, KEYS) as copy:
        assert copy.read(copy._lock_page) == bytes(PAGE - 32)
        copy.write(copy._lock_page, b"x" * (PAGE - 32))
        with pytest.raises(Tampered, match="cut off"):
            copy.read(copy.page_count + 1)
    assert (tmp_path / DATABASE).stat().st_size == size


def test_a_copy_of_what_is_no_database_is_refused_and_leaves_nothing_registered(tmp_path):
    registered = set(apsw.vfs_names())
    (tmp_path / "folder.db").mkdir()
    for name in ("nowhere.db", "folder.db"):
        with pytest.raises(AicoError):
            PageCopy(tmp_path / name, KEYS)
    assert set(apsw.vfs_names()) == registered


def test_forged_sessions_do_not_fill_memory(monkeypatch):
    """The attack: pages that each name another session, for each of which a key would be kept."""
    monkeypatch.setattr(page_cipher, "_SESSIONS_KEPT", 8)
    cipher = PageCipher(DatabaseKeys({1: DatabaseKey(KEY)}), bytes([0x8C, *range(15)]))
    for _ in range(100):
        with pytest.raises(NotSealed):
            cipher.open_into(
                memoryview(bytes(PAGE - 4) + b"\1" + os.urandom(3)), b"place", memoryview(bytearray(PAGE - 32))
            )
    assert len(cipher._ciphers) <= 8


# The map by itself


def test_a_log_may_not_go_while_pages_are_only_there_and_a_whole_file_is_noted_once(tmp_path):
    page_map = PageMap(str(tmp_path / DATABASE), KEYS, bytes([0x8C]) + bytes(15))
    page_map.create()
    page_map.add_pages({0: bytes(12)}, 1)
    with pytest.raises(PageTampered, match="would be lost"):
        page_map.let_log_go()
    page_map.set_whole(1)
    size = (tmp_path / MAP).stat().st_size
    page_map.set_whole(1)
    assert (tmp_path / MAP).stat().st_size == size


def test_a_map_that_cannot_be_read_is_the_engines_own_error(tmp_path):
    make(tmp_path / DATABASE, 5)
    (tmp_path / MAP).unlink()
    (tmp_path / MAP).mkdir()
    with pytest.raises(StorageError, match="cannot be used"):
        sealed(tmp_path / DATABASE, create=False)
    (tmp_path / MAP).rmdir()


def test_a_database_stays_readable_after_its_log_was_kept_back_at_closing(tmp_path):
    """The attack: the map says that pages are copied in part, so the log may not go; closing leaves it and loses nothing."""
    make(tmp_path / DATABASE, 5)
    connection = sealed(tmp_path / DATABASE)
    assert count_if_right(connection) == 5
    kept = (tmp_path / MAP).read_bytes()
    (tmp_path / MAP).write_bytes(kept[:20])
    with contextlib.suppress(Tampered):
        connection.close()
    (tmp_path / MAP).write_bytes(kept)
    with sealed(tmp_path / DATABASE, create=False) as again:
        assert count_if_right(again) == 5


def test_closing_where_the_map_is_gone_says_so_in_our_words_and_loses_nothing(tmp_path):
    make(tmp_path / DATABASE, 5)
    connection = sealed(tmp_path / DATABASE)
    add_rows(connection, range(5, 8))
    registered = set(apsw.vfs_names())
    (tmp_path / MAP).rename(tmp_path / "elsewhere")
    with pytest.raises(Tampered, match="page map is missing"):
        connection.close()
    assert set(apsw.vfs_names()) < registered
    connection.close()
    (tmp_path / "elsewhere").rename(tmp_path / MAP)
    with sealed(tmp_path / DATABASE, create=False) as again:
        assert count_if_right(again) == 8
        again.verify()
