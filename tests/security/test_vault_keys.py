"""Keyslots of an open vault: what two windows change is kept, and a failure leaves every way to unlock as it was."""

import threading

import keyring
import pytest

import aico
from aico.errors import AicoError, InvalidInput, NotFound, StorageError, Tampered, WrongPassphrase
from aico.security.keyslots import SLOTS_MAX
from aico.testing import PASSPHRASE, cheap_settings
from tests.children import run
from tests.security.test_keyring import MemoryKeyring


def open_with(folder, secret: str | None = PASSPHRASE) -> aico.Vault:
    return aico.open(folder, passphrase=secret, settings=cheap_settings())


@pytest.fixture
def folder(tmp_path):
    open_with(tmp_path / "vault").close()
    return tmp_path / "vault"


@pytest.fixture
def memory():
    before = keyring.get_keyring()
    keyring.set_keyring(backend := MemoryKeyring())
    yield backend
    keyring.set_keyring(before)


def test_two_open_vaults_do_not_lose_each_others_keyslots(folder, memory):
    with open_with(folder) as one, open_with(folder) as two:
        phrase = one.keys.add_recovery_phrase()
        two.keys.add_keyring()
        assert sorted(one.keys.slots()) == sorted(two.keys.slots()) == ["keyring", "passphrase", "recovery"]
    for secret in (PASSPHRASE, phrase, None):
        open_with(folder, secret).close()


def test_threads_that_add_keyslots_at_once_keep_all(folder, memory):
    with open_with(folder) as vault:
        threads = [threading.Thread(target=add) for add in (vault.keys.add_recovery_phrase, vault.keys.add_keyring) * 4]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert sorted(vault.keys.slots()) == ["keyring", "passphrase", "recovery"]
    open_with(folder, None).close()


def test_a_changed_file_is_not_sealed_anew_by_adding_a_slot(folder):
    with open_with(folder) as vault:
        path = folder / "vault.json"
        path.write_bytes(path.read_bytes().replace(b'"passes": 1', b'"passes": 2'))
        with pytest.raises(Tampered):
            vault.keys.add_recovery_phrase()


def add_keyring_without_room(folder: str) -> None:
    import resource

    keyring.set_keyring(backend := MemoryKeyring())
    with open_with(folder) as vault:
        vault.keys.add_keyring()
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, resource.RLIM_INFINITY))
        try:
            vault.keys.add_keyring()
            raise AssertionError("there was room")
        except StorageError:
            pass
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert backend.kept
    open_with(folder, None).close()


def test_a_keyring_slot_that_cannot_be_written_leaves_the_one_before_working(folder):
    done = run(add_keyring_without_room, str(folder))
    assert done.error is None, done


def make_a_phrase_without_room_for_its_entry(folder: str) -> None:
    import resource
    from pathlib import Path

    with open_with(folder) as vault:
        vault.memory.record("mia", "so that there is a log", conversation="c")
        before = (Path(folder) / "vault.json").read_bytes()
        room = (Path(folder) / "data" / "aico.db-wal").stat().st_size
        assert room > len(before) * 3
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        try:
            vault.keys.add_recovery_phrase()
            raise AssertionError("there was room")
        except StorageError:
            pass
        assert (Path(folder) / "vault.json").read_bytes() == before
        try:
            vault.keys.change_passphrase(PASSPHRASE, "a better one")
            raise AssertionError("there was room")
        except StorageError:
            pass
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert vault.audit_log.verify().intact
        assert not [entry for entry in vault.audit_log.entries() if "phrase" in entry.action]
    open_with(folder).close()


def test_a_change_whose_entry_finds_no_room_leaves_the_ways_to_unlock_as_they_were(folder):
    done = run(make_a_phrase_without_room_for_its_entry, str(folder))
    assert done.error is None, done


def test_keys_do_not_change_in_somebody_elses_transaction_which_may_be_taken_back(folder):
    before = (folder / "vault.json").read_bytes()
    with open_with(folder) as vault, pytest.raises(StorageError), vault.connection.transaction():
        vault.keys.add_recovery_phrase()
    assert (folder / "vault.json").read_bytes() == before


@pytest.mark.parametrize("secret", [b"bytes", 5, "", "\ud800", ["list"]], ids=repr)
def test_a_secret_that_is_no_text_is_invalid_input_and_makes_nothing(tmp_path, secret):
    with pytest.raises(InvalidInput):
        open_with(tmp_path / "vault", secret)
    assert list(tmp_path.iterdir()) == []


def test_no_key_shows_in_an_open_vault(folder):
    with open_with(folder) as vault:
        for shown in (
            repr(vault),
            repr(vault.keys),
            repr(vars(vault)),
            repr(vars(vault.keys)),
            repr(vars(vault.connection)),
        ):
            assert PASSPHRASE not in shown
        with pytest.raises(AicoError):
            vault.connection.rekey(b"short")


def test_a_changed_passphrase_opens_and_the_old_one_no_longer(folder):
    with open_with(folder) as vault:
        phrase = vault.keys.add_recovery_phrase()
        vault.keys.change_passphrase(PASSPHRASE, "a better one")
        assert vault.keys.slots() == ["recovery", "passphrase"]
    with pytest.raises(WrongPassphrase):
        open_with(folder)
    for secret in ("a better one", phrase):
        open_with(folder, secret).close()


def test_a_passphrase_is_changed_only_by_who_knows_it(folder):
    before = (folder / "vault.json").read_bytes()
    with open_with(folder) as vault, pytest.raises(WrongPassphrase):
        vault.keys.change_passphrase("a guess", "mine now")
    assert (folder / "vault.json").read_bytes() == before


def test_changing_one_of_two_passphrases_leaves_the_other(folder):
    with open_with(folder) as vault:
        vault.keys.add_passphrase("of the second person")
        vault.keys.change_passphrase("of the second person", "of the second person, longer")
    for secret in (PASSPHRASE, "of the second person, longer"):
        open_with(folder, secret).close()
    with pytest.raises(WrongPassphrase):
        open_with(folder, "of the second person")


def test_a_full_house_of_slots_can_still_change_a_passphrase(folder):
    with open_with(folder) as vault:
        for number in range(SLOTS_MAX - 1):
            vault.keys.add_passphrase(f"number {number}")
        with pytest.raises(InvalidInput):
            vault.keys.add_passphrase("one too many")
        vault.keys.change_passphrase("number 7", "number seven")
    open_with(folder, "number seven").close()


def test_a_removed_slot_opens_nothing(folder, memory):
    with open_with(folder) as vault:
        vault.keys.add_keyring()
        phrase = vault.keys.add_recovery_phrase()
        by_kind = {slot.kind: slot.id for slot in vault.keys.list_slots()}
        vault.keys.remove(by_kind["passphrase"])
        vault.keys.remove(by_kind["keyring"])
        assert not memory.kept
    with pytest.raises(WrongPassphrase):
        open_with(folder)
    open_with(folder, phrase).close()


def test_the_slot_of_a_keyring_that_is_gone_is_removed(folder, memory):
    with open_with(folder) as vault:
        vault.keys.add_keyring()
        memory.locked = True
        vault.keys.remove(vault.keys.list_slots()[-1].id)
        assert vault.keys.slots() == ["passphrase"]


def test_the_last_way_that_a_person_knows_cannot_be_removed(folder, memory):
    with open_with(folder) as vault:
        vault.keys.add_keyring()
        passphrase_slot = next(slot.id for slot in vault.keys.list_slots() if slot.kind == "passphrase")
        with pytest.raises(InvalidInput):
            vault.keys.remove(passphrase_slot)
        with pytest.raises(NotFound):
            vault.keys.remove("00" * 8)
        assert sorted(vault.keys.slots()) == ["keyring", "passphrase"]
    open_with(folder).close()


def test_no_slot_of_a_hostile_cost_is_tried_when_a_passphrase_is_changed(folder):
    with open_with(folder) as vault:
        path = folder / "vault.json"
        path.write_bytes(path.read_bytes().replace(b'"memory_kib": 64', b'"memory_kib": 999999999'))
        with pytest.raises(Tampered):
            vault.keys.change_passphrase(PASSPHRASE, "another")
