"""Killed or without power at every single write of database, log and page map: it opens, and nothing acknowledged is lost.

A recorder notes each write, sync, cut and deletion in the order they reach the disk. From that every state is made in
which a crash could leave the files: all writes up to a moment (a kill), or all that were synced and any of the others,
whole or torn (a power loss). Each state is opened, read to its end, written to and verified.
"""

import os
import random
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import pytest

from aico.data.libsql.sealed import page_map
from aico.data.libsql.sealed import vfs as sealed_vfs
from aico.data.libsql.sealed.page_map import PageMap
from aico.data.libsql.sealed.vfs import SealedVFS
from tests.data.libsql.cases import KEY, OTHER_KEY, add_rows, copy_beside_a_reader, count_if_right, make, sealed

DATABASE, LOG, MAP = "aico.db", "aico.db-wal", "aico.db-map"
ROWS = 12


@dataclass
class Recording:
    """What happened to the files: (what, file's name, …), in order, and where counts of rows were acknowledged."""

    steps: list[tuple] = field(default_factory=list)
    counts: list[tuple[int, int]] = field(default_factory=list)
    running: bool = False

    def note(self, *step) -> None:
        if self.running:
            self.steps.append(step)

    def acknowledged(self, count: int) -> None:
        self.counts.append((len(self.steps), count))


@pytest.fixture(scope="module")
def recording():
    """Everything between SQLite and the disk is noted while `recording.running`."""
    noted = Recording()

    class Recorded(apsw.VFSFile):
        def __init__(self, base, name, flags):
            super().__init__(base, name, flags)
            self._noted_as = Path(name.filename() if isinstance(name, apsw.URIFilename) else name).name

        def xWrite(self, data, offset):
            noted.note("write", self._noted_as, offset, bytes(data))
            super().xWrite(data, offset)

        def xTruncate(self, newsize):
            noted.note("cut", self._noted_as, newsize)
            super().xTruncate(newsize)

        def xSync(self, flags):
            super().xSync(flags)
            noted.note("sync", self._noted_as)

    def delete(vfs, filename, syncdir):
        real_delete(vfs, filename, syncdir)
        noted.note("delete", Path(filename).name)

    def write_map(file, content, offset):
        noted.note("write", MAP, offset, bytes(content))
        real_write(file, content, offset)

    def sync_map(file):
        real_sync(file)
        noted.note("sync", MAP)

    def write_map_anew(the_map):
        real_anew(the_map)
        noted.note("replace", MAP, the_map._path.read_bytes())

    real_delete, real_write, real_sync, real_anew = (
        SealedVFS.xDelete, page_map._write_whole, os.fdatasync, PageMap._write_anew,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for kind in (sealed_vfs.PageFile, sealed_vfs.WalFile):  # their super() finds the recorder before APSW's file
            patch.setattr(sealed_vfs, kind.__name__, type(kind.__name__, (kind, Recorded), {}))
        patch.setattr(SealedVFS, "xDelete", delete)
        patch.setattr(page_map, "_write_whole", write_map)
        patch.setattr(os, "fdatasync", sync_map)
        patch.setattr(PageMap, "_write_anew", write_map_anew)
        yield noted


def work(path: Path, noted: Recording) -> None:
    """Every kind of checkpoint, of log and of ending; the count of rows is told after each commit."""
    count = ROWS
    noted.acknowledged(count)

    def add(connection, more: int) -> None:
        nonlocal count
        for _ in range(more):
            add_rows(connection, range(count, count + 1))
            count += 1
            noted.acknowledged(count)

    with sealed(path, page_cache_kib=40) as connection:
        writer = connection._writing.connection
        add(connection, 2)
        copy_beside_a_reader(connection, tell=noted.acknowledged)
        add(connection, 2)
        writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        add(connection, 2)  # begins the log anew, in the same file
        with pytest.raises(KeyError), connection.transaction():
            connection.execute_many("INSERT INTO rows VALUES (?, 'never')", ((n,) for n in range(10_000, 11_000)))
            raise KeyError
        writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        with pytest.raises(KeyError), connection.transaction():  # spills into a log that has no commit
            connection.execute_many("INSERT INTO rows VALUES (?, 'never')", ((n,) for n in range(10_000, 11_000)))
            raise KeyError
        add(connection, 1)
        assert connection.clear_log()
        add(connection, 1)
        connection.execute("VACUUM")
        add(connection, 1)
    with sealed(path) as connection:
        add(connection, 1)


def state(before: dict[str, bytes], steps: list[tuple], chance: random.Random | None) -> dict[str, bytes]:
    """The files after these steps: after a kill, or without some of what was not synced if `chance` chooses."""
    files = {name: bytearray(content) for name, content in before.items()}
    for at, step in enumerate(steps):
        what, name = step[:2]
        content = files.setdefault(name, bytearray())
        if chance and what != "replace" and not synced_later(steps, at) and chance.random() < 0.4:
            if what == "write" and chance.random() < 0.3:  # torn: only the first sector arrived
                put(content, step[2], step[3][:512])
            continue
        if what == "write":
            put(content, step[2], step[3])
        elif what == "cut":
            del content[step[2] :]
        elif what == "delete":
            del files[name]
        elif what == "replace":
            files[name] = bytearray(step[2])
    return {name: bytes(content) for name, content in files.items()}


def put(content: bytearray, offset: int, data: bytes) -> None:
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


def synced_later(steps: list[tuple], at: int) -> bool:
    """Whether this step is on the disk for good: its file was synced since, or made anew, or replaced."""
    what, name = steps[at][:2]
    later = (step for step in steps[at + 1 :] if step[1] == name)
    return what == "sync" or any(step[0] in ("sync", "replace") or what == "delete" for step in later)


def examine(folder: Path, files: dict[str, bytes], keys: tuple[bytes, ...] = (KEY,)) -> int:
    """How many rows the database of this state has; it must take one more and be whole."""
    for name in ("", "-wal", "-map", "-shm"):
        (folder / f"{DATABASE}{name}").unlink(missing_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    refused = []
    for key in keys:
        try:
            with sealed(folder / DATABASE, key, create=False) as connection:
                count = count_if_right(connection)
                add_rows(connection, range(count, count + 1))
                connection.verify()
            with sealed(folder / DATABASE, key, create=False) as connection:
                assert count_if_right(connection) == count + 1
            return count
        except Exception as exc:
            refused.append(exc)
    raise ExceptionGroup("no key opens it", refused)


def recorded(folder: Path, noted: Recording, work) -> dict[str, bytes]:
    """The files before `work`, which is noted."""
    make(folder / DATABASE, ROWS)
    before = {name: (folder / name).read_bytes() for name in (DATABASE, MAP)}
    noted.steps, noted.counts, noted.running = [], [], True
    try:
        work(folder / DATABASE, noted)
    finally:
        noted.running = False
    return before


def allowed(noted: Recording, step: int) -> set[int]:
    """What was acknowledged last, or the commit that was under way."""
    done = [count for at, count in noted.counts if at <= step]
    coming = [count for at, count in noted.counts if at > step]
    return {done[-1], *coming[:1]}


def try_every_state(tmp_path: Path, noted: Recording, work, *, losses: int, every: int = 1, keys=(KEY,)) -> int:
    (tmp_path / "made").mkdir()
    (tmp_path / "crashed").mkdir()
    before = recorded(tmp_path / "made", noted, work)
    tried = 0
    for step in range(0, len(noted.steps) + 1, every):
        for seed in range(losses + 1):
            chance = random.Random(f"{step} {seed}") if seed else None
            try:
                found = examine(tmp_path / "crashed", state(before, noted.steps[:step], chance), keys)
            except Exception as exc:
                raise AssertionError(f"step {step} {noted.steps[step - 1][:2]}, loss {seed}: {exc!r}") from exc
            assert found in allowed(noted, step), f"step {step}, loss {seed}: {found} of {allowed(noted, step)}"
            tried += 1
    return tried


def test_a_kill_or_a_power_loss_at_any_write_loses_nothing_and_locks_nobody_out(tmp_path, recording):
    assert try_every_state(tmp_path, recording, work, losses=1, every=3) > 100


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_power_losses_at_every_write_lose_nothing_and_lock_nobody_out(tmp_path, recording):
    assert try_every_state(tmp_path, recording, work, losses=12) > 1900


def change_key(path: Path, noted: Recording) -> None:
    """A checkpoint of which the map is written anew, and a change of keys."""
    noted.acknowledged(ROWS)
    with sealed(path) as connection:
        connection._vfs.rewrite_map(path)
        connection.rekey(OTHER_KEY)


def test_a_change_of_keys_killed_at_any_write_leaves_one_key_that_opens_everything(tmp_path, recording):
    assert try_every_state(tmp_path, recording, change_key, losses=2, keys=(KEY, OTHER_KEY)) > 60


def test_a_map_that_is_written_anew_at_every_checkpoint_is_as_safe(tmp_path, recording, monkeypatch):
    monkeypatch.setattr(page_map, "_RECORDS_MAX_BYTES", 0)
    assert try_every_state(tmp_path, recording, work, losses=1, every=5) > 60
