"""Pipes that somebody put where a vault's files lie: opening one would wait for ever."""

import os
import shutil
import subprocess
import sys

import pytest

import aico
from aico.testing import PASSPHRASE, cheap_settings

USE = """
import sys, aico
from aico.errors import AicoError
from aico.testing import PASSPHRASE, cheap_settings
try:
    with aico.open(sys.argv[1], passphrase=PASSPHRASE, settings=None if sys.argv[2] == "config.toml" else cheap_settings()) as vault:
        print(len(vault.memory.recent("mia", "c")))
        try:
            vault.devices.find_this()
        except AicoError:
            assert sys.argv[2] == "device"
except AicoError as error:
    print(type(error).__name__)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted") / "vault"
    with aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings()) as vault:
        vault.memory.record("mia", "I moved to Lisbon.", conversation="c")
        vault.memory.recent("mia", "c")
    return folder


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("config.toml", "InvalidInput"),
        ("vault.json", "Tampered"),
        ("session", "1"),
        ("data/aico.db-map", "StorageError"),
        ("data/lmdb/seal", "1"),
        ("data/lmdb/data.mdb", "1"),
        ("device", "1"),
    ],
)
def test_a_pipe_in_the_place_of_a_file_keeps_nobody_waiting(folder, tmp_path, name, answer):
    vault = tmp_path / "vault"
    shutil.copytree(folder, vault)
    (vault / name).unlink(missing_ok=True)
    os.mkfifo(vault / name)
    done = subprocess.run(
        [sys.executable, "-c", USE, str(vault), name], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == [answer]
