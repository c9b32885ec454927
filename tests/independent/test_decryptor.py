"""The bytes on the disk are what the description says: a decryptor that shares no code with us reads a vault."""

import ast
import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path

import keyring
import msgspec
import pytest

import aico
from aico.security.keys import ValueKey
from aico.security.stream import seal_stream
from aico.testing import PASSPHRASE, cheap_settings
from tests.independent import decryptor
from tests.security.test_keyring import MemoryKeyring

TEXTS = ["I moved to Lisbon in May.", "Ich habe Äpfel gekauft.", "引っ越しました。", "x" * 10_000, "with \0 NUL"]


@pytest.fixture(scope="module")
def vault(tmp_path_factory):
    """(folder, ids of the messages, recovery phrase) of a vault that was closed cleanly."""
    folder = tmp_path_factory.mktemp("independent") / "vault"
    with aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings()) as open_vault:
        ids = [
            open_vault.memory.record("mia", text, conversation="c1", source_id=str(number))
            for number, text in enumerate(TEXTS)
        ]
        ids += [open_vault.memory.record("mia", f"message {number}", conversation="c2") for number in range(500)]
        phrase = open_vault.keys.add_recovery_phrase()
    return folder, ids, phrase


def test_it_shares_no_code_with_us():
    tree = ast.parse(Path(decryptor.__file__).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name for name in imported if name.partition(".")[0] in ("aico", "apsw", "tests")}


@pytest.mark.parametrize("way", ["passphrase", "recovery phrase", "recovery phrase in capitals"])
def test_every_message_is_read_from_the_bytes_alone(vault, way):
    folder, ids, phrase = vault
    secret = {"passphrase": PASSPHRASE, "recovery phrase": phrase, "recovery phrase in capitals": phrase.upper()}[way]
    database = decryptor.open_vault(folder, secret)
    found = database.execute("SELECT lower(hex(id)), text FROM messages ORDER BY position").fetchall()
    assert found == list(zip(ids, [*TEXTS, *(f"message {number}" for number in range(500))], strict=True))
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert database.execute("SELECT name FROM users").fetchall() == [("mia",)]
    database.close()


def test_the_ids_of_named_rows_follow_from_the_natural_key(vault):
    folder, ids, _ = vault
    key = decryptor.natural_key(folder, PASSPHRASE)

    def named(table: bytes, *parts: str | bytes | int) -> bytes:
        return hashlib.blake2b(decryptor.encoded(*parts), digest_size=16, key=key, person=table).digest()

    conversation = named(b"conversations", named(b"users", "mia", 0), "c1")
    assert [named(b"messages", conversation, str(number)).hex() for number in range(len(TEXTS))] == ids[: len(TEXTS)]


def test_the_hot_tier_is_read_from_the_bytes_alone(tmp_path):
    folder = tmp_path / "vault"
    with aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings()) as open_vault:
        for number in range(10):
            open_vault.memory.record("mia", f"turn {number}", conversation="c1", speaker="Mia")
            open_vault.memory.recent("mia", "c1")
        user = open_vault.users.find("mia")
        conversation = open_vault.working._conversations.conversation_id(user, "c1")
        open_vault.working.set_state(user, "s1", {"mood": "calm"})
        newest = open_vault.connection.fetch_all("SELECT max(number) FROM change_feed")[0][0]
    found = decryptor.hot_tier(folder, PASSPHRASE)
    pages = dict(found["session_memory"])
    mark = decryptor.hot_tier_prefix(folder, PASSPHRASE, "mark") + bytes(8)
    assert msgspec.msgpack.decode(pages.pop(mark))[0] == newest
    prefix = decryptor.hot_tier_prefix(folder, PASSPHRASE, user, conversation)
    assert sorted(pages) == [prefix + (1).to_bytes(8, "big"), prefix + b"\xff" * 8]
    first, second = (msgspec.msgpack.decode(pages[key]) for key in sorted(pages))
    assert (first[:3], second[:3]) == ([True, 1, "c1"], [False, 2, "c1"])
    assert [turn[3] for turn in first[3] + second[3]] == [f"turn {number}" for number in range(10)]
    [(key, state)] = found["session_state"]
    assert key == decryptor.hot_tier_prefix(folder, PASSPHRASE, user, "s1") + bytes(8)
    assert msgspec.msgpack.decode(state) == ["s1", '{"mood":"calm"}']


def test_another_secret_opens_nothing(vault):
    folder, _, _ = vault
    with pytest.raises(ValueError, match="no keyslot"):
        decryptor.open_vault(folder, "wrong")


def test_every_frame_of_a_log_left_by_a_kill_is_read_from_the_bytes_alone(tmp_path):
    program = (
        "import os, sys, aico\nfrom aico.testing import PASSPHRASE, cheap_settings\n"
        "vault = aico.open(sys.argv[1], passphrase=PASSPHRASE, settings=cheap_settings())\n"
        "for number in range(20): vault.memory.record('mia', f'whale number {number}', conversation='c')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    folder = tmp_path / "vault"
    subprocess.run([sys.executable, "-c", program, str(folder)], check=False)
    frames = decryptor.log_frames(folder, PASSPHRASE)
    assert len(frames) > 20
    assert all(int.from_bytes(header[:4], "big") > 0 and len(page) == 4096 - 32 for header, page in frames)
    raw = (folder / "data" / "aico.db-wal").read_bytes()
    assert not any(header[16:24] in raw for header, _ in frames)  # the checksum of a plain page would confirm a guess
    assert all(any(f"whale number {number}".encode() in page for _, page in frames) for number in range(20))


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 131_072])
def test_a_stream_is_read_from_the_bytes_alone(size):
    key, sealed = bytes(range(32)), io.BytesIO()
    seal_stream(io.BytesIO(b"a" * size), sealed, keys={1: ValueKey(key)}, bound_to=("file", 7))
    assert decryptor.opened_stream(key, sealed.getvalue(), decryptor.encoded("file", 7)) == b"a" * size


def test_a_backup_is_read_from_the_bytes_alone(vault, tmp_path):
    folder, ids, _ = vault
    with aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings()) as open_vault:
        made = open_vault.backups.create(tmp_path)
    head, database = decryptor.full_backup(made.path.read_bytes(), PASSPHRASE)
    assert (head["id"], head["parent"], head["page_count"]) == (made.id, None, made.pages)
    assert database.execute("SELECT lower(hex(id)) FROM messages ORDER BY position").fetchall() == [
        (one,) for one in ids
    ]
    database.close()


def test_a_vault_with_rotated_keys_is_read_from_the_bytes_alone(tmp_path):
    folder = tmp_path / "vault"
    with aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings()) as open_vault:
        for number in range(20):
            open_vault.memory.record("mia", f"message {number}", conversation="c1")
        root, announced = open_vault.keys._root.reveal(), open_vault.keys._keys._announcement
        open_vault.keys.rotate(PASSPHRASE)
        [step] = json.loads((announced.path.with_name(f"{announced.path.name}.next")).read_bytes())["steps"]
        vault_id, private = open_vault.vault_id, announced._private.private_bytes_raw()
        assert decryptor.handed_over(private, step, root, vault_id, announced.path.name) == (
            open_vault.keys._root.reveal()
        )
    chain, files, previous = decryptor.older_keys(folder, PASSPHRASE)
    assert (chain, previous) == (decryptor.hkdf(root, b"aico 1 audit log"), None)
    assert files == {1: decryptor.hkdf(root, b"aico 1 sealed files")}
    database = decryptor.open_vault(folder, PASSPHRASE)
    found = database.execute("SELECT text FROM messages ORDER BY position").fetchall()
    assert found == [(f"message {number}",) for number in range(20)]
    *entry, seal = database.execute(
        "SELECT id, at, action, user_id, subject_id, counts, seal FROM audit_log"
    ).fetchone()
    parts = [part for value in entry for part in (("missing",) if value is None else ("there", value))]
    encoded = decryptor.encoded(bytes(32), *parts)
    assert hashlib.blake2b(encoded, digest_size=32, key=chain, person=b"audit_log").digest() == seal
    database.close()


def test_a_session_is_read_from_the_bytes_alone(tmp_path):
    before = keyring.get_keyring()
    keyring.set_keyring(backend := MemoryKeyring())
    folder = tmp_path / "vault"
    try:
        with aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings()) as open_vault:
            open_vault.keys.leave_unlocked(60)
            root, vault_id = open_vault.keys._root.reveal(), open_vault.vault_id
    finally:
        keyring.set_keyring(before)
    secret = bytes.fromhex(backend.kept["aico", f"{vault_id}/session"])
    assert decryptor.session_root_key(json.loads((folder / "session").read_bytes()), secret, vault_id) == root
