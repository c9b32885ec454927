"""A vault whose root key is replaced: nothing is lost, everyone who has it open goes on, and the old key opens nothing."""

import json
import os
import shutil
import threading
from datetime import timedelta
from pathlib import Path

import keyring
import pytest
from keyring.backends.fail import Keyring as FailKeyring

import aico
from aico.data.libsql import EncryptedLibSQLConnection
from aico.data.libsql.sealed.page_cipher import DatabaseKeys
from aico.errors import (
    AicoError,
    Busy,
    InvalidInput,
    KeysRotated,
    NotFound,
    StorageError,
    Tampered,
    UnlockError,
    WrongPassphrase,
)
from aico.security.encrypted_file import EncryptedFile
from aico.security.envelope import Sealer
from aico.security.key_manager import AICOKeyManager
from aico.security.keys import Purpose
from aico.security.keyslots import VaultFile
from aico.testing import PASSPHRASE, FixedClock, cheap_settings, temporary_vault
from aico.vault import restore_vault
from tests.children import run, started
from tests.crash.test_disk import become_nobody, opened_by_a_stranger, public_folder, small_disk
from tests.data.libsql.cases import files_of
from tests.security.test_keyring import MemoryKeyring

__all__ = ["public_folder"]  # a fixture
SECOND = "of the second person"


def opened(folder, secret: str | None = PASSPHRASE, **settings) -> aico.Vault:
    return aico.open(folder, passphrase=secret, settings=cheap_settings(**settings))


@pytest.fixture
def folder(tmp_path):
    with opened(tmp_path / "vault") as vault:
        for number in range(40):
            vault.memory.record("mia", f"turn {number}", conversation="c", source_id=str(number))
    return tmp_path / "vault"


@pytest.fixture
def memory():
    before = keyring.get_keyring()
    keyring.set_keyring(backend := MemoryKeyring())
    yield backend
    keyring.set_keyring(before)


def texts(vault: aico.Vault) -> list[str]:
    return [moment.text for moment in vault.memory.recent("mia", "c", limit=1000)]


def interrupted(vault: aico.Vault, *secrets: str, **named) -> None:
    """Begin a rotation, and fail right behind the new vault.json."""
    rotation, go_on = vault.keys._rotation, vault.keys._rotation.go_on

    def fail(**_):
        raise StorageError("the plug was pulled")

    rotation.go_on = fail
    with pytest.raises(StorageError, match="plug"):
        vault.keys.rotate(*secrets, **named)
    rotation.go_on = go_on


def names(folder: Path) -> set[str]:
    return set(json.loads((folder / "vault.json").read_bytes()))


# What it does


def test_everything_is_there_afterwards_and_the_same_passphrase_opens_it(folder):
    with opened(folder) as vault:
        ids = [moment.id for moment in vault.memory.recent("mia", "c", limit=100)]
        report = vault.keys.rotate(PASSPHRASE)
        assert (report.generation, report.resumed, report.recovery_phrase) == (2, False, None)
        assert texts(vault) == [f"turn {number}" for number in range(40)]
        again = [vault.memory.record("mia", f"turn {n}", conversation="c", source_id=str(n)) for n in range(40)]
        assert again == ids  # rows are named by the same key
    with opened(folder) as vault:
        assert texts(vault) == [f"turn {number}" for number in range(40)]
        assert not vault.keys.rotation_unfinished()
        assert [finding.name for finding in vault.doctor() if finding.ok is False] == []
    assert "previous" not in names(folder)


def test_it_can_be_done_again_and_again(folder):
    with opened(folder) as vault:
        for generation in range(2, 8):
            assert vault.keys.rotate(PASSPHRASE).generation == generation
        assert len(texts(vault)) == 40
        vault.connection.verify()


def test_the_old_root_key_opens_nothing_that_is_left(folder):
    """The attack: somebody has the leaked root key, and takes the folder after the rotation."""
    with opened(folder) as vault:
        old = vault.keys._root
        vault.memory.recent("mia", "c")
        vault.backups.create()
        vault.keys.rotate(PASSPHRASE)
        new = vault.keys._root
        vault.memory.record("mia", "said later", conversation="c")
        made = vault.backups.create()
    with pytest.raises(Tampered):
        EncryptedLibSQLConnection(folder / "data" / "aico.db", DatabaseKeys({2: old.for_pages()}), create=False)
    current = VaultFile.read(folder / "vault.json")
    with pytest.raises(Tampered):
        current.verified(old)
    for sealed, what in ((current.natural_key, "natural key"), (current.chain_key, "chain key")):
        for purpose in Purpose:
            with pytest.raises(Tampered):
                Sealer({2: old.for_purpose(purpose)}).open(sealed, bound_to=(what, current.vault_id))
    from aico.backup.file import read_head

    for path in made.path.parent.glob("*.aicobackup"):
        with pytest.raises(Tampered):
            read_head(path, {2: old.for_purpose(Purpose.BACKUPS)})
    for content in files_of(folder).values():
        assert old.reveal() not in content
        assert new.reveal() not in content


def test_an_older_vault_json_put_back_is_refused_and_harms_nothing(folder):
    before = (folder / "vault.json").read_bytes()
    with opened(folder) as vault:
        vault.keys.rotate(PASSPHRASE)
    after = (folder / "vault.json").read_bytes()
    (folder / "vault.json").write_bytes(before)
    with pytest.raises((Tampered, KeysRotated)):
        opened(folder)
    (folder / "vault.json").write_bytes(after)
    with opened(folder) as vault:
        assert len(texts(vault)) == 40


def test_the_audit_log_goes_on_and_a_head_from_before_still_proves_it(folder):
    with opened(folder) as vault:
        vault.keys.add_passphrase(SECOND)
        known = vault.audit_log.head()
        vault.keys.rotate(PASSPHRASE, SECOND)
        assert vault.audit_log.verify(known).intact
        [entry] = vault.audit_log.entries(after=known.count)
        assert (entry.action, entry.counts) == ("keys rotated", {"generation": 2, "keyslots": 2})
    with opened(folder, SECOND) as vault:
        assert vault.audit_log.verify(known).intact


def test_progress_names_every_stage_and_ends_at_its_total(folder):
    told: list[tuple[str, int, int]] = []
    with opened(folder) as vault:
        vault.backups.create()
        vault.keys.rotate(PASSPHRASE, on_progress=lambda *step: told.append(step))
    assert {what for what, _, _ in told} == {"pages", "files", "backups"}
    for stage in ("pages", "backups"):
        *_, (_, done, total) = [step for step in told if step[0] == stage]
        assert done == total > 0


# Keyslots


def test_each_passphrase_is_given_or_its_keyslot_named(folder):
    before = (folder / "vault.json").read_bytes()
    with opened(folder) as vault:
        vault.keys.add_passphrase(SECOND)
        [first, second] = vault.keys.list_slots()
        before = (folder / "vault.json").read_bytes()
        for given in ((), (PASSPHRASE,), (SECOND,)):
            with pytest.raises(InvalidInput):
                vault.keys.rotate(*given)
        with pytest.raises(InvalidInput):
            vault.keys.rotate(PASSPHRASE, remove=[second.id, "0" * 16])
        with pytest.raises(WrongPassphrase):
            vault.keys.rotate(PASSPHRASE, SECOND, "a guess")
        with pytest.raises(InvalidInput):  # never the last
            vault.keys.rotate(remove=[first.id, second.id])
        with pytest.raises(InvalidInput):
            vault.keys.rotate(PASSPHRASE, remove=[first.id, second.id])
        assert (folder / "vault.json").read_bytes() == before
        report = vault.keys.rotate(PASSPHRASE, remove=[second.id])
        assert report.removed == [second]
    with pytest.raises(WrongPassphrase):
        opened(folder, SECOND)
    opened(folder).close()


def test_a_recovery_phrase_that_is_given_stays_and_one_that_is_not_is_made_anew(folder):
    with opened(folder) as vault:
        phrase = vault.keys.add_recovery_phrase()
        assert vault.keys.rotate(PASSPHRASE, phrase).recovery_phrase is None
        opened(folder, phrase).close()
        report = vault.keys.rotate(PASSPHRASE)
        assert report.recovery_phrase not in (None, phrase)
        assert report.recovery_phrase not in repr(report)
        assert vault.keys.slots() == ["passphrase", "recovery"]
    opened(folder, report.recovery_phrase).close()
    with pytest.raises(WrongPassphrase):
        opened(folder, phrase)
    with opened(folder, report.recovery_phrase) as vault:
        [passphrase, _] = vault.keys.list_slots()
        assert vault.keys.rotate(report.recovery_phrase, remove=[passphrase.id]).recovery_phrase is None
    opened(folder, report.recovery_phrase).close()


def test_the_keyring_gets_a_new_secret_by_itself(folder, memory):
    with opened(folder) as vault:
        vault.keys.add_keyring()
        before = dict(memory.kept)
        vault.keys.rotate(PASSPHRASE)
        assert len(memory.kept) == 1
        assert not memory.kept.items() & before.items()
    opened(folder, None).close()


@pytest.mark.parametrize("gone", ["its secret", "the keyring"])
def test_a_keyring_that_is_not_here_is_removed_and_named(folder, memory, gone):
    with opened(folder) as vault:
        vault.keys.add_keyring()
        if gone == "its secret":
            memory.kept.clear()
        else:
            keyring.set_keyring(FailKeyring())
        report = vault.keys.rotate(PASSPHRASE)
        assert [slot.kind for slot in report.removed] == ["keyring"]
        assert vault.keys.slots() == ["passphrase"]


def test_a_refused_rotation_leaves_the_keyring_as_it_was(folder, memory):
    with opened(folder) as vault:
        vault.keys.add_keyring()
        before = dict(memory.kept)
        with pytest.raises(InvalidInput):
            vault.keys.rotate()
        with pytest.raises(WrongPassphrase):
            vault.keys.rotate(PASSPHRASE, "a guess")
        assert memory.kept == before
    opened(folder, None).close()


def test_keys_do_not_rotate_inside_a_transaction(folder):
    with opened(folder) as vault, pytest.raises(StorageError), vault.connection.transaction():
        vault.keys.rotate(PASSPHRASE)
    opened(folder).close()


# Others who have it open


def test_who_has_it_open_goes_on_reading_writing_and_backing_up(folder):
    with opened(folder) as vault, opened(folder) as other:
        other.memory.recent("mia", "c")
        vault.keys.rotate(PASSPHRASE)
        other.memory.record("mia", "from the other", conversation="c")
        assert texts(other) == texts(vault) == [*(f"turn {number}" for number in range(40)), "from the other"]
        assert other.memory.recall("mia", "turn 7")[0].text == "turn 7"
        other.working.set_state(b"u", "s", {"mood": "calm"})
        assert vault.working.find_state(b"u", "s") == {"mood": "calm"}
        assert vault.working.trouble == other.working.trouble == ""
        made = other.backups.create()
        assert vault.backups.verify(made.path).id == made.id
        other.keys.add_passphrase(SECOND)
    opened(folder, SECOND).close()


def test_what_is_recorded_while_a_rotation_is_under_way_is_read_at_once(folder):
    """One process names hot conversations by the new keys while another still thinks of them by the old ones."""
    with opened(folder) as vault, opened(folder) as other:
        texts(vault)
        texts(other)
        interrupted(other, PASSPHRASE)
        ask = vault.working._in_step

        def ask_late(look):
            other.memory.record("mia", "said meanwhile", conversation="c")
            other.working.catch_up()
            return ask(look)

        vault.working._in_step = ask_late
        assert texts(vault)[-1] == "said meanwhile"


def test_the_columns_begin_anew_under_the_new_keys(folder):
    pytest.importorskip("duckdb", reason="analytics needs the extra aico[analytics]")
    count = "SELECT count(*) FROM messages"
    with opened(folder) as vault, opened(folder) as other:
        assert other.analytics.sql("mia", count).rows == [(40,)]
        vault.analytics.sql("mia", count)
        vault.keys.rotate(PASSPHRASE)
        other.memory.record("mia", "one more", conversation="c")
        assert other.analytics.sql("mia", count).rows == vault.analytics.sql("mia", count).rows == [(41,)]
        old = set((folder / "data" / "duckdb").glob("*.columns"))
    with opened(folder) as vault:
        vault.keys.rotate(PASSPHRASE)
        assert vault.analytics.sql("mia", count).rows == [(41,)]
    assert not old & set((folder / "data" / "duckdb").glob("*.columns"))


def test_who_slept_through_two_rotations_goes_on(folder):
    with opened(folder) as vault, opened(folder) as sleeper:
        texts(sleeper)
        vault.keys.rotate(PASSPHRASE)
        vault.memory.record("mia", "meanwhile", conversation="c")
        vault.keys.rotate(PASSPHRASE)
        assert texts(sleeper)[-1] == "meanwhile"
        sleeper.memory.record("mia", "awake", conversation="c")
        assert texts(vault)[-1] == "awake"
        assert sleeper.keys.rotate(PASSPHRASE).generation == 4
        assert texts(vault)[-1] == "awake"


def test_who_missed_the_handover_is_told_and_loses_nothing(folder):
    """What a synchronisation that deletes files may do."""
    with opened(folder) as vault, opened(folder) as other:
        texts(other)
        [path.unlink() for path in (folder / "data" / "open").iterdir()]
        vault.keys.rotate(PASSPHRASE)
        vault.memory.record("mia", "from the first", conversation="c")
        for attempt in (
            lambda: other.memory.record("mia", "lost?", conversation="c"),
            lambda: other.connection.fetch_all("SELECT text FROM messages"),
            lambda: other.backups.create(),
            lambda: other.keys.add_passphrase(SECOND),
        ):
            with pytest.raises(KeysRotated):
                attempt()
    with opened(folder) as vault:
        assert texts(vault)[-1] == "from the first"
        vault.connection.verify()


def test_without_room_to_announce_itself_a_process_opens_and_must_open_again_after_a_rotation(folder):
    (folder / "data" / "open").rmdir()
    (folder / "data" / "open").touch()
    with opened(folder) as other:
        assert len(texts(other)) == 40
        (folder / "data" / "open").unlink()
        with opened(folder) as vault:
            vault.keys.rotate(PASSPHRASE)
            vault.memory.record("mia", "in the log when the other closes last", conversation="c")
        with pytest.raises(KeysRotated):
            other.memory.record("mia", "lost?", conversation="c")
    with opened(folder) as vault:
        assert texts(vault)[-1] == "in the log when the other closes last"
        vault.connection.verify()


def test_a_long_read_from_before_ends_as_it_began(folder):
    with opened(folder) as vault, opened(folder) as reader:
        with reader.connection.snapshot() as rows:
            first = rows("SELECT text FROM messages ORDER BY position")
            assert next(first)[0] == "turn 0"
            reseal = vault.connection.reseal
            vault.connection.reseal = lambda: reseal(wait_s=0.1)
            with pytest.raises(Busy):
                vault.keys.rotate(PASSPHRASE)
            assert vault.keys.rotation_unfinished()
            assert [text for (text,) in first] == [f"turn {number}" for number in range(1, 40)]
            vault.memory.record("mia", "meanwhile", conversation="c")
        vault.connection.reseal = reseal
        assert vault.keys.rotate().resumed
        assert texts(reader)[-1] == texts(vault)[-1] == "meanwhile"


def write_and_read(folder: str, who: int) -> dict:
    """For a child: record and read until told to stop; what was acknowledged, and every error."""
    vault, acknowledged, errors = opened(folder), [], []
    stop = threading.Event()
    threading.Thread(target=lambda: (input(), stop.set()), daemon=True).start()
    print("ready", flush=True)
    while not stop.is_set():
        try:
            acknowledged.append(vault.memory.record("mia", f"{who}: {len(acknowledged)}", conversation=f"w{who}"))
            vault.memory.recent("mia", f"w{who}", limit=5)
            if len(acknowledged) % 20 == 0:
                vault.memory.recall("mia", "turn 7")
        except AicoError as exc:
            errors.append(f"{type(exc).__name__}: {exc}")
            break
    found = [moment.id for moment in vault.memory.recent("mia", f"w{who}", limit=100_000)]
    vault.close()
    return {"acknowledged": len(acknowledged), "missing": len(set(acknowledged) - set(found)), "errors": errors}


def test_processes_write_and_read_through_one_rotation_after_another(folder):
    with started(write_and_read, str(folder), 1) as one, started(write_and_read, str(folder), 2) as two:
        assert (one.line(), two.line()) == ("ready", "ready")
        with opened(folder) as vault:
            for generation in range(2, 7):
                assert vault.keys.rotate(PASSPHRASE).generation == generation
        for child in (one, two):
            child.tell("stop")
        results = [child.end() for child in (one, two)]
    for done in results:
        assert done.error is None, done
        assert done.value["errors"] == []
        assert done.value["missing"] == 0
        assert done.value["acknowledged"] > 0
    with opened(folder) as vault:
        assert len(texts(vault)) == 40
        vault.connection.verify()


def test_only_one_process_rotates_at_a_time(folder):
    with opened(folder) as vault, opened(folder) as other, other.keys._rotation.alone():
        with pytest.raises(Busy):
            vault.keys.rotate(PASSPHRASE)
    opened(folder).close()


# Interrupted


def test_an_interrupted_rotation_opens_says_so_and_goes_on(folder):
    with opened(folder) as vault, opened(folder) as other:
        phrase = vault.keys.add_recovery_phrase()
        interrupted(vault, PASSPHRASE, phrase)
        other.memory.record("mia", "between", conversation="c")
        assert texts(vault)[-1] == "between"
    assert "previous" in names(folder)
    with opened(folder, phrase) as vault:
        assert texts(vault)[-1] == "between"
        assert vault.status().rotation_unfinished
        assert [finding.name for finding in vault.doctor() if finding.ok is False] == ["rotation"]
        vault.keys.add_passphrase(SECOND)
        made = vault.backups.create()
        report = vault.keys.rotate("whatever: it is not looked at")
        assert (report.resumed, report.generation) == (True, 2)
        assert vault.backups.verify(made.path).id == made.id
        assert [entry.action for entry in vault.audit_log.last_entries(1)] == ["keys rotated"]
    for secret in (PASSPHRASE, phrase, SECOND):
        opened(folder, secret).close()


def test_who_had_it_open_before_goes_on_with_what_another_began(folder):
    with opened(folder) as vault, opened(folder) as other:
        old = vault.keys._root
        interrupted(vault, PASSPHRASE)
        report = other.keys.rotate()  # it has not read a page since
        assert (report.resumed, report.generation) == (True, 2)
        with pytest.raises(Tampered):
            EncryptedLibSQLConnection(folder / "data" / "aico.db", DatabaseKeys({1: old.for_pages()}), create=False)
        assert len(texts(vault)) == len(texts(other)) == 40
    opened(folder).close()


def test_killed_behind_its_entry_it_writes_no_second(folder):
    with opened(folder) as vault:
        write, keys = VaultFile.write, vault.keys

        def fail_at_the_end(self, path):
            if self.generation == 2 and not self.previous:
                raise StorageError("the plug was pulled")
            write(self, path)

        VaultFile.write = fail_at_the_end
        try:
            with pytest.raises(StorageError, match="plug"):
                keys.rotate(PASSPHRASE)
        finally:
            VaultFile.write = write
        assert keys.rotate().resumed
        assert [entry.action for entry in vault.audit_log.entries()].count("keys rotated") == 1


def test_a_backup_of_an_unfinished_rotation_restores_and_goes_on(folder, tmp_path):
    with opened(folder) as vault:
        interrupted(vault, PASSPHRASE)
        made = vault.backups.create(tmp_path / "elsewhere")
        vault.keys.rotate()
    restore_vault(made.path, tmp_path / "restored", passphrase=PASSPHRASE)
    with opened(tmp_path / "restored") as vault:
        assert vault.keys.rotation_unfinished()
        assert vault.keys.rotate().resumed
        assert len(texts(vault)) == 40


# Backups and files


def test_backups_in_the_folder_are_sealed_anew_and_those_elsewhere_open_as_on_their_day(folder, tmp_path):
    with opened(folder) as vault:
        vault.backups.create()
        vault.memory.record("mia", "one more", conversation="c")
        inside = vault.backups.create()
        outside = vault.backups.create(tmp_path / "elsewhere")
        vault.keys.change_passphrase(PASSPHRASE, SECOND)
        report = vault.keys.rotate(SECOND)
        assert report.backups == 2
        assert [info.id for info in vault.backups.list()][-1] == inside.id
        assert vault.backups.list(tmp_path / "elsewhere") == []
        vault.memory.record("mia", "and another", conversation="c")
        later = vault.backups.create()
        assert later.parent == inside.id  # it builds on what was sealed anew
        assert vault.backups.create(tmp_path / "elsewhere").parent is None
    restore_vault(outside.path, tmp_path / "restored", passphrase=PASSPHRASE)
    with opened(tmp_path / "restored") as vault:
        assert texts(vault)[-1] == "one more"
    with pytest.raises(WrongPassphrase):
        restore_vault(inside.path, tmp_path / "no", passphrase=PASSPHRASE)
    restore_vault(later.path, tmp_path / "yes", passphrase=SECOND)
    with opened(tmp_path / "yes", SECOND) as vault:
        assert texts(vault)[-1] == "and another"


def test_no_chain_of_backups_crosses_a_rotation(folder, tmp_path):
    disk = tmp_path / "disk"
    with opened(folder) as vault:
        vault.backups.create(disk)
        interrupted(vault, PASSPHRASE)
        between = vault.backups.create(disk)
        assert between.parent is None
        vault.keys.rotate()
        vault.memory.record("mia", "one more", conversation="c")
        later = vault.backups.create(disk)
        assert later.parent == between.id
        assert vault.backups.verify(later.path) == later
    restore_vault(later.path, tmp_path / "restored", passphrase=PASSPHRASE)


def test_a_chain_that_lost_its_key_is_named_and_not_built_on(folder, tmp_path, monkeypatch):
    disk = tmp_path / "disk"
    with opened(folder) as vault:
        base = vault.backups.create(disk)
        interrupted(vault, PASSPHRASE)
        with monkeypatch.context() as patched:  # as it was done before
            patched.setattr(vault.backups, "_can_be_built_on", lambda *_: True)
            across = vault.backups.create(disk)
        assert across.parent == base.id
        vault.keys.rotate()
        assert [(one.id, one.missing) for one in vault.backups.list(disk)] == [(across.id, base.id)]
        with pytest.raises(UnlockError, match=f"builds on {base.path.name}, which is sealed under other keys"):
            vault.backups.verify(across.path)
        assert vault.backups.create(disk).parent is None


@pytest.mark.parametrize("place", [-100, 1000, 100_000, 200_000])
def test_a_damaged_backup_stops_no_rotation(folder, place):
    with opened(folder) as vault:
        bad, good = vault.backups.create(full=True), vault.backups.create(full=True)
        content = bytearray(bad.path.read_bytes())
        content[place] ^= 1
        bad.path.write_bytes(content)
        assert vault.keys.rotate(PASSPHRASE).backups == 1
        assert not vault.keys.rotation_unfinished()
        assert vault.backups.verify(good.path).id == good.id
        assert bad.path.read_bytes() == content
        assert [path.name for path in bad.path.parent.iterdir() if ".new-" in path.name] == []


def test_a_backup_made_in_the_middle_of_a_rotation_opens(folder):
    with opened(folder) as vault, opened(folder) as other:
        write = other.backups._write

        def rotated_meanwhile(*given):
            other.backups._write = write
            made = write(*given)
            vault.keys.rotate(PASSPHRASE)
            return made

        other.backups._write = rotated_meanwhile
        made = other.backups.create()
        assert vault.backups.verify(made.path).id == made.id
        assert [info.id for info in vault.backups.list()].count(made.id) == 1


def test_sealed_files_open_after_a_rotation_wherever_they_lie(folder, tmp_path):
    keys = AICOKeyManager(folder, cost=cheap_settings().kdf)
    keys.authenticate(PASSPHRASE)
    inside = folder / "data" / "files"
    inside.mkdir(mode=0o700)
    places = {"diary": inside / "diary", "letters": inside / "letters", "elsewhere": tmp_path / "elsewhere"}
    for name, path in places.items():
        with EncryptedFile(path, "w", keys, "letters" if name == "letters" else "default") as file:
            file.write(name)
    with opened(folder) as vault:
        report = vault.keys.rotate(PASSPHRASE)
        assert (report.files, report.files_left) == (1, 1)
        report = vault.keys.rotate(PASSPHRASE, file_purposes=["default", "letters"])
        assert (report.files, report.files_left) == (2, 0)
    with pytest.raises(KeysRotated):
        EncryptedFile(places["diary"], "r", keys)
    keys.authenticate(PASSPHRASE)
    for name, path in places.items():
        with EncryptedFile(path, "r", keys, "letters" if name == "letters" else "default") as file:
            assert file.read() == name
    with EncryptedFile(places["elsewhere"], "a", keys) as file:  # written, it goes over to the newest key
        file.write("!")
    newest = {3: keys.file_keys()[3]}
    with EncryptedFile(places["elsewhere"], "r", OnlyThese(newest)) as file:
        assert file.read() == "elsewhere!"


class OnlyThese:
    def __init__(self, keys):
        self._keys = keys

    def file_keys(self):
        return self._keys


def test_a_file_that_is_written_meanwhile_is_not_put_back(folder):
    """The attack on ourselves: a rotation that reads the old content, and replaces the new one with it."""
    from aico.security import encrypted_file

    keys = AICOKeyManager(folder, cost=cheap_settings().kdf)
    keys.authenticate(PASSPHRASE)
    (folder / "data" / "files").mkdir(mode=0o700)
    path = folder / "data" / "files" / "diary"
    with EncryptedFile(path, "w", keys) as file:
        file.write("the old words")
    late = EncryptedFile(path, "w", keys)
    late.write("the new words")
    streamed = encrypted_file.open_stream

    def written_meanwhile(*given, **named):
        yield from streamed(*given, **named)
        late.close()

    encrypted_file.open_stream = written_meanwhile
    try:
        with opened(folder) as vault:
            assert vault.keys.rotate(PASSPHRASE).files_left == 1
    finally:
        encrypted_file.open_stream = streamed
    keys.authenticate(PASSPHRASE)
    with EncryptedFile(path, "r", keys) as file:
        assert file.read() == "the new words"


# Faults


def rotate_without_room(folder: str, limit_bytes: int) -> dict:
    """For a child: rotate with too little room, look, and go on once there is room."""
    import resource

    errors = []
    with opened(folder) as vault:
        before = texts(vault)
        if limit_bytes:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, resource.RLIM_INFINITY))
        try:
            vault.keys.rotate(PASSPHRASE)
        except StorageError as exc:
            errors.append(type(exc).__name__)
        unfinished = vault.keys.rotation_unfinished()
        assert texts(vault) == before
        if limit_bytes:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        else:
            Path(folder).with_name("ballast").unlink()
        vault.keys.rotate(*(() if unfinished else (PASSPHRASE,)))
        assert texts(vault) == before
        vault.connection.verify()
        assert not vault.keys.rotation_unfinished()
    return {"errors": errors, "unfinished": unfinished}


@pytest.mark.parametrize(("limit_bytes", "unfinished"), [(200, False), (100_000, True)])
def test_without_room_for_files_it_stops_and_goes_on_when_there_is(folder, limit_bytes, unfinished):
    done = run(rotate_without_room, str(folder), limit_bytes)
    assert done.error is None, done
    assert done.value["unfinished"] == unfinished
    assert done.value["errors"] in (["DiskFull"], ["StorageError"])


def test_on_a_full_disk_it_stops_and_goes_on_when_there_is_room(tmp_path):
    with small_disk(tmp_path, "4m") as mounted:
        with opened(tmp_path / "vault") as vault:
            for number in range(40):
                vault.memory.record("mia", f"turn {number} {'x' * 5000}", conversation="c")
        if mounted:
            (tmp_path / "ballast").write_bytes(bytes(max(0, shutil.disk_usage(tmp_path).free - 200_000)))
        done = run(rotate_without_room, str(tmp_path / "vault"), 0 if mounted else 200_000)
    assert done.error is None, done
    assert done.value["errors"] in (["DiskFull"], ["StorageError"])


def as_nobody(folder: str) -> dict:
    """For a child: an ordinary user, whose folder cannot be written for a while; what is refused then."""
    keyring.set_keyring(backend := MemoryKeyring())
    with temporary_vault() as warm:  # everything is loaded while we still may
        warm.memory.record("mia", "a first message", conversation="c")
        warm.backups.create()
        warm.memory.recent("mia", "c")
        warm.keys.leave_unlocked(60)
        warm.keys.add_keyring()
        warm.keys.rotate(PASSPHRASE)
    backend.kept.clear()
    become_nobody(folder)
    place, told = Path(folder) / "vault", {}
    with opened(place) as vault:
        vault.memory.record("mia", "a message to keep", conversation="c")
        vault.keys.add_keyring()
        kept, before = dict(backend.kept), (place / "vault.json").read_bytes()
        for name in (".", "data/open"):
            (place / name).chmod(0o500)
            for what, work in {
                "rotate": lambda: vault.keys.rotate(PASSPHRASE),
                "unlock": lambda: vault.keys.leave_unlocked(60),
            }.items():
                try:
                    work()
                    vault.keys.lock()
                    told[f"{what} {name}"] = "done"
                except AicoError as exc:
                    told[f"{what} {name}"] = type(exc).__name__
                if told[f"{what} {name}"] != "done":
                    assert (place / "vault.json").read_bytes() == before, "vault.json was changed"
                    assert backend.kept == kept, "the keyring was changed"
            (place / name).chmod(0o700)
        assert not vault.keys.rotation_unfinished()
        vault.keys.rotate(PASSPHRASE)
        assert texts(vault) == ["a message to keep"]
    opened(place, None).close()
    return told


def test_without_the_permission_nothing_changes(public_folder):
    done = run(as_nobody, str(public_folder))
    assert done.error is None, done
    assert done.value == {
        "rotate .": "StorageError",
        "unlock .": "StorageError",
        "rotate data/open": "StorageError",
        "unlock data/open": "done",
    }


@pytest.mark.parametrize("part", ["session", "data/open"])
def test_what_another_user_planted_is_refused(folder, part):
    (folder / part).touch()
    if os.geteuid() == 0:
        os.chown(folder / part, 12345, 12345)
    done = run(opened_by_a_stranger, str(folder))
    assert done.error == "UnlockError", done


def test_no_clock_matters_to_it(folder):
    clock = FixedClock()
    with opened(folder, clock=clock) as vault:
        clock.move(timedelta(days=-4000))
        vault.keys.rotate(PASSPHRASE)
        clock.move(timedelta(days=-4000))
        vault.keys.rotate(PASSPHRASE)
        assert len(texts(vault)) == 40
        assert vault.audit_log.verify().intact


def test_a_changed_vault_json_is_never_rotated(folder):
    with opened(folder) as vault:
        path = folder / "vault.json"
        path.write_bytes(path.read_bytes().replace(b'"passes": 1', b'"passes": 2'))
        changed = path.read_bytes()
        with pytest.raises((Tampered, WrongPassphrase)):
            vault.keys.rotate(PASSPHRASE)
        assert path.read_bytes() == changed


def test_a_vault_that_is_gone_is_not_found(folder, tmp_path):
    with opened(folder) as vault:
        (folder / "vault.json").rename(tmp_path / "kept")
        with pytest.raises(NotFound):
            vault.keys.rotate(PASSPHRASE)
        (tmp_path / "kept").rename(folder / "vault.json")
        assert len(texts(vault)) == 40
