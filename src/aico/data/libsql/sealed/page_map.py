"""The sealed page map `aico.db-map`: which copy of each page is the newest, and which log may lie beside them.

A page cipher opens every page it ever sealed, old ones too. The map holds the nonce of each page as the last
checkpoint wrote it, so an older copy is refused when it is read, and the salts of the log's current run, so a log of
another time is refused when it is opened. docs/decisions/0026 goes through it attack by attack and crash by crash.

    head      magic 8 | version 1 | n 1 | n times: key generation 1 | nonce 12 | map key 32, sealed | tag 16
    records   length 4 | nonce 12 | ciphertext | tag 16; each is bound to the tag of the one before it

The first record is the whole state, the others say what changed. What does not open ends the map, as a record torn by a
crash must. Nobody keeps the file open: it is replaced by rename when the records outgrow the state.
"""

import os
import secrets
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import apsw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from aico.data.libsql.sealed.page_cipher import NONCE_BYTES, TAG_BYTES, DatabaseKeys
from aico.errors import storage_error
from aico.files import open_plain_file, sync_folder

MAGIC, VERSION = b"AICOpmap", 1
KEY_BYTES, RUN_BYTES = 32, 8
ENTRY_BYTES = 4 + NONCE_BYTES
_WRAP_BYTES = 1 + NONCE_BYTES + KEY_BYTES + TAG_BYTES
_RECORD_HEAD = 4 + NONCE_BYTES
_RECORDS_MAX_BYTES = 256 * 1024
"""How much may be appended before the map is written anew; never less than the state itself."""
_STATE, _RUN, _BEGUN, _PAGES, _WHOLE = range(5)
_STATE_HEAD, _COUNTED = struct.Struct(">BQ??II"), struct.Struct(">BI")


class PageTampered(apsw.CorruptError):
    """Stored bytes do not carry our seal, or not the newest one. APSW raises it from the statement that met them."""


class _End(NamedTuple):
    """Where the known records end: the next is written there, and bound to `tag`."""

    offset: int
    tag: bytes
    counter: int


class PageMap:
    """The map of one database, shared by a process's connections. Any thread may read; SQLite's locks order who writes:

    a run begins only when every page is copied, pages are copied by one checkpoint at a time.
    """

    def __init__(self, database: str, keys: DatabaseKeys, salt: bytes) -> None:
        self._path, self._keys, self._salt = Path(f"{database}-map"), keys, salt
        self._lock = threading.Lock()
        self._head, self._sealer = b"", AESGCM(bytes(KEY_BYTES))
        self._first_end, self._end = 0, _End(0, b"", 0)
        self.nonces = bytearray()
        """12 bytes for each page of the database file, as far as this process has read the map."""
        self.whole = True
        """Whether the database file is one moment by itself: no page was copied without the others of its time."""
        self.begun = False
        """Whether the current run's header is on the disk and frames may follow: the log cannot be gone."""
        self.frames = 0
        """How many frames of the current run the database file may hold: the log must not be shorter."""
        self.runs: list[bytes] = []
        """Salts of the run that was copied last and of those begun since; the last one is current."""

    def is_newest(self, number: int, nonce: bytes) -> bool:
        """Whether page `number`, from 0, carries the nonce of its newest copy; looks into the file if it seems not."""
        if self._nonce(number) == nonce:
            return True
        self.refresh()
        return self._nonce(number) == nonce

    def refresh(self) -> None:
        """Read what other processes added. Raises PageTampered if the map is gone, bent, or older than it was."""
        with self._lock:
            self._refresh()

    def create(self) -> None:
        """Begin the map of a database that is being made."""
        with self._lock:
            self._write_anew()

    def rewrite(self) -> None:
        """Write the map anew, under a key of its own that opens under each of the database's keys there is now."""
        with self._lock:
            self._refresh()
            self._write_anew()

    def begin_run(self, salts: bytes) -> None:
        """A run of the log begins: durable before its header is written, else a power loss could orphan a commit."""
        with self._lock:
            self._refresh()
            if not self.whole:
                raise PageTampered("the log was begun anew before its pages were in the database")
            self._append(bytes([_RUN]) + salts, durable=True)

    def set_begun(self) -> None:
        """The header of the run is on the disk. Not made durable: a power loss gives up a proof, never a commit."""
        with self._lock:
            self._refresh()
            self._append(bytes([_BEGUN]), durable=False)

    def let_log_go(self) -> None:
        """The log is about to be emptied or deleted, for good. Raises PageTampered where pages are only there."""
        with self._lock:
            self._refresh()
            if not self.whole:
                raise PageTampered("the log would be lost before its pages were in the database")
            if self.begun:
                self._append(_COUNTED.pack(_WHOLE, len(self.nonces) // NONCE_BYTES), durable=True)

    def reserve(self, entries: int) -> None:
        """Make room for a record of so many pages, before the first is overwritten.

        SQLite ignores an error at the end of a copy, and readers would then refuse what was copied.
        """
        with self._lock, self._opened(os.O_WRONLY) as file:
            self._refresh()
            space = bytes(_RECORD_HEAD + 5 + ENTRY_BYTES * entries + TAG_BYTES)
            _write_whole(file, space, self._end.offset)

    def add_pages(self, nonces: Mapping[int, bytes], frames: int) -> None:
        """These pages were copied, from a log of at least so many frames. Seen by others when this returns."""
        entries = b"".join(number.to_bytes(4, "big") + nonce for number, nonce in nonces.items())
        with self._lock:
            self._refresh()
            self._append(_COUNTED.pack(_PAGES, frames) + entries, durable=False)

    def set_whole(self, page_count: int) -> None:
        """Every page is in the database file, which was synced: durable before the log may begin anew."""
        with self._lock:
            self._refresh()
            if self.whole and not self.begun and page_count * NONCE_BYTES == len(self.nonces):
                return
            record = _COUNTED.pack(_WHOLE, page_count)
            if self._end.offset - self._first_end < max(_RECORDS_MAX_BYTES, self._first_end):
                self._append(record, durable=True)
            else:
                self._apply(record)
                self._write_anew()

    # The file

    def _refresh(self) -> None:
        with self._opened(os.O_RDONLY) as file:
            size = os.fstat(file).st_size
            if self._head and os.pread(file, len(self._head), 0) == self._head:
                if size < self._end.offset:
                    raise PageTampered("the page map was cut")
                if size > self._end.offset:
                    self._read_records(os.pread(file, size - self._end.offset, self._end.offset))
            else:
                self._load(os.pread(file, size, 0))

    def _load(self, content: bytes) -> None:
        count = content[len(MAGIC) + 1] if content.startswith(MAGIC + bytes([VERSION])) and len(content) > 10 else 0
        head = content[: len(MAGIC) + 2 + count * _WRAP_BYTES]
        self._sealer = AESGCM(self._unwrap(head[len(MAGIC) + 2 :]))
        known, self._head, self._end = self._end.counter, b"", _End(len(head), bytes(TAG_BYTES), 0)
        self._read_records(content[len(head) :])
        if self._end.counter < max(known, 1):
            self.nonces.clear()  # nothing that an older map says may be believed
            self._end = self._end._replace(counter=known)
            raise PageTampered("the page map is older than it was, or damaged")
        self._head = head

    def _unwrap(self, wraps: bytes) -> bytes:
        for start in range(0, len(wraps) - _WRAP_BYTES + 1, _WRAP_BYTES):
            wrap = wraps[start : start + _WRAP_BYTES]
            if (key := self._keys.find(wrap[0])) is None:
                continue
            try:
                cipher = AESGCM(key.derive(b"aico 1 page map" + wrap[:1], salt=self._salt))
                return cipher.decrypt(wrap[1 : 1 + NONCE_BYTES], wrap[1 + NONCE_BYTES :], self._bound_to(wrap[:1]))
            except InvalidTag:
                continue
        raise PageTampered("the page map is damaged or was changed from outside")

    def _read_records(self, content: bytes) -> None:
        at = 0
        while (length := int.from_bytes(content[at : at + 4], "big")) >= TAG_BYTES:
            nonce, sealed = content[at + 4 : at + _RECORD_HEAD], content[at + _RECORD_HEAD : at + _RECORD_HEAD + length]
            try:
                plain = self._sealer.decrypt(nonce, sealed, self._bound_to(self._end.tag))
            except (InvalidTag, ValueError):
                return  # torn by a crash, or the room that was reserved for it
            try:
                self._apply(plain)
            except (IndexError, struct.error):
                raise PageTampered("the page map has a record that this release does not know") from None
            at += _RECORD_HEAD + length
            offset = self._end.offset + _RECORD_HEAD + length
            if plain[0] == _STATE:
                self._first_end = offset
            self._end = _End(offset, sealed[-TAG_BYTES:], self._counter_after(plain))

    def _append(self, plain: bytes, *, durable: bool) -> None:
        record = self._record(plain, self._end.tag)
        with self._opened(os.O_WRONLY) as file:
            _write_whole(file, record, self._end.offset)
            if durable:
                os.fdatasync(file)
        self._apply(plain)
        self._end = _End(self._end.offset + len(record), record[-TAG_BYTES:], self._end.counter + 1)

    def _write_anew(self) -> None:
        """Beside it, then by rename: a crash leaves the old map or the new one."""
        fresh = self._path.with_name(f"{self._path.name}.new-{secrets.token_hex(8)}")
        key = secrets.token_bytes(KEY_BYTES)
        self._sealer = AESGCM(key)
        wraps = [self._wrap(key, generation) for generation in self._keys.generations()]
        head = MAGIC + bytes([VERSION, len(wraps)]) + b"".join(wraps)
        record = self._record(self._state(self._end.counter + 1), bytes(TAG_BYTES))
        self._head = b""  # until it is in place, what this process knows is to be read anew
        try:
            with _ours(self._path), open(fresh, "xb", opener=_private) as file:
                file.write(head + record)
                file.flush()
                os.fsync(file.fileno())
                fresh.replace(self._path)
                sync_folder(self._path.parent)
        finally:
            fresh.unlink(missing_ok=True)
        self._first_end = len(head) + len(record)
        self._end = _End(self._first_end, record[-TAG_BYTES:], self._end.counter + 1)
        self._head = head

    def _wrap(self, map_key: bytes, generation: int) -> bytes:
        low, nonce = bytes([generation & 0xFF]), os.urandom(NONCE_BYTES)
        key = self._keys.find(low[0])
        assert key is not None
        cipher = AESGCM(key.derive(b"aico 1 page map" + low, salt=self._salt))
        return low + nonce + cipher.encrypt(nonce, map_key, self._bound_to(low))

    def _record(self, plain: bytes, before: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._sealer.encrypt(nonce, plain, self._bound_to(before))
        return len(sealed).to_bytes(4, "big") + nonce + sealed

    def _bound_to(self, place: bytes) -> bytes:
        return b"aico map 1" + self._salt + place

    @contextmanager
    def _opened(self, how: int) -> Iterator[int]:
        with _ours(self._path):
            try:
                file = open_plain_file(self._path, how | os.O_NOFOLLOW)
            except FileNotFoundError:
                raise PageTampered("the page map is missing") from None
            try:
                yield file
            finally:
                os.close(file)

    # The state

    def _nonce(self, number: int) -> bytearray:
        return self.nonces[number * NONCE_BYTES : (number + 1) * NONCE_BYTES]

    def _state(self, counter: int) -> bytes:
        runs = b"".join(self.runs)
        head = _STATE_HEAD.pack(_STATE, counter, self.whole, self.begun, self.frames, len(self.runs))
        return head + runs + self.nonces

    def _counter_after(self, plain: bytes) -> int:
        return int.from_bytes(plain[1:9], "big") if plain[0] == _STATE else self._end.counter + 1

    def _apply(self, plain: bytes) -> None:
        kind = plain[0]
        if kind == _STATE:
            _, _, self.whole, self.begun, self.frames, count = _STATE_HEAD.unpack_from(plain)
            end = _STATE_HEAD.size + count * RUN_BYTES
            if end > len(plain):
                raise IndexError(count)
            self.runs = [plain[at : at + RUN_BYTES] for at in range(_STATE_HEAD.size, end, RUN_BYTES)]
            self.nonces[:] = plain[end:]
        elif kind == _RUN:
            self.runs, self.frames, self.begun = [*self.runs, plain[1:]], 0, False
        elif kind == _BEGUN:
            self.begun = True
        elif kind == _PAGES:
            self.whole, self.frames = False, max(self.frames, int.from_bytes(plain[1:5], "big"))
            self._set_nonces(plain)
        elif kind == _WHOLE and len(plain) == _COUNTED.size:
            size = int.from_bytes(plain[1:5], "big") * NONCE_BYTES
            self.nonces[size:] = bytes(max(0, size - len(self.nonces)))
            self.whole, self.begun, self.runs = True, False, self.runs[-1:]
        else:
            raise IndexError(kind)

    def _set_nonces(self, plain: bytes) -> None:
        nonces = self.nonces
        for at in range(5, len(plain), ENTRY_BYTES):
            start = int.from_bytes(plain[at : at + 4], "big") * NONCE_BYTES
            if start > len(nonces):
                nonces.extend(bytes(start - len(nonces)))
            nonces[start : start + NONCE_BYTES] = plain[at + 4 : at + ENTRY_BYTES]


@contextmanager
def _ours(path: Path) -> Iterator[None]:
    """A full disk is told to SQLite as one, so that it takes the transaction back."""
    try:
        yield
    except OSError as exc:
        error = storage_error(exc, path, "nothing was written")
        raise (apsw.FullError if type(error).__name__ == "DiskFull" else apsw.IOError)(str(error)) from exc


def _write_whole(file: int, content: bytes, offset: int) -> None:
    written = 0
    while written < len(content):
        written += os.pwrite(file, content[written:], offset + written)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
