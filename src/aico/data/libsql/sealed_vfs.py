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
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import apsw

from aico.data.libsql.page_map import PageMap, PageTampered
from aico.data.libsql.pages import (
    MAPPED,
    NONCE_BYTES,
    SALT_BYTES,
    SESSION_BYTES,
    TAG_BYTES,
    TRAILER_BYTES,
    DatabaseKeys,
    NotSealed,
    PageCipher,
    page_size_of,
)
from aico.data.libsql.temporary import TemporaryFile
from aico.files import place_new_file

C = TypeVar("C", bound=apsw.Connection)

PAGE_SIZE = 4096
"""Bytes. One durable record costs least at 4 KiB (docs/decisions/0001)."""
PAGE_SIZE_BITS = range(12, 17)  # 4 to 64 KiB: what the first byte of the salt may say
WAL_HEADER, FRAME_HEADER = 32, 24
LOCK_BYTE = 1 << 30
"""The page that begins here is never written (SQLite file format, section 1.4)."""
MAGIC, UNUSED = b"SQLite format 3\0", bytes(TRAILER_BYTES)
_NONCE = slice(TAG_BYTES - TRAILER_BYTES, -1 - SESSION_BYTES)
"""Where a page or frame as it lies on the disk has its nonce."""
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
        self._keys = keys
        self._folder = Path()  # where the database lies, known before anything temporary is opened
        self._maps: WeakValueDictionary[tuple[str, bytes], PageMap] = WeakValueDictionary()
        self._of_thread = threading.local()  # the database opened last: its log is opened next, by the same thread
        super().__init__(self.name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> Any:
        kind = flags[0]
        if kind & apsw.SQLITE_OPEN_MAIN_DB and isinstance(name, apsw.URIFilename):
            self._folder = Path(name.filename()).parent
            self._of_thread.pages = pages = PageFile(self, name, flags)
            return pages
        if kind & apsw.SQLITE_OPEN_WAL and isinstance(name, str):
            pages = self._of_thread.pages
            if name != f"{pages.path}-wal":
                raise apsw.CantOpenError("refusing to open a log before its database")
            pages.log = WalFile(self, name, flags)
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
            with closing(WalFile(self, filename, [apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_READWRITE, 0])) as log:
                try:
                    if not log.may_go():
                        return
                except PageTampered:  # it stays: SQLite is closing, and whoever opens it next is told
                    return
        if not filename.endswith("-journal"):
            super().xDelete(filename, syncdir)

    def generations_on_disk(self, database: Path) -> frozenset[int]:
        """The generation bytes of all pages in the database file. Reads a byte of each; holds no lock."""
        with _beside_sqlite(str(database)) as file:
            page_size = page_size_of(bytes(file.xRead(1, 0)))
            starts = (start for start in range(0, file.xFileSize(), page_size) if start != LOCK_BYTE)
            return frozenset(bytes(file.xRead(1, start + page_size - 1 - SESSION_BYTES))[0] for start in starts)

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

    def rewrite_map(self, database: Path) -> None:
        """Seal the page map anew under all keys there are now. Only while nothing is in the log and nobody writes."""
        if (page_map := self.page_map(str(database), salt_of(str(database)))) is not None:
            page_map.rewrite()


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

    def __init__(self, vfs: SealedVFS, name: apsw.URIFilename | str, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self.path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self.log: WalFile | None = None
        self._vfs = vfs
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
        salt = bytes([MAPPED | self._vfs.page_size.bit_length() - 1]) + secrets.token_bytes(SALT_BYTES - 1)
        page_map = self._vfs.page_map(self.path, salt)
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
        cipher = self._vfs.cipher(salt)
        self._page = memoryview(bytearray(cipher.page_size))  # the last one opened; its reserved bytes stay zero
        self._opened = self._page[:-TRAILER_BYTES]
        self._sealed = memoryview(bytearray(cipher.page_size))
        self._map = self._vfs.page_map(self.path, salt)
        if self._map is not None:
            self._nonces = self._map.nonces
        self._cipher = cipher  # last: until here an interrupt leaves the file as if it had not been read


class WalFile(_SealedFile):
    """The write-ahead log: frames of header and page sealed as one.

    SQLite touches a frame in five ways: header then page (append); page alone (a spilled page changes again in
    the same transaction); header alone (checksums are redone after that); the whole frame and 8 bytes of its
    header (redoing, recovery). Whatever else is asked is an error, never a pass-through.

    With synchronous=FULL a commit is on disk before the next transaction starts. So a frame that does not open, or does
    not follow on the one before it, ends the log, as a torn tail must, but one that a whole commit and the transaction
    after that follow is tampering.
    """

    def __init__(self, vfs: SealedVFS, name: str, flags: list[int]) -> None:
        super().__init__("", name, flags)
        database = name.removesuffix("-wal")
        self._cipher = vfs.cipher(salt_of(database))
        self._map = vfs.page_map(database, self._cipher.salt)
        self.last_frame = self.highest_frame = 0
        """Of the pages that were read: the last, and the highest since a checkpoint began, which is how much it has copied."""
        self._page_size = self._cipher.page_size
        self._frame_size = FRAME_HEADER + self._page_size
        self._frame = memoryview(bytearray(self._frame_size))  # the last one opened; its reserved bytes stay zero
        self._opened, self._page = self._frame[:-TRAILER_BYTES], self._frame[FRAME_HEADER:]
        self._plain = memoryview(bytearray(self._frame_size - TRAILER_BYTES))
        self._sealed = memoryview(bytearray(self._frame_size))
        self._begins = False  # a run, of which SQLite has not written a frame: until then it may not have been synced
        self._held_back: tuple[int, bytes] | None = None  # (offset, header) of an append whose page comes next
        self._last_whole_read = -1
        self._salts = b""  # of the WAL header: which run of the log frames belong to
        self._recovery: _Recovery | None = None  # while SQLite reads the log from its beginning

    def frame_count(self) -> int:
        """How many frames fit into the file; those of an older run may be among them."""
        return max(0, super().xFileSize() - WAL_HEADER) // self._frame_size

    def xFileSize(self) -> int:
        """SQLite looks at the log's size when it opens it, after a crash say, and then reads it from its beginning."""
        size = super().xFileSize()
        if size <= WAL_HEADER and self._map is not None:
            self._map.refresh()
            # The header alone: the power failed before the first frame was on the disk, so there was no commit.
            alone = size == WAL_HEADER and [bytes(super().xRead(8, 16))] == self._map.runs[-1:]
            if not self._map.whole or (self._map.begun and not alone):
                raise PageTampered("the log is gone, with what was written last")
        return size

    def xTruncate(self, newsize: int) -> None:
        if self.may_go():
            super().xTruncate(newsize)

    def may_go(self) -> bool:
        """Whether SQLite may empty or delete the log, which the page map then knows.

        A log that none of our keys opens is empty to SQLite. It stays: it may be that of a change of keys which a
        crash ended, with all that was written.
        """
        if self._map is None:
            return True
        if self.frame_count() and self._open_frame(WAL_HEADER) is None:
            return False
        self._map.let_log_go()
        return True

    def close(self) -> None:
        """Give the file back, where it is not SQLite who opened it."""
        self.xClose()

    def xRead(self, amount: int, offset: int) -> Any:  # bytes or a view of the buffer: APSW copies
        if offset + amount <= WAL_HEADER:
            header = super().xRead(amount, offset)
            self._recovery = None
            if (amount, offset) != (WAL_HEADER, 0):  # whole, it is read in recovery only
                return header
            header = bytes(header) if self._map is None else self._header_for_recovery(bytes(header), self._map)
            self._recovery = _Recovery(header, self.frame_count(), 0 if self._map is None else self._map.frames)
            return header
        start = (offset - WAL_HEADER) % self._frame_size
        frame = self._open_frame(base := offset - start)
        if start == 0 and amount == self._frame_size:
            return self._frame_for_recovery(frame, base)
        self._recovery = None
        whole_page = start == FRAME_HEADER and amount == self._page_size
        if not whole_page and (start, amount) != (16, 8):
            raise apsw.IOError(f"unknown WAL read: {amount} bytes at {offset}")
        if frame is None or not self._is_current(frame):
            raise _tampered_frame(base, self._frame_size)
        if whole_page:
            self.last_frame = (base - WAL_HEADER) // self._frame_size + 1
            self.highest_frame = max(self.highest_frame, self.last_frame)
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
            if self._map is not None:
                self._map.begin_run(self._salts)
                self._begins = True
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

    def _header_for_recovery(self, header: bytes, page_map: PageMap) -> bytes:
        """The header if this is the log that the page map knows; zeros, to SQLite no log, if none was begun."""
        page_map.refresh()
        salts = header[16:24]
        if page_map.runs and salts == page_map.runs[-1]:
            if not _is_header(header) or self.frame_count() < page_map.frames:
                raise PageTampered("the log was cut or its header changed")
            return header
        # A run was begun, or none yet, and its header is not written: killed there, nothing in the log counts.
        if page_map.begun or not page_map.whole or (salts not in page_map.runs and self._holds_a_run(salts, page_map)):
            raise PageTampered("the log is of another time than the database")
        return bytes(len(header))

    def _holds_a_run(self, salts: bytes, page_map: PageMap) -> bool:
        """Whether frames prove that a header was there before: its own run's, or the current one's."""
        first = self._open_frame(WAL_HEADER)
        if first is not None and first[8:16] == salts:
            return True
        for base in range(WAL_HEADER, super().xFileSize(), self._frame_size):
            frame = self._open_frame(base)
            if frame is not None and page_map.runs and frame[8:16] == page_map.runs[-1]:
                return True
        return False

    def _frame_for_recovery(self, frame: memoryview | None, base: int) -> bytes | memoryview:
        self._last_whole_read = base
        current = frame is not None and self._is_current(frame)
        if self._recovery is None:  # SQLite redoes checksums, which are wrong until then
            if frame is None or not current:
                raise _tampered_frame(base, self._frame_size)
            return frame
        if frame is not None and current and self._recovery.goes_on_with(frame):
            if not self._recovery.ends_too_early:
                return frame
        elif self._recovery.may_end and not self._commit_and_more_follow(base, self._recovery.order):
            return bytes(self._frame_size)  # zeros: to SQLite the log ends here
        raise _tampered_frame(base, self._frame_size)

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
        if self._begins and self._map is not None:
            self._map.set_begun()
            self._begins = False
        self._cipher.seal_into(plain, b"aico wal 1" + base.to_bytes(8, "big"), self._sealed)
        super().xWrite(self._sealed, base)

    def _is_current(self, frame: memoryview) -> bool:
        if frame[8:16] == self._salts:
            return True
        self._salts = bytes(super().xRead(8, 16))  # a frame of an older log, put here? Or the log was restarted
        if self._map is not None and self._map.runs[-1:] != [self._salts]:
            self._map.refresh()
            if self._map.runs[-1:] != [self._salts]:
                raise PageTampered("the log is of another time than the database")
        return frame[8:16] == self._salts

    def _commit_and_more_follow(self, base: int, order: str) -> bool:
        """Whether a whole commit and the first frame of the next transaction lie behind `base`.

        A commit alone proves nothing: the torn last transaction may have its own behind a hole, and behind that may lie
        what was taken back before. The next one follows on the commit's checksum, which it can only once that is whole.
        """
        commit = b""
        for later in range(base + self._frame_size, super().xFileSize(), self._frame_size):
            frame = self._open_frame(later)
            if frame is None or not self._is_current(frame):
                commit = b""
            elif commit and _is_chained(frame, commit, order):
                return True
            else:
                commit = bytes(frame[16:24]) if _is_commit(frame) else b""
        return False


class _Recovery:
    """SQLite reads a log from its beginning: how far the frames follow on one another.

    Each frame's checksum goes on from that of the one before. SQLite takes one that does not for the end of its log and
    reads no further, so that is looked for here. The first `must_have` frames are in the database file in part: the log
    must not end before a commit that covers them.
    """

    def __init__(self, header: bytes, count: int, must_have: int) -> None:
        self.order = _order(header)
        self._checksum, self._count, self._must_have = header[24:], count, must_have
        self._number = self._committed = 0

    @property
    def may_end(self) -> bool:
        """Whether a commit was read that covers all that is in the database file."""
        return self._committed >= self._must_have

    @property
    def ends_too_early(self) -> bool:
        """Whether the last frame was read and the log may not end."""
        return self._number == self._count and not self.may_end

    def goes_on_with(self, frame: memoryview) -> bool:
        """Whether the next frame follows on the one before it."""
        if not _is_chained(frame, self._checksum, self.order):
            return False
        self._checksum, self._number = bytes(frame[16:24]), self._number + 1
        if _is_commit(frame):
            self._committed = self._number
        return True


def create_database(path: Path, vfs: SealedVFS | None) -> None:
    """Make an empty WAL database beside `path`, then link it there: nobody ever opens half a database.

    In the clear if `vfs` is None. Nobody else may be making it at the same time. Raises FileExistsError.
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
        if not path.exists():
            Path(f"{path}-map").unlink(missing_ok=True)  # of a creation that was killed before the database followed
        place_database(fresh, path)
    finally:
        for leftover in ("", "-map"):
            Path(f"{fresh}{leftover}").unlink(missing_ok=True)


def place_database(fresh: Path, path: Path) -> None:
    """Give a finished database, closed and with nothing in its log, its name. Raises FileExistsError.

    Its map first: a database is never seen without one, and of two who make it only one places both.
    """
    fresh_map, map_path = Path(f"{fresh}-map"), Path(f"{path}-map")
    if not fresh_map.exists():
        return place_new_file(fresh, path)
    place_new_file(fresh_map, map_path)
    try:
        place_new_file(fresh, path)
    except BaseException:
        map_path.unlink()
        raise


def connect(
    path: Path,
    vfs: SealedVFS | None,
    *,
    wait_s: float,
    cache_kib: int,
    kind: type[C] = apsw.Connection,  # type: ignore[assignment]  # the bound itself, where nothing is named
) -> C:
    """Open an existing database: write in BEGIN IMMEDIATE only, read to the end of each statement."""
    connection = kind(str(path), vfs=vfs.name if vfs else None, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        # With a wrong key no frame of the log opens and SQLite holds it for empty: closing would delete it, and with
        # it what was acknowledged. Until the first page has been read, closing leaves the log alone.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.set_busy_timeout(int(wait_s * 1000))  # before the first statement: opening waits as well
        connection.setlk_timeout(0, 0)  # who writes waits for its turn; and a VFS would be told in every transaction
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


def _is_header(header: bytes) -> bool:
    """Whether the checksum over a WAL header is right (SQLite file format, section 4.2): a changed byte means no log."""
    return header[24:] == _checksum(header[:24], bytes(8), _order(header))


def _order(header: bytes) -> str:
    """The byte order in which this log's checksums are taken: its magic is 0x377f0682 or, big-endian, 0x377f0683."""
    return ">" if header[3:4] == b"\x83" else "<"


def _is_commit(frame: memoryview) -> bool:
    return frame[4:8] != bytes(4)


def _is_chained(frame: memoryview, before: bytes, order: str) -> bool:
    """Whether a frame's checksum is that over its own bytes, begun with the checksum of what stands before it."""
    return frame[16:24] == _checksum(bytes(frame[:8]) + bytes(frame[FRAME_HEADER:]), before, order)


def _checksum(data: bytes, before: bytes, order: str) -> bytes:
    """SQLite's running checksum (file format, section 4.2) over `data`, a multiple of eight bytes.

    One step is linear modulo 2^32: first += x + second; second += y + first. So the whole is a sum of products with the
    powers of that step, and costs NumPy microseconds where a loop takes a tenth of a millisecond a page.
    """
    import numpy as np

    words = np.frombuffer(data, f"{order}u4").astype(np.uint32)
    start = np.frombuffer(before, ">u4").astype(np.uint32)
    sums = [int(words @ weights) + int(start @ of_start) for weights, of_start in _weights(len(words) // 2)]
    return b"".join((one & 0xFFFFFFFF).to_bytes(4, "big") for one in sums)


@cache
def _weights(pairs: int) -> Any:  # arrays of uint32
    """For either sum: what each word, and the two sums before, contribute to it after so many pairs of words."""
    import numpy as np

    weights: tuple[list[int], list[int]] = ([0] * (2 * pairs), [0] * (2 * pairs))
    steps = [(1, 0), (0, 1)]  # the product of the steps behind a pair
    for pair in reversed(range(pairs)):
        for of_sum, (first, second) in zip(weights, steps, strict=True):
            of_sum[2 * pair : 2 * pair + 2] = [first + second, second]  # x adds to both sums, y to the second
        steps = [((first + second) & 0xFFFFFFFF, (first + 2 * second) & 0xFFFFFFFF) for first, second in steps]
    as_array = partial(np.array, dtype=np.uint64)
    return [
        (as_array(of).astype(np.uint32), as_array(step).astype(np.uint32))
        for of, step in zip(weights, steps, strict=True)
    ]


def salt_of(database: str) -> bytes:
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
