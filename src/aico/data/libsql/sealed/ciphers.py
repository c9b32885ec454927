"""What the files of one database share: a cipher for the salt they carry, and the page map."""

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary

import apsw

from aico.data.libsql.sealed.page_cipher import MAPPED, SALT_BYTES, DatabaseKeys, PageCipher
from aico.data.libsql.sealed.page_map import PageMap, PageTampered

PAGE_SIZE_BITS = range(12, 17)  # 4 to 64 KiB: what the first byte of the salt may say


class Ciphers:
    """Made from the keys of one database; `page_size` is for a file that is not there yet. Any thread may use it."""

    def __init__(self, keys: DatabaseKeys, *, page_size: int) -> None:
        self.page_size = page_size
        self._keys = keys
        self._maps: WeakValueDictionary[tuple[str, bytes], PageMap] = WeakValueDictionary()

    def cipher(self, salt: bytes) -> PageCipher:
        """The cipher of the file that carries `salt`; raises PageTampered if no file of ours has such a salt."""
        if len(salt) != SALT_BYTES or salt[0] & ~MAPPED not in PAGE_SIZE_BITS:
            raise PageTampered("the file does not begin like a sealed database of this format")
        return PageCipher(self._keys, salt)

    def page_map(self, database: str, salt: bytes) -> PageMap | None:
        """The map of the file that carries `salt`, shared by all its connections; None for a file of format 0."""
        if not salt[0] & MAPPED:
            return None
        found = self._maps.get((database, salt))
        if found is None:
            fresh = PageMap(database, self._keys, salt)
            found = self._maps.setdefault((database, salt), fresh)
        return found


def salt_of(database: str) -> bytes:
    """The salt of the database that a WAL belongs to, from its first page."""
    with beside_sqlite(database) as file:
        return bytes(file.xRead(SALT_BYTES, 0))


@contextmanager
def beside_sqlite(database: str) -> Iterator[apsw.VFSFile]:
    """The raw bytes of a database, through a file of SQLite's own: a plain open() and close() would drop its locks."""
    file = apsw.VFSFile("", database, [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READONLY, 0])
    try:
        yield file
    finally:
        file.xClose()
