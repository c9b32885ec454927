"""The write-ahead log: frames of header and page sealed as one."""

from typing import Any

import apsw

from aico.data.libsql.sealed.ciphers import Ciphers, salt_of
from aico.data.libsql.sealed.file import UNUSED, SealedFile
from aico.data.libsql.sealed.log_chain import FRAME_HEADER, Recovery, follows, is_commit, is_header
from aico.data.libsql.sealed.page_cipher import TRAILER_BYTES, NotSealed
from aico.data.libsql.sealed.page_map import PageMap, PageTampered

WAL_HEADER = 32


class WalFile(SealedFile):
    """The write-ahead log: frames of header and page sealed as one.

    SQLite touches a frame in five ways: header then page (append); page alone (a spilled page changes again in
    the same transaction); header alone (checksums are redone after that); the whole frame and 8 bytes of its
    header (redoing, recovery). Whatever else is asked is an error, never a pass-through.

    With synchronous=FULL a commit is on disk before the next transaction starts. So a frame that does not open, or does
    not follow on the one before it, ends the log, as a torn tail must, but one that a whole commit and the transaction
    after that follow is tampering.
    """

    def __init__(self, ciphers: Ciphers, name: str, flags: list[int]) -> None:
        super().__init__("", name, flags)
        database = name.removesuffix("-wal")
        self._cipher = ciphers.cipher(salt_of(database))
        self._map = ciphers.page_map(database, self._cipher.salt)
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
        self._recovery: Recovery | None = None  # while SQLite reads the log from its beginning

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
            self._recovery = Recovery(header, self.frame_count(), 0 if self._map is None else self._map.frames)
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
            if not is_header(header) or self.frame_count() < page_map.frames:
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
            elif commit and follows(frame, commit, order):
                return True
            else:
                commit = bytes(frame[16:24]) if is_commit(frame) else b""
        return False


def _tampered_frame(base: int, frame_size: int) -> PageTampered:
    return PageTampered(f"WAL frame {(base - WAL_HEADER) // frame_size + 1} is damaged or was changed from outside")
