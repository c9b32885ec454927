"""The file system that SQLite sees: pages, log and temporary files, and nothing that it would write in the clear."""

import secrets
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw

from aico.data.libsql.sealed.ciphers import Ciphers, beside_sqlite, salt_of
from aico.data.libsql.sealed.log_file import WalFile
from aico.data.libsql.sealed.page_cipher import SESSION_BYTES, DatabaseKeys, page_size_of
from aico.data.libsql.sealed.page_file import LOCK_BYTE, PAGE_SIZE, PageFile
from aico.data.libsql.sealed.page_map import PageTampered
from aico.data.libsql.sealed.temporary import TemporaryFile

TEMPORARY = (
    apsw.SQLITE_OPEN_TEMP_DB
    | apsw.SQLITE_OPEN_TRANSIENT_DB
    | apsw.SQLITE_OPEN_TEMP_JOURNAL
    | apsw.SQLITE_OPEN_SUBJOURNAL
    | apsw.SQLITE_OPEN_MAIN_JOURNAL
)


class SealedVFS(apsw.VFS):
    """Opens the files of one database under its keys. Needs synchronous=FULL (see `WalFile`)."""

    def __init__(self, keys: DatabaseKeys, *, page_size: int = PAGE_SIZE) -> None:
        self.name = f"aico-{secrets.token_hex(8)}"
        self.page_size = page_size
        self._ciphers = Ciphers(keys, page_size=page_size)
        self._folder = Path()  # where the database lies, known before anything temporary is opened
        self._of_thread = threading.local()  # the database opened last: its log is opened next, by the same thread
        super().__init__(self.name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> Any:
        kind = flags[0]
        if kind & apsw.SQLITE_OPEN_MAIN_DB and isinstance(name, apsw.URIFilename):
            self._folder = Path(name.filename()).parent
            self._of_thread.pages = pages = PageFile(self._ciphers, name, flags, keeps=self)
            return pages
        if kind & apsw.SQLITE_OPEN_WAL and isinstance(name, str):
            pages = self._of_thread.pages
            if name != f"{pages.path}-wal":
                raise apsw.CantOpenError("refusing to open a log before its database")
            pages.log = WalFile(self._ciphers, name, flags)
            return pages.log
        if kind & TEMPORARY:
            return TemporaryFile(self._folder)
        raise apsw.CantOpenError(f"refusing to write a file of kind {kind:#x} in the clear")

    # Our rollback journals are TemporaryFiles, so a "-journal" on disk was planted: SQLite would copy its plain
    # pages into the database and we would seal them. It stays unseen.
    def xAccess(self, pathname: str, flags: int) -> bool:
        return not pathname.endswith("-journal") and super().xAccess(pathname, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        if filename.endswith("-wal"):
            with closing(
                WalFile(self._ciphers, filename, [apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_READWRITE, 0])
            ) as log:
                try:
                    if not log.may_go():
                        return
                except PageTampered:  # it stays: SQLite is closing, and whoever opens it next is told
                    return
        if not filename.endswith("-journal"):
            super().xDelete(filename, syncdir)

    def generations_on_disk(self, database: Path) -> frozenset[int]:
        """The generation bytes of all pages in the database file. Reads a byte of each; holds no lock."""
        with beside_sqlite(str(database)) as file:
            page_size = page_size_of(bytes(file.xRead(1, 0)))
            starts = (start for start in range(0, file.xFileSize(), page_size) if start != LOCK_BYTE)
            return frozenset(bytes(file.xRead(1, start + page_size - 1 - SESSION_BYTES))[0] for start in starts)

    def rewrite_map(self, database: Path) -> None:
        """Seal the page map anew under all keys there are now. Only while nothing is in the log and nobody writes."""
        if (page_map := self._ciphers.page_map(str(database), salt_of(str(database)))) is not None:
            page_map.rewrite()
