"""The hot tier's engine: what can happen to its folder and its processes is healed, or a typed error, never a crash."""

import contextlib
import os
import random
import resource
import shutil
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from aico.data.lmdb import SealedStore, environment, occupancy
from aico.errors import AicoError, DiskFull, StorageError
from aico.security.keys import ValueKey
from aico.testing import FixedClock
from tests import children

TABLE = "things"
KEY = ValueKey(bytes(range(32)))
MIB = 1 << 20
DAY_S = 86_400.0


def opened(folder, *, limit=8 * MIB, clock=None, key=KEY):
    return SealedStore(
        Path(folder),
        lambda: {1: key},
        newest=lambda: 1,
        tables=(TABLE, "others"),
        clock=clock or FixedClock(),
        size_limit_bytes=limit,
    )


@contextlib.contextmanager
def store_in(folder, **options):
    store = opened(folder, **options)
    try:
        yield store
    finally:
        store.close()


def put(store, number, value=b"value", *, ttl_s=DAY_S):
    store.write(lambda found: found.put(TABLE, found.key(("thing", number)), value, ttl_s=ttl_s))


def get(store, number):
    return store.read(lambda found: found.get(TABLE, found.key(("thing", number))))


def key_of(store, place, sequence=0):
    return store.read(lambda found: found.key(place, sequence))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "lmdb"


def filled(folder, count=200):
    with store_in(folder) as store:
        for number in range(count):
            put(store, number, b"value %d" % number)


def test_what_was_kept_is_there_when_it_is_opened_again(folder):
    filled(folder, 3)
    with store_in(folder) as store:
        assert [get(store, number) for number in range(4)] == [b"value 0", b"value 1", b"value 2", None]


def test_an_expired_value_is_invisible_at_once_and_swept_later(folder):
    clock = FixedClock()
    with store_in(folder, clock=clock) as store:
        for number in range(150):
            put(store, number, ttl_s=60 if number % 2 else 3600)
        clock.move(timedelta(seconds=60))
        assert [get(store, number) for number in range(4)] == [b"value", None, b"value", None]
        for _ in range(5):
            store.sweep()
        clock.move(timedelta(seconds=-60))
        assert len(store.read(lambda found: list(found.values(TABLE)))) == 75


def test_a_value_opens_in_its_own_place_only(folder):
    with store_in(folder) as store:
        put(store, 1)
        here, there = key_of(store, ("thing", 1)), key_of(store, ("thing", 2))

        def move(found):
            sealed = found._transaction.get(here, db=found._tables[TABLE])
            found._transaction.put(there, sealed, db=found._tables[TABLE])
            found._transaction.put(here, sealed, db=found._tables["others"])

        store.write(move)
        assert get(store, 2) is None
        assert store.read(lambda found: found.get("others", here)) is None
        assert get(store, 1) == b"value"


def test_keys_have_one_length_and_tell_no_order(folder):
    with store_in(folder) as store, store_in(folder.with_name("other"), key=ValueKey(bytes(32))) as other:
        keys = [key_of(store, (name,)) for name in ("a", "b", "a very long name " * 50)]
        assert {len(key) for key in keys} == {24}
        assert len({key[:16] for key in keys}) == 3
        assert key_of(other, ("a",)) != keys[0]


def test_a_folder_of_another_vault_is_begun_anew(folder):
    filled(folder)
    with store_in(folder, key=ValueKey(bytes(32))) as store:
        assert get(store, 1) is None
        put(store, 1)
        assert get(store, 1) == b"value"


@pytest.mark.parametrize("name", ["data.mdb", "seal"])
def test_a_flipped_bit_at_rest_empties_it_and_lmdb_never_maps_the_file(folder, name):
    draw = random.Random(7)
    for _ in range(8):
        filled(folder, 50)
        content = bytearray((folder / name).read_bytes())
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        (folder / name).write_bytes(content)
        with store_in(folder) as store:
            assert get(store, 1) is None
            put(store, 1)


def test_any_lock_file_is_made_anew(folder):
    for content in (b"", b"\xff" * 8192, random.Random(7).randbytes(40_000)):
        filled(folder, 50)
        (folder / "lock.mdb").write_bytes(content)
        with store_in(folder) as store:
            assert get(store, 1) == b"value 1"


@pytest.mark.parametrize("damage", ["cut", "longer", "empty", "symlink", "folder", "pipe", "unreadable seal"])
def test_a_file_that_is_not_ours_is_replaced(folder, tmp_path, damage):
    filled(folder, 50)
    data = folder / "data.mdb"
    elsewhere = tmp_path / "elsewhere"
    if damage == "cut":
        os.truncate(data, 4096)
    elif damage == "longer":
        os.truncate(data, data.stat().st_size + 4096)
    elif damage == "empty":
        data.write_bytes(b"")
    elif damage == "symlink":
        shutil.copy(data, elsewhere)
        data.unlink()
        data.symlink_to(elsewhere)
    elif damage == "folder":
        data.unlink()
        data.mkdir()
    elif damage == "pipe":  # opening one waits for who writes into it
        data.unlink()
        os.mkfifo(data)
    else:
        (folder / "seal").unlink()
        (folder / "seal").mkdir()
    with store_in(folder) as store:
        if damage in ("folder", "unreadable seal"):
            with pytest.raises(StorageError, match="truth answers"):
                get(store, 1)
        else:
            assert get(store, 1) is None
            put(store, 1)
    if damage == "symlink":
        assert elsewhere.exists() and not data.is_symlink()


def test_a_killed_process_leaves_nothing_that_is_trusted(folder):
    with children.started(fill_and_wait, folder) as child:
        assert child.line() == "ready"
        child.kill()
    with store_in(folder) as store:
        assert get(store, 1) is None


def fill_and_wait(folder):
    store = opened(folder)
    for number in range(10):
        put(store, number, b"value %d" % number)
    print("ready", flush=True)
    time.sleep(children.PATIENCE_S)


def test_a_writer_killed_inside_its_transaction_holds_nobody_up(folder):
    with store_in(folder) as store:
        put(store, 1, b"mine")
        with children.started(die_while_writing, folder) as child:
            assert child.end().status == -9
        assert get(store, 1) == b"mine"
        put(store, 1, b"after")
        assert get(store, 1) == b"after"


def die_while_writing(folder):
    store = opened(folder)

    def work(found):
        found.put(TABLE, found.key(("thing", 1)), b"torn", ttl_s=60)
        os.kill(os.getpid(), 9)

    store.write(work)


def test_a_reader_killed_while_reading_keeps_no_pages(folder, monkeypatch):
    monkeypatch.setattr(environment, "CHECK_READERS_EVERY", 10)
    with store_in(folder) as store:
        put(store, 1, b"x" * 4096)
        for _ in range(2):
            with children.started(die_while_reading, folder) as child:
                assert child.end().status == -9
        for _ in range(400):
            put(store, 1, b"x" * 4096)
        assert (folder / "data.mdb").stat().st_size < MIB


def die_while_reading(folder):
    opened(folder).read(lambda _found: os.kill(os.getpid(), 9))


@pytest.mark.parametrize("what", ["folder", "file", "cut", "swapped"])
def test_what_is_taken_away_under_a_running_process_is_healed(folder, tmp_path, what):
    with store_in(folder) as store, children.started(answer, folder) as child:
        put(store, 1)
        child.tell("look")
        assert child.line() == "b'value'"
        if what == "folder":
            shutil.rmtree(folder)
        elif what == "file":
            (folder / "data.mdb").unlink()
        elif what == "cut":
            os.truncate(folder / "data.mdb", 8192)
        else:
            (tmp_path / "evil").write_bytes(random.Random(7).randbytes(MIB))
            (tmp_path / "evil").replace(folder / "data.mdb")
        assert get(store, 1) is None
        put(store, 1, b"again")
        child.tell("look")
        assert child.line() in ("None", "b'again'")  # it may come to a folder of its own
        child.tell("put")
        assert child.line() == "put"
        assert get(store, 1) in (None, b"again", b"theirs")
        put(store, 1, b"third")
        assert get(store, 1) == b"third"
        child.tell("end")
        assert child.end().error is None


def answer(folder):
    with store_in(folder) as store:
        for line in sys.stdin:
            if line.strip() == "end":
                return
            if line.strip() == "put":
                put(store, 1, b"theirs")
                print("put", flush=True)
            else:
                print(get(store, 1), flush=True)


def test_clearing_reaches_every_process_and_leaves_no_old_page(folder):
    with store_in(folder) as store, children.started(answer, folder) as child:
        put(store, 1)
        old = os.open(folder / "gate", os.O_RDONLY)
        child.tell("look")
        assert child.line() == "b'value'"
        store.clear()
        assert not (folder / "data.mdb").exists()
        child.tell("look")
        assert child.line() == "None"
        assert get(store, 1) is None
        child.tell("put")
        assert child.line() == "put"
        assert get(store, 1) == b"theirs"
        os.close(old)


def test_the_map_grows_while_other_processes_have_it_open(folder):
    with store_in(folder, limit=64 * MIB) as store, children.started(answer, folder) as child:
        put(store, 1)
        child.tell("look")
        assert child.line() == "b'value'"
        for number in range(2, 600):
            put(store, number, b"x" * 8000)
        assert (folder / "data.mdb").stat().st_size > 4 * environment.MAP_START_BYTES
        child.tell("put")
        assert child.line() == "put"
        assert get(store, 1) == b"theirs"
        assert get(store, 2) == b"x" * 8000


def test_what_was_unused_for_longest_makes_room(folder):
    clock = FixedClock()
    with store_in(folder, limit=2 * MIB, clock=clock) as store:
        kept = [key_of(store, (f"conversation {number}",)) for number in range(1000)]
        for number, key in enumerate(kept):
            clock.move(timedelta(minutes=2))
            store.touch(kept[0][:16])
            store.write(lambda found, key=key: found.put(TABLE, key, b"x" * 8000, ttl_s=1e9))
            assert store.read(lambda found, key=key: found.get(TABLE, key)) == b"x" * 8000
        held = [store.read(lambda found, key=key: found.get(TABLE, key)) is not None for key in kept]
        assert held[0], "it was read all the time"
        newest = held.index(True, 1)
        assert 800 < newest < 950
        assert all(held[newest:]), "the others went in the order of their last use"
        assert store.file_bytes <= 2 * MIB


def test_a_place_larger_than_the_store_empties_it_and_goes_on(folder):
    with store_in(folder, limit=2 * MIB) as store:
        keys = [key_of(store, ("one place",), number) for number in range(1000)]
        for key in keys:
            store.write(lambda found, key=key: found.put(TABLE, key, b"x" * 8000, ttl_s=DAY_S))
            assert store.read(lambda found, key=key: found.get(TABLE, key)) == b"x" * 8000
        assert store.read(lambda found: found.get(TABLE, keys[0])) is None
        assert (folder / "data.mdb").stat().st_size <= 2 * MIB
        with pytest.raises(DiskFull, match="does not fit"):
            put(store, 1, b"x" * 3 * MIB)
        put(store, 1)


def test_no_room_on_the_disk_is_a_typed_error(folder):
    done = children.run(fill_a_small_disk, folder)
    assert done.error is None, done
    assert done.value in ("DiskFull", "StorageError")
    with store_in(folder) as store:
        put(store, 1)
        assert get(store, 1) == b"value"


def fill_a_small_disk(folder):
    with store_in(folder, limit=64 * MIB) as store:
        put(store, 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        try:
            for number in range(1000):
                put(store, number, b"x" * 8000)
        except AicoError as exc:
            return type(exc).__name__


def test_two_stores_on_one_folder_in_one_process_share_one_map(folder):
    with store_in(folder) as first:
        with store_in(folder) as second:
            put(first, 1)
            assert get(second, 1) == b"value"
        put(first, 2)
        assert get(first, 2) == b"value"
    with store_in(folder) as third:
        assert get(third, 2) == b"value"


def test_a_closed_store_says_so(folder):
    store = opened(folder)
    put(store, 1)
    store.close()
    store.close()
    with pytest.raises(StorageError, match="closed"):
        get(store, 1)


def test_a_forked_child_is_refused_and_the_parent_goes_on(folder):
    """LMDB allows an environment once in a process, and a child inherits it: there it can be neither used nor closed."""
    with store_in(folder) as store:
        put(store, 1)
        child = os.fork()
        if child == 0:
            refused = 0
            for attempt in (lambda: get(store, 1), lambda: put(opened(folder), 2)):
                try:
                    attempt()
                except StorageError:
                    refused += 1
            store.close()
            os._exit(0 if refused == 2 else 1)
        assert os.waitpid(child, 0)[1] == 0
        put(store, 2)
        assert get(store, 1) == b"value"
    with store_in(folder) as store:  # the child kept no lock: the parent was the last to leave
        assert get(store, 2) == b"value"


def test_a_gate_that_is_kept_makes_nobody_wait_for_long(folder, monkeypatch):
    monkeypatch.setattr(occupancy, "GATE_WAIT_S", 0.05)
    with children.started(keep_the_gate, folder) as child:
        assert child.line() == "ready"
        with store_in(folder) as store:
            with pytest.raises(StorageError, match="gate"):
                put(store, 1)
            with pytest.raises(StorageError, match="gate"):  # and not tried again for a while
                put(store, 1)
            assert "gate" in store.trouble


def keep_the_gate(folder):
    place = occupancy.Occupancy(Path(folder), opened(folder)._sealer)
    with place._at_the_gate():
        print("ready", flush=True)
        time.sleep(children.PATIENCE_S)


def test_threads_share_it_while_it_grows(folder):
    with store_in(folder, limit=32 * MIB) as store:
        failures = []

        def work(thread):
            try:
                for number in range(100):
                    put(store, (thread * 1000) + number, b"x" * 4000)
                    assert get(store, (thread * 1000) + number) == b"x" * 4000
            except BaseException as exc:
                failures.append(exc)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []


def write_for_a_while(folder, seed, count):
    draw = random.Random(seed)
    with store_in(folder, limit=16 * MIB) as store:
        for number in range(count):
            put(store, draw.randrange(1000), b"%d" % seed + b"x" * draw.randrange(3000))
            if number % 50 == 0:
                store.read(lambda found: sum(1 for _ in found.values(TABLE)))
            if number % 400 == 399 and seed == 1:
                store.clear()


@pytest.mark.slow
def test_a_storm_of_processes_that_grow_clear_and_are_killed(folder):
    for round_ in range(2):
        with contextlib.ExitStack() as stack:
            storm = [stack.enter_context(children.started(write_for_a_while, folder, n, 450)) for n in range(3)]
            victim = stack.enter_context(children.started(write_for_a_while, folder, 9, 100_000))
            time.sleep(0.3 + round_ * 0.2)
            victim.kill()
            for child in storm:
                done = child.end()
                assert (done.status, done.error) == (0, None), done
    with store_in(folder) as store:
        put(store, 1)
        assert get(store, 1) == b"value"
