"""Sealed snapshots of recall indexes: one file for each person, under a name that tells nobody whose it is."""

import fcntl
import os
import secrets
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, cast

from aico.errors import storage_error
from aico.files import open_plain_file
from aico.security.envelope import Place
from aico.security.keys import ValueKey
from aico.security.stream import SealedReader, SealedWriter

_SUFFIX, _FRESH = ".snapshot", ".new-"


class SnapshotFiles:
    """The files in `data/index/`. Each opens for its vault and its person alone. Any thread and process may use it."""

    def __init__(self, folder: Path, keys: Callable[[], dict[int, ValueKey]], *, vault_id: str) -> None:
        """`keys` gives the keys as they are now, by generation: names and new files follow the newest."""
        self._folder, self._keys, self._vault_id = folder, keys, vault_id

    def path(self, user_id: bytes) -> Path:
        """Where this person's snapshot is, if there is one."""
        return self._folder / f"{self._name(user_id)}{_SUFFIX}"

    @contextmanager
    def opened(self, user_id: bytes) -> Iterator[SealedReader | None]:
        """This person's snapshot; None if there is none.

        Raises Tampered, FormatTooNew or StorageError, here and for what goes wrong while it is read.
        """
        path = self.path(user_id)
        try:
            if not path.exists():
                yield None
                return
            source = os.fdopen(open_plain_file(path), "rb")
            with source, SealedReader(source, keys=self._keys(), bound_to=self._place(user_id)) as reader:
                yield reader
        except OSError as exc:
            raise storage_error(exc, path, "the recall index is built from the truth") from exc

    def write(
        self, user_id: bytes, fill: Callable[[BinaryIO], None], place: Callable[[Callable[[], bool]], bool]
    ) -> bool:
        """Write a snapshot and put it in the place of the one before; whether that was done.

        `fill` writes what is to be sealed. `place` is called once the file is whole, with what gives it its name unless
        the keys were rotated meanwhile; it tells whether that was done: what was forgotten meanwhile must not come back.
        Raises StorageError.
        """
        keys, target = self._keys(), self.path(user_id)
        fresh = target.with_name(f"{target.name}{_FRESH}{secrets.token_hex(8)}")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # while it is held, nobody takes the file for a dead writer's
                self._seal(user_id, file, keys, fill)
                try:
                    return place(lambda: self.path(user_id) == target and bool(fresh.replace(target)))
                except FileNotFoundError:  # somebody forgot, and let go of this file with the others
                    return False
        except OSError as exc:
            raise storage_error(
                exc, self._folder, "the recall index was not kept; nothing of the memory is lost"
            ) from exc
        finally:
            with suppress(OSError):  # a folder that is none was said already
                fresh.unlink()

    def delete(self, user_id: bytes) -> bool:
        """Remove this person's snapshot, and one that is being written; whether there was any. Raises StorageError."""
        return self._remove(sorted(self._folder.glob(f"{self._name(user_id)}{_SUFFIX}*")))

    def delete_others(self, user_ids: Collection[bytes]) -> bool:
        """Remove what belongs to none of these people, or to a writer that is dead. Raises StorageError."""
        kept = {self.path(user_id).name for user_id in user_ids}
        return self._remove([path for path in self._files() if path.name not in kept and not _is_being_written(path)])

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob(f"*{_SUFFIX}*"))

    def _remove(self, paths: Collection[Path]) -> bool:
        try:
            for path in paths:
                path.unlink(missing_ok=True)
        except OSError as exc:
            raise storage_error(exc, self._folder, "a copy of the recall index is left there") from exc
        return bool(paths)

    def _seal(
        self, user_id: bytes, file: BinaryIO, keys: dict[int, ValueKey], fill: Callable[[BinaryIO], None]
    ) -> None:
        writer = SealedWriter(file, keys=keys, bound_to=self._place(user_id))
        fill(cast(BinaryIO, writer))
        writer.finish()
        file.flush()
        os.fsync(file.fileno())

    def _place(self, user_id: bytes) -> Place:
        return ("view snapshot", "recall index", self._vault_id, user_id)

    def _name(self, user_id: bytes) -> str:
        keys = self._keys()
        names = keys[max(keys)].derive(b"aico 1 snapshot names")
        return blake2b(user_id, key=names, digest_size=16).hexdigest()


def _is_being_written(path: Path) -> bool:
    """Whether a living process holds the file."""
    if _FRESH not in path.name:
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
