"""The cipher of pages by itself: sessions are renewed whole or not at all."""

import pytest

from aico.data.libsql.sealed.page_cipher import TRAILER_BYTES, DatabaseKeys, PageCipher
from aico.security.keys import DatabaseKey

SALT = bytes([12]) + bytes(15)
PAGE = bytes(range(256)) * 16


class InterruptedOnce(DatabaseKeys):
    """Stands for Ctrl-C in the middle of a renewal: looking up the new session's key fails once."""

    interrupt = False

    def find(self, low_byte: int) -> DatabaseKey | None:
        if self.interrupt:
            self.interrupt = False
            raise KeyboardInterrupt
        return super().find(low_byte)


def sealed_page(cipher: PageCipher) -> memoryview:
    sealed = memoryview(bytearray(len(PAGE) + TRAILER_BYTES))
    cipher.seal_into(PAGE, b"place", sealed)
    return sealed


def opened_page(sealed: memoryview, keys: DatabaseKeys) -> bytes:
    plain = memoryview(bytearray(len(PAGE)))
    PageCipher(keys, SALT).open_into(sealed, b"place", plain)
    return bytes(plain)


def test_an_interrupt_while_a_session_is_renewed_never_mixes_two_sessions():
    keys = InterruptedOnce({1: DatabaseKey(bytes(32))})
    cipher = PageCipher(keys, SALT)
    sealed_page(cipher)
    cipher._left, keys.interrupt = 0, True  # the 2^24th page
    with pytest.raises(KeyboardInterrupt):
        sealed_page(cipher)
    assert opened_page(sealed_page(cipher), keys) == PAGE


def test_pages_name_the_newest_generation_and_older_ones_still_open():
    keys = DatabaseKeys({1: DatabaseKey(bytes(32))})
    cipher = PageCipher(keys, SALT)
    before = sealed_page(cipher)
    keys.add(DatabaseKey(bytes([1]) * 32))
    after = sealed_page(cipher)
    assert (before[-4], after[-4]) == (1, 2)
    assert opened_page(before, keys) == opened_page(after, keys) == PAGE
    keys.drop_newest()
    assert sealed_page(cipher)[-4] == 1
