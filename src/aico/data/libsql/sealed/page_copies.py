"""The plain pages of a sealed database that nobody has open: read for a backup, written by a restore.

Pages go through the same VFS as every other page, so there is one place that seals and opens them.
"""

from pathlib import Path
from types import TracebackType
from typing import Self

import apsw

from aico.data.libsql.engine_errors import translated
from aico.data.libsql.sealed.page_cipher import TRAILER_BYTES, DatabaseKeys
from aico.data.libsql.sealed.page_file import LOCK_BYTE, PAGE_SIZE
from aico.data.libsql.sealed.vfs import SealedVFS
from aico.errors import Tampered

PAGE_OVERHEAD_BYTES = TRAILER_BYTES
"""How much shorter a page is here than in the file: its reserved bytes stay out."""


class PageCopy:
    """A database in one file as pages, numbered from 1. A context manager; one thread at a time.

    Every call raises Tampered, DiskFull or StorageError.
    """

    def __init__(self, path: Path, keys: DatabaseKeys, *, create_with_page_size: int | None = None) -> None:
        """Open the file in `path`, which has no log beside it, or make it if a page size is given."""
        self._path, self._translated = path, translated(path)
        creates = create_with_page_size is not None
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE if creates else apsw.SQLITE_OPEN_READONLY
        self._vfs = SealedVFS(keys, page_size=create_with_page_size or PAGE_SIZE)
        try:
            with self._translated:
                if creates:
                    path.touch(mode=0o600, exist_ok=False)
                self._file = apsw.VFSFile(self._vfs.name, str(path), [apsw.SQLITE_OPEN_MAIN_DB | flags, 0])
                self.page_size = create_with_page_size or _page_size(self._file)
        except BaseException:
            self._vfs.unregister()
            raise
        self._lock_page = LOCK_BYTE // self.page_size + 1

    @property
    def page_count(self) -> int:
        """How many pages there are."""
        with self._translated:
            return self._file.xFileSize() // self.page_size

    def read(self, number: int) -> bytes:
        """Page `number` without its reserved bytes; the page that SQLite only locks, and never writes, as zeros."""
        if number == self._lock_page:
            return bytes(self.page_size - TRAILER_BYTES)
        with self._translated:
            page = self._file.xRead(self.page_size, (number - 1) * self.page_size)
        if len(page) != self.page_size:
            raise Tampered(f"page {number} of {self._path.name} is cut off; nothing was read", hint="make another copy")
        return bytes(page[:-TRAILER_BYTES])

    def write(self, number: int, page: bytes) -> None:
        """Put a page, as `read` gave it, in its place; what was there before is replaced."""
        if number == self._lock_page:
            return
        with self._translated:
            self._file.xWrite(page + bytes(TRAILER_BYTES), (number - 1) * self.page_size)

    def finish(self, page_count: int) -> None:
        """Drop the pages behind the first `page_count` and put the rest on the disk for good."""
        with self._translated:
            self._file.xTruncate(page_count * self.page_size)
            self._file.xSync(apsw.SQLITE_SYNC_FULL)

    def close(self) -> None:
        """Give the file back."""
        with self._translated:
            self._file.xClose()
        self._vfs.unregister()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _page_size(file: apsw.VFSFile) -> int:
    """From the database header, where 1 stands for 65,536 (SQLite file format, section 1.3.2)."""
    stored = int.from_bytes(bytes(file.xRead(100, 0))[16:18], "big")
    return 1 << 16 if stored == 1 else stored
