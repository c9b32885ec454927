"""A finished file gets its name in one step, with hard links and without."""

import errno
import os

import pytest

import aico
from aico.errors import InvalidInput
from aico.files import place_new_file
from aico.security.key_manager import AICOKeyManager
from aico.settings import KdfCost
from aico.testing import PASSPHRASE, cheap_settings


@pytest.fixture
def no_links(monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)


def test_a_name_that_is_taken_stays_what_it_was(tmp_path):
    for name in ("fresh", "place"):
        (tmp_path / name).write_text(name)
    with pytest.raises(FileExistsError):
        place_new_file(tmp_path / "fresh", tmp_path / "place")
    assert (tmp_path / "place").read_text() == "place"


def test_without_hard_links_it_is_the_same(tmp_path, no_links):
    """As on a memory stick: FAT has none."""
    (tmp_path / "fresh").write_text("fresh")
    place_new_file(tmp_path / "fresh", tmp_path / "place")
    (tmp_path / "fresh").write_text("again")
    with pytest.raises(FileExistsError):
        place_new_file(tmp_path / "fresh", tmp_path / "place")
    assert (tmp_path / "place").read_text() == "fresh"


def test_a_vault_is_made_and_backed_up_where_there_are_no_hard_links(tmp_path, no_links):
    with aico.open(tmp_path / "vault", passphrase=PASSPHRASE, settings=cheap_settings()) as vault:
        vault.memory.record("mia", "hello", conversation="c")
        made = vault.backups.create(tmp_path / "stick")
        assert vault.backups.verify(made.path).id == made.id
    aico.restore(made.path, tmp_path / "restored", passphrase=PASSPHRASE)


def test_a_second_master_password_does_not_take_the_place_of_the_first(tmp_path, monkeypatch):
    """The attack: two programs set one up at the same time; the files of the first would be lost."""
    cheap = KdfCost(memory_kib=64, passes=1, lanes=1)
    first, second = (AICOKeyManager(tmp_path, cost=cheap) for _ in range(2))
    monkeypatch.setattr(second, "has_stored_key", lambda: False)
    root = first.setup_master_password("first")
    with pytest.raises(InvalidInput):
        second.setup_master_password("second")
    assert AICOKeyManager(tmp_path, cost=cheap).authenticate("first") == root
