"""One LMDB environment for each folder and process: transactions, growth, and healing of what was taken away.

LMDB must not be opened twice in one process, so everything that opens the same folder shares one environment. A forked
child has inherited its parent's, which it may neither use nor close: there the truth answers instead.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import lmdb

from aico.data.lmdb.occupancy import DATA, Occupancy
from aico.errors import DiskFull, StorageError, storage_error
from aico.security.envelope import Sealer

MAP_START_BYTES = 1024 * 1024
READERS_MAX = 512
CHECK_READERS_EVERY = 1000
"""Writes between two looks for readers that were killed: one such kept every freed page, .5 MB grew to 160 MB."""
RETRY_AFTER_S = 30.0
"""How long a hot tier that cannot be used is left alone."""
_ATTEMPTS = 40
"""Far more than growing from the first size to any limit takes."""

T = TypeVar("T")
Tables = dict[str, "lmdb._Database"]
Work = Callable[[lmdb.Transaction, Tables], T]


class Environment:
    """Runs work in transactions. Any thread may use it; one at a time is inside.

    One at a time, because the map may not change its size under an open transaction of the same process. Other
    processes read and write beside it; a writer that is killed gives LMDB's lock back and changed nothing.
    In a forked child every call raises StorageError. Work must not call back into the environment.
    """

    def __init__(self, folder: Path, sealer: Sealer, *, tables: Sequence[str], size_limit_bytes: int) -> None:
        self._folder, self._data = folder, str(folder / DATA)
        self._sealer, self._names, self._limit = sealer, tables, size_limit_bytes
        self._lock = threading.Lock()  # guards all below
        self._lmdb: lmdb.Environment | None = None
        self._tables: Tables = {}
        self._occupancy: Occupancy | None = None
        self._file = -1  # the occupancy's descriptor of the mapped file
        self._size = self._writes = 0
        self._trouble: tuple[StorageError, float] | None = None

    def read(self, work: Work[T]) -> T:
        """What `work` returns inside a read transaction. Raises StorageError where LMDB cannot be used."""
        with self._lock:
            return self._run(work, write=False)

    def write(self, work: Work[T]) -> T:
        """What `work` returns inside a write transaction, once it is committed; it may run more than once.

        Who writes keeps it below the size limit; where that fails everything is dropped and `work` meets an empty
        environment. Raises DiskFull where even that has no room, StorageError where LMDB cannot be used; nothing of
        `work` is kept then.
        """
        with self._lock:
            value = self._run(work, write=True)
            self._size = max(self._size, os.lseek(self._file, 0, os.SEEK_END))  # how long the file is now
            self._writes += 1
            if self._writes % CHECK_READERS_EVERY == 0 and self._lmdb is not None:
                self._lmdb.reader_check()
            return value

    def clear(self) -> None:
        """Delete the file with all it ever held, freed pages included; others begin anew. Raises StorageError."""
        with self._lock:
            if self._lmdb is not None or os.path.lexists(self._data):
                self._drop()

    @property
    def file_bytes(self) -> int:
        """The length of the file, 0 where there is none."""
        try:
            return os.stat(self._data).st_size  # noqa: PTH116
        except OSError:
            return 0

    @property
    def trouble(self) -> str:
        """Why LMDB cannot be used, empty while all is well."""
        return str(self._trouble[0]) if self._trouble is not None else ""

    def close(self) -> None:
        """Leave the folder; the last process out seals the file. Never raises: an unsealed file costs warmth alone."""
        with self._lock:
            self._close(whole=self._lmdb is not None and self._is_whole())

    def forget(self) -> None:
        """In a forked child: let go of the lock files, and never touch the parent's map again."""
        if self._occupancy is not None:
            self._occupancy.forget()

    def _run(self, work: Work[T], *, write: bool) -> T:
        for _ in range(_ATTEMPTS):
            opened = self._opened()
            try:
                with opened.begin(write=write) as transaction:
                    return work(transaction, self._tables)
            except lmdb.MapFullError:
                self._grow(opened)
            except lmdb.MapResizedError:
                opened.set_mapsize(0)  # adopt what another process chose
            except lmdb.ReadersFullError:
                if opened.reader_check() == 0:
                    raise StorageError("too many processes read the hot tier; the truth answers instead") from None
            except lmdb.Error as exc:
                self._drop()
                raise self._unusable(exc) from exc
        raise DiskFull(
            f"a value does not fit into the hot tier's {self._limit:,} bytes; it was not kept there",
            hint="raise working_size_mib",
        )

    def _opened(self) -> lmdb.Environment:
        """The environment on the file that lies in the folder now."""
        if self._lmdb is not None:
            if self._is_whole():
                return self._lmdb
            if os.fstat(self._file).st_nlink:  # cut: whoever maps it again falls over the missing end
                self._drop()
            self._close(whole=False)
        if self._trouble is not None:
            error, until = self._trouble
            if time.monotonic() < until:
                raise error
        try:
            return self._open()
        except (OSError, lmdb.Error, StorageError) as exc:
            self._close(whole=False)
            raise self._unusable(exc) from exc

    def _open(self) -> lmdb.Environment:
        self._occupancy = Occupancy(self._folder, self._sealer)
        self._file = self._occupancy.enter()
        size = MAP_START_BYTES
        while True:
            try:
                self._lmdb = lmdb.open(
                    str(self._folder),
                    map_size=min(size, self._limit),
                    max_dbs=len(self._names),
                    max_readers=READERS_MAX,
                    sync=False,  # a cache: a crash of the machine leaves a file without a seal
                    metasync=False,
                    mode=0o600,
                )
                break
            except lmdb.MapResizedError:  # another process grows it at this moment
                size *= 2
        self._lmdb.reader_check()
        self._tables = {name: self._open_table(name) for name in self._names}
        self._size, self._trouble = 0, None
        return self._lmdb

    def _open_table(self, name: str) -> "lmdb._Database":
        assert self._lmdb is not None
        while True:
            try:
                return self._lmdb.open_db(name.encode())
            except lmdb.MapResizedError:
                self._lmdb.set_mapsize(0)

    def _is_whole(self) -> bool:
        """Whether the file that we have mapped was neither deleted nor cut since this was asked last.

        Asked of the file and not of its name: that takes half as long, and this is on the path of every read.
        """
        found = os.fstat(self._file)
        if found.st_size < self._size or not found.st_nlink:
            return False
        self._size = found.st_size
        return True

    def _grow(self, opened: lmdb.Environment) -> None:
        size = opened.info()["map_size"]
        if size < self._limit:
            opened.set_mapsize(min(2 * size, self._limit))
        else:
            self._drop()  # emptied whole: in a full map even deleting needs room

    def _drop(self) -> None:
        """Delete the file, also where LMDB could not open it."""
        if self._lmdb is not None:
            self._lmdb.close()
            self._lmdb = None
        try:
            self._occupancy = self._occupancy or Occupancy(self._folder, self._sealer)
            self._occupancy.delete()
        except OSError as exc:
            raise storage_error(exc, self._folder, "the hot tier could not be emptied") from exc
        finally:
            self._close(whole=False)

    def _close(self, *, whole: bool) -> None:
        if self._lmdb is not None:
            self._lmdb.close()
        occupancy, self._lmdb, self._tables, self._occupancy = self._occupancy, None, {}, None
        if occupancy is not None:
            try:
                occupancy.leave(whole=whole)
            except (OSError, StorageError):
                return  # no seal then: whoever comes next begins anew

    def _unusable(self, error: Exception) -> StorageError:
        """Ours for what happened, remembered for a while so that nobody pays for it again at once."""
        if isinstance(error, StorageError):
            ours = error
        elif isinstance(error, OSError):
            ours = storage_error(error, self._folder, "the truth answers instead")
        elif isinstance(error, lmdb.DiskError):
            ours = DiskFull("no room for the hot tier; the truth answers instead", hint="make room on the disk")
        else:
            ours = StorageError(f"LMDB cannot use {self._folder}: {type(error).__name__}; the truth answers instead")
        self._trouble = ours, time.monotonic() + RETRY_AFTER_S
        return ours


class _Shared:
    """The environments of this process, each with the number of those who hold it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.held: dict[Path, tuple[Environment, int]] = {}
        self.of_the_parent: list[Environment] = []  # kept for ever: LMDB must not be closed in a forked child

    def begin_as_a_child(self) -> None:
        inherited = [environment for environment, _ in self.held.values()]
        self.__init__()  # type: ignore[misc]  # a lock that another thread held would stay locked
        self.of_the_parent = inherited
        for environment in inherited:
            environment.forget()


_shared = _Shared()
os.register_at_fork(after_in_child=_shared.begin_as_a_child)


def hold(folder: Path, sealer: Sealer, *, tables: Sequence[str], size_limit_bytes: int) -> Environment:
    """The one environment of this process for `folder`; `release` it. Nothing is opened until it is used."""
    place = folder.resolve()
    with _shared.lock:
        environment, holders = _shared.held.get(place) or (
            Environment(place, sealer, tables=tables, size_limit_bytes=size_limit_bytes),
            0,
        )
        _shared.held[place] = environment, holders + 1
        return environment


def release(environment: Environment) -> None:
    """Give it back; the last to do so closes it. In a forked child it only forgets."""
    with _shared.lock:
        for place, (held, holders) in list(_shared.held.items()):
            if held is environment:
                if holders > 1:
                    _shared.held[place] = held, holders - 1
                else:
                    del _shared.held[place]
                    held.close()
