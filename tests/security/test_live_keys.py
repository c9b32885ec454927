"""The keys of an open vault: another process may rotate them, change vault.json or take it away at any moment."""

import pytest

from aico.errors import KeysRotated
from aico.security.handover import hand_over
from aico.security.keys import Passphrase, RootKey
from aico.security.keyslots import VaultFile
from aico.security.live_keys import LiveKeys
from aico.settings import KdfCost

CHEAP = KdfCost(memory_kib=8, passes=1, lanes=1)
ONE, TWO = Passphrase("first passphrase"), Passphrase("second passphrase")


@pytest.fixture
def folder(tmp_path):
    made, unlocked = VaultFile.new(ONE, cost=CHEAP)
    made.write(tmp_path / "vault.json")
    (tmp_path / "data").mkdir()
    return tmp_path, unlocked


def live(folder, unlock=lambda vault_file: vault_file.unlock(ONE)) -> LiveKeys:
    return LiveKeys(folder / "vault.json", folder / "data", unlock)


def rotated(folder, unlocked, *, by=ONE):
    """vault.json as a rotation leaves it, which handed its key to nobody."""
    fresh, root = VaultFile.read(folder / "vault.json").with_next_root(unlocked)
    fresh.with_passphrase(root, by, cost=CHEAP).write(folder / "vault.json")
    return root


def test_a_vault_that_is_changed_while_it_is_being_unlocked_is_unlocked_again(folder):
    """Between reading vault.json and announcing oneself somebody rotates: the old root key would never be followed."""
    place, unlocked = folder
    made = []

    def unlock(vault_file):
        found = vault_file.unlock(ONE)
        if not made:
            made.append(rotated(place, unlocked))
        return found

    keys = live(place, unlock)
    assert keys.generation == 2
    assert keys.root == made[0]
    keys.close()
    keys.close()


def test_without_a_data_folder_it_goes_unannounced_and_must_be_opened_again_after_a_rotation(folder):
    place, unlocked = folder
    (place / "data").rmdir()
    keys = live(place)
    rotated(place, unlocked)
    with pytest.raises(KeysRotated):
        keys.look_again()
    assert keys.generation == 1
    keys.close()


def test_a_vault_file_that_is_gone_or_damaged_tells_nothing_new(folder):
    place, _ = folder
    keys = live(place)
    whole = (place / "vault.json").read_bytes()
    (place / "vault.json").unlink()
    assert keys.newest() == 1
    (place / "vault.json").write_bytes(b"{")
    assert keys.for_pages().keys() == {1}
    (place / "vault.json").write_bytes(whole)
    assert keys.newest() == 1
    keys.close()


def test_a_key_that_was_handed_over_opens_no_vault_file_that_was_not_sealed_with_it(folder):
    """The attack: a vault.json of the next generation under another root key, beside a true handover."""
    place, unlocked = folder
    keys = live(place)
    vault_id = VaultFile.read(place / "vault.json").vault_id
    hand_over(place / "data" / "open", vault_id=vault_id, generation=1, old=unlocked.root, new=RootKey.random())
    rotated(place, unlocked)
    with pytest.raises(KeysRotated):
        keys.look_again()
    assert keys.root == unlocked.root
    keys.close()


def test_a_process_that_nothing_was_handed_to_says_so(folder):
    place, unlocked = folder
    keys = live(place)
    rotated(place, unlocked)
    with pytest.raises(KeysRotated, match="not handed over"):
        keys.for_pages()
    keys.close()
