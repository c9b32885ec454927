"""What every sealed file has in common."""

import apsw

from aico.data.libsql.sealed.page_cipher import TRAILER_BYTES

UNUSED = bytes(TRAILER_BYTES)
"""The reserved bytes of a page, as SQLite must leave them."""


class SealedFile(apsw.VFSFile):
    """What pages and WAL have in common. Thread rule: one connection, so one thread at a time.

    Memory mapping, preallocation and chunks, which would show SQLite bytes that are not pages, are never asked for.
    """

    def xDeviceCharacteristics(self) -> int:
        # We write just the ranges SQLite asks for, so POWERSAFE_OVERWRITE stays as true as it was; without it
        # SQLite splits frames. ATOMIC* and BATCH_ATOMIC are not ours to promise, SUBPAGE_READ would be false.
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE
