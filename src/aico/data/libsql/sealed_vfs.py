"""SQLite with every byte at rest sealed: a VFS that stands between APSW and the disk.

    page 1      salt 16 | ciphertext of bytes 16 .. P-32         | tag 16 | nonce 12 | generation 1 | session 3
    page n      ciphertext of bytes 0 .. P-32                    | tag 16 | nonce 12 | generation 1 | session 3
    WAL header  32 bytes in the clear: page size, counter, random salts; no content
    WAL frame   ciphertext of (header 24 + page bytes 0 .. P-32) | tag 16 | nonce 12 | generation 1 | session 3
    all else    in memory, sealed on the disk where it outgrows that (`temporary.py`)

A page is bound to its number and the file's salt, a frame to its offset and the salt. A frame is as long as
SQLite's own: the reserved bytes of its page pay for tag and nonce. Its header lies inside the seal because it
holds an unkeyed checksum of the plain page, with which a guess at the page could be confirmed from the disk.
`docs/format.md` says the same byte by byte.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import apsw

from aico.data.libsql.pages import SALT_BYTES, SESSION_BYTES, TRAILER_BYTES, DatabaseKeys, NotSealed, PageCipher
from aico.data.libsql.temporary import TemporaryFile
from aico.files import place_new_file

PAGE_SIZE = 4096
"""Bytes. One durable record costs least at 4 KiB (docs/decisions/0001)."""
PAGE_SIZE_BITS = range(12, 17)  # 4 to 64 KiB: what the first byte of the salt may say
WAL_HEADER, FRAME_HEADER = 32, 24
LOCK_BYTE = 1 << 30
"""The page that begins here is never written (SQLite file format, section 1.4)."""
MAGIC, UNUSED = b"SQLite format 3\0", bytes(TRAILER_BYTES)
TEMPORARY = (
    apsw.SQLITE_OPEN_TEMP_DB
    | apsw.SQLITE_OPEN_TRANSIENT_DB
    | apsw.SQLITE_OPEN_TEMP_JOURNAL
    | apsw.SQLITE_OPEN_SUBJOURNAL
    | apsw.SQLITE_OPEN_MAIN_JOURNAL
)


class PageTampered(apsw.CorruptError):
    """Stored bytes do not carry our seal. APSW raises it, unchanged, from the statement that met them."""


class SealedVFS(apsw.VFS):
    """Opens the files of one database under its keys. Needs synchronous=FULL (see `WalFile`)."""

    def __init__(self, keys: DatabaseKeys, *, page_size: int = PAGE_SIZE) -> None:
        self.name = f"aico-{secrets.token_hex(8)}"
        self.page_size = page_size
        self._keys = keys
        self._folder = Path()  # where the database lies, known before anything temporary is opened
        super().__init__(self.name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> Any:
        kind = flags[0]
        if kind & apsw.SQLITE_OPEN_MAIN_DB and isinstance(name, apsw.URIFilename):
            self._folder = Path(name.filename()).parent
            return PageFile(self, name, flags)
        if kind & apsw.SQLITE_OPEN_WAL and isinstance(name, str):
            return WalFile(self, name, flags)
        if kind & TEMPORARY:
            return TemporaryFile(self._folder)
        raise apsw.CantOpenError(f"refusing to write a file of kind {kind:#x} in the clear")

    # Our rollback journals are TemporaryFiles, so a "-journal" on disk was planted: SQLite would copy its plain
    # pages into the database and we would seal them. It stays unseen.
    def xAccess(self, pathname: str, flags: int) -> bool:
        return not pathname.endswith("-journal") and super().xAccess(pathname, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        if not filename.endswith("-journal"):
            super().xDelete(filename, syncdir)

    def generations_on_disk(self, database: Path) -> frozenset[int]:
        """The generation bytes of all pages in the database file. Reads a byte of each; holds no lock."""
        with _beside_sqlite(str(database)) as file:
            page_size = 1 << bytes(file.xRead(1, 0))[0]
            starts = (start for start in range(0, file.xFileSize(), page_size) if start != LOCK_BYTE)
            return frozenset(bytes(file.xRead(1, start + page_size - 1 - SESSION_BYTES))[0] for start in starts)

    def cipher(self, salt: bytes) -> PageCipher:
        """The cipher of the file that carries `salt`; raises PageTampered if no file of ours has such a salt."""
        if len(salt) != SALT_BYTES or salt[0] not in PAGE_SIZE_BITS:
            raise PageTampered("the file does not begin like a sealed database of this format")
        return PageCipher(self._keys, salt)


class _SealedFile(apsw.VFSFile):
    """What pages and WAL have in common. Thread rule: one connection, so one thread at a time.

    Memory mapping, preallocation and chunks, which would show SQLite bytes that are not pages, are never asked for.
    """

    def xDeviceCharacteristics(self) -> int:
        # We write just the ranges SQLite asks for, so POWERSAFE_OVERWRITE stays as true as it was; without it
        # SQLite splits frames. ATOMIC* and BATCH_ATOMIC are not ours to promise, SUBPAGE_READ would be false.
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE


class PageFile(_SealedFile):
    """The database file: whole pages, each sealed under its number."""

    def __init__(self, vfs: SealedVFS, name: apsw.URIFilename, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._vfs = vfs
        self._cipher: PageCipher | None = None
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
        raw = memoryview(super().xRead(size, offset - start))
        if not raw:
            return b""  # past the end; SQLite knows what to do
        skip, page = (0 if number else SALT_BYTES), self._page
        if start + amount > size or len(raw) != size or (skip and raw[:SALT_BYTES] != self._cipher.salt):
            raise _tampered_page(number)
        try:
            self._cipher.open_into(raw[skip:], _page_place(number), page[skip:-TRAILER_BYTES])
        except NotSealed:
            raise _tampered_page(number) from None
        if skip:
            page[:SALT_BYTES] = MAGIC
        return page[start : start + amount]

    def xWrite(self, data: Any, offset: int) -> None:
        if self._cipher is None and not self._load_salt():
            self._use(bytes([self._vfs.page_size.bit_length() - 1]) + secrets.token_bytes(SALT_BYTES - 1))
        assert self._cipher is not None
        number, start = divmod(offset, self._cipher.page_size)
        if start or len(data) != self._cipher.page_size or data[-TRAILER_BYTES:] != UNUSED:
            raise apsw.IOError(f"not a whole page with {TRAILER_BYTES} reserved bytes: {len(data)} bytes at {offset}")
        skip, sealed = (0 if number else SALT_BYTES), self._sealed
        sealed[:skip] = self._cipher.salt[:skip]
        self._cipher.seal_into(memoryview(data)[skip:-TRAILER_BYTES], _page_place(number), sealed[skip:])
        super().xWrite(sealed, offset)  # page and tag in one write

    def _load_salt(self) -> bool:
        """Lazily: another process may create the first page after we opened the file."""
        salt = super().xRead(SALT_BYTES, 0)
        if len(salt) == SALT_BYTES:
            self._use(bytes(salt))
        return self._cipher is not None

    def _use(self, salt: bytes) -> None:
        cipher = self._vfs.cipher(salt)
        self._page = memoryview(bytearray(cipher.page_size))  # the last one opened; its reserved bytes stay zero
        self._sealed = memoryview(bytearray(cipher.page_size))
        self._cipher = cipher  # last: until here an interrupt leaves the file as if it had not been read


class WalFile(_SealedFile):
    """The write-ahead log: frames of header and page sealed as one.

    SQLite touches a frame in five ways: header then page (append); page alone (a spilled page changes again in
    the same transaction); header alone (checksums are redone after that); the whole frame and 8 bytes of its
    header (redoing, recovery). Whatever else is asked is an error, never a pass-through.

    With synchronous=FULL a commit is on disk before the next transaction starts. So a frame that does not open
    ends the log, as a torn tail must, but one that is followed by a whole commit and more is tampering.
    """

    def __init__(self, vfs: SealedVFS, name: str, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._cipher = vfs.cipher(_salt_of(name.removesuffix("-wal")))
        self._page_size = self._cipher.page_size
        self._frame_size = FRAME_HEADER + self._page_size
        self._frame = memoryview(bytearray(self._frame_size))  # the last one opened; its reserved bytes stay zero
        self._opened, self._page = self._frame[:-TRAILER_BYTES], self._frame[FRAME_HEADER:]
        self._plain = memoryview(bytearray(self._frame_size - TRAILER_BYTES))
        self._sealed = memoryview(bytearray(self._frame_size))
        self._held_back: tuple[int, bytes] | None = None  # (offset, header) of an append whose page comes next
        self._last_whole_read = -1
        self._salts = b""  # of the WAL header: which run of the log frames belong to

    def xRead(self, amount: int, offset: int) -> Any:  # bytes or a view of the buffer: APSW copies
        if offset + amount <= WAL_HEADER:
            return super().xRead(amount, offset)
        start = (offset - WAL_HEADER) % self._frame_size
        frame = self._open_frame(base := offset - start)
        if start == 0 and amount == self._frame_size:
            return self._frame_for_recovery(frame, base)
        whole_page = start == FRAME_HEADER and amount == self._page_size
        if not whole_page and (start, amount) != (16, 8):
            raise apsw.IOError(f"unknown WAL read: {amount} bytes at {offset}")
        if frame is None or not self._is_current(frame):
            raise _tampered_frame(base, self._frame_size)
        return self._page if whole_page else frame[start : start + amount]

    def xWrite(self, data: Any, offset: int) -> None:
        size, start = len(data), (offset - WAL_HEADER) % self._frame_size
        if (
            start == FRAME_HEADER
            and size == self._page_size
            and offset > WAL_HEADER
            and data[-TRAILER_BYTES:] == UNUSED
        ):
            self._write_page(data, offset - FRAME_HEADER)
        elif start == 0 and size == FRAME_HEADER and offset >= WAL_HEADER:
            self._write_header(bytes(data), offset)
        elif offset == 0 and size == WAL_HEADER:
            self._salts = bytes(data[16:24])
            super().xWrite(data, 0)
        else:
            raise apsw.IOError(f"unknown WAL write: {size} bytes at {offset}")

    def _write_header(self, header: bytes, base: int) -> None:
        """Hold it back for the page that follows, or seal it at once where SQLite only redoes a checksum."""
        if self._last_whole_read == base and (frame := self._open_frame(base)) is not None:
            self._seal_frame(header, frame[FRAME_HEADER:], base)
        else:
            self._held_back = (base, header)
        self._last_whole_read = -1

    def _write_page(self, page: Any, base: int) -> None:
        where, header = self._held_back or (-1, b"")
        self._held_back = None
        if where != base:
            frame = self._open_frame(base)
            if frame is None:
                raise _tampered_frame(base, self._frame_size)
            header = bytes(frame[:FRAME_HEADER])
        self._seal_frame(header, page, base)

    def _frame_for_recovery(self, frame: memoryview | None, base: int) -> bytes | memoryview:
        self._last_whole_read = base
        if frame is not None and self._is_current(frame):
            return frame
        if self._commit_and_more_follow(base):
            raise _tampered_frame(base, self._frame_size)
        return bytes(self._frame_size)  # zeros: to SQLite the log ends here

    def _open_frame(self, base: int) -> memoryview | None:
        raw = memoryview(super().xRead(self._frame_size, base))
        if len(raw) != self._frame_size:
            return None
        try:
            self._cipher.open_into(raw, b"aico wal 1" + base.to_bytes(8, "big"), self._opened)
        except NotSealed:
            return None
        return self._frame

    def _seal_frame(self, header: bytes, page: Any, base: int) -> None:
        if header[8:16] == bytes(8):
            # Once a spilled page was rewritten, SQLite fills the salts in at commit only; the frame must name
            # its run of the log now, or we would refuse our own frame.
            header = header[:8] + bytes(super().xRead(8, 16)) + header[16:]
        plain = self._plain
        plain[:FRAME_HEADER], plain[FRAME_HEADER:] = header, memoryview(page)[:-TRAILER_BYTES]
        self._cipher.seal_into(plain, b"aico wal 1" + base.to_bytes(8, "big"), self._sealed)
        super().xWrite(self._sealed, base)

    def _is_current(self, frame: memoryview) -> bool:
        if frame[8:16] == self._salts:
            return True
        self._salts = bytes(super().xRead(8, 16))  # a frame of an older log, put here? Or the log was restarted
        return frame[8:16] == self._salts

    def _commit_and_more_follow(self, base: int) -> bool:
        """Whether a whole commit and at least one more current frame lie behind `base`.

        One alone proves nothing: the torn last transaction may have its own commit frame behind a hole.
        """
        commit_seen = False
        for later in range(base + self._frame_size, self.xFileSize(), self._frame_size):
            frame = self._open_frame(later)
            if frame is not None and self._is_current(frame):
                if commit_seen:
                    return True
                commit_seen = frame[4:8] != bytes(4)
        return False


def create_database(path: Path, vfs: SealedVFS | None) -> None:
    """Make an empty WAL database beside `path`, then link it there: nobody ever opens half a database.

    In the clear if `vfs` is None. Nothing happens if another process was first.
    """
    fresh = path.with_name(f"{path.name}.new-{secrets.token_hex(8)}")
    fresh.touch(mode=0o600, exist_ok=False)  # -wal and -shm take their mode from the database
    try:
        connection = apsw.Connection(str(fresh), vfs=vfs.name if vfs else None)
        try:
            if vfs:
                connection.reserve_bytes(reserve=TRAILER_BYTES)
            connection.pragma("page_size", vfs.page_size if vfs else PAGE_SIZE)
            connection.pragma("journal_mode", "wal")
        finally:
            connection.close()
        with suppress(FileExistsError):
            place_new_file(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def connect(path: Path, vfs: SealedVFS | None, *, wait_s: float, cache_kib: int) -> apsw.Connection:
    """Open an existing database: write in BEGIN IMMEDIATE only, read to the end of each statement."""
    connection = apsw.Connection(str(path), vfs=vfs.name if vfs else None, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        # With a wrong key no frame of the log opens and SQLite holds it for empty: closing would delete it, and with
        # it what was acknowledged. Until the first page has been read, closing leaves the log alone.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.set_busy_timeout(int(wait_s * 1000))  # before the first statement: opening waits as well
        # One plan for a statement, whatever is bound: a range would be compiled anew with every new bound.
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        for name, value in (
            ("temp_store", "file" if vfs else "memory"),
            ("synchronous", "full"),
            ("secure_delete", "on"),
            ("cache_size", -cache_kib),
            ("trusted_schema", "off"),
            ("cell_size_check", "on"),
            ("mmap_size", 0),
            ("wal_autocheckpoint", 0),
        ):
            connection.pragma(name, value)
        if vfs:
            connection.authorizer = _refuse_ways_out
        if connection.pragma("journal_mode") != "wal":
            raise apsw.CantOpenError("the database is not in WAL mode, or this folder cannot hold a WAL")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
    except BaseException:
        connection.close()
        raise
    return connection


_FIXED_PRAGMAS = {
    "journal_mode": ("wal",),  # sealed pages are crash-safe with write-ahead logging only
    "synchronous": ("full", "2"),  # the rule that tells a torn log from a bent one needs it
    "secure_delete": ("on", "1", "true", "yes"),  # what was forgotten leaves no trace in a page
    "trusted_schema": ("off", "0", "false", "no"),
    "cell_size_check": ("on", "1", "true", "yes"),
    "mmap_size": ("0",),
    "writable_schema": ("off", "0", "false", "no"),
}
"""Settings that our promises rest on, each with the values that keep them."""


def _first_bytes(page_size: int) -> bytes:
    """What SQLite reads at open, before any lock and before recovery, when page 1 may be torn and whole in the WAL.

    It takes page size and reserved bytes from it, both fixed: nothing needs to be opened.
    """
    return MAGIC + (page_size & 0xFFFF or 1).to_bytes(2, "big") + bytes([2, 2, TRAILER_BYTES, 64, 32, 32]) + bytes(76)


def _refuse_ways_out(
    operation: int, first: str | None, second: str | None, _schema: str | None, _trigger: str | None
) -> int:
    """What would write outside the seal: an attached file, another kind of journal.

    VACUUM attaches a nameless temporary database; a name that is not written out in the statement is None here.
    """
    if operation == apsw.SQLITE_ATTACH and first != "":
        return apsw.SQLITE_DENY
    if operation == apsw.SQLITE_PRAGMA and second is not None:
        allowed = _FIXED_PRAGMAS.get((first or "").lower())
        return apsw.SQLITE_OK if allowed is None or second.lower() in allowed else apsw.SQLITE_DENY
    return apsw.SQLITE_OK


def _salt_of(database: str) -> bytes:
    """The salt of the database that a WAL belongs to, from its first page."""
    with _beside_sqlite(database) as file:
        return bytes(file.xRead(SALT_BYTES, 0))


@contextmanager
def _beside_sqlite(database: str) -> Iterator[apsw.VFSFile]:
    """The raw bytes of a database, through a file of SQLite's own: a plain open() and close() would drop its locks."""
    file = apsw.VFSFile("", database, [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READONLY, 0])
    try:
        yield file
    finally:
        file.xClose()


def _page_place(number: int) -> bytes:
    return b"aico page 1" + number.to_bytes(8, "big")


def _tampered_page(number: int) -> PageTampered:
    return PageTampered(f"page {number + 1} is damaged or was changed from outside")


def _tampered_frame(base: int, frame_size: int) -> PageTampered:
    return PageTampered(f"WAL frame {(base - WAL_HEADER) // frame_size + 1} is damaged or was changed from outside")
