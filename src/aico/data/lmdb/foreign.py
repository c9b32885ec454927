"""Reads what another program keeps in an LMDB folder, without a lock and without writing a byte."""

from collections.abc import Generator
from pathlib import Path

import lmdb

from aico.errors import StorageError

DATABASES_MAX = 32


def foreign_values(folder: Path, database: str) -> Generator[bytes, None, None]:
    """The values of one named database in the order of their keys; none where there is no such database.

    The program must not write meanwhile. Close what this returns: LMDB opens a folder once in a process. Raises StorageError.
    """
    try:
        with lmdb.open(str(folder), readonly=True, lock=False, create=False, max_dbs=DATABASES_MAX) as opened:
            try:
                named = opened.open_db(database.encode(), create=False)
            except lmdb.NotFoundError:
                return
            with opened.begin(db=named, buffers=False) as transaction:
                for _, value in transaction.cursor():
                    yield bytes(value)
    except lmdb.Error as exc:
        raise StorageError(
            f"the old LMDB folder cannot be read ({type(exc).__name__}); what was read before is imported"
        ) from None
