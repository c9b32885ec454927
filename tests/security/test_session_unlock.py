"""A vault left unlocked: by this machine's keyring, for its time, and not a second longer by any clock."""

import errno
import json
import shutil
from pathlib import Path

import keyring
import pytest
from keyring.backends.fail import Keyring as FailKeyring
from keyring.backends.null import Keyring as NullKeyring

import aico
from aico.errors import InvalidInput, KeyringUnavailable, KeyslotMissing, StorageError
from aico.security import session_unlock
from aico.security.keyslots import VaultFile
from aico.security.session_unlock import LONGEST_S, Now, begin, end, left_s, unlock
from aico.testing import PASSPHRASE, cheap_settings
from aico.vault import lock_vault
from tests.children import run
from tests.data.libsql.cases import files_of
from tests.security.test_keyring import CHEAP, ONE, Encrypted, MemoryKeyring, Plaintext

MINUTES_15 = 15 * 60
BEGAN = Now(1_800_000_000_000_000, "this run", 5_000_000_000)


@pytest.fixture
def use():
    before = keyring.get_keyring()
    yield keyring.set_keyring
    keyring.set_keyring(before)


@pytest.fixture
def memory(use):
    use(backend := MemoryKeyring())
    return backend


@pytest.fixture
def vault():
    return VaultFile.new(ONE, cost=CHEAP)


def later(seconds: float, *, by_day: float | None = None, boot: str = BEGAN.boot) -> Now:
    """So much later by the machine's uptime, and by the time of day unless that is said apart."""
    day = seconds if by_day is None else by_day
    return Now(BEGAN.at_us + int(day * 1e6), boot, BEGAN.uptime_us + int(seconds * 1e6))


def begun(folder, vault, ttl_s=MINUTES_15):
    made, keys = vault
    begin(folder, made, keys.root, ttl_s=ttl_s, now=lambda: BEGAN)
    return made, keys


def test_it_opens_until_its_time_is_over_and_then_leaves_nothing(tmp_path, memory, vault):
    made, keys = begun(tmp_path, vault)
    assert unlock(tmp_path, made, now=lambda: later(MINUTES_15 - 1)) == keys
    assert left_s(tmp_path, now=lambda: later(60)) == MINUTES_15 - 60
    assert unlock(tmp_path, made, now=lambda: later(MINUTES_15)) is None
    assert not memory.kept
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "now",
    [
        later(MINUTES_15 + 1, by_day=10),  # the clock was set back: the machine knows how long it runs
        later(10, by_day=-1),  # set back to before it began
        later(10, by_day=MINUTES_15),  # set forward
        later(-1, by_day=10),  # an uptime that never was
        later(10, boot="another run"),  # started again
        later(10, boot=""),
    ],
    ids=["set back a little", "set back far", "set forward", "uptime", "started again", "no run"],
)
def test_no_clock_that_is_set_prolongs_it(tmp_path, memory, vault, now):
    made, _ = begun(tmp_path, vault)
    assert unlock(tmp_path, made, now=lambda: now) is None
    assert not memory.kept
    assert unlock(tmp_path, made, now=lambda: later(1)) is None


@pytest.mark.parametrize("field", ["ttl_s", "at_us", "uptime_us", "boot", "generation"])
def test_a_changed_file_opens_nothing(tmp_path, memory, vault, field):
    """The attack: whoever can write the file gives the session a longer life."""
    made, _ = begun(tmp_path, vault)
    told = json.loads((tmp_path / "session").read_bytes())
    told[field] = told[field] + 60 if isinstance(told[field], int) else "another run"
    (tmp_path / "session").write_text(json.dumps(told))
    assert unlock(tmp_path, made, now=lambda: later(1, boot=told["boot"])) is None


def test_the_file_without_the_keyring_and_the_keyring_without_the_file_open_nothing(tmp_path, memory, vault):
    """The attack: a copy of the folder, with its session, on another machine; or a keyring that was read."""
    made, keys = begun(tmp_path, vault)
    [secret], stolen = memory.kept.values(), tmp_path / "stolen"
    content = (tmp_path / "session").read_bytes()
    assert keys.root.reveal().hex() not in secret
    assert keys.root.reveal() not in content
    kept = dict(memory.kept)
    memory.kept.clear()
    stolen.mkdir()
    shutil.copy(tmp_path / "session", stolen / "session")
    assert unlock(stolen, made, now=lambda: later(1)) is None
    memory.kept.update(kept)
    (tmp_path / "session").unlink()
    assert unlock(tmp_path, made, now=lambda: later(1)) is None


def test_a_copy_of_the_file_is_worthless_once_the_session_ended(tmp_path, memory, vault):
    """The attack: a synchronised folder kept the session's file; nobody has its secret any more."""
    made, _ = begun(tmp_path, vault)
    content = (tmp_path / "session").read_bytes()
    assert end(tmp_path, made)
    assert not end(tmp_path, made)
    (tmp_path / "session").write_bytes(content)
    assert unlock(tmp_path, made, now=lambda: later(1)) is None


def test_a_session_of_one_vault_does_not_open_another(tmp_path, memory, vault):
    begun(tmp_path, vault)
    other, _ = VaultFile.new(ONE, cost=CHEAP)
    assert unlock(tmp_path, other, now=lambda: later(1)) is None


@pytest.mark.parametrize("backend", [NullKeyring, FailKeyring, Plaintext, Encrypted])
def test_without_a_keyring_that_keeps_secrets_there_is_no_session(tmp_path, use, vault, backend):
    use(backend())
    with pytest.raises(KeyringUnavailable):
        begun(tmp_path, vault)
    assert list(tmp_path.iterdir()) == []


def test_a_keyring_that_is_gone_opens_nothing_and_says_so_by_asking(tmp_path, use, memory, vault):
    made, _ = begun(tmp_path, vault)
    use(FailKeyring())
    assert unlock(tmp_path, made, now=lambda: later(1)) is None


def test_a_session_ends_without_the_keyring_too(tmp_path, use, memory, vault):
    made, _ = begun(tmp_path, vault)
    use(FailKeyring())
    assert end(tmp_path, made)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ttl_s", [0, -1, LONGEST_S + 1])
def test_a_life_out_of_bounds_is_refused(tmp_path, memory, vault, ttl_s):
    with pytest.raises(InvalidInput):
        begun(tmp_path, vault, ttl_s)
    assert not memory.kept


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b"[" * 4000, b"null", b"1" * 5000])
def test_a_file_that_is_no_session_opens_nothing(tmp_path, memory, vault, content):
    (tmp_path / "session").write_bytes(content)
    assert unlock(tmp_path, vault[0]) is None
    assert left_s(tmp_path) == 0


def test_a_planted_link_or_pipe_in_its_place_is_not_read(tmp_path, memory, vault):
    import os

    made, _ = begun(tmp_path, vault)
    (tmp_path / "session").rename(tmp_path / "elsewhere")
    (tmp_path / "session").symlink_to(tmp_path / "elsewhere")
    assert unlock(tmp_path, made, now=lambda: later(1)) is None
    (tmp_path / "session").unlink()
    os.mkfifo(tmp_path / "session")
    assert unlock(tmp_path, made, now=lambda: later(1)) is None


# With a whole vault


def opened(folder, secret: str | None = None) -> aico.Vault:
    return aico.open(folder, passphrase=secret, settings=cheap_settings(), create=secret is not None)


def test_a_vault_left_unlocked_opens_without_a_passphrase_until_it_is_locked(tmp_path, memory):
    folder = tmp_path / "vault"
    with opened(folder, PASSPHRASE) as vault:
        vault.keys.leave_unlocked(60)
        assert vault.audit_log.last_entries(1)[0].action == "vault left unlocked"
    with opened(folder) as vault:
        assert 55 <= vault.status().session_left_s <= 60
    assert lock_vault(folder)
    with pytest.raises(KeyslotMissing):
        opened(folder)
    assert not memory.kept


def test_it_is_in_no_backup(tmp_path, memory):
    """The attack: a backup that was made meanwhile, and the keyring's secret of that time."""
    with opened(tmp_path / "vault", PASSPHRASE) as vault:
        vault.keys.leave_unlocked(60)
        made = vault.backups.create()
    with pytest.raises(KeyslotMissing):
        aico.vault.restore_vault(made.path, tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


def test_a_new_session_takes_the_place_of_the_old(tmp_path, memory):
    folder = tmp_path / "vault"
    with opened(folder, PASSPHRASE) as vault:
        vault.keys.leave_unlocked(60)
        first = (folder / "session").read_bytes()
        vault.keys.leave_unlocked(60)
    (folder / "session").write_bytes(first)
    with pytest.raises(KeyslotMissing):
        opened(folder)


def test_a_rotation_ends_it(tmp_path, memory):
    folder = tmp_path / "vault"
    with opened(folder, PASSPHRASE) as vault:
        vault.keys.leave_unlocked(60)
        kept, content = dict(memory.kept), (folder / "session").read_bytes()
        vault.keys.rotate(PASSPHRASE)
    memory.kept.update(kept)
    (folder / "session").write_bytes(content)
    with pytest.raises(KeyslotMissing):
        opened(folder)


def leave_unlocked_without_room(folder: str) -> None:
    import resource

    keyring.set_keyring(backend := MemoryKeyring())
    with opened(folder, PASSPHRASE) as vault:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))
        try:
            vault.keys.leave_unlocked(60)
            raise AssertionError("there was room")
        except StorageError:
            pass
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert not backend.kept
        assert vault.audit_log.entries()[-1:] == []
        vault.keys.leave_unlocked(60)


def test_without_room_it_stays_locked_and_works_when_there_is(tmp_path):
    opened(tmp_path / "vault", PASSPHRASE).close()
    done = run(leave_unlocked_without_room, str(tmp_path / "vault"))
    assert done.error is None, done


def test_no_file_shows_a_key(tmp_path, memory):
    folder = tmp_path / "vault"
    with opened(folder, PASSPHRASE) as vault:
        vault.keys.leave_unlocked(60)
        root = vault.keys._root.reveal()
    [secret] = memory.kept.values()
    for content in files_of(folder).values():
        assert root not in content
        assert bytes.fromhex(secret) not in content
        assert secret.encode() not in content


def test_this_machines_clocks_go_on():
    one, two = session_unlock.machine_now(), session_unlock.machine_now()
    assert one.boot == two.boot
    assert two.uptime_us >= one.uptime_us > 0


def test_a_system_that_does_not_say_which_run_this_is_still_has_its_uptime(monkeypatch):
    def nothing(path, **how):
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", nothing)  # as where there is no /proc
    assert session_unlock.machine_now().boot == ""
    assert session_unlock.machine_now().uptime_us > 0


def test_a_session_that_cannot_be_deleted_opens_nothing_and_that_is_said(tmp_path, memory, vault):
    """The attack: a folder in the place of the file. The secret is gone all the same."""
    made, _ = begun(tmp_path, vault)
    (tmp_path / "session").unlink()
    (tmp_path / "session").mkdir()
    with pytest.raises(StorageError, match="opens nothing any more"):
        end(tmp_path, made)
    assert not memory.kept


def test_where_there_is_no_session_a_disk_that_is_read_only_stops_no_lock(tmp_path, memory, monkeypatch):
    def refused(_path, missing_ok=False):
        raise OSError(errno.EROFS, "Read-only file system")  # also for what is not there

    with aico.open(tmp_path / "v", passphrase=PASSPHRASE, settings=cheap_settings()):
        pass
    monkeypatch.setattr(Path, "unlink", refused)
    assert lock_vault(tmp_path / "v") is False
