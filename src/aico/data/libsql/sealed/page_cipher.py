"""The cipher of database pages and WAL frames: which key seals what, and where nonce and tag lie.

Every page ends in 32 reserved bytes that SQLite leaves to us:

    tag 16 | nonce 12 | low byte of the key generation 1 | session 3

page key = HKDF-SHA256(database key of that generation, salt of the file, generation and session)
"""

import os
import secrets
from collections.abc import Callable, Mapping, Set
from itertools import count

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from aico.security.keys import DatabaseKey

TAG_BYTES, NONCE_BYTES, SESSION_BYTES = 16, 12, 3
TRAILER_BYTES = TAG_BYTES + NONCE_BYTES + 1 + SESSION_BYTES
SALT_BYTES = 16
MAPPED = 0x80
"""In the first byte of the salt: the database has a page map, and is refused without it. Format 0 had none."""
PAGES_PER_SESSION = 1 << 24
"""Random 96-bit nonces under one session's key: the chance of a repeat stays below 2^-49 with nothing to count."""
_SESSIONS_KEPT = 4096  # forged session numbers must not fill memory

NotSealed = InvalidTag
"""Raised by `PageCipher.open_into` for bytes that this database's keys did not seal at this place."""


class DatabaseKeys:
    """The keys of one database by key generation; new pages are sealed under the newest.

    `look_again` gives the keys as they are now, for a page of a generation that is not known here.
    """

    def __init__(
        self,
        by_generation: Mapping[int, DatabaseKey],
        *,
        look_again: Callable[[], Mapping[int, DatabaseKey]] | None = None,
    ) -> None:
        self._keys = dict(by_generation)
        self._look_again = look_again
        self.newest = max(self._keys)
        """The generation that seals new pages."""

    def add(self, key: DatabaseKey, *, taken: Set[int] = frozenset()) -> None:
        """Seal with `key` from now on; the older ones still open what they sealed.

        Its generation is the next whose low byte is not among `taken`, those of the pages on the disk.
        """
        generation = next(g for g in count(self.newest + 1) if g & 0xFF not in taken)
        self._keys[generation] = key
        self.newest = generation

    def drop_newest(self) -> None:
        """Take the last `add` back: nothing was sealed under it."""
        dropped, self.newest = self.newest, max(g for g in self._keys if g != self.newest)
        del self._keys[dropped]

    def keep_newest(self) -> None:
        """Forget all but the newest: nothing on disk is sealed under the others any more."""
        self._keys = {self.newest: self._keys[self.newest]}

    @property
    def newest_key(self) -> DatabaseKey:
        """The key that seals new pages."""
        return self._keys[self.newest]

    def generations(self) -> list[int]:
        """The generations whose keys are here, oldest first."""
        return sorted(self._keys)

    def replace(self, by_generation: Mapping[int, DatabaseKey]) -> None:
        """Know these keys and no others, and seal with the newest from now on. Any thread may call it."""
        self._keys = dict(by_generation)
        self.newest = max(self._keys)

    def find(self, low_byte: int) -> DatabaseKey | None:
        """The key whose generation ends in this byte; only two neighbouring generations ever live together."""
        found = self._found(low_byte)
        if found is None and self._look_again is not None:
            self.replace(self._look_again())
            found = self._found(low_byte)
        return found

    def _found(self, low_byte: int) -> DatabaseKey | None:
        return next((key for generation, key in self._keys.items() if generation & 0xFF == low_byte), None)


class SoleKey(DatabaseKeys):
    """One raw key for a database used without a vault: it opens pages of any generation that it sealed.

    Who opens a database by a raw key does not know its generation. The byte is bound into the page key all the same.
    """

    def find(self, low_byte: int) -> DatabaseKey | None:
        """The key of that generation, else the oldest: during a change of keys only the new one has its own byte."""
        return super().find(low_byte) or self._keys[min(self._keys)]


class PageCipher:
    """Seals and opens pages of the one file that carries `salt`. Thread rule: one connection at a time each."""

    def __init__(self, keys: DatabaseKeys, salt: bytes) -> None:
        self.salt, self.page_size = salt, page_size_of(salt)
        self._keys = keys
        self._ciphers: dict[bytes, AESGCM] = {}
        self._left = 0  # pages that may still be sealed under the session below
        self._sealing: tuple[int, bytes, Callable[..., int]] | None = None

    def seal_into(self, plain: bytes | memoryview, bound_to: bytes, sealed: memoryview) -> None:
        """Write ciphertext, tag, nonce and session into `sealed`, 32 bytes longer than `plain`."""
        sealing = self._sealing
        if sealing is None or self._left <= 0 or sealing[0] != self._keys.newest:
            sealing = self._begin_session()
        self._left -= 1
        _, session, encrypt_into = sealing
        nonce = os.urandom(NONCE_BYTES)
        encrypt_into(nonce, plain, bound_to + self.salt, sealed[: TAG_BYTES - TRAILER_BYTES])
        sealed[TAG_BYTES - TRAILER_BYTES :] = nonce + session

    def open_into(self, sealed: memoryview, bound_to: bytes, plain: memoryview) -> bytes:
        """Write the plain bytes of a sealed page into `plain`, 32 bytes shorter; the page's nonce. Raises NotSealed."""
        trailer = bytes(sealed[TAG_BYTES - TRAILER_BYTES :])  # one copy: slices of bytes are cheaper than of views
        nonce, session = trailer[:NONCE_BYTES], trailer[NONCE_BYTES:]
        cipher = self._ciphers.get(session) or self._cipher(session)
        cipher.decrypt_into(nonce, sealed[: TAG_BYTES - TRAILER_BYTES], bound_to + self.salt, plain)
        return nonce

    def _begin_session(self) -> tuple[int, bytes, Callable[..., int]]:
        """In one assignment: an interrupt in between would seal pages under one session and name another."""
        generation = self._keys.newest
        session = bytes([generation & 0xFF]) + secrets.token_bytes(SESSION_BYTES)
        self._sealing = sealing = generation, session, self._cipher(session).encrypt_into
        self._left = PAGES_PER_SESSION
        return sealing

    def _cipher(self, generation_and_session: bytes) -> AESGCM:
        key = self._keys.find(generation_and_session[0])
        if key is None:
            raise NotSealed
        if len(self._ciphers) >= _SESSIONS_KEPT:
            self._ciphers.clear()
        made = AESGCM(key.derive(b"aico 1 page key" + generation_and_session, salt=self.salt))
        self._ciphers[generation_and_session] = made
        return made


def page_size_of(salt: bytes) -> int:
    """Bytes a page of the file that carries this salt."""
    return 1 << (salt[0] & ~MAPPED)
