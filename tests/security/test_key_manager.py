"""Keys without a database: proved by a keyslot, shared with the vault of the same folder, never shown."""

import pytest

import aico
from aico.data import EncryptedLibSQLConnection
from aico.errors import InvalidInput, KeysRotated, NotFound, UnlockError, WrongPassphrase
from aico.security.encrypted_file import EncryptedFile
from aico.security.key_manager import AICOKeyManager
from aico.security.keys import Passphrase
from aico.security.keyslots import VaultFile
from aico.settings import KdfCost
from aico.testing import PASSPHRASE, cheap_settings

CHEAP = KdfCost(memory_kib=64, passes=1, lanes=1)


def manager(folder) -> AICOKeyManager:
    return AICOKeyManager(folder, cost=CHEAP)


def test_a_password_opens_the_files_it_sealed(tmp_path):
    keys = manager(tmp_path / "home")
    assert not keys.has_stored_key()
    keys.setup_master_password("right")
    with EncryptedFile(tmp_path / "diary", "w", keys) as file:
        file.write("Dear diary")
    again = manager(tmp_path / "home")
    again.authenticate("right")
    with EncryptedFile(tmp_path / "diary", "r", again) as file:
        assert file.read() == "Dear diary"


def test_a_wrong_password_raises_and_changes_nothing_for_the_right_one(tmp_path):
    keys = manager(tmp_path)
    keys.setup_master_password("right")
    for _ in range(2):
        with pytest.raises(WrongPassphrase):
            keys.authenticate("wrong")
    assert keys.authenticate("right") == manager(tmp_path).authenticate("right")


def test_before_authenticating_there_are_no_keys(tmp_path):
    keys = manager(tmp_path)
    with pytest.raises(NotFound):
        keys.authenticate("x")
    keys.setup_master_password("right")
    keys.lock()
    with pytest.raises(UnlockError):
        EncryptedFile(tmp_path / "a", "w", keys)
    with pytest.raises(InvalidInput):
        keys.setup_master_password("another")


def test_a_changed_password_opens_and_the_old_one_does_not(tmp_path):
    keys = manager(tmp_path)
    root = keys.setup_master_password("old")
    with pytest.raises(WrongPassphrase):
        keys.change_password("guess", "new")
    keys.change_password("old", "new")
    assert keys.authenticate("new") == root
    with pytest.raises(WrongPassphrase):
        keys.authenticate("old")


def test_it_opens_the_database_of_the_vault_in_the_same_folder(tmp_path):
    with aico.open(tmp_path / "vault", passphrase=PASSPHRASE, settings=cheap_settings()) as vault:
        vault.memory.record("mia", "hello", conversation="c")
    keys = manager(tmp_path / "vault")
    root = keys.authenticate(PASSPHRASE)
    path = tmp_path / "vault" / "data" / "aico.db"
    with EncryptedLibSQLConnection(path, encryption_key=keys.derive_database_key(root, "libsql")) as connection:
        assert connection.fetch_one("SELECT text FROM messages") == ("hello",)


def test_every_purpose_has_its_own_key_and_none_shows(tmp_path):
    keys = manager(tmp_path)
    root = keys.setup_master_password("right")
    derived = [
        keys.derive_database_key(root),
        keys.derive_database_key(root, "duckdb"),
        keys.derive_file_encryption_key(root),
        keys.derive_file_encryption_key(root, "photos"),
        keys.derive_purpose_key(root, "default"),
        root.for_pages().derive(b""),
    ]
    assert len(set(derived)) == len(derived)
    assert all(len(key) == 32 for key in derived)
    with pytest.raises(InvalidInput):
        keys.derive_purpose_key(root, "")
    shown = repr(keys) + repr(vars(keys)) + str(keys.get_security_health_info())
    assert not any(key.hex() in shown for key in [*derived, root.reveal()])
    assert "right" not in shown
    assert keys.benchmark_key_derivation() > 0


def test_after_a_rotation_the_keys_are_asked_for_again(tmp_path):
    keys = manager(tmp_path)
    keys.setup_master_password("right")
    unlocked = VaultFile.read(keys.path).unlock(Passphrase("right"))
    fresh, root = VaultFile.read(keys.path).with_next_root(unlocked)
    fresh.with_passphrase(root, Passphrase("right"), cost=CHEAP).write(keys.path)
    with pytest.raises(KeysRotated):
        keys.file_keys()
    keys.authenticate("right")
    assert keys.file_keys().keys() == {1, 2}
