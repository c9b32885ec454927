"""Seal and open data of any length in constant memory: files, snapshots, backups.

    header   magic "AICOstrm" | version 1 byte | key generation 2 bytes | salt 32 bytes
    chunk    up to 64 KiB of plain bytes, sealed by AES-256-GCM: ciphertext | tag 16 bytes

Each stream has its own key, HKDF(value key, salt, place), so a counter can be the nonce: 11 bytes of chunk
number and one flag byte that is 1 on the last chunk alone. Cutting, reordering, joining and moving a stream
are all refused (the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár, 2015).
"""

import os
from collections.abc import Iterator
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from aico.errors import FormatTooNew, InvalidInput, Tampered
from aico.security.envelope import TAG_BYTES, Place, canonical
from aico.security.keys import ValueKey

MAGIC, VERSION, SALT_BYTES = b"AICOstrm", 1, 32
CHUNK_BYTES = 64 * 1024
HEADER_BYTES = len(MAGIC) + 3 + SALT_BYTES


def seal_stream(source: BinaryIO, target: BinaryIO, *, keys: dict[int, ValueKey], bound_to: Place) -> int:
    """Read `source` to its end and write its sealed form to `target`; returns the plain size in bytes.

    Seals with the newest of `keys` (key generation to key). `source` need not be seekable.
    """
    generation, salt = max(keys), os.urandom(SALT_BYTES)
    header = MAGIC + bytes([VERSION]) + generation.to_bytes(2, "big") + salt
    cipher = _cipher(keys[generation], header, bound_to)
    target.write(header)
    number, size, chunk = 0, 0, _read_whole(source, CHUNK_BYTES)
    while True:
        following = _read_whole(source, CHUNK_BYTES) if len(chunk) == CHUNK_BYTES else b""
        target.write(cipher.encrypt(_nonce(number, last=not following), chunk, None))
        size += len(chunk)
        if not following:
            return size
        number, chunk = number + 1, following


def open_stream(source: BinaryIO, *, keys: dict[int, ValueKey], bound_to: Place) -> Iterator[bytes]:
    """Yield the plain chunks of a sealed stream, each verified before it is handed out.

    Raises Tampered at the first chunk that was changed, moved, cut off or added; what came before it is
    genuine but not the whole, so a caller keeps nothing until the iterator has ended. Raises FormatTooNew
    for a stream of a newer release.
    """
    header = _read_whole(source, HEADER_BYTES)
    if len(header) != HEADER_BYTES or not header.startswith(MAGIC):
        raise _tampered()
    if header[len(MAGIC)] > VERSION:
        raise FormatTooNew(
            f"a sealed stream has version {header[len(MAGIC)]}, this release reads up to {VERSION}", hint="update aico"
        )
    key = keys.get(int.from_bytes(header[len(MAGIC) + 1 : len(MAGIC) + 3], "big"))
    if key is None:
        raise _tampered()
    cipher = _cipher(key, header, bound_to)
    number, chunk = 0, _read_whole(source, CHUNK_BYTES + TAG_BYTES)
    while True:
        following = _read_whole(source, CHUNK_BYTES + TAG_BYTES) if len(chunk) == CHUNK_BYTES + TAG_BYTES else b""
        try:
            yield cipher.decrypt(_nonce(number, last=not following), chunk, None)
        except (InvalidTag, ValueError):
            raise _tampered() from None
        if not following:
            return
        number, chunk = number + 1, following


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
