"""Vaults that older releases left: each opens, with its log, hot tier, backup, sealed file and export, for ever."""

import shutil
from pathlib import Path

import pytest

import aico
from aico.data.libsql.connection import EncryptedLibSQLConnection
from aico.errors import Tampered
from aico.security.encrypted_file import EncryptedFile
from aico.security.key_manager import AICOKeyManager
from aico.security.keyslots import VaultFile
from aico.testing import PASSPHRASE, cheap_settings
from tests.independent import decryptor
from tests.vectors.make import AT, FACT, FILE_TEXT, IN_THE_LOG, SETTLED

GOLDEN = sorted(Path(__file__).parent.glob("format-*"))
ALL = sorted([*SETTLED, *IN_THE_LOG])


@pytest.fixture(params=GOLDEN, ids=lambda folder: folder.name)
def golden(request, tmp_path) -> Path:
    """A copy, private as the original was: a checkout knows nothing of owners and modes."""
    if request.param.name == "format-2":
        pytest.importorskip("libsql", reason="the engine libsql needs the extra aico[libsql]")
    folder = tmp_path / "golden"
    shutil.copytree(request.param, folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    return folder


def opened(folder: Path, secret: str = PASSPHRASE) -> aico.Vault:
    return aico.open(folder, passphrase=secret, create=False, settings=cheap_settings())


def texts_of(vault: aico.Vault) -> list[str]:
    """In order of the alphabet: all were said at one moment."""
    return sorted(moment.text for moment in vault.memory.recent("mia", "c1", limit=1000))


def test_there_is_one_for_each_format():
    assert [folder.name for folder in GOLDEN] == ["format-0", "format-1", "format-2"]


def test_a_golden_vault_opens_with_what_its_log_held_and_is_written_to(golden):
    for secret in (PASSPHRASE, (golden / "phrase.txt").read_text().strip()):
        with opened(golden / "vault", secret) as vault:
            assert set(texts_of(vault)) >= set(ALL)
            assert [fact.text for fact in vault.facts.list("mia")] == [FACT]
            vault.memory.record("mia", f"and today, by {secret[:4]}", conversation="c1", at=AT)
            vault.connection.verify()
    with opened(golden / "vault") as vault:
        assert len(texts_of(vault)) == len(ALL) + 2


def test_a_golden_backup_is_restored(golden):
    [backup] = (golden / "backups").glob("*.aicobackup")
    aico.restore(backup, golden / "restored", passphrase=PASSPHRASE)
    with opened(golden / "restored") as vault:
        assert texts_of(vault) == sorted(SETTLED)
        findings = {finding.name: finding.ok for finding in vault.doctor()}
        sealed = vault.connection.detects_tampering
    assert findings.get("page map") is (True if sealed else None)  # restored, a vault of format 0 has one too


def test_a_golden_file_and_a_golden_export_are_read(golden, tmp_path):
    manager = AICOKeyManager(golden / "vault")
    manager.authenticate(PASSPHRASE)
    with EncryptedFile(golden / "diary.sealed", "r", manager, "diary") as file:
        assert file.read() == FILE_TEXT
    with aico.open(tmp_path / "new", passphrase=PASSPHRASE, settings=cheap_settings()) as vault:
        vault.import_(golden / "export.jsonl", "mia")
        assert texts_of(vault) == sorted(SETTLED)


def test_a_golden_vault_is_read_from_the_bytes_alone(golden):
    if VaultFile.read(golden / "vault" / "vault.json").engine == "sqlite":  # libSQL's wheel writes pages of its own
        database = decryptor.open_vault(golden / "vault", PASSPHRASE)
        found = [text for (text,) in database.execute("SELECT text FROM messages ORDER BY text")]
        assert found == ALL
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        database.close()
    assert decryptor.hot_tier(golden / "vault", PASSPHRASE)["session_memory"]
    [backup] = (golden / "backups").glob("*.aicobackup")
    _, copy = decryptor.full_backup(backup.read_bytes(), PASSPHRASE)
    assert [text for (text,) in copy.execute("SELECT text FROM messages ORDER BY text")] == sorted(SETTLED)
    copy.close()
    root = decryptor.root_key(decryptor.json.loads((golden / "vault" / "vault.json").read_bytes()), PASSPHRASE)
    sealed = (golden / "diary.sealed").read_bytes()
    files = decryptor.hkdf(root, b"aico 1 sealed files")
    assert decryptor.opened_stream(files, sealed, decryptor.encoded("file", "diary")) == FILE_TEXT.encode()


def test_the_map_that_a_newer_vault_must_have_cannot_be_left_out_by_calling_it_older(golden):
    """The attack: a database of format 1 is not taken for one of format 0 by removing its map or changing its salt."""
    database = golden / "vault" / "data" / "aico.db"
    content, page_map = bytearray(database.read_bytes()), Path(f"{database}-map")
    if not page_map.exists():
        return  # it never had one
    page_map.unlink()
    with pytest.raises(Tampered):
        opened(golden / "vault")
    content[0] &= 0x7F
    database.write_bytes(content)
    with pytest.raises(Tampered):
        EncryptedLibSQLConnection(database, bytes(32), create=False)
    with pytest.raises(Tampered):
        opened(golden / "vault")
