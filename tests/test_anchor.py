"""The commit anchor: an older copy of the whole folder is told at opening, and nothing else is ever held up by it."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend

import aico
from aico import anchor
from aico.errors import OlderState
from aico.testing import PASSPHRASE, cheap_settings
from tests.engines import ENGINES, made_on


@pytest.fixture(params=ENGINES, autouse=True)
def engine(request, monkeypatch):
    """The engine that the vaults are made on."""
    return made_on(request.param, monkeypatch)


class Keyring(KeyringBackend):
    """An operating system's keyring, in memory, which may take its time."""

    priority = 5

    def __init__(self):
        super().__init__()
        self.kept, self.wait_s = {}, 0.0

    def get_password(self, service, username):
        time.sleep(self.wait_s)
        return self.kept.get(username)

    def set_password(self, service, username, password):
        self.kept[username] = password

    def delete_password(self, service, username):
        del self.kept[username]


@pytest.fixture
def in_keyring():
    before, made = keyring.get_keyring(), Keyring()
    keyring.set_keyring(made)
    yield made
    keyring.set_keyring(before)


@pytest.fixture
def anchor_file(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    file = tmp_path / "elsewhere" / "anchor.json"
    monkeypatch.setenv("AICO_ANCHOR_FILE", str(file))
    return file


def opened(folder: Path, **options) -> aico.Vault:
    return aico.open(
        folder, passphrase=PASSPHRASE, settings=replace(cheap_settings(), anchor_in_keyring=True), **options
    )


def record(folder: Path, count: int = 1) -> None:
    with opened(folder) as vault:
        for number in range(count):
            vault.memory.record("mia", f"message {number}", conversation="c")


def finding(folder: Path):
    with opened(folder) as vault:
        return next(found for found in vault.doctor() if found.name == "commit anchor")


def roll_back(folder: Path) -> None:
    """An older copy of the folder in its place."""
    record(folder)
    shutil.copytree(folder, folder.with_name("older"))
    record(folder)
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name("older"), folder)


@pytest.mark.parametrize("place", ["in_keyring", "anchor_file"])
def test_an_older_copy_of_the_folder_is_refused_until_it_is_accepted(tmp_path, request, place):
    request.getfixturevalue(place)
    folder = tmp_path / "vault"
    roll_back(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for _ in range(2):  # asking again does not wear it down
        with pytest.raises(OlderState, match="older copy"):
            opened(folder)
    assert {path: before[path] for path in before if path.suffix == ".db"}.items() <= {
        path: path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }.items()
    with opened(folder, accept_older=True) as vault:
        assert len(vault.memory.recent("mia", "c")) == 1
    record(folder)
    assert finding(folder).ok


def test_a_log_whose_end_was_cut_is_told(tmp_path, anchor_file):
    folder = tmp_path / "vault"
    with opened(folder) as vault:
        vault.memory.record("mia", "one", conversation="c")
        size = (folder / "data" / "aico.db-wal").stat().st_size
        vault.memory.record("mia", "two", conversation="c")
        shutil.copytree(folder, tmp_path / "killed")  # the log still holds both
    log = tmp_path / "killed" / "data" / "aico.db-wal"
    log.write_bytes(log.read_bytes()[:size])
    shutil.rmtree(folder)
    (tmp_path / "killed").rename(folder)
    with pytest.raises(OlderState):
        opened(folder)


def test_the_anchor_follows_from_the_background_and_at_the_end(tmp_path, anchor_file, monkeypatch):
    monkeypatch.setattr(anchor, "EVERY_S", 0.02)
    with opened(tmp_path / "vault") as vault:
        vault.memory.record("mia", "a message", conversation="c")
        newest = vault.connection.fetch_all("SELECT max(number) FROM change_feed")[0][0]
        deadline = time.monotonic() + 30
        while list(json.loads(anchor_file.read_text()).values()) != [newest]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    monkeypatch.setattr(anchor, "EVERY_S", 3600)
    record(tmp_path / "vault")
    assert next(iter(json.loads(anchor_file.read_text()).values())) > newest
    assert anchor_file.stat().st_mode & 0o777 == 0o600


def test_a_restored_vault_begins_an_anchor_of_its_own(tmp_path, anchor_file):
    folder = tmp_path / "vault"
    record(folder)
    with opened(folder) as vault:
        made = vault.backups.create(tmp_path / "backups")
    record(folder, 5)
    from aico.vault import restore_vault

    restore_vault(made.path, tmp_path / "restored", passphrase=PASSPHRASE)
    with opened(tmp_path / "restored") as vault:
        assert len(vault.memory.recent("mia", "c")) == 1
    with opened(folder) as vault:
        assert len(vault.memory.recent("mia", "c")) == 6
    assert len(json.loads(anchor_file.read_text())) == 2


@pytest.mark.parametrize("content", ["", "not json", "[1]", '{"a": "b"}', "\0" * 10, "[" * 100_000])
def test_an_anchor_file_that_cannot_be_used_holds_nobody_up_and_doctor_says_so(tmp_path, anchor_file, content):
    anchor_file.write_text(content)
    record(tmp_path / "vault")
    found = finding(tmp_path / "vault")
    assert found.ok is None
    assert "cannot be used" in found.message
    assert anchor_file.read_text() == content


def test_an_anchor_file_inside_the_folder_would_be_put_back_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("AICO_ANCHOR_FILE", str(tmp_path / "vault" / "anchor.json"))
    record(tmp_path / "vault")
    assert "cannot be used" in finding(tmp_path / "vault").message
    assert not (tmp_path / "vault" / "anchor.json").exists()


def test_a_keyring_that_does_not_answer_holds_nobody_up(tmp_path, in_keyring, monkeypatch):
    monkeypatch.setattr(anchor, "KEYRING_WAIT_S", 0.05)
    in_keyring.wait_s = 2.0
    record(tmp_path / "vault")
    assert "did not answer" in finding(tmp_path / "vault").message


def test_without_keyring_and_file_there_is_none_and_doctor_says_so(tmp_path):
    record(tmp_path / "vault")
    found = finding(tmp_path / "vault")
    assert found.ok is None
    assert "AICO_ANCHOR_FILE" in found.message


def test_a_vault_for_tests_leaves_the_keyring_alone(tmp_path, in_keyring):
    with aico.open(tmp_path / "vault", passphrase=PASSPHRASE, settings=cheap_settings()) as vault:
        vault.memory.record("mia", "a message", conversation="c")
    assert in_keyring.kept == {}
