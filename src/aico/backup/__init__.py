"""Sealed backups of the truth: consistent while others write, incremental by page, opened by the secrets of their day."""

import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from aico.backup.file import (
    DIGEST_KEY_BYTES,
    BackupFile,
    Head,
    Keys,
    generation_of,
    read_backup,
    read_head,
    read_vault_json,
    rewrite_backup,
    write_backup,
)
from aico.clock import Clock, SystemClock, from_us, to_us
from aico.data.audit_log import Action, AuditLog
from aico.data.libsql import EncryptedLibSQLConnection
from aico.data.libsql.connection import move_to_engine
from aico.data.libsql.registry import SchemaRegistry
from aico.data.libsql.sealed.page_cipher import DatabaseKeys
from aico.data.libsql.sealed.page_copies import PageCopy
from aico.errors import (
    AicoError,
    IntegrityError,
    InvalidInput,
    NotFound,
    StorageError,
    Tampered,
    UnlockError,
    storage_error,
)
from aico.files import sync_folder
from aico.security.keys import Purpose
from aico.security.keyslots import Unlocked, VaultFile
from aico.security.live_keys import LiveKeys
from aico.vault_folder import DATA_FOLDER, DATABASE, VAULT_FILE

SUFFIX = ".aicobackup"
CHAIN_MAX = 30
"""How many backups may build on one another: a restore reads them all, and losing one loses those after it."""
_PROGRESS_EVERY = 256
_UNFINISHED = re.compile(
    rf"(\.|.+{re.escape(SUFFIX)}\.)new-[0-9a-f]{{16}}(\.new-[0-9a-f]{{16}})?(-(map|wal|shm)(\.new-[0-9a-f]{{16}})?)?"
)
_UNFINISHED_FOR_S = 24 * 3600
"""A backup in the making that was not touched for so long was killed."""

_FORGOTTEN_AFTER = f"""SELECT 1 FROM audit_log a WHERE a.id > ? AND a.user_id = e.user_id
    AND a.action IN ('{Action.FORGOTTEN}', '{Action.USER_ERASED}') AND a.subject_id = e.receipt_id"""
OnProgress = Callable[[int, int], object]
"""Called with pages done and pages in all."""


@dataclass(frozen=True, slots=True)
class BackupInfo:
    """One backup. `parent` is the backup it builds on, None for a full one."""

    path: Path
    id: str
    parent: str | None
    created_at: datetime
    pages: int
    """Pages of the whole database."""
    stored_pages: int
    """Pages that this file holds; the others lie in the backups before it."""
    size_bytes: int
    missing: str | None = None
    """The backup that it needs and that is not there, or does not open with the vault's keys of today."""


@dataclass(frozen=True, slots=True)
class ForgottenPruned:
    """What became of the backups that still held what was forgotten."""

    deleted: Sequence[BackupInfo]
    made: BackupInfo | None
    """The full backup that was made before, where no newer one was there to stay."""


class Backups:
    """The backups of one open vault, in the vault's own folder or in any other; the audit log names each one made.

    Any thread may use it.

    >>> made = vault.backups.create()
    >>> vault.backups.verify(made.path) == made == vault.backups.list()[-1]
    True
    """

    def __init__(
        self,
        folder: Path,
        *,
        keys: LiveKeys,
        database_keys: DatabaseKeys,
        connection: EncryptedLibSQLConnection,
        audit_log: AuditLog,
        clock: Clock,
    ) -> None:
        self.folder = folder
        self._live, self._database_keys = keys, database_keys
        self._connection, self._audit_log, self._clock = connection, audit_log, clock

    def create(
        self, folder: Path | str | None = None, *, full: bool = False, on_progress: OnProgress | None = None
    ) -> BackupInfo:
        """Back up what is committed now, while others read and write, into `folder`, else the vault's own.

        The file holds only the pages that the newest backup there does not have, unless `full`, or something was
        forgotten since that one: then it stands alone, so that the older ones can go. It also stands alone where the
        newest one, or what that builds on, is missing, damaged, or sealed under older keys. To know, all of those are
        read to the last byte; what happens to them later only `verify` tells. Needs as much free room there as the
        database is large. Raises DiskFull or StorageError; no half backup is left then.

        >>> made = vault.backups.create()
        >>> _ = vault.memory.record("mia", "It rains.", conversation="today")
        >>> later = vault.backups.create()  # only what changed
        >>> later.parent == made.id, later.stored_pages < made.stored_pages
        (True, True)
        """
        place = self._place(folder)
        copy_path = place / f".new-{secrets.token_hex(8)}"
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sweep(place)
            parent = None if full else self._newest(place)
            noted = self._newest_entry()
            self._connection.copy_pages_to(copy_path)
            with PageCopy(copy_path, self._database_keys) as copy:
                made = self._written(place, copy, parent, on_progress or _silent)
        except OSError as exc:
            raise storage_error(exc, place, "no backup was made; the vault is as it was") from exc
        finally:
            for leftover in (copy_path, Path(f"{copy_path}-map")):
                with suppress(OSError):  # what is wrong with the place was said already
                    leftover.unlink(missing_ok=True)
        self._audit_log.append(
            Action.BACKED_UP, subject_id=bytes.fromhex(made.id), counts={"pages": made.pages, "after": noted}
        )
        return made

    def _written(self, place: Path, copy: PageCopy, parent: BackupFile | None, on_progress: OnProgress) -> BackupInfo:
        """Made again where it would be of no use: what it builds on was pruned, or the keys were rotated meanwhile."""
        while True:
            generation = self._live.generation
            made = self._write(place, copy, parent, on_progress)
            self._live.look_again()
            if generation == self._live.generation and (parent is None or self._can_be_built_on(made.id, place)):
                return made
            made.path.unlink(missing_ok=True)
            parent = None

    def list(self, folder: Path | str | None = None) -> "list[BackupInfo]":
        """This vault's backups in the folder, oldest first. Files that its keys do not open are left out.

        In the order of the audit log, whatever the clock said; a backup that it does not know stands where its time
        puts it. Of each file the beginning and the end are read: `verify` reads the pages.

        >>> made = vault.backups.create(folder / "on another disk")
        >>> vault.backups.list(folder / "on another disk") == [made]
        True
        """
        found = _in_order(_found_in(self._place(folder), self._keys), self._noted())
        by_id = {one.head.id: one for one in found}
        return [_info(one.path, one.head, one.size_bytes, _lineage(one, by_id)[-1].head.parent) for one in found]

    def count_others(self, folder: Path | str | None = None) -> int:
        """How many files there look like backups and do not open: damaged, another vault's, or older than a rotation.

        A restore opens the last with the secrets of their day.

        >>> made = vault.backups.create()
        >>> _ = made.path.write_bytes(b"what a broken disk leaves")
        >>> vault.backups.count_others()
        1
        """
        return len(set(self._place(folder).glob(f"*{SUFFIX}")) - {info.path for info in self.list(folder)})

    def reseal(self, *, on_progress: OnProgress | None = None) -> int:
        """Seal every backup in the vault's own folder anew under the newest keys, with the vault.json of today.

        Each is replaced whole, before those that it builds on: while both generations are known, one that was sealed
        anew opens what it builds on, not the other way round. One that is damaged stays as it is. Returns how many were
        sealed anew.

        >>> made = vault.backups.create()
        >>> vault.backups.reseal()  # a rotation has this done
        0
        """
        keys, resealed = self._keys, 0
        found = sorted(_found_in(self.folder, keys), key=lambda one: one.head.chain, reverse=True)
        older = [one.path for one in found if one.generation != max(keys)]
        for done, path in enumerate(older):
            (on_progress or _silent)(done, len(older))
            raw, _, keys = self._current()
            with suppress(IntegrityError, NotFound):  # nothing can restore it, or it was pruned meanwhile
                rewrite_backup(path, vault_json=raw, keys=keys)
                resealed += 1
        (on_progress or _silent)(len(older), len(older))
        return resealed

    def forgotten_since(self, backup: BackupInfo) -> int:
        """How many memories were forgotten after the backup was made: it still holds them, and brings them back.

        A person who was erased counts too. By the order of the audit log, whatever the clock said. Of a backup that
        this vault's log does not know, because the vault itself was restored from an older one, by the clock.

        >>> made = vault.backups.create()
        >>> _ = vault.memory.forget("mia", id=said)
        >>> vault.backups.forgotten_since(made)
        1
        """
        row = self._connection.fetch_one(
            "SELECT CASE action WHEN ? THEN id ELSE json_extract(counts, '$.after') END FROM audit_log "
            "WHERE action IN (?, ?) AND subject_id = ?",
            (str(Action.RESTORED), str(Action.BACKED_UP), str(Action.RESTORED), bytes.fromhex(backup.id)),
        )
        if row is None or row[0] is None:
            since, bound = "e.at > ?", to_us(backup.created_at)
        else:
            since, bound = f"EXISTS ({_FORGOTTEN_AFTER})", int(row[0])
        counted = f"SELECT count(*) FROM erasures e WHERE e.kind IN ('message', 'fact', 'user') AND {since}"
        return int(self._connection.fetch_all(counted, (bound,))[0][0])

    def verify(self, path: Path | str, *, on_progress: OnProgress | None = None) -> BackupInfo:
        """Read a backup, and all it builds on, to the last byte.

        Raises Tampered, NotFound if one of them is missing, StorageError: it can then not be restored. UnlockError for
        one from before the keys were rotated, which only a restore can read.

        >>> made = vault.backups.create()
        >>> vault.backups.verify(made.path) == made
        True
        """
        self._check_generation(Path(path))
        chain = _chain(Path(path), self._keys)
        for _ in _pages(chain, on_progress or _silent):
            pass
        return _info(chain[-1].path, chain[-1].head, chain[-1].size_bytes)

    def prune(self, keep: int, folder: Path | str | None = None) -> Sequence[BackupInfo]:
        """Delete all but the newest `keep` backups and what those build on; returns the deleted. Raises InvalidInput.

        One that needs a missing backup does not count, and stays unless it is older than all that count. The last that
        this vault made there always stays, also where the clock of another copy of the vault puts newer ones behind it.

        >>> made = [vault.backups.create(full=True) for _ in range(3)]
        >>> len(vault.backups.prune(keep=2))
        1
        """
        if type(keep) is not int or keep < 1:
            raise InvalidInput("keep is a whole number from 1 on; nothing was deleted", field="keep")
        found, noted = self.list(folder), self._noted()
        able = [number for number, info in enumerate(found) if info.missing is None]
        kept = found[able[-keep] :] if len(able) >= keep else found
        ours = [found[number] for number in able if found[number].id in noted]
        last = max(ours, key=lambda info: noted[info.id], default=None)
        by_id = {info.id: info for info in found}
        needed = set[str]()
        for info in kept if last is None else [*kept, last]:
            step: str | None = info.id
            while step in by_id and step not in needed:
                needed.add(step)
                step = by_id[step].parent
        return _delete([info for info in found if info.id not in needed])

    def prune_forgotten(
        self, folder: Path | str | None = None, *, on_progress: OnProgress | None = None
    ) -> ForgottenPruned:
        """Delete every backup that still holds something forgotten, itself or in what it builds on.

        Where none would be left that is newer, and whole, a full one is made first. Raises as `create`; then nothing is
        deleted.

        >>> made = vault.backups.create()
        >>> _ = vault.memory.forget("mia", id=said)
        >>> vault.backups.prune_forgotten().deleted == [made]
        True
        """
        found = self.list(folder)
        holding = self._holding_forgotten(found)
        doomed = [info for info in found if info.id in holding]
        if not doomed:
            return ForgottenPruned([], None)
        stays = found[-1].id not in holding and self._is_whole(found[-1])
        made = None if stays else self.create(folder, full=True, on_progress=on_progress)
        return ForgottenPruned(_delete(doomed), made)

    def _holding_forgotten(self, found: Sequence[BackupInfo]) -> set[str]:
        """The ids of those, oldest first, that hold something forgotten, or build on one that does."""
        holding = set[str]()
        for info in found:
            if info.parent in holding or self.forgotten_since(info):
                holding.add(info.id)
        return holding

    def _check_generation(self, path: Path) -> None:
        """Raise UnlockError for a backup of this vault, by what stands in front of it, whose keys are no longer known."""
        _, vault_id, keys = self._current()
        if VaultFile.parse(read_vault_json(path), path).vault_id == vault_id and generation_of(path) not in keys:
            raise UnlockError(
                f"{path.name} is from before the keys were rotated, and opens with the secrets of its day; nothing was read",
                hint="`aico restore FILE --to FOLDER` with those secrets reads all of it, and tells whether it is whole",
            )

    def _is_whole(self, backup: BackupInfo) -> bool:
        with suppress(IntegrityError, NotFound, StorageError):
            self.verify(backup.path)
            return True
        return False

    def _newest_entry(self) -> int:
        return int(self._connection.fetch_all("SELECT coalesce(max(id), 0) FROM audit_log")[0][0])

    def _place(self, folder: Path | str | None) -> Path:
        if folder == "":
            raise InvalidInput("the folder for backups has no name; nothing was done", field="folder")
        return self.folder if folder is None else Path(folder).expanduser().absolute()

    def _noted(self) -> dict[str, int]:
        """The audit log's entries of backups, which rise whatever the clock says: made here, or restored from."""
        rows = self._connection.fetch_all(
            "SELECT subject_id, max(id) FROM audit_log WHERE action IN (?, ?) GROUP BY subject_id",
            (str(Action.BACKED_UP), str(Action.RESTORED)),
        )
        return {bytes(subject).hex(): int(number) for subject, number in rows}

    def _newest(self, place: Path) -> BackupFile | None:
        """What the next backup may build on, if it can be restored, and nothing of it was forgotten."""
        found = self.list(place)
        if not found or not self._can_be_built_on(found[-1].id, place):
            return None
        if found[-1].id in self._holding_forgotten(found):
            return None
        with suppress(AicoError):
            chain = _chain(found[-1].path, self._keys)
            if chain[-1].head.chain < CHAIN_MAX:
                for _ in _pages(chain, _silent):
                    pass
                return chain[-1]
        return None

    def _can_be_built_on(self, backup_id: str, place: Path) -> bool:
        """Whether a backup and all it builds on lie there, sealed under the newest keys.

        The vault.json of one made later may not have the older keys any more: no chain crosses a rotation.
        """
        keys = self._keys
        by_id = {one.head.id: one for one in _found_in(place, keys)}
        if backup_id not in by_id:
            return False
        lineage = _lineage(by_id[backup_id], by_id)
        return lineage[-1].head.parent is None and all(one.generation == max(keys) for one in lineage)

    @property
    def _keys(self) -> Keys:
        return self._live.for_purpose(Purpose.BACKUPS)

    def _write(self, place: Path, copy: PageCopy, parent: BackupFile | None, on_progress: OnProgress) -> BackupInfo:
        if parent is not None and parent.head.page_size != copy.page_size:
            parent = None
        count, now = copy.page_count, self._clock.now_us()
        raw, vault_id, keys = self._current()
        head = Head(
            id=secrets.token_hex(8),
            vault_id=vault_id,
            parent=parent.head.id if parent else None,
            chain=parent.head.chain + 1 if parent else 0,
            created_us=now,
            page_size=copy.page_size,
            page_count=count,
            stored_pages=0,
            digest_key=parent.head.digest_key if parent else secrets.token_bytes(DIGEST_KEY_BYTES),
        )
        digests = [head.digest(copy.read(number)) for number in range(1, count + 1)]
        stored = [n for n, digest in enumerate(digests, 1) if parent is None or parent.digest_of(n) != digest]

        def pages() -> Iterator[tuple[int, bytes]]:
            for done, number in enumerate(stored):
                if done % _PROGRESS_EVERY == 0:
                    on_progress(done, len(stored))
                yield number, copy.read(number)
            on_progress(len(stored), len(stored))

        head = msgspec.structs.replace(head, stored_pages=len(stored))
        path = place / f"{from_us(now):%Y-%m-%dT%H-%M-%SZ}-{head.id}{SUFFIX}"
        write_backup(path, vault_json=raw, head=head, digests=digests, pages=pages(), keys=keys)
        return _info(path, head, path.stat().st_size)

    def _current(self) -> tuple[bytes, str, Keys]:
        """vault.json as it is now, its vault's id, and the keys that belong to it."""
        while True:
            raw, keys = self._live.vault_json.read_bytes(), self._live.for_purpose(Purpose.BACKUPS)
            found = VaultFile.parse(raw, self._live.vault_json)
            if found.generation == max(keys):
                return raw, found.vault_id, keys


def restore(
    path: Path | str, folder: Path, *, unlock: Callable[[VaultFile], Unlocked], on_progress: OnProgress | None = None
) -> BackupInfo:
    """Make a vault in `folder`, which does not exist yet, from a backup and all it builds on.

    `unlock` opens the vault.json that the backup carries, with a passphrase or recovery phrase of that day. The vault
    is made aside, checked, brought to this release's schemas to note in its audit log that it was restored, and moved
    into place in one step. Raises InvalidInput if `folder` exists, as `verify` and
    `unlock` do, DiskFull or StorageError; nothing is left behind then.
    """
    if folder.exists():
        raise InvalidInput(
            f"{folder} exists; a restore never overwrites", hint="name a new folder, or move it away first"
        )
    newest = Path(path)
    vault_file = VaultFile.parse(read_vault_json(newest), newest)
    unlocked = unlock(vault_file)
    chain = _chain(newest, unlocked.for_purpose(Purpose.BACKUPS))
    fresh = folder.with_name(f"{folder.name}.new-{secrets.token_hex(8)}")
    try:
        (fresh / DATA_FOLDER).mkdir(mode=0o700, parents=True)
        fresh.chmod(0o700)
        keys = DatabaseKeys(unlocked.for_pages())
        _write_database(fresh / DATA_FOLDER / DATABASE, chain, keys, on_progress or _silent)
        _note_restore(fresh / DATA_FOLDER / DATABASE, chain[-1].head, keys, unlocked)
        if vault_file.engine != "sqlite":
            move_to_engine(fresh / DATA_FOLDER / DATABASE, keys, vault_file.engine)
        vault_file.write(fresh / VAULT_FILE)
        fresh.rename(folder)
        sync_folder(folder.parent)
    except OSError as exc:
        raise storage_error(exc, folder, "nothing was restored") from exc
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return _info(newest, chain[-1].head, chain[-1].size_bytes)


def _write_database(path: Path, chain: Sequence[BackupFile], keys: DatabaseKeys, on_progress: OnProgress) -> None:
    head = chain[-1].head
    with PageCopy(path, keys, create_with_page_size=head.page_size) as copy:
        for number, page in _pages(chain, on_progress):
            copy.write(number, page)
        copy.finish(head.page_count)
    with EncryptedLibSQLConnection(path, keys, engine="sqlite", create=False) as restored:
        restored.verify()


def _note_restore(path: Path, head: Head, keys: DatabaseKeys, unlocked: Unlocked) -> None:
    with EncryptedLibSQLConnection(path, keys, engine="sqlite", create=False) as restored:
        SchemaRegistry.apply_core_schemas(restored)
        log = AuditLog(restored, key=unlocked.chain, clock=SystemClock())
        log.append(Action.RESTORED, subject_id=bytes.fromhex(head.id), counts={"pages": head.page_count})


def _pages(chain: Sequence[BackupFile], on_progress: OnProgress) -> Iterator[tuple[int, bytes]]:
    """Every stored page of a chain, oldest backup first; raises Tampered unless together they are the newest one whole."""
    total, done = sum(backup.head.stored_pages for backup in chain), 0
    before: BackupFile | None = None
    for backup in chain:
        stored = set()
        for number, page in backup.pages():
            if done % _PROGRESS_EVERY == 0:
                on_progress(done, total)
            stored.add(number)
            done += 1
            yield number, page
        for number in range(1, backup.head.page_count + 1):
            if number not in stored and (before is None or before.digest_of(number) != backup.digest_of(number)):
                raise Tampered(f"{backup.path.name} does not fit the backup it builds on", hint="use another backup")
        before = backup
    on_progress(total, total)


def _chain(newest: Path, keys: Keys) -> "list[BackupFile]":
    """A backup and all it builds on, oldest first. Raises what `_missing` says if one is not to be had."""
    chain = [read_backup(newest, keys)]
    beside = {one.head.id: one for one in _found_in(newest.parent, keys)} if chain[0].head.parent else {}
    while (wanted := chain[0].head.parent) is not None:
        if wanted not in beside or len(chain) > CHAIN_MAX:
            raise _missing(wanted, chain[0].path, keys)
        chain.insert(0, read_backup(beside.pop(wanted).path, keys))
    return chain


def _missing(wanted: str, builds_on_it: Path, keys: Keys) -> AicoError:
    """Why a backup is not to be had. It is looked for by the name it was given: one that does not open tells no id."""
    builds = f"{builds_on_it.name} builds on"
    for path in builds_on_it.parent.glob(f"*{SUFFIX}"):
        if not path.name.endswith(f"-{wanted}{SUFFIX}"):
            continue
        try:
            if generation_of(path) not in keys:
                return UnlockError(
                    f"{builds} {path.name}, which is sealed under other keys, as before a rotation; nothing was changed",
                    hint=f"`aico restore` opens {path.name} itself with the secrets of its day; or use a full backup",
                )
            read_head(path, keys)
        except StorageError as exc:
            return exc
        except (IntegrityError, NotFound):
            return Tampered(
                f"{builds} {path.name}, which was changed or cut, or is another kind of file; nothing was changed",
                hint="put a whole copy of that file in its place, or use a full backup",
            )
    return NotFound(
        f"{builds} the backup {wanted}, which is not beside it; nothing was changed",
        hint="bring the older files of the same folder along, or use a full backup",
    )


def _delete(doomed: Sequence[BackupInfo]) -> Sequence[BackupInfo]:
    """Newest first: a crash in between leaves no backup without what it builds on."""
    for info in reversed(doomed):
        try:
            info.path.unlink(missing_ok=True)
        except OSError as exc:
            raise storage_error(exc, info.path, "it and older ones were not deleted") from exc
    return doomed


def _sweep(folder: Path) -> None:
    """Delete what backups left behind that were killed: whole copies, with what was forgotten since, that nobody lists."""
    before = time.time() - _UNFINISHED_FOR_S
    for path in folder.glob("*.new-*"):
        with suppress(OSError):
            if _UNFINISHED.fullmatch(path.name) and path.lstat().st_mtime < before:
                path.unlink()


@dataclass(frozen=True, slots=True)
class _Found:
    """A backup in a folder whose head was read."""

    path: Path
    head: Head
    generation: int
    size_bytes: int


def _found_in(folder: Path, keys: Keys) -> "list[_Found]":
    """The backups in a folder that these keys open, by name. What is deleted meanwhile is left out."""
    found = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        with suppress(StorageError, IntegrityError, NotFound, OSError):
            found.append(_Found(path, read_head(path, keys), generation_of(path), path.stat().st_size))
    return found


def _lineage(backup: _Found, by_id: Mapping[str, _Found]) -> "list[_Found]":
    """A backup and what it builds on, as far as it is there: the last has a parent only if that one is missing."""
    lineage = [backup]
    while len(lineage) <= CHAIN_MAX and (parent := by_id.get(lineage[-1].head.parent or "")):
        lineage.append(parent)
    return lineage


def _in_order(found: Sequence[_Found], noted: Mapping[str, int]) -> "list[_Found]":
    """Oldest first, by the numbers of `noted`, and none before one that it builds on.

    A backup without a number, of another history, stands among them by its time. For that one with a number is never
    from before those with a smaller one: the clock may have been wrong in between, once or for long.
    """
    by_id = {one.head.id: one for one in found}
    lineages = {name: _lineage(one, by_id) for name, one in by_id.items()}
    known = {name: max(noted.get(one.head.id, 0) for one in lineage) for name, lineage in lineages.items()}
    at, latest_us = {name: one.head.created_us for name, one in by_id.items()}, 0
    for name in sorted(noted.keys() & by_id.keys(), key=known.__getitem__):
        at[name] = latest_us = max(latest_us, *(one.head.created_us for one in lineages[name]))
    since = {name: max(at[one.head.id] for one in lineage) for name, lineage in lineages.items()}
    return sorted(found, key=lambda one: (since[one.head.id], known[one.head.id], one.head.chain))


def _info(path: Path, head: Head, size_bytes: int, missing: str | None = None) -> BackupInfo:
    created = from_us(head.created_us)
    return BackupInfo(path, head.id, head.parent, created, head.page_count, head.stored_pages, size_bytes, missing)


def _silent(_done: int, _total: int) -> None:
    return None
