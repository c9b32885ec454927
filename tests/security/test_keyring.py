"""The keyring slot: opens without a prompt, holds no key of ours, and refuses keyrings that keep nothing or keep it in the clear."""

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends.chainer import ChainerBackend
from keyring.backends.fail import Keyring as FailKeyring
from keyring.backends.null import Keyring as NullKeyring
from keyring.errors import KeyringLocked, PasswordDeleteError

from aico.errors import KeyringUnavailable, KeyslotMissing, Tampered
from aico.security import keyring as ours
from aico.security.keys import KeyEncryptionKey, Passphrase
from aico.security.keyslots import VaultFile
from aico.settings import KdfCost
from tests.children import run

CHEAP = KdfCost(memory_kib=8, passes=1, lanes=1)
ONE = Passphrase("first passphrase")


class MemoryKeyring(KeyringBackend):
    """A fake keyring: this machine's own is not for tests."""

    priority = 0  # never chosen by itself
    name = "memory"

    def __init__(self):
        super().__init__()
        self.kept, self.locked, self.priority = {}, False, 9

    def _check(self):
        if self.locked:
            raise KeyringLocked("locked")

    def get_password(self, service, username):
        self._check()
        return self.kept.get((service, username))

    def set_password(self, service, username, password):
        self._check()
        self.kept[service, username] = password

    def delete_password(self, service, username):
        self._check()
        if self.kept.pop((service, username), None) is None:
            raise PasswordDeleteError("not there")


class Plaintext(KeyringBackend):
    """Stands for `keyrings.alt.file.PlaintextKeyring`: named and rated like it."""

    priority = 0.5

    def get_password(self, service, username):
        raise AssertionError("a plaintext keyring was asked")

    set_password = delete_password = get_password


Plaintext.__module__ = "keyrings.alt.file"


class Encrypted(Plaintext):
    """Stands for `keyrings.alt.file.EncryptedKeyring`, which keeps a file as well."""

    priority = 0.6


Encrypted.__module__ = "keyrings.alt.file"


class Chain(ChainerBackend):
    """What `keyring` chooses where two backends are viable; it rates itself 10."""

    priority = 10
    backends = (Encrypted(), Plaintext())


@pytest.fixture
def use():
    before = keyring.get_keyring()
    yield keyring.set_keyring
    keyring.set_keyring(before)


@pytest.fixture
def memory(use):
    backend = MemoryKeyring()
    use(backend)
    return backend


@pytest.fixture
def vault():
    return VaultFile.new(ONE, cost=CHEAP)


def test_the_keyring_opens_the_vault_and_holds_neither_key_nor_passphrase(memory, vault):
    made, keys = vault
    made = made.with_keyring(keys.root)
    assert made.unlock_by_keyring() == keys
    assert made.unlock(ONE) == keys
    assert list(memory.kept) == [("aico", made.keyring_entries()[0])]
    (kept,) = memory.kept.values()
    assert keys.root.reveal().hex() not in kept
    assert keys.natural.reveal().hex() not in kept
    assert ONE.reveal() not in kept


def test_another_machines_keyring_does_not_open_it(memory, vault):
    made, keys = vault
    made = made.with_keyring(keys.root)
    memory.kept.clear()
    with pytest.raises(KeyslotMissing):
        made.unlock_by_keyring()
    ours.store_secret(made.keyring_entries()[0], KeyEncryptionKey.random())
    with pytest.raises(KeyslotMissing):
        made.unlock_by_keyring()


@pytest.mark.parametrize("entry", ["", "zz", "00" * 31, "not hex at all", "00" * 33, "\ud800"])
def test_a_foreign_entry_is_told_and_not_used(memory, vault, entry):
    made, keys = vault
    made = made.with_keyring(keys.root)
    memory.kept["aico", made.keyring_entries()[0]] = entry
    with pytest.raises(KeyringUnavailable):
        made.unlock_by_keyring()


def test_a_locked_keyring_is_told(memory, vault):
    made, keys = vault
    made = made.with_keyring(keys.root)
    memory.locked = True
    with pytest.raises(KeyringUnavailable):
        made.unlock_by_keyring()
    with pytest.raises(KeyringUnavailable):
        made.with_keyring(keys.root)
    with pytest.raises(KeyringUnavailable):
        ours.forget_secret(made.keyring_entries()[0])


def test_forgetting_what_is_not_there_is_fine(memory, vault):
    made, keys = vault
    made = made.with_keyring(keys.root)
    ours.forget_secret(made.keyring_entries()[0])
    ours.forget_secret(made.keyring_entries()[0])
    assert memory.kept == {}


def test_a_secret_of_one_vault_does_not_open_another(memory, vault):
    made, keys = vault
    other, other_keys = VaultFile.new(ONE, cost=CHEAP)
    made, other = made.with_keyring(keys.root), other.with_keyring(other_keys.root)
    one, two = memory.kept
    memory.kept[one], memory.kept[two] = memory.kept[two], memory.kept[one]
    for each in (made, other):
        with pytest.raises((KeyslotMissing, Tampered)):
            each.unlock_by_keyring()


@pytest.mark.parametrize("backend", [NullKeyring, FailKeyring, Plaintext, Encrypted, Chain])
def test_a_keyring_that_keeps_nothing_or_keeps_it_in_the_clear_is_refused(use, vault, backend):
    made, keys = vault
    use(backend())
    for attempt in (
        lambda: made.with_keyring(keys.root),
        lambda: ours.find_secret("a vault/a slot"),
        ours.try_out,
        lambda: ours.forget_secret("a vault/a slot"),
    ):
        with pytest.raises(KeyringUnavailable):
            attempt()


class Broken(MemoryKeyring):
    """Raises what is no error of `keyring`'s, as a backend does whose bus is gone."""

    def _check(self):
        raise ConnectionResetError("the bus is gone")


def test_whatever_a_keyring_raises_it_is_unavailable(use, vault):
    made, keys = vault
    use(Broken())
    for attempt in (
        lambda: made.with_keyring(keys.root),
        lambda: ours.find_secret("a vault/a slot"),
        ours.try_out,
        lambda: ours.forget_secret("a vault/a slot"),
    ):
        with pytest.raises(KeyringUnavailable, match="ConnectionResetError"):
            attempt()


@pytest.mark.parametrize(
    "named", ["keyring.backends.macOS.Keyring", "keyring.backends.Windows.WinVaultKeyring", "nowhere.Keyring"]
)
def test_a_configured_keyring_that_does_not_work_here_is_told(named):
    done = run(asked_for_its_name, PYTHON_KEYRING_BACKEND=named)
    assert done.error == "KeyringUnavailable", done.message


def asked_for_its_name():
    return ours.try_out()
