"""Backups: whole, consistent, sealed, and never in anybody's way."""

import errno
import os
import random
import threading
from datetime import timedelta
from pathlib import Path

import pytest

import aico
from aico import backup
from aico.backup import CHAIN_MAX, SUFFIX, ForgottenPruned
from aico.backup.file import Head, Keys
from aico.data.audit_log import Action
from aico.data.libsql.sealed.page_cipher import DatabaseKeys
from aico.data.libsql.sealed.page_copies import PageCopy
from aico.errors import (
    AicoError,
    DiskFull,
    FormatTooNew,
    InvalidInput,
    NotFound,
    StorageError,
    Tampered,
    WrongPassphrase,
)
from aico.security.keys import DatabaseKey
from aico.testing import PASSPHRASE, FixedClock, cheap_settings
from tests.children import run

SECRET_TEXT = "the cormorant nests behind the lighthouse"


def open_in(folder: Path, passphrase: str = PASSPHRASE, clock: FixedClock | None = None) -> aico.Vault:
    return aico.open(folder, passphrase=passphrase, settings=cheap_settings(clock=clock))


def fill(vault: aico.Vault, count: int = 300, first: int = 0) -> None:
    vault.memory.record_many(
        "mia",
        [
            aico.Message(f"turn {n} of many about {SECRET_TEXT}", conversation="c", source_id=str(n))
            for n in range(first, first + count)
        ],
    )


def texts_in(folder: Path, passphrase: str = PASSPHRASE) -> list[str]:
    with open_in(folder, passphrase) as vault:
        vault.connection.verify()
        return [moment.text for moment in vault.memory.recent("mia", "c", limit=10_000)]


@pytest.fixture
def vault(tmp_path):
    clock = FixedClock()
    with open_in(tmp_path / "vault", clock=clock) as opened:
        opened.clock = clock
        fill(opened)
        yield opened


def test_a_restored_vault_holds_what_was_committed_when_the_backup_was_made(vault, tmp_path):
    made = vault.backups.create()
    vault.memory.record("mia", "said afterwards", conversation="c")
    assert aico.restore(made.path, tmp_path / "restored", passphrase=PASSPHRASE).id == made.id
    assert len(texts_in(tmp_path / "restored")) == 300
    assert (tmp_path / "restored").stat().st_mode & 0o077 == 0


def test_the_next_backup_holds_only_what_changed(vault, tmp_path):
    first = vault.backups.create()
    vault.clock.move(timedelta(hours=1))
    vault.memory.record("mia", "one more", conversation="c")
    second = vault.backups.create()
    assert (first.parent, second.parent) == (None, first.id)
    assert second.stored_pages < first.stored_pages / 2
    aico.restore(second.path, tmp_path / "restored", passphrase=PASSPHRASE)
    assert texts_in(tmp_path / "restored")[-1] == "one more"


def test_a_database_that_shrank_is_restored_at_its_size(vault, tmp_path):
    for number in range(200):
        vault.logs.insert_log(level="INFO", message=f"{number} {'long ' * 100}")
    large = vault.backups.create()
    vault.clock.move(timedelta(hours=1))
    vault.connection.execute("DELETE FROM logs")
    vault.connection.execute("VACUUM")
    small = vault.backups.create()
    assert small.parent == large.id and small.pages < large.pages
    aico.restore(small.path, tmp_path / "restored", passphrase=PASSPHRASE)
    assert len(texts_in(tmp_path / "restored")) == 300


def test_a_full_backup_stands_alone(vault, tmp_path):
    vault.backups.create()
    alone = vault.backups.create(tmp_path / "elsewhere")
    full = vault.backups.create(full=True)
    assert alone.parent is full.parent is None
    assert alone.stored_pages == full.pages


def test_a_chain_ends_with_a_new_full_backup(vault):
    for _ in range(CHAIN_MAX + 2):
        vault.clock.move(timedelta(minutes=1))
        vault.backups.create()
    parents = [info.parent for info in vault.backups.list()]
    assert [place for place, parent in enumerate(parents) if parent is None] == [0, CHAIN_MAX + 1]
    assert vault.backups.verify(vault.backups.list()[CHAIN_MAX].path)


def test_a_backup_opens_with_the_secrets_of_its_day(vault, tmp_path):
    phrase = vault.keys.add_recovery_phrase()
    made = vault.backups.create()
    vault.keys.change_passphrase(PASSPHRASE, "of a later day")
    aico.restore(made.path, tmp_path / "by passphrase", passphrase=PASSPHRASE)
    aico.restore(made.path, tmp_path / "by phrase", passphrase=phrase)
    with pytest.raises(WrongPassphrase):
        aico.restore(made.path, tmp_path / "by a later one", passphrase="of a later day")
    assert not (tmp_path / "by a later one").exists()


def test_a_restore_never_overwrites(vault, tmp_path):
    made = vault.backups.create()
    (tmp_path / "there").mkdir()
    for place in (vault.folder, tmp_path / "there"):
        with pytest.raises(InvalidInput):
            aico.restore(made.path, place, passphrase=PASSPHRASE)
    assert list((tmp_path / "there").iterdir()) == []


def test_nothing_readable_lies_in_a_backup(vault):
    made = vault.backups.create()
    raw = made.path.read_bytes()
    for needle in (SECRET_TEXT.encode(), b"cormorant", b"SQLite format 3"):
        assert needle not in raw
    assert not vault.audit([SECRET_TEXT]).leaks
    assert made.path.stat().st_mode & 0o077 == 0


def test_a_backup_made_while_others_write_is_consistent(vault, tmp_path):
    done = threading.Event()

    def write() -> None:
        batch = 1
        while not done.is_set():
            fill(vault, 100, batch * 1000)
            batch += 1

    writer = threading.Thread(target=write)
    writer.start()
    made = [vault.backups.create(full=number == 0) for number in range(6)]
    done.set()
    writer.join()
    for number, info in enumerate(made):
        aico.restore(info.path, tmp_path / str(number), passphrase=PASSPHRASE)
        assert len(texts_in(tmp_path / str(number))) % 100 == 0


def test_an_empty_name_is_not_the_current_folder(vault, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in (vault.backups.create, vault.backups.list, vault.backups.prune_forgotten):
        with pytest.raises(InvalidInput):
            call("")
    assert not list(tmp_path.glob(f"*{SUFFIX}"))


def test_a_missing_link_is_named_and_nothing_restored(vault, tmp_path):
    first = vault.backups.create()
    vault.clock.move(timedelta(hours=1))
    fill(vault, 5, 5000)
    second = vault.backups.create()
    first.path.unlink()
    with pytest.raises(NotFound):
        vault.backups.verify(second.path)
    with pytest.raises(NotFound):
        aico.restore(second.path, tmp_path / "restored", passphrase=PASSPHRASE)
    assert not (tmp_path / "restored").exists()
    assert vault.backups.create(full=True)


def test_prune_keeps_the_newest_and_what_they_build_on(vault):
    made = []
    for number in range(6):
        vault.clock.move(timedelta(hours=1))
        fill(vault, 5, 1000 * (number + 1))
        made.append(vault.backups.create(full=number in (0, 3)))
    assert [info.id for info in vault.backups.prune(2)] == [info.id for info in made[:3]]
    assert vault.backups.prune(2) == []
    assert all(vault.backups.verify(info.path) for info in vault.backups.list())
    for keep in (0, -1, "2", True):
        with pytest.raises(InvalidInput):
            vault.backups.prune(keep)


def test_backups_of_another_vault_in_the_same_folder_are_left_alone(vault, tmp_path):
    with open_in(tmp_path / "other") as other:
        theirs = other.backups.create(tmp_path / "shared")
        ours = vault.backups.create(tmp_path / "shared")
        assert ours.parent is None
        assert [info.id for info in vault.backups.list(tmp_path / "shared")] == [ours.id]
        with pytest.raises(Tampered):
            vault.backups.verify(theirs.path)
        vault.backups.prune(1, tmp_path / "shared")
        assert theirs.path.exists()


def damages(raw: bytes) -> list[bytes]:
    """The attack: change a bit anywhere, cut it anywhere, put something behind it."""
    chance = random.Random(7)
    places = [chance.randrange(len(raw)) for _ in range(60)] + list(range(20)) + [len(raw) - 1]
    flipped = [raw[:at] + bytes([raw[at] ^ 1 << chance.randrange(8)]) + raw[at + 1 :] for at in places]
    cut = [raw[: chance.randrange(len(raw))] for _ in range(20)]
    return [*flipped, *cut, b"", raw + b"\0", raw + raw]


def test_a_changed_byte_is_refused_and_nothing_restored(vault, tmp_path):
    made = vault.backups.create()
    raw = made.path.read_bytes()
    for number, bad in enumerate(damages(raw)):
        file = tmp_path / f"{number}{SUFFIX}"
        file.write_bytes(bad)
        with pytest.raises((Tampered, FormatTooNew, WrongPassphrase)):
            aico.restore(file, tmp_path / "restored", passphrase=PASSPHRASE)
        assert not (tmp_path / "restored").exists()
    assert not list(tmp_path.glob("*.new-*"))


def test_another_vaults_vault_json_in_front_does_not_open_the_stream(vault, tmp_path):
    """The attack: put a vault.json with a known passphrase in front of somebody's sealed stream."""
    with open_in(tmp_path / "mine", "known to me") as mine:
        raw_mine = mine.backups.create().path.read_bytes()
    raw = vault.backups.create().path.read_bytes()
    size, size_mine = (int.from_bytes(one[9:13], "big") for one in (raw, raw_mine))
    forged = tmp_path / f"forged{SUFFIX}"
    forged.write_bytes(raw_mine[: 13 + size_mine] + raw[13 + size :])
    with pytest.raises(Tampered):
        aico.restore(forged, tmp_path / "restored", passphrase="known to me")


def test_a_hostile_key_derivation_in_a_backup_is_refused_before_memory_is_taken(vault, tmp_path):
    made = vault.backups.create()
    raw = made.path.read_bytes()
    size = int.from_bytes(raw[9:13], "big")
    hostile = raw[13 : 13 + size].replace(b'"memory_kib": 64', b'"memory_kib": 4000000000')
    bad = tmp_path / f"bad{SUFFIX}"
    bad.write_bytes(raw[:9] + len(hostile).to_bytes(4, "big") + hostile + raw[13 + size :])
    with pytest.raises(Tampered):
        aico.restore(bad, tmp_path / "restored", passphrase=PASSPHRASE)


def backup_without_room(folder: str) -> str:
    import resource

    with open_in(Path(folder)) as vault:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))
        try:
            vault.backups.create()
            return "there was room"
        except StorageError:
            pass
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        left = [path.name for path in vault.backups.folder.iterdir()]
        vault.backups.create()
        return f"left: {left}"


def test_without_room_there_is_no_half_backup_and_it_works_again_with_room(vault, tmp_path):
    vault.close()
    done = run(backup_without_room, str(tmp_path / "vault"))
    assert done.error is None, done
    assert done.value == "left: []"


def test_what_is_no_backup_is_a_typed_error(vault, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("not a backup")
    for place in (tmp_path / "nowhere", tmp_path / "folder", tmp_path / "text"):
        with pytest.raises(AicoError):
            vault.backups.verify(place)
        with pytest.raises(AicoError):
            aico.restore(place, tmp_path / "restored", passphrase=PASSPHRASE)


def test_the_page_that_sqlite_never_writes_is_passed_over(tmp_path):
    keys = DatabaseKeys({1: DatabaseKey(b"k" * 32)})
    size, lock_page = 1 << 16, (1 << 30) // (1 << 16) + 1
    with PageCopy(tmp_path / "sparse.db", keys, create_with_page_size=size) as copy:
        copy.write(1, b"SQLite format 3\0" + b"\0\1" + bytes(size - 32 - 18))
        copy.write(lock_page + 1, b"x" * (size - 32))
        copy.write(lock_page, bytes(size - 32))
        assert copy.read(lock_page) == bytes(size - 32)
        assert copy.read(lock_page + 1) == b"x" * (size - 32)


def test_it_is_said_how_much_of_a_backup_was_forgotten_since(vault):
    made = vault.backups.create()
    assert vault.backups.forgotten_since(made) == 0
    vault.clock.move(timedelta(hours=1))
    gone = vault.memory.forget("mia", about="lighthouse")
    assert vault.backups.forgotten_since(made) == len(gone.messages) == 300


def test_a_backup_after_something_was_forgotten_stands_alone(vault):
    first = vault.backups.create()
    vault.clock.move(timedelta(hours=1))
    vault.memory.forget("mia", about="lighthouse")
    alone = vault.backups.create()
    vault.clock.move(timedelta(hours=1))
    assert (alone.parent, vault.backups.create().parent) == (None, alone.id)
    assert vault.backups.prune(2) == [first]


def test_an_erased_person_without_memories_is_still_in_the_backup(vault):
    vault.users.create_user("otto", full_name="Otto Lilienthal")
    made = vault.backups.create()
    vault.erase_user("otto")
    assert vault.backups.forgotten_since(made) == 1


def test_backups_that_hold_what_was_forgotten_go_once_a_full_one_is_there(vault, tmp_path):
    first = vault.backups.create()
    vault.clock.move(timedelta(hours=1))
    second = vault.backups.create()
    assert vault.backups.prune_forgotten() == ForgottenPruned([], None)
    vault.clock.move(timedelta(hours=1))
    vault.memory.forget("mia", about="lighthouse")
    pruned = vault.backups.prune_forgotten()
    assert pruned.deleted == [first, second]
    assert vault.backups.list() == [pruned.made]
    assert pruned.made.parent is None
    aico.restore(pruned.made.path, tmp_path / "restored", passphrase=PASSPHRASE)
    assert texts_in(tmp_path / "restored") == []
    assert vault.backups.prune_forgotten() == ForgottenPruned([], None)


def test_a_newer_backup_that_is_whole_spares_another_and_one_that_is_damaged_does_not(vault):
    first = vault.backups.create()
    vault.clock.move(timedelta(hours=1))
    vault.memory.forget("mia", about="lighthouse")
    newer = vault.backups.create()
    raw = bytearray(newer.path.read_bytes())
    raw[-40] ^= 1
    newer.path.write_bytes(raw)
    vault.clock.move(timedelta(hours=1))
    pruned = vault.backups.prune_forgotten()
    assert pruned.deleted == [first] and pruned.made is not None
    second = vault.memory.record("mia", "the heron", conversation="c")
    vault.backups.create()
    vault.memory.forget("mia", id=second)
    vault.clock.move(timedelta(hours=1))
    last = vault.backups.create()
    assert vault.backups.prune_forgotten().made is None
    assert vault.backups.list()[-1] == last


def test_a_backup_that_builds_on_one_with_something_forgotten_goes_with_it(vault, monkeypatch):
    first = vault.backups.create()
    vault.clock.move(timedelta(hours=1))
    vault.memory.forget("mia", about="lighthouse")
    with monkeypatch.context() as patch:  # as earlier releases made them
        patch.setattr(vault.backups, "_holding_forgotten", lambda found: set())
        onto = vault.backups.create()
    assert (onto.parent, vault.backups.forgotten_since(onto)) == (first.id, 0)
    vault.clock.move(timedelta(hours=1))
    pruned = vault.backups.prune_forgotten()
    assert pruned.deleted == [first, onto]
    assert vault.backups.list() == [pruned.made]


def test_without_room_for_a_new_backup_none_is_deleted(vault, monkeypatch):
    made = vault.backups.create()
    vault.memory.forget("mia", about="lighthouse")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(vault.backups._connection, "copy_pages_to", full)
    with pytest.raises(DiskFull):
        vault.backups.prune_forgotten()
    assert vault.backups.list() == [made]


def test_a_clock_that_was_set_back_hides_nothing_of_what_a_backup_still_holds(vault):
    vault.memory.remember("mia", "Mia keeps the lighthouse")
    before = vault.backups.create()
    vault.clock.move(timedelta(days=-30))
    gone = vault.memory.forget("mia", about="lighthouse")
    after = vault.backups.create()
    count = len(gone.messages) + len(gone.facts)
    assert [vault.backups.forgotten_since(made) for made in (before, after)] == [count, 0]


@pytest.mark.parametrize("planted", [b"AICObkup\x02", b"AICObkup\x01\x00\x00\x00\x01XAICOstrm\x02" + bytes(34), None])
def test_what_somebody_puts_among_the_backups_stops_neither_the_list_nor_the_next(vault, planted):
    first = vault.backups.create()
    place = first.path.with_name(f"zz{SUFFIX}")
    place.write_bytes(planted) if planted is not None else os.mkfifo(place)
    vault.clock.move(timedelta(hours=1))
    second = vault.backups.create()
    assert [one.id for one in vault.backups.list()] == [first.id, second.id]
    assert vault.backups.prune(1) == []
    with pytest.raises((FormatTooNew, Tampered)):
        vault.backups.verify(place)


def test_a_clock_that_was_set_back_does_not_make_the_newest_backup_the_oldest(vault, tmp_path):
    first = vault.backups.create()
    vault.clock.move(timedelta(days=-1))
    vault.memory.record("mia", "one more", conversation="c")
    second = vault.backups.create()
    assert [one.id for one in vault.backups.list()] == [first.id, second.id]
    assert vault.backups.prune(1) == []
    assert vault.backups.create().parent == second.id
    aico.restore(second.path, tmp_path / "restored", passphrase=PASSPHRASE)
    assert "one more" in texts_in(tmp_path / "restored")


def test_what_a_killed_backup_left_behind_is_gone_a_day_later_and_nothing_else(vault):
    folder = vault.backups.create().path.parent
    copy, inner = f".new-{'0' * 16}", f".new-{'1' * 16}.new-{'2' * 16}"
    killed = [
        copy,
        inner,
        *(f"{inner}-{end}" for end in ("wal", "shm", "map")),
        f"{copy}-map",
        f"2026{SUFFIX}.new-{'3' * 16}",
    ]
    others = ["diary.new-0000000000000000", ".new-diary", f".new-{'4' * 16}"]  # the last is being written now
    for name in (*killed, *others):
        (folder / name).touch()
        if name != others[-1]:
            os.utime(folder / name, (0, 0))
    vault.backups.create()
    assert {path.name for path in folder.iterdir() if ".new-" in path.name} == set(others)


def test_the_audit_log_names_the_backup_that_was_made_and_the_one_a_vault_came_from(vault, tmp_path):
    made = vault.backups.create()
    [entry] = vault.audit_log.entries(action=Action.BACKED_UP)
    assert (entry.subject_id, entry.counts) == (made.id, {"pages": made.pages, "after": 0})
    aico.restore(made.path, tmp_path / "restored", passphrase=PASSPHRASE)
    with open_in(tmp_path / "restored") as restored:
        assert [(entry.action, entry.subject_id) for entry in restored.audit_log.entries()] == [("restored", made.id)]
        assert restored.audit_log.verify().intact


def test_a_backup_whose_parent_is_pruned_while_it_is_made_stands_alone(vault, tmp_path):
    first = vault.backups.create()
    vault.clock.move(timedelta(hours=1))
    fill(vault, 50, 7000)
    made = vault.backups.create(on_progress=lambda done, total: first.path.unlink(missing_ok=True))
    assert made.parent is None
    assert [one.id for one in vault.backups.list()] == [made.id]
    aico.restore(made.path, tmp_path / "restored", passphrase=PASSPHRASE)
    assert len(texts_in(tmp_path / "restored")) == 350


def damage(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("harm", [Path.unlink, damage])
def test_a_backup_does_not_build_on_what_nothing_can_restore(vault, tmp_path, harm):
    first = vault.backups.create()
    fill(vault, 5, 5000)
    second = vault.backups.create()
    assert second.parent == first.id
    harm(first.path)
    fill(vault, 5, 6000)
    vault.clock.move(timedelta(hours=1))
    third = vault.backups.create()
    assert third.parent is None
    assert vault.backups.create().parent == third.id
    aico.restore(third.path, tmp_path / "restored", passphrase=PASSPHRASE)
    assert len(texts_in(tmp_path / "restored")) == 310


def test_a_backup_stands_alone_if_what_its_parent_builds_on_goes_while_it_is_made(vault):
    first = vault.backups.create()
    fill(vault, 5, 5000)
    second = vault.backups.create()
    fill(vault, 5, 6000)
    made = vault.backups.create(on_progress=lambda done, total: first.path.unlink(missing_ok=True))
    assert second.path.exists() and made.parent is None
    assert vault.backups.verify(made.path) == made


def test_a_backup_whose_chain_is_broken_is_named_and_does_not_count_as_one_to_keep(vault):
    full = vault.backups.create()
    vault.clock.move(timedelta(hours=1))
    base = vault.backups.create(full=True)
    fill(vault, 5, 5000)
    broken = vault.backups.create()
    base.path.unlink()
    assert [(one.id, one.missing) for one in vault.backups.list()] == [(full.id, None), (broken.id, base.id)]
    assert vault.backups.prune(1) == []
    vault.clock.move(timedelta(hours=1))
    made = vault.backups.create()
    assert made.parent is None
    assert {one.id for one in vault.backups.prune(1)} == {full.id, broken.id}


def test_what_a_backup_lacks_is_said_as_it_is(vault, tmp_path):
    base = vault.backups.create()
    fill(vault, 5, 5000)
    later, raw = vault.backups.create(), base.path.read_bytes()
    base.path.unlink()
    with pytest.raises(NotFound, match=f"{base.id}, which is not beside it"):
        aico.restore(later.path, tmp_path / "restored", passphrase=PASSPHRASE)
    base.path.write_bytes(raw[:-1])
    with pytest.raises(Tampered, match=f"{base.path.name}, which was changed or cut"):
        aico.restore(later.path, tmp_path / "restored", passphrase=PASSPHRASE)
    base.path.write_bytes(raw)
    assert vault.backups.verify(later.path) == later


def test_a_file_in_the_place_of_the_folder_is_a_typed_error(vault, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match="no backup was made"):
        vault.backups.create(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_backup_that_is_deleted_while_the_list_is_made_is_left_out(vault, monkeypatch):
    first, second = vault.backups.create(full=True), vault.backups.create(full=True)
    read_head = backup.read_head

    def deleted_behind(path: Path, keys: Keys) -> Head:
        head = read_head(path, keys)
        if path == first.path:
            path.unlink()
        return head

    monkeypatch.setattr(backup, "read_head", deleted_behind)
    assert vault.backups.list() == [second]


def test_a_clock_that_was_ahead_for_once_makes_no_newest_backup(vault):
    vault.clock.move(timedelta(days=3000))
    wrong = vault.backups.create(full=True)
    vault.clock.move(timedelta(days=-3000))
    made = []
    for _ in range(3):
        vault.clock.move(timedelta(days=1))
        made.append(vault.backups.create(full=True))
    assert vault.backups.list() == [wrong, *made]
    assert vault.backups.create().parent == made[-1].id
    assert vault.backups.prune(1) == [wrong, *made[:-1]]


def test_the_last_backup_stays_whatever_the_clock_of_another_copy_of_the_vault_said(vault, tmp_path):
    disk = tmp_path / "disk"
    common = vault.backups.create(disk)
    aico.restore(common.path, tmp_path / "copy", passphrase=PASSPHRASE)
    clock = FixedClock()
    clock.move(timedelta(days=3000))
    with open_in(tmp_path / "copy", clock=clock) as copy:
        theirs = [copy.backups.create(disk, full=True)]
        clock.move(timedelta(days=1))
        theirs.append(copy.backups.create(disk, full=True))
        assert copy.backups.list(disk)[-2:] == theirs
    ours = vault.backups.create(disk, full=True)
    vault.clock.move(timedelta(days=1))
    last = vault.backups.create(disk, full=True)
    assert vault.backups.list(disk) == [common, ours, last, *theirs]
    assert vault.backups.prune(1, disk) == [common, ours, theirs[0]]


def test_what_was_forgotten_since_the_backup_a_vault_came_from_is_told_though_its_clock_was_ahead(vault, tmp_path):
    vault.clock.move(timedelta(days=3000))
    made = vault.backups.create(tmp_path / "disk")
    aico.restore(made.path, tmp_path / "restored", passphrase=PASSPHRASE)
    with open_in(tmp_path / "restored", clock=FixedClock()) as restored:
        restored.memory.forget("mia", about="lighthouse")
        assert restored.backups.forgotten_since(made) == 300
        assert [one.id for one in restored.backups.prune_forgotten(tmp_path / "disk").deleted] == [made.id]
