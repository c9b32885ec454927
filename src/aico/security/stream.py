"""Seal and open data of any length in constant memory: files, snapshots, backups.

    header   magic "AICOstrm" | version 1 byte | key generation 2 bytes | salt 32 bytes
    chunk    up to 64 KiB of plain bytes, sealed by AES-256-GCM: ciphertext | tag 16 bytes

Each stream has its own key, HKDF(value key, salt, place), so a counter can be the nonce: 11 bytes of chunk
number and one flag byte that is 1 on the last chunk alone. Cutting, reordering, joining and moving a stream
are all refused (the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár, 2015).
"""

import io
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from aico.errors import FormatTooNew, InvalidInput, Tampered
from aico.security.envelope import TAG_BYTES, Place, canonical
from aico.security.keys import ValueKey

MAGIC, VERSION, SALT_BYTES = b"AICOstrm", 1, 32
CHUNK_BYTES = 64 * 1024
HEADER_BYTES = len(MAGIC) + 3 + SALT_BYTES
_SEALED_CHUNK_BYTES = CHUNK_BYTES + TAG_BYTES


def seal_stream(source: BinaryIO, target: BinaryIO, *, keys: dict[int, ValueKey], bound_to: Place) -> int:
    """Read `source` to its end and write its sealed form to `target`; returns the plain size in bytes.

    Seals with the newest of `keys` (key generation to key). `source` need not be seekable.
    """
    writer = SealedWriter(target, keys=keys, bound_to=bound_to)
    while chunk := _read_whole(source, CHUNK_BYTES):
        writer.write(chunk)
    writer.finish()
    return writer.size


def open_stream(source: BinaryIO, *, keys: dict[int, ValueKey], bound_to: Place) -> Iterator[bytes]:
    """Yield the plain chunks of a sealed stream, each verified before it is handed out.

    Raises Tampered at the first chunk that was changed, moved, cut off or added; what came before it is
    genuine but not the whole, so a caller keeps nothing until the iterator has ended. Raises FormatTooNew
    for a stream of a newer release.
    """
    cipher = _cipher_of(_read_whole(source, HEADER_BYTES), keys, bound_to)
    number, chunk = 0, _read_whole(source, _SEALED_CHUNK_BYTES)
    while True:
        following = _read_whole(source, _SEALED_CHUNK_BYTES) if len(chunk) == _SEALED_CHUNK_BYTES else b""
        yield _opened(cipher, number, chunk, last=not following)
        if not following:
            return
        number, chunk = number + 1, following


def stream_generation(source: BinaryIO) -> int:
    """The key generation that the header at the place of `source` names; nothing is proved by it. Raises Tampered."""
    return _generation(_read_whole(source, HEADER_BYTES))


class SealedReader(io.RawIOBase):
    """A sealed stream, from where `source` stands to its end, read from any place.

    Each chunk is verified before a byte of it is handed out. Opening verifies the last chunk, so a file that was cut is refused at once. Raises as `open_stream`. Thread rule:
    one thread at a time. Closes `source` with itself.
    """

    def __init__(self, source: BinaryIO, *, keys: dict[int, ValueKey], bound_to: Place) -> None:
        self._source, self._at, self._loaded = source, 0, (-1, b"")
        self._cipher = _cipher_of(_read_whole(source, HEADER_BYTES), keys, bound_to)
        self._body = source.tell()
        sealed = source.seek(0, io.SEEK_END) - self._body
        self._last = max(0, -(-sealed // _SEALED_CHUNK_BYTES) - 1)
        self.size = self._last * CHUNK_BYTES + len(self._chunk(self._last))
        """Plain bytes in all."""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise InvalidInput("a file has no place before its beginning")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, target: Any) -> int:  # any writable buffer
        if self._at >= self.size:
            return 0
        number, start = divmod(self._at, CHUNK_BYTES)
        part = self._chunk(number)[start : start + len(target)]
        target[: len(part)] = part
        self._at += len(part)
        return len(part)

    def fill(self, target: Any) -> None:  # any writable buffer
        """Fill the whole of `target` from here on; whole chunks are opened straight into it.

        Raises Tampered, also where less is left than it holds; what it holds then is nothing to be used.
        """
        left = memoryview(target).cast("B")
        while len(left):
            number, start = divmod(self._at, CHUNK_BYTES)
            if not start and len(left) >= CHUNK_BYTES and number <= self._last:
                count = self._open_into(left, number)
            else:
                count = self.readinto(left)
            if not count:
                raise _tampered()
            left = left[count:]

    def _open_into(self, target: memoryview, number: int) -> int:
        """As many whole chunks as fit in, from chunk `number` on; 0 if the last is not whole."""
        self._source.seek(self._body + number * _SEALED_CHUNK_BYTES)
        filled = 0
        while len(target) - filled >= CHUNK_BYTES and number <= self._last:
            sealed = _read_whole(self._source, _SEALED_CHUNK_BYTES)
            if len(sealed) < _SEALED_CHUNK_BYTES:
                break
            nonce = _nonce(number, last=number == self._last)
            try:
                self._cipher.decrypt_into(nonce, sealed, None, target[filled : filled + CHUNK_BYTES])
            except (InvalidTag, ValueError):
                raise _tampered() from None
            filled, number = filled + CHUNK_BYTES, number + 1
        self._at += filled
        return filled or self.readinto(target)

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()

    def _chunk(self, number: int) -> bytes:
        if self._loaded[0] != number:
            self._source.seek(self._body + number * _SEALED_CHUNK_BYTES)
            sealed = _read_whole(self._source, _SEALED_CHUNK_BYTES)
            self._loaded = number, _opened(self._cipher, number, sealed, last=number == self._last)
        return self._loaded[1]


class SealedWriter(io.RawIOBase):
    """Seals what is written to it, in constant memory. Without `finish` the stream is not whole and opens nowhere."""

    def __init__(self, target: BinaryIO, *, keys: dict[int, ValueKey], bound_to: Place) -> None:
        generation = max(keys)
        header = MAGIC + bytes([VERSION]) + generation.to_bytes(2, "big") + os.urandom(SALT_BYTES)
        self._target, self._cipher = target, _cipher(keys[generation], header, bound_to)
        self._number, self._waiting, self.size = 0, bytearray(), 0
        target.write(header)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:  # any buffer of bytes
        given = memoryview(data).cast("B")
        self._waiting += given
        self.size += len(given)
        while len(self._waiting) > CHUNK_BYTES:  # a full chunk waits: it may be the last
            self._seal(CHUNK_BYTES, last=False)
        return len(given)

    def finish(self) -> None:
        """Seal what is left as the last chunk."""
        self._seal(CHUNK_BYTES, last=True)

    def _seal(self, size: int, *, last: bool) -> None:
        chunk = bytes(self._waiting[:size])
        del self._waiting[:size]
        self._target.write(self._cipher.encrypt(_nonce(self._number, last=last), chunk, None))
        self._number += 1


def _generation(header: bytes) -> int:
    if len(header) != HEADER_BYTES or not header.startswith(MAGIC):
        raise _tampered()
    if header[len(MAGIC)] > VERSION:
        raise FormatTooNew(
            f"a sealed stream has version {header[len(MAGIC)]}, this release reads up to {VERSION}", hint="update aico"
        )
    return int.from_bytes(header[len(MAGIC) + 1 : len(MAGIC) + 3], "big")


def _cipher_of(header: bytes, keys: dict[int, ValueKey], bound_to: Place) -> AESGCM:
    key = keys.get(_generation(header))
    if key is None:
        raise _tampered()
    return _cipher(key, header, bound_to)


def _opened(cipher: AESGCM, number: int, sealed: bytes, *, last: bool) -> bytes:
    try:
        return cipher.decrypt(_nonce(number, last=last), sealed, None)
    except (InvalidTag, ValueError):
        raise _tampered() from None


def _cipher(key: ValueKey, header: bytes, bound_to: Place) -> AESGCM:
    return AESGCM(key.derive(b"aico 1 stream" + header[:-SALT_BYTES] + canonical(bound_to), salt=header[-SALT_BYTES:]))


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _read_whole(source: BinaryIO, size: int) -> bytes:
    """`size` bytes, or what is left: a pipe may hand out less than was asked for."""
    parts, missing = [], size
    while missing and (part := source.read(missing)) != b"":
        if part is None:
            raise InvalidInput(
                "the source is not ready to be read to its end; nothing is whole", hint="open it in blocking mode"
            )
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _tampered() -> Tampered:
    return Tampered(
        "a sealed stream does not open: it was cut, damaged, reordered or moved, or belongs to another vault",
        hint="use another copy of the file",
    )
