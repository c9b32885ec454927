"""The database file: whole pages, each sealed under its number."""

import secrets
from typing import Any

import apsw

from aico.data.libsql.sealed.ciphers import Ciphers
from aico.data.libsql.sealed.file import UNUSED, SealedFile
from aico.data.libsql.sealed.log_file import WalFile
from aico.data.libsql.sealed.page_cipher import (
    MAPPED,
    NONCE_BYTES,
    SALT_BYTES,
    SESSION_BYTES,
    TAG_BYTES,
    TRAILER_BYTES,
    NotSealed,
    PageCipher,
)
from aico.data.libsql.sealed.page_map import PageMap, PageTampered

PAGE_SIZE = 4096
"""Bytes. One durable record costs least at 4 KiB (docs/decisions/0001)."""
LOCK_BYTE = 1 << 30
"""The page that begins here is never written (SQLite file format, section 1.4)."""
MAGIC = b"SQLite format 3\0"
_NONCE = slice(TAG_BYTES - TRAILER_BYTES, -1 - SESSION_BYTES)
"""Where a page as it lies on the disk has its nonce."""


class PageFile(SealedFile):
    """The database file: whole pages, each sealed under its number."""

    def __init__(self, ciphers: Ciphers, name: apsw.URIFilename | str, flags: list[int], *, keeps: object) -> None:
        """`keeps` lives as long as SQLite has the file open: the VFS, which it asks once more when a process just ends."""
        super().__init__("", name, flags)
        self._keeps = keeps
        self.path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self.log: WalFile | None = None
        self._ciphers = ciphers
        self._cipher: PageCipher | None = None
        self._map: PageMap | None = None
        self._nonces, self._copied = bytearray(), dict[int, bytes]()  # of the map, and of what is not in the map yet
        if not self._load_salt() and not flags[0] & apsw.SQLITE_OPEN_CREATE:
            raise PageTampered("the database file is empty")  # SQLite would delete the WAL and begin anew

    def xRead(self, amount: int, offset: int) -> Any:  # bytes or a view of the buffer: APSW copies
        if self._cipher is None and not self._load_salt():
            return b""
        assert self._cipher is not None
        size = self._cipher.page_size
        if (amount, offset) == (100, 0):
            return _first_bytes(size)
        number, start = divmod(offset, size)
        sealed = super().xRead(size, offset - start)
        if not sealed:
            return b""  # past the end; SQLite knows what to do
        raw, page = memoryview(sealed), self._page
        if start + amount > size or len(raw) != size or (not number and raw[:SALT_BYTES] != self._cipher.salt):
            raise _tampered_page(number)
        try:
            if number:
                nonce = self._cipher.open_into(raw, _page_place(number), self._opened)
            else:
                nonce = self._cipher.open_into(raw[SALT_BYTES:], _page_place(0), self._opened[SALT_BYTES:])
                page[:SALT_BYTES] = MAGIC
        except NotSealed:
            raise _tampered_page(number) from None
        at = number * NONCE_BYTES
        if self._nonces[at : at + NONCE_BYTES] != nonce and not self._is_newest(number, nonce):
            raise PageTampered(f"page {number + 1} is an older copy of itself")
        return page if amount == size else page[start : start + amount]

    def _is_newest(self, number: int, nonce: bytes) -> bool:
        return self._map is None or self._copied.get(number) == nonce or self._map.is_newest(number, nonce)

    def xWrite(self, data: Any, offset: int) -> None:
        if self._cipher is None and not self._load_salt():
            self._begin_database()
        assert self._cipher is not None
        number, start = divmod(offset, self._cipher.page_size)
        if start or len(data) != self._cipher.page_size or data[-TRAILER_BYTES:] != UNUSED:
            raise apsw.IOError(f"not a whole page with {TRAILER_BYTES} reserved bytes: {len(data)} bytes at {offset}")
        skip, sealed = (0 if number else SALT_BYTES), self._sealed
        sealed[:skip] = self._cipher.salt[:skip]
        self._cipher.seal_into(memoryview(data)[skip:-TRAILER_BYTES], _page_place(number), sealed[skip:])
        if not self._copied:
            self._begin_to_copy()
        super().xWrite(sealed, offset)  # page and tag in one write
        self._copied[number] = bytes(sealed[_NONCE])

    def _begin_to_copy(self) -> None:
        """The first page of a checkpoint. Its end has to be told before others may read what it copied.

        `xFileControl` is taken over for so long only: SQLite calls it half a dozen times in every transaction.
        """
        if self._map is not None and self.log is not None:
            self._map.reserve(self.log.frame_count())
            self.log.highest_frame = self.log.last_frame
            vars(self)["xFileControl"] = self._control_while_copying

    def _control_while_copying(self, op: int, ptr: int) -> bool:
        if op == apsw.SQLITE_FCNTL_CKPT_DONE:
            self._tell_what_was_copied()
        return super().xFileControl(op, ptr)

    def xSync(self, flags: int) -> None:
        """Only when all is copied: what is on the disk for good is told to be whole, for good."""
        super().xSync(flags)
        self._tell_what_was_copied()
        if self._map is not None and self._cipher is not None:
            self._map.set_whole(self.xFileSize() // self._cipher.page_size)

    def _tell_what_was_copied(self) -> None:
        if self._map is not None and self._copied:
            self._map.add_pages(self._copied, self.log.highest_frame if self.log is not None else 0)
        self._copied.clear()
        vars(self).pop("xFileControl", None)

    def _begin_database(self) -> None:
        salt = bytes([MAPPED | self._ciphers.page_size.bit_length() - 1]) + secrets.token_bytes(SALT_BYTES - 1)
        page_map = self._ciphers.page_map(self.path, salt)
        assert page_map is not None
        page_map.create()
        self._use(salt)  # which keeps the map

    def _load_salt(self) -> bool:
        """Lazily: another process may create the first page after we opened the file."""
        salt = super().xRead(SALT_BYTES, 0)
        if len(salt) == SALT_BYTES:
            self._use(bytes(salt))
        return self._cipher is not None

    def _use(self, salt: bytes) -> None:
        cipher = self._ciphers.cipher(salt)
        self._page = memoryview(bytearray(cipher.page_size))  # the last one opened; its reserved bytes stay zero
        self._opened = self._page[:-TRAILER_BYTES]
        self._sealed = memoryview(bytearray(cipher.page_size))
        self._map = self._ciphers.page_map(self.path, salt)
        if self._map is not None:
            self._nonces = self._map.nonces
        self._cipher = cipher  # last: until here an interrupt leaves the file as if it had not been read


def _first_bytes(page_size: int) -> bytes:
    """What SQLite reads at open, before any lock and before recovery, when page 1 may be torn and whole in the WAL.

    It takes page size and reserved bytes from it, both fixed: nothing needs to be opened.
    """
    return MAGIC + (page_size & 0xFFFF or 1).to_bytes(2, "big") + bytes([2, 2, TRAILER_BYTES, 64, 32, 32]) + bytes(76)


def _page_place(number: int) -> bytes:
    return b"aico page 1" + number.to_bytes(8, "big")


def _tampered_page(number: int) -> PageTampered:
    return PageTampered(f"page {number + 1} is damaged or was changed from outside")
