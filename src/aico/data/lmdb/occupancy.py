"""Who has the hot tier's folder open, and whether its bytes are ours.

LMDB trusts the file it maps: a changed byte can kill the process that reads it. So nothing is mapped that we did not
write. The last process to leave seals the SHA-256 of the file; the first to come compares it, alone in the folder. Who
comes while others are inside finds a seal over the file's identity instead. Anything else is deleted: it is a cache.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aico.errors import Busy, IntegrityError
from aico.files import open_plain_file, read_plain_file
from aico.security.envelope import Place, Sealer

DATA, LOCK, SEAL, GATE, USE = "data.mdb", "lock.mdb", "seal", "gate", "use"
GATE_WAIT_S = 1.0
"""The gate is held while a file is hashed, some 50 ms at most. A cache keeps nobody waiting for longer."""
_GATE_STEP_S = 0.005


class Occupancy:
    """This process's stay in the folder, from `enter` to `leave`. Thread rule: one thread at a time.

    Two files are locked by `flock` and opened by nothing else: `gate` while somebody enters or leaves, `use` shared
    by all who are inside. A process that is killed lets go of both, and leaves no seal that a file would match.
    """

    def __init__(self, folder: Path, sealer: Sealer) -> None:
        self.folder, self._sealer = folder, sealer
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = -1  # the one that LMDB maps; closed after LMDB has closed it
        self._gate = _open_lock_file(folder / GATE)
        try:
            self._use = _open_lock_file(folder / USE)
        except BaseException:
            os.close(self._gate)
            raise

    def enter(self) -> int:
        """Go in, and return a descriptor of the file that LMDB may map; it is ours until we leave. Raises Busy or OSError."""
        with self._at_the_gate():
            alone = _try_lock(self._use, fcntl.LOCK_EX)
            if not alone:
                fcntl.flock(self._use, fcntl.LOCK_SH)
            if alone:
                (self.folder / LOCK).unlink(missing_ok=True)  # LMDB makes it anew; an old one is read without doubt
            if not self._open_ours(alone=alone):
                self._delete()
                self._file = _new_data(self.folder / DATA)
            self._write_seal(_in_use(self._file))
            fcntl.flock(self._use, fcntl.LOCK_SH)
            return self._file

    def leave(self, *, whole: bool) -> None:
        """Go out. The last one seals the file where `whole`: LMDB was closed and the file is as we left it.

        Raises Busy or OSError; the file then has no seal and is deleted by whoever comes next.
        """
        try:
            with self._at_the_gate():
                fcntl.flock(self._use, fcntl.LOCK_UN)
                if whole and _try_lock(self._use, fcntl.LOCK_EX):
                    self._write_seal(("hot tier", "closed", _sha256(self._file)))
        finally:
            self.forget()

    def delete(self) -> None:
        """Remove the file: whoever maps it finds another in its place, or none, and begins anew. Raises Busy."""
        with self._at_the_gate():
            self._delete()

    def forget(self) -> None:
        """Close our descriptors and nothing else: all that a forked child may do. May be called twice."""
        for descriptor in (self._gate, self._use, self._file):
            if descriptor >= 0:
                os.close(descriptor)
        self._gate = self._use = self._file = -1

    @contextmanager
    def _at_the_gate(self) -> Iterator[None]:
        deadline = time.monotonic() + GATE_WAIT_S
        while not _try_lock(self._gate, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise Busy("another process keeps the hot tier's gate; the truth answers instead")
            time.sleep(_GATE_STEP_S)
        try:
            yield
        finally:
            fcntl.flock(self._gate, fcntl.LOCK_UN)

    def _open_ours(self, *, alone: bool) -> bool:
        """Whether the seal is of the file that lies there: of its bytes, or where others are inside, of which file it is."""
        try:
            file = open_plain_file(self.folder / DATA, os.O_RDWR | os.O_NOFOLLOW)
            try:
                place = ("hot tier", "closed", _sha256(file)) if alone else _in_use(file)
                self._sealer.open(read_plain_file(self.folder / SEAL), bound_to=place)
            except BaseException:
                os.close(file)
                raise
        except (OSError, IntegrityError):
            return False
        self._file = file
        return True

    def _write_seal(self, place: Place) -> None:
        fresh = self.folder / f"{SEAL}.new"
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(self._sealer.seal(b"", bound_to=place))
        fresh.replace(self.folder / SEAL)

    def _delete(self) -> None:
        for name in (SEAL, DATA, LOCK):
            (self.folder / name).unlink(missing_ok=True)


def _in_use(file: int) -> Place:
    found = os.fstat(file)
    return "hot tier", "in use", found.st_dev, found.st_ino


def _sha256(file: int) -> bytes:
    with os.fdopen(file, "rb", closefd=False) as opened:
        opened.seek(0)
        return hashlib.file_digest(opened, "sha256").digest()


def _new_data(path: Path) -> int:
    """An empty file, which LMDB takes for a new database."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _open_lock_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
