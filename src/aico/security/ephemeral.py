"""Sealing for what may lie on a disk for a while but belongs to this process alone: temporary files."""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from aico.errors import Tampered

TAG_BYTES = 16


class EphemeralSealer:
    """Seals numbered blocks under a key that is made here, leaves this object never, and dies with it.

    Only the newest form of a block opens: the nonce, a counter that never repeats, is kept here and not on the disk. So
    an older form put back is refused as well. Thread rule: one thread at a time.
    """

    def __init__(self) -> None:
        self._cipher = AESGCM(AESGCM.generate_key(256))
        self._sealed = 0
        self._newest: dict[int, int] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._newest

    def seal(self, number: int, plain: bytes | bytearray) -> bytes:
        """The sealed form of block `number`, 16 bytes longer; an earlier form of it no longer opens."""
        self._sealed += 1
        self._newest[number] = self._sealed
        return self._cipher.encrypt(_nonce(self._sealed), bytes(plain), _place(number))

    def open(self, number: int, sealed: bytes) -> bytes:
        """What was sealed last as block `number`. Raises Tampered."""
        try:
            return self._cipher.decrypt(_nonce(self._newest[number]), sealed, _place(number))
        except (InvalidTag, ValueError):
            raise Tampered(
                "a temporary file was changed from outside; the statement was stopped", hint="run it again"
            ) from None

    def forget(self, number: int) -> None:
        """Let no form of block `number` open."""
        self._newest.pop(number, None)


def _nonce(count: int) -> bytes:
    return count.to_bytes(12, "big")


def _place(number: int) -> bytes:
    return number.to_bytes(8, "big")
