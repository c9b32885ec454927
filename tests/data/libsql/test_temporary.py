"""What SQLite writes aside: as a plain file would keep it, and unreadable wherever it reaches the disk."""

import os
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aico.data.libsql import EncryptedLibSQLConnection
from aico.data.libsql.sealed import temporary
from aico.data.libsql.sealed.temporary import BLOCK_BYTES, TemporaryFile
from aico.errors import Tampered
from aico.security.ephemeral import EphemeralSealer
from tests.children import run

CANARY = "the cormorant nests behind the lighthouse"
OFFSETS = st.integers(0, 6 * BLOCK_BYTES)
STEPS = st.one_of(
    st.tuples(st.just("write"), OFFSETS, st.binary(min_size=1, max_size=2 * BLOCK_BYTES)),
    st.tuples(st.just("read"), OFFSETS, st.integers(1, 3 * BLOCK_BYTES)),
    st.tuples(st.just("truncate"), OFFSETS, st.none()),
)


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr(temporary, "MEMORY_MAX_BYTES", 2 * BLOCK_BYTES)


@given(steps=st.lists(STEPS, max_size=30))
def test_it_reads_back_what_a_plain_file_would(tmp_path, little_memory, steps):
    file, plain = TemporaryFile(tmp_path), bytearray()
    for what, offset, value in steps:
        if what == "write":
            plain.extend(bytes(max(0, offset - len(plain))))
            plain[offset : offset + len(value)] = value
            file.xWrite(value, offset)
        elif what == "read":
            assert file.xRead(value, offset) == bytes(plain[offset : offset + value])
        else:
            del plain[offset:]
            file.xTruncate(offset)
        assert file.xFileSize() == len(plain)
    assert file.xRead(len(plain) + 10, 0) == bytes(plain)
    file.xClose()
    assert list(tmp_path.iterdir()) == []


def deleted_files() -> list[bytes]:
    """The content of every open file of this process that has no name any more."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            if os.readlink(link).endswith("(deleted)"):
                found.append(link.read_bytes())
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
    return found


class Watcher:
    """Looks at what lies on the disk while a statement runs."""

    def __init__(self) -> None:
        self.largest, self.found = 0, False

    def __call__(self) -> bool:
        for content in deleted_files():
            self.largest = max(self.largest, len(content))
            self.found |= CANARY.encode() in content
        return False


STATEMENTS = {
    "sort": "SELECT count(*) FROM (SELECT x FROM t ORDER BY x DESC LIMIT -1 OFFSET 1)",
    "index": "CREATE INDEX by_x ON t (x)",
    "temporary table": "CREATE TEMP TABLE aside AS SELECT x FROM t",
    "vacuum": "VACUUM",
    "statement journal": "UPDATE t SET x = x || '!', n = n + 1000000",
}


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to see files without a name")
@pytest.mark.parametrize("what", STATEMENTS)
def test_nothing_readable_reaches_the_disk_when_it_outgrows_memory(tmp_path, little_memory, what):
    """The attack: look at every temporary file while SQLite works, as a disk thief would after a crash."""
    with EncryptedLibSQLConnection(tmp_path / "a.db", b"k" * 32, page_cache_kib=64) as connection:
        connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, x TEXT)")
        connection.execute_many(
            "INSERT INTO t VALUES (?, ?)", [(n, f"{n * 7919 % 3000:05} {CANARY} " + "x" * 800) for n in range(3000)]
        )
        writer, watcher = connection._writing.connection, Watcher()
        writer.set_progress_handler(watcher, 500)
        try:
            if what == "statement journal":
                with connection.transaction():
                    connection.execute("UPDATE t SET x = x || '?' WHERE n = 0")
                    connection.execute(STATEMENTS[what])
                    watcher()
            else:
                writer.execute(STATEMENTS[what]).fetchall()
        finally:
            writer.set_progress_handler(None)
        assert watcher.largest > 2 * BLOCK_BYTES, "nothing was spilled: the test proves nothing"
        assert not watcher.found
        connection.verify()
    assert sorted(path.name for path in tmp_path.iterdir() if path.stat().st_size) == ["a.db", "a.db-map"]


def test_an_older_form_of_a_block_put_back_is_refused():
    sealer = EphemeralSealer()
    old = sealer.seal(3, b"old")
    new = sealer.seal(3, b"new")
    assert sealer.open(3, new) == b"new"
    for number, sealed in ((3, old), (4, new), (3, new[:-1]), (3, b"")):
        with pytest.raises((Tampered, KeyError)):
            sealer.open(number, sealed)


def test_a_changed_temporary_file_stops_the_statement(tmp_path, little_memory):
    file = TemporaryFile(tmp_path)
    file.xWrite(b"a" * 10 * BLOCK_BYTES, 0)
    assert file._disk is not None
    file._disk.seek(5)
    file._disk.write(b"!")
    with pytest.raises(apsw.CorruptError):
        file.xRead(10, 0)
    file.xClose()


def test_no_room_for_a_temporary_file_is_the_engines_own_error(tmp_path, little_memory):
    file = TemporaryFile(tmp_path / "nowhere")
    with pytest.raises(apsw.FullError):
        file.xWrite(b"a" * 10 * BLOCK_BYTES, 0)
    file.xClose()


def test_what_was_cut_off_on_the_disk_comes_back_as_zeros(tmp_path, little_memory):
    file = TemporaryFile(tmp_path)
    file.xWrite(b"a" * 6 * BLOCK_BYTES, 0)
    file.xTruncate(9 * BLOCK_BYTES)  # longer than it is: nothing to cut
    file.xTruncate(2 * BLOCK_BYTES + 10)
    file.xWrite(b"b", 6 * BLOCK_BYTES)
    assert file.xRead(BLOCK_BYTES, 3 * BLOCK_BYTES) == bytes(BLOCK_BYTES)
    assert file.xRead(12, 2 * BLOCK_BYTES) == b"a" * 10 + bytes(2)
    file.xTruncate(0)
    assert file.xRead(1, 0) == b""
    file.xClose()


def fill_beyond(folder: str, most_bytes: int) -> str:
    """For a child that may write files of so many bytes: how a longer temporary file ends."""
    import resource

    temporary.MEMORY_MAX_BYTES = BLOCK_BYTES
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))
    file = TemporaryFile(Path(folder))
    try:
        file.xWrite(b"a" * 10 * BLOCK_BYTES, 0)
    except apsw.FullError as exc:
        return str(exc)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return "written"


def test_a_block_that_is_written_in_part_is_no_room(tmp_path):
    assert "no room" in run(fill_beyond, str(tmp_path), BLOCK_BYTES * 3 // 2).value
