"""What SQLite writes aside and throws away: temporary databases, sorter runs, journals.

In memory while small. What outgrows that lies sealed in a file without a name, whose key is in this process alone: after
a crash its blocks on the disk open for nobody.
"""

import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import IO

import apsw

from aico.errors import Tampered
from aico.security.ephemeral import TAG_BYTES, EphemeralSealer

BLOCK_BYTES = 16 * 1024
MEMORY_MAX_BYTES = 32 * 1024 * 1024
"""What one temporary file keeps in memory; an index over a million rows takes about as much."""


class TemporaryFile:
    """One such file, in blocks: the ones used last in memory, the others sealed in `folder`. One thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._most = folder, max(1, MEMORY_MAX_BYTES // BLOCK_BYTES)
        self._size = 0
        self._blocks: OrderedDict[int, bytearray] = OrderedDict()  # least recently used first
        self._sealer: EphemeralSealer | None = None
        self._disk: IO[bytes] | None = None

    def xRead(self, amount: int, offset: int) -> bytes:
        end = min(offset + amount, self._size)
        return b"".join(
            bytes(self._block(number)[start:stop]) for number, start, stop in _spans(offset, max(offset, end))
        )

    def xWrite(self, data: bytes, offset: int) -> None:
        done = 0
        for number, start, stop in _spans(offset, offset + len(data)):
            self._block(number)[start:stop] = data[done : done + stop - start]
            done += stop - start
        self._size = max(self._size, offset + len(data))

    def xTruncate(self, newsize: int) -> None:
        if newsize >= self._size:
            return
        last, kept = divmod(newsize, BLOCK_BYTES)
        for number in range(last + bool(kept), self._size // BLOCK_BYTES + 1):
            self._blocks.pop(number, None)
            if self._sealer is not None:
                self._sealer.forget(number)
        if kept:
            self._block(last)[kept:] = bytes(BLOCK_BYTES - kept)
        self._size = newsize

    def xFileSize(self) -> int:
        return self._size

    def xClose(self) -> None:
        self._blocks.clear()
        if self._disk is not None:
            self._disk.close()

    def _block(self, number: int) -> bytearray:
        found = self._blocks.get(number)
        if found is None:
            found = self._blocks[number] = self._from_disk(number)
            while len(self._blocks) > self._most:
                self._to_disk(*next(iter(self._blocks.items())))
        self._blocks.move_to_end(number)
        return found

    def _from_disk(self, number: int) -> bytearray:
        if self._sealer is None or self._disk is None or number not in self._sealer:
            return bytearray(BLOCK_BYTES)
        self._disk.seek(number * (BLOCK_BYTES + TAG_BYTES))
        try:
            return bytearray(self._sealer.open(number, self._disk.read(BLOCK_BYTES + TAG_BYTES)))
        except Tampered as exc:
            raise apsw.CorruptError(str(exc)) from exc

    def _to_disk(self, number: int, block: bytearray) -> None:
        try:
            if self._disk is None:
                self._disk = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115  # closed by SQLite
                self._sealer = EphemeralSealer()
            assert self._sealer is not None
            sealed = self._sealer.seal(number, block)
            self._disk.seek(number * (BLOCK_BYTES + TAG_BYTES))
            if self._disk.write(sealed) != len(sealed):
                raise apsw.FullError("there is no room for a temporary file")
        except OSError as exc:
            raise apsw.FullError(f"a temporary file cannot be written: {exc.strerror}") from exc
        del self._blocks[number]

    def _nothing(self, *_: object) -> bool:
        return False

    xSync = xLock = xUnlock = xFileControl = xCheckReservedLock = _nothing
    xSectorSize = xDeviceCharacteristics = _nothing


def _spans(offset: int, end: int) -> list[tuple[int, int, int]]:
    """The blocks between two offsets: number, and from where to where inside it."""
    spans = []
    while offset < end:
        number, start = divmod(offset, BLOCK_BYTES)
        stop = min(BLOCK_BYTES, start + end - offset)
        spans.append((number, start, stop))
        offset += stop - start
    return spans
