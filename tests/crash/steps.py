"""kill -9 at each single write of a migration, a rotation, a backup and a restore, and at every half of a write.

A write is whatever reaches the disk by name or by page: a page or frame written, a sync, a file cut, named, renamed or
removed. Each kill happens in a fork of one process, on a fresh copy of the same vault; another fork then opens what is
left, looks for everything that was acknowledged, does the work to its end, and looks again.
"""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import apsw

import aico
from aico.data.libsql.migrations import roll_back
from aico.data.libsql.registry import SchemaRegistry
from aico.data.libsql.sealed.file import SealedFile
from aico.security.encrypted_file import EncryptedFile
from aico.security.key_manager import AICOKeyManager
from aico.testing import PASSPHRASE, cheap_settings
from aico.vault import open_database, restore_vault
from tests.crash.storms import in_fork, start_fork
from tests.data.libsql.cases import text_of

TURNS, LETTER = 60, "Dear diary, nobody reads this."
NEVER = 1 << 60


class Kill(NamedTuple):
    """At which write, and whether half of it is on the disk already."""

    at: int
    torn: bool = False


class Steps:
    """Counts the writes of this process from here on, and ends it at one of them. For a fork."""

    def __init__(self, kill: Kill) -> None:
        self.count, self._kill = 0, kill
        for name in ("fsync", "replace", "rename", "link", "unlink"):
            setattr(os, name, self._stepping(getattr(os, name)))

        steps = self

        def write(file: apsw.VFSFile, data: bytes, offset: int) -> None:
            steps._step(lambda: apsw.VFSFile.xWrite(file, data[: len(data) // 2], offset))
            apsw.VFSFile.xWrite(file, data, offset)

        def sync(file: apsw.VFSFile, flags: int) -> None:
            steps._step()
            apsw.VFSFile.xSync(file, flags)

        def truncate(file: apsw.VFSFile, size: int) -> None:
            steps._step()
            apsw.VFSFile.xTruncate(file, size)

        for name, work in (("xWrite", write), ("xSync", sync), ("xTruncate", truncate)):
            setattr(SealedFile, name, work)

    def _stepping(self, work: Callable) -> Callable:
        def stepped(*given, **named):
            self._step()
            return work(*given, **named)

        return stepped

    def _step(self, half: Callable[[], object] | None = None) -> None:
        self.count += 1
        if self.count == self._kill.at:
            if self._kill.torn and half is not None:
                half()
            os.kill(os.getpid(), signal.SIGKILL)


class Case(NamedTuple):
    """One work that is killed: how its folder is made, what it does, and what must be true of what is left."""

    prepare: Callable[[Path], object]
    work: Callable[[Path, Callable[[], None]], object]
    """Calls its second argument when it begins."""
    judge: Callable[[Path], None]


def kill_everywhere(name: str, folder: str, every: int = 1, torn: bool = True) -> dict:
    """Kill one case at each `every`-th of its writes; what was found."""
    case, template = CASES[name], Path(folder) / name
    template.mkdir()
    if (answer := in_fork(lambda pipe: _told(pipe, lambda: case.prepare(template)))) != "done":
        return {"wrong": f"prepare: {answer}"}
    kills = {"plain": 0, "torn": 0}
    writes = 0
    for half in (False, True) if torn else (False,):
        at = 1
        while True:
            place = Path(f"{template}-{at}-{half}")
            shutil.copytree(template, place)
            count, killed = _killed(case, place, Kill(at, half))
            answer = in_fork(lambda pipe, place=place: _told(pipe, lambda: case.judge(place)))
            if answer != "done":
                return {"wrong": f"write {at}{', torn' if half else ''}: {answer}", "left in": str(place)}
            shutil.rmtree(place)
            if not killed:
                writes = count
                break
            kills["torn" if half else "plain"] += 1
            at += every
    return {"wrong": None, "writes": writes, "kills": sum(kills.values()), **kills}


def _killed(case: Case, place: Path, kill: Kill) -> tuple[int, bool]:
    """How many writes there were, and whether it was killed before it came to its end."""

    def work(pipe: int) -> None:
        began: list[Steps] = []
        case.work(place, lambda: began.append(Steps(kill)))
        os.write(pipe, b"%d\n" % began[0].count)

    child, pipe = start_fork(work)
    with os.fdopen(pipe) as told:
        said = told.read().strip()
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return 0, True
    assert said.isdigit(), said
    return int(said), False


def _told(pipe: int, work: Callable[[], object]) -> None:
    work()
    os.write(pipe, b"done\n")


# What is killed


def opened(place: Path) -> aico.Vault:
    """The vault of a case."""
    return aico.open(place / "vault", passphrase=PASSPHRASE, settings=cheap_settings())


def make_vault(place: Path) -> None:
    """A vault with turns, a sealed file and two backups, one building on the other."""
    with opened(place) as vault:
        vault.memory.record_many("mia", [aico.Message(text_of(n), conversation="c") for n in range(TURNS)])
        vault.backups.create()
        vault.memory.record("mia", "after the first backup", conversation="d")
        vault.backups.create()
        vault.memory.recent("mia", "c")
    keys = AICOKeyManager(place / "vault", cost=cheap_settings().kdf)
    keys.authenticate(PASSPHRASE)
    (place / "vault" / "data" / "files").mkdir(mode=0o700)
    with EncryptedFile(letter_of(place), "w", keys) as file:
        file.write(LETTER)


def letter_of(place: Path) -> Path:
    """Where the sealed file is."""
    return place / "vault" / "data" / "files" / "letter"


def check_whole(vault: aico.Vault) -> None:
    """Everything that was acknowledged is there, and nothing else."""
    texts = [moment.text for moment in vault.memory.recent("mia", "c", limit=10 * TURNS)]
    assert texts == [text_of(number) for number in range(TURNS)], "a turn is missing or wrong"
    vault.connection.verify()
    assert vault.audit_log.verify().intact, "the audit log"


def rotate(place: Path, begin: Callable[[], None]) -> None:
    with opened(place) as vault:
        begin()
        vault.keys.rotate(PASSPHRASE)


def judge_rotation(place: Path) -> None:
    with opened(place) as vault:
        check_whole(vault)
        for backup in vault.backups.list():
            vault.backups.verify(backup.path)
        vault.memory.record("mia", "between", conversation="e")
        report = vault.keys.rotate(PASSPHRASE)  # goes on, or begins where nothing had begun
        check_whole(vault)
        assert not vault.keys.rotation_unfinished()
        assert len(vault.backups.list()) == 2, "a backup is missing"
        assert report.files_left == 0, "a file was left"
        assert _generations(vault) == {report.generation & 0xFF}, "a page is under an older key"
    keys = AICOKeyManager(place / "vault")
    keys.authenticate(PASSPHRASE)
    with EncryptedFile(letter_of(place), "r", keys) as file:
        assert file.read() == LETTER, "the letter"


def _generations(vault: aico.Vault) -> frozenset[int]:
    with vault.connection.exclusive():
        return vault.connection._vfs.generations_on_disk(vault.connection.db_path)


def make_older_vault(place: Path) -> None:
    """As it was before its last schema steps."""
    make_vault(place)
    with open_database(place / "vault", passphrase=PASSPHRASE) as connection:
        for schema in reversed(SchemaRegistry.get_core_schemas()):
            roll_back(connection, schema, 1 if schema.name == "core" else 0)


def migrate(place: Path, begin: Callable[[], None]) -> None:
    with open_database(place / "vault", passphrase=PASSPHRASE) as connection:
        begin()
        SchemaRegistry.apply_core_schemas(connection)


def judge_migration(place: Path) -> None:
    with open_database(place / "vault", passphrase=PASSPHRASE) as connection:
        newest = {schema.name: schema.newest for schema in SchemaRegistry.get_core_schemas()}
        for name, version in SchemaRegistry.current_versions(connection).items():
            assert 0 <= version <= newest[name], "a version between"
        connection.verify()
    with opened(place) as vault:
        check_whole(vault)
        assert SchemaRegistry.current_versions(vault.connection) == newest


def back_up(place: Path, begin: Callable[[], None]) -> None:
    with opened(place) as vault:
        vault.memory.record("mia", "before the third backup", conversation="d")
        begin()
        vault.backups.create()


def judge_backup(place: Path) -> None:
    with opened(place) as vault:
        check_whole(vault)
        for backup in vault.backups.list():
            vault.backups.verify(backup.path)
        made = vault.backups.create()
        vault.backups.verify(made.path)
        assert 3 <= len(vault.backups.list()) <= 4


def restore(place: Path, begin: Callable[[], None]) -> None:
    newest = max((place / "vault" / "backups").glob("*.aicobackup"), key=lambda path: path.stat().st_mtime_ns)
    begin()
    restore_vault(newest, place / "restored", passphrase=PASSPHRASE)


def judge_restore(place: Path) -> None:
    with opened(place) as vault:
        check_whole(vault)
    if not (place / "restored").exists():
        restore(place, lambda: None)
    with aico.open(place / "restored", passphrase=PASSPHRASE, create=False, settings=cheap_settings()) as vault:
        check_whole(vault)


CASES = {
    "rotation": Case(make_vault, rotate, judge_rotation),
    "migration": Case(make_older_vault, migrate, judge_migration),
    "backup": Case(make_vault, back_up, judge_backup),
    "restore": Case(make_vault, restore, judge_restore),
}
