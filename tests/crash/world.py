"""A vault with a file of every kind, as it was on three days and after a kill, and how all of it is read back.

    days = make_world(folder)            # {"closed": …, "killed": …}: the files of the last day, and of those before it
    read_world("database", folder)       # for a fork: "same", "an earlier commit", …; raises what the library raises

A folder of the world holds `vault/`, and beside it the anchor's file and what stands for the keyring.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

import apsw
import keyring
from keyring.backend import KeyringBackend

import aico
from aico import anchor
from aico.ai.memory import indexes
from aico.analytics import view as columns
from aico.security import session_unlock
from aico.security.encrypted_file import EncryptedFile
from aico.security.key_manager import AICOKeyManager
from aico.security.keys import Passphrase
from aico.security.keyslots import VaultFile
from aico.testing import PASSPHRASE, HashEmbedder, cheap_settings
from aico.vault import restore_vault
from tests.children import started
from tests.data.libsql.cases import files_of, text_of

DATABASE, LOG, MAP, KEYS = "vault/data/aico.db", "vault/data/aico.db-wal", "vault/data/aico.db-map", "vault/vault.json"
TURNS, A_DAY, OTHERS = 40, 10, 15
AFTER = 12
"""Turns recorded on the day that ends with a kill; `COPIED` of them half in the database, `ANCHORED` by the anchor."""
COPIED, ANCHORED = 5, 9
QUESTIONS = ("canary in the coal mine", "aaaa bbbb", "cccccccccccccccc")
FACTS = ("Mia lives in Lisbon", "Mia has a garden", "Mia plays the cello")


@dataclass
class World:
    """The files of one state, those of the days before it, and what its log held after each commit."""

    files: dict[str, bytes]
    older: list[dict[str, bytes]]
    log_sizes: list[int] = field(default_factory=list)
    elsewhere: dict[str, bytes] = field(default_factory=dict)
    """The same files of a vault restored from a backup: the same root key, another salt."""


class FileKeyring(KeyringBackend):
    """Stands for the operating system's keyring, in a file beside the vault."""

    priority = 9

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def _kept(self) -> dict[str, str]:
        return json.loads(self._path.read_text()) if self._path.exists() else {}

    def get_password(self, service, username):
        return self._kept().get(username)

    def set_password(self, service, username, password):
        self._path.write_text(json.dumps({**self._kept(), username: password}))

    def delete_password(self, service, username):
        self._path.write_text(json.dumps({name: text for name, text in self._kept().items() if name != username}))


def opened(folder: Path) -> aico.Vault:
    """The vault of a world, which keeps every view from the first row on."""
    _keep_small_views(indexes, FROM=1, EVERY=1, SHARE=1 << 30, REST_S=0.0)
    _keep_small_views(columns, EVERY=1)
    os.environ["AICO_ANCHOR_FILE"] = str(folder / "anchor.json")
    keyring.set_keyring(FileKeyring(folder / "keyring.json"))
    settings = replace(cheap_settings(embedder=HashEmbedder(dimension=16)), anchor_in_keyring=True)
    return aico.open(folder / "vault", passphrase=PASSPHRASE, settings=settings)


def _keep_small_views(module: ModuleType, **limits: float) -> None:
    for name, value in limits.items():
        setattr(module, f"SNAPSHOT_{name}", value)


# Making it


def make_world(folder: Path) -> dict[str, World]:
    """Both states. The folder's own content is of no more use afterwards."""
    with _left_as_it_was():
        return _made_world(folder)


@contextmanager
def _left_as_it_was() -> Iterator[None]:
    """What `opened` sets for its process is set back."""
    modules = [dict(vars(module)) for module in (indexes, columns)]
    found, backend = os.environ.get("AICO_ANCHOR_FILE"), keyring.get_keyring()
    try:
        yield
    finally:
        keyring.set_keyring(backend)
        os.environ.pop("AICO_ANCHOR_FILE", None)
        if found is not None:
            os.environ["AICO_ANCHOR_FILE"] = found
        for module, before in zip((indexes, columns), modules, strict=True):
            for name in [name for name in before if name.startswith("SNAPSHOT_")]:
                setattr(module, name, before[name])


def _made_world(folder: Path) -> dict[str, World]:
    folder.mkdir(exist_ok=True)
    days = []
    for day in range(3):
        live_a_day(folder, day)
        days.append(files_of(folder))
    newest = max((folder / "vault/backups").glob("*.aicobackup"), key=lambda path: path.stat().st_mtime_ns)
    restore_vault(newest, folder / "restored" / "vault", passphrase=PASSPHRASE)
    with opened(folder / "restored") as vault:
        vault.memory.recent("mia", "c1")
    elsewhere = files_of(folder / "restored")
    shutil.rmtree(folder / "restored")
    with started(live_until_killed, str(folder)) as child:
        sizes = [int(child.line()) for _ in range(AFTER)]
        child.process.wait()
    return {
        "closed": World(days[2], days[:2], elsewhere=elsewhere),
        "killed": World(files_of(folder), days, sizes, elsewhere),
    }


def live_a_day(folder: Path, day: int) -> None:
    """Talk, a fact, a backup, two sealed files, and every view brought up to date."""
    with opened(folder) as vault:
        first, last = (0, TURNS) if not day else (TURNS + (day - 1) * A_DAY, TURNS + day * A_DAY)
        record(vault, range(first, last))
        vault.memory.remember("mia", FACTS[day])
        if day == 0:
            vault.keys.add_passphrase("one that is given up the next day")
        elif day == 1:
            vault.keys.remove(vault.keys.list_slots()[1].id)
        for number in range(day * OTHERS, (day + 1) * OTHERS):
            vault.memory.record("lee", text_of(number), conversation="d")
        before = snapshots_of(folder)
        vault.views.wait(60)
        for user in ("mia", "lee"):
            vault.memory.recall(user, QUESTIONS[0])
            vault.analytics.report("activity", user)
        deadline = time.monotonic() + 60
        while len(made := snapshots_of(folder)) < 2 or set(made.values()) & set(before.values()):
            assert time.monotonic() < deadline, "no snapshot was written"
            time.sleep(0.02)
        vault.backups.create()
    seal_files(folder, day)


def snapshots_of(folder: Path) -> dict[str, bytes]:
    """The recall indexes that were kept."""
    return {path.name: path.read_bytes() for path in (folder / "vault/data/index").glob("*.snapshot")}


def seal_files(folder: Path, day: int) -> None:
    """Two encrypted files of one purpose, and a session that leaves the vault unlocked."""
    keys = AICOKeyManager(folder / "vault", cost=cheap_settings().kdf)
    root = keys.authenticate(PASSPHRASE)
    (folder / "vault/data/files").mkdir(mode=0o700, exist_ok=True)
    for name in ("letter", "note"):
        with EncryptedFile(folder / "vault/data/files" / name, "w", keys) as file:
            file.write(letter(name, day))
    session_unlock.begin(
        folder / "vault", VaultFile.read(folder / "vault/vault.json"), root, ttl_s=session_unlock.LONGEST_S
    )


def letter(name: str, day: int) -> str:
    """What is in a sealed file on a day: three chunks of it."""
    return f"{name} of day {day}. " * 9000


def record(vault: aico.Vault, numbers: range) -> None:
    """One commit for each turn."""
    for number in numbers:
        vault.memory.record("mia", text_of(number), conversation="c1")


def live_until_killed(name: str) -> None:
    """For a child: record turns, half of a checkpoint and a look of the anchor in between; tell the log's size after each."""
    anchor.EVERY_S = 3600.0
    folder = Path(name)
    vault = opened(folder)
    first = LAST
    for number in range(first, first + AFTER):
        if number == first + COPIED:
            copy_half_of_the_log(vault, number)
        else:
            record(vault, range(number, number + 1))
        if number == first + ANCHORED:
            vault._store.anchor._follow()
        print((folder / LOG).stat().st_size, flush=True)
    os.kill(os.getpid(), 9)


def copy_half_of_the_log(vault: aico.Vault, number: int) -> None:
    """Record turn `number` while a reader keeps the checkpoint from the end of the log.

    What was written last before it is a page of its own: the pages that every turn changes again are not copied.
    """
    connection, before = vault.connection, vault.connection.db_path.stat().st_mtime_ns
    vault.logs.insert_log(level="INFO", message="half of the log is copied")
    with connection._readers.borrow() as reader:
        cursor = reader.execute("SELECT number FROM change_feed")
        next(cursor)
        record(vault, range(number, number + 1))
        frames, copied = connection._writing.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        assert 0 < copied < frames
        cursor.close()
    assert connection.db_path.stat().st_mtime_ns != before, "no page was copied"


# Reading it


def read_world(what: str, folder: Path) -> str:
    """How the files of one kind are read by those who use them, in the words of `Outcome`."""
    if what == "sealed file":
        return _read_sealed_files(folder)
    if what == "session":
        return _read_session(folder)
    with opened(folder) as vault:
        return _READERS.get(what, _read_truth)(vault, folder)


SAME, EARLIER, OLDER, MISSING, LOCKED = "the same", "an earlier commit", "an older copy", "missing", "locked"
CLOSED, KILLED = "all of the last day", "all before the kill"
LAST = TURNS + 2 * A_DAY


def _read_truth(vault: aico.Vault, folder: Path) -> str:
    """Every turn, fact and page; what was recorded last may be missing after a kill."""
    count = _turns(vault)
    facts = sorted(fact.text for fact in vault.facts.list("mia", limit=100))
    assert facts == sorted(FACTS), "a wrong fact"
    others = [moment.text for moment in vault.memory.recent("lee", "d", limit=1000)]
    assert others == [text_of(number) for number in range(3 * OTHERS)], "a wrong turn of another person"
    found = [hit.text for question in QUESTIONS for hit in vault.memory.recall("mia", question)]
    assert found and set(found) <= {text_of(number) for number in range(count)} | set(FACTS), "a wrong hit"
    vault.connection.verify()
    assert vault.audit_log.verify().intact, "the audit log"
    slots = len(VaultFile.read(folder / "vault/vault.json").keyslots)
    return OLDER if slots != 1 else _by_count(count)


def _turns(vault: aico.Vault) -> int:
    texts = [moment.text for moment in vault.memory.recent("mia", "c1", limit=1000)]
    assert texts == [text_of(number) for number in range(len(texts))], "a wrong turn"
    return len(texts)


def _by_count(count: int) -> str:
    """Which of the two states it is, or a commit that the anchor does not know of; who asks knows what there should be."""
    if count in (LAST, LAST + AFTER):
        return CLOSED if count == LAST else KILLED
    assert LAST + ANCHORED < count < LAST + AFTER, f"{count} turns"
    return EARLIER


def _read_index(vault: aico.Vault, folder: Path) -> str:
    for user, place in (("mia", "c1"), ("lee", "d")):
        hits = [
            [(hit.text, round(hit.score, 9)) for hit in vault.memory.recall(user, question)] for question in QUESTIONS
        ]
        vault.views.rebuild("recall index")
        anew = [
            [(hit.text, round(hit.score, 9)) for hit in vault.memory.recall(user, question)] for question in QUESTIONS
        ]
        assert hits == anew, f"recall of {user} in {place} differs from that of an index made anew"
    return SAME


def _read_columns(vault: aico.Vault, folder: Path) -> str:
    for user, turns in (("mia", LAST), ("lee", 3 * OTHERS)):
        rows = vault.analytics.report("activity", user).answer.rows
        assert sum(row[1] for row in rows) == turns, "a wrong count"
    return SAME


def _read_hot_tier(vault: aico.Vault, folder: Path) -> str:
    for limit in (5, 20, 1000):
        texts = [moment.text for moment in vault.memory.recent("mia", "c1", limit=limit)]
        assert texts == [text_of(n) for n in range(LAST)][-limit:], "a wrong turn"
    return SAME


def _read_backups(vault: aico.Vault, folder: Path) -> str:
    outcome = SAME
    paths = sorted((folder / "vault/backups").glob("*.aicobackup"))
    if len(paths) < 3:
        outcome = MISSING
    for path in paths:
        made = vault.backups.verify(path)
        if made.id not in path.name:
            outcome = OLDER
    restore_vault(paths[-1], folder / "restored" / "vault", passphrase=PASSPHRASE)
    with opened(folder / "restored") as restored:
        assert _turns(restored) in (TURNS, TURNS + A_DAY, LAST), "a wrong restore"
        restored.connection.verify()
    return outcome


def _read_sealed_files(folder: Path) -> str:
    keys, outcome = AICOKeyManager(folder / "vault"), SAME
    keys.authenticate(PASSPHRASE)
    for name in ("letter", "note"):
        with EncryptedFile(folder / "vault/data/files" / name, "r", keys) as file:
            text = file.read()
        if text != letter(name, 2):
            assert text in {letter(other, day) for other in ("letter", "note") for day in range(3)}, "a wrong letter"
            outcome = OLDER
    return outcome


def _read_session(folder: Path) -> str:
    keyring.set_keyring(FileKeyring(folder / "keyring.json"))
    vault_file = VaultFile.read(folder / "vault/vault.json")
    found = session_unlock.unlock(folder / "vault", vault_file)
    if found is None:
        return LOCKED
    assert found.root == vault_file.unlock(Passphrase(PASSPHRASE)).root, "another root key"
    return SAME


_READERS = {"recall index": _read_index, "columns": _read_columns, "hot tier": _read_hot_tier, "backup": _read_backups}
