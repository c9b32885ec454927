"""Seal and open one value: AES-256-GCM with nothing left to choose.

    version 1 byte | key generation 2 bytes | nonce 12 bytes | ciphertext | tag 16 bytes

The associated data is version and generation followed by the canonical encoding of `bound_to`, so a value
opens only in the place it was sealed for. A wrong key, a changed byte and a moved value fail in the same way.
"""

import os
import struct
from collections.abc import Callable, Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from aico.errors import FormatTooNew, Tampered
from aico.security.keys import ValueKey

VERSION = 1
NONCE_BYTES, TAG_BYTES, HEADER_BYTES = 12, 16, 3
_VERSION_BYTE = bytes([VERSION])

_part_head = struct.Struct(">cI").pack  # on the path of every read of the hot tier

Place = tuple[str | bytes | int, ...]


def canonical(place: Place) -> bytes:
    """An injective encoding of where a value belongs: each part with its type and length in front."""
    encoded = b""
    for part in place:
        if isinstance(part, bytes):
            encoded += _part_head(b"b", len(part)) + part
        elif isinstance(part, str):
            data = part.encode()
            encoded += _part_head(b"s", len(data)) + data
        else:
            data = str(part).encode()
            encoded += _part_head(b"i", len(data)) + data
    return encoded


class Sealer:
    """Seals with the newest key generation and opens with any it was given. Any thread may use it.

    `look_again` gives the keys as they are now, for a value of a generation that is not known here.

    Random 96-bit nonces keep the chance of a repeat below 2^-32 up to 2^32 values under one key
    (NIST SP 800-38D section 8.3); values are few (keys, files, cached pages), rows are sealed by page.
    """

    def __init__(
        self, keys: Mapping[int, ValueKey], *, look_again: Callable[[], Mapping[int, ValueKey]] | None = None
    ) -> None:
        self._look_again = look_again
        self.use(keys)

    def use(self, keys: Mapping[int, ValueKey]) -> None:
        """Know these keys and no others from now on."""
        newest = max(keys)
        self._ciphers = {generation: AESGCM(key.reveal()) for generation, key in keys.items()}
        self._newest = newest, self._ciphers[newest]

    def seal(self, plain: bytes, *, bound_to: Place | bytes) -> bytes:
        """The sealed form of `plain`, 31 bytes longer, that opens only with the same `bound_to`.

        That is a place or, where the same one is named again and again, what `canonical` makes of it.
        """
        generation, cipher = self._newest
        header = _VERSION_BYTE + generation.to_bytes(2, "big")
        nonce = os.urandom(NONCE_BYTES)
        place = bound_to if isinstance(bound_to, bytes) else canonical(bound_to)
        return header + nonce + cipher.encrypt(nonce, plain, header + place)

    def open(self, sealed: bytes, *, bound_to: Place | bytes) -> bytes:
        """The value inside.

        Raises Tampered if a byte was changed, the place or the key is another; FormatTooNew if a newer
        release wrote it.
        """
        if sealed and sealed[0] > VERSION:
            raise FormatTooNew(
                f"a sealed value has version {sealed[0]}, this release reads up to {VERSION}; it was left untouched",
                hint="update aico",
            )
        generation = int.from_bytes(sealed[1:HEADER_BYTES], "big")
        cipher = self._ciphers.get(generation)
        if cipher is None and self._look_again is not None:
            self.use(self._look_again())
            cipher = self._ciphers.get(generation)
        body = HEADER_BYTES + NONCE_BYTES
        if cipher is None or len(sealed) < body + TAG_BYTES:
            raise _tampered()
        place = bound_to if isinstance(bound_to, bytes) else canonical(bound_to)
        try:
            return cipher.decrypt(sealed[HEADER_BYTES:body], sealed[body:], sealed[:HEADER_BYTES] + place)
        except InvalidTag:
            raise _tampered() from None


def _tampered() -> Tampered:
    return Tampered(
        "a sealed value does not open: it was damaged, changed or moved, or belongs to another vault; it was not used",
        hint="restore it from a backup; `aico doctor` names the file",
    )
