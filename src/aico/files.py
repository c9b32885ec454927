"""Files that appear whole, under a name nobody had: what vault, store and backups make. And plain files, looked for twice."""

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""What a file system without hard links answers, such as that of a memory stick."""


class NotAPlainFile(OSError):
    """A folder, a pipe or a device lies where a file should."""


def open_plain_file(path: Path, how: int = os.O_RDONLY) -> int:
    """A descriptor of a file that is there. Raises NotAPlainFile for anything else: opening a pipe would wait for ever."""
    descriptor = os.open(path, how | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotAPlainFile(errno.EINVAL, "not a plain file", str(path))
    return descriptor


def read_plain_file(path: Path, most_bytes: int = -1) -> bytes:
    """What a file holds, or its first bytes. Raises as `open_plain_file`."""
    with os.fdopen(open_plain_file(path), "rb") as file:
        return file.read(most_bytes)


def place_new_file(fresh: Path, place: Path) -> None:
    """Give a finished file its name, in one step. Raises FileExistsError if the name is taken; `fresh` may stay behind.

    Where there are no hard links the look and the step are two: another process's file of the same instant may be lost.
    """
    try:
        os.link(fresh, place)
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
        if place.exists() or place.is_symlink():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(place)) from None
        fresh.rename(place)


def replace_whole(path: Path, content: bytes) -> None:
    """Put `content` in the place of what a file held, for its owner alone; a crash leaves the old or the new."""
    fresh = path.with_name(f"{path.name}.new-{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


@contextmanager
def locked_folder(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a folder against others who ask for it in the same way; waits for them, and a killed process lets go."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: a rename or link lasts only once its folder was synced."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
