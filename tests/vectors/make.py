"""Makes the golden vault of the format that this code writes: once for each format, then never again.

    python -m tests.vectors.make tests/vectors/format-1
    python -m tests.vectors.make tests/vectors/format-2 libsql

What it left is committed and must open for ever (`test_golden.py`); remaking it would prove nothing.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import aico
from aico.data.libsql import EngineName
from aico.security.encrypted_file import EncryptedFile
from aico.security.key_manager import AICOKeyManager
from aico.testing import PASSPHRASE, FixedClock, cheap_settings

AT = datetime(2026, 5, 8, 12, 0, tzinfo=UTC)
SETTLED = [f"message {number} of the golden vault: Äpfel, 引っ越し" for number in range(20)]
IN_THE_LOG = [f"message {number}, acknowledged before the kill" for number in range(20, 24)]
FACT = "Mia lives in Lisbon"
FILE_TEXT = "Dear diary,\nthis file was sealed.\n"


def make(folder: Path, engine: EngineName = "sqlite") -> None:
    """Vault, recovery phrase, backup, sealed file and export in `folder`, which does not exist yet."""
    folder.mkdir(parents=True)
    vault_folder, settings = folder / "vault", replace(cheap_settings(clock=FixedClock(AT)), engine=engine)
    with aico.open(vault_folder, passphrase=PASSPHRASE, settings=settings) as vault:
        for number, text in enumerate(SETTLED):
            vault.memory.record("mia", text, conversation="c1", source_id=str(number), at=AT)
        vault.memory.remember("mia", FACT, category="personal")
        (folder / "phrase.txt").write_text(vault.keys.add_recovery_phrase() + "\n")
        vault.memory.recent("mia", "c1")
        vault.backups.create(folder / "backups")
        vault.export(folder / "export.jsonl", "mia")
    manager = AICOKeyManager(vault_folder, cost=settings.kdf)
    manager.authenticate(PASSPHRASE)
    with EncryptedFile(folder / "diary.sealed", "w", manager, "diary") as file:
        file.write(FILE_TEXT)
    hot_tier = vault_folder / "data" / "lmdb"
    shutil.copytree(hot_tier, folder / "closed")
    subprocess.run([sys.executable, "-m", "tests.vectors.make", "--killed", str(vault_folder)], check=False)
    shutil.rmtree(hot_tier)
    (folder / "closed").rename(hot_tier)  # as it was closed: nobody maps what a killed process left
    for made_anew in (*vault_folder.glob("data/aico.db-[dst]*"), *hot_tier.glob("[glu]*")):
        made_anew.unlink()
    shutil.rmtree(vault_folder / "data" / "open", ignore_errors=True)  # who was killed is no process of tomorrow's


def write_and_be_killed(folder: Path) -> None:
    """A few more messages, acknowledged, that lie in the log alone."""
    vault = aico.open(folder, passphrase=PASSPHRASE, settings=cheap_settings(clock=FixedClock(AT, seed=1)))
    for number, text in enumerate(IN_THE_LOG, len(SETTLED)):
        vault.memory.record("mia", text, conversation="c1", source_id=str(number), at=AT)
    os.kill(os.getpid(), 9)


if __name__ == "__main__":
    if sys.argv[1] == "--killed":
        write_and_be_killed(Path(sys.argv[2]))
    else:
        make(Path(sys.argv[1]), *sys.argv[2:])
